"""Clips cut beforehand, as shards of plain arrays that a training run maps into memory. N clip, T frame."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import Clip

LAYOUT_SCALE = 64.0  # int8 holds -2 .. 2 in steps of 1/64
FIELDS = ("labels", "moving", "trajectory", "command", "layout_static", "layout_agents")


def quantise(values: NDArray[np.floating]) -> NDArray[np.int8]:
    return np.clip(np.rint(values * LAYOUT_SCALE), -127, 127).astype(np.int8)


def pack_clip(clip: Clip) -> dict[str, NDArray]:
    """The arrays of one clip, small: masks as bits, layouts as int8."""
    c = clip.conditions
    return {
        "labels": clip.labels,
        "moving": np.packbits(clip.moving),
        "trajectory": c.trajectory.astype(np.float32),
        "command": np.array(int(c.command), np.int8),
        "layout_static": quantise(c.layout_static),
        "layout_agents": quantise(c.layout_agents),
    }


def write_shard(clips: Iterable[Clip], folder: Path) -> int:
    """Writes clips as one shard, whole or not at all; returns how many. Raises WorldError."""
    if folder.exists():
        raise WorldError(f"{folder}: there is a shard already; delete it or cut into another folder")
    packed = [pack_clip(clip) for clip in clips]
    if not packed:
        raise WorldError(f"{folder}: no clips to write; are the worlds empty of traffic?")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name in FIELDS:
            np.save(partial / f"{name}.npy", np.stack([clip[name] for clip in packed]))
        (partial / "shard.json").write_text(json.dumps({"clips": len(packed), "fields": FIELDS}))
        os.replace(partial, folder)
    except OSError as error:
        raise WorldError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(packed)


def _check_alike(shard: Path, arrays: dict[str, NDArray], first: dict[str, NDArray]) -> None:
    """Raises WorldError where a shard's arrays differ in length, or its clips in kind from the first shard's."""
    for name, array in arrays.items():
        if len(array) != len(arrays["labels"]):
            raise WorldError(f"{shard}: {name} holds {len(array)} clips, labels {len(arrays['labels'])}; cut it again")
        if array.shape[1:] != first[name].shape[1:] or array.dtype != first[name].dtype:
            raise WorldError(
                f"{shard}: {name} is {array.dtype} {array.shape[1:]}, in the first shard it is "
                f"{first[name].dtype} {first[name].shape[1:]}; keep one kind of clips in a folder"
            )


class ClipSource(Protocol):
    """What training asks of clips: how many, of what shape, and the named arrays of some of them."""

    def __len__(self) -> int: ...

    @property
    def clip_shape(self) -> tuple[int, ...]: ...

    def rows(self, index: NDArray[np.int64], fields: Iterable[str]) -> dict[str, NDArray]: ...


def in_order(source: ClipSource, size: int) -> Iterator[NDArray[np.int64]]:
    """Every clip once, in batches of indices."""
    for start in range(0, len(source), size):
        yield np.arange(start, min(start + size, len(source)))


@dataclass(frozen=True)
class ClipStore:
    """Shards of one folder, read as one long list. Arrays are mapped, not loaded."""

    shards: tuple[dict[str, NDArray], ...]
    starts: NDArray[np.int64]

    @staticmethod
    def open(folder: Path) -> ClipStore:
        """Raises WorldError where the folder holds no finished shard."""
        shards = []
        for shard in sorted(folder.glob("shard-*[0-9]")):
            try:
                arrays = {name: np.load(shard / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in FIELDS}
            except (OSError, EOFError, ValueError) as error:
                raise WorldError(f"{shard}: unreadable shard ({error}); delete it and cut the clips again") from error
            shards.append(arrays)
            _check_alike(shard, arrays, shards[0])
        if not shards:
            raise WorldError(f"{folder}: no clips here; cut them with `dcgen world clips`")
        starts = np.cumsum([0, *(len(shard["labels"]) for shard in shards)])
        return ClipStore(tuple(shards), starts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """(T, X, Y, Z)."""
        return tuple(self.shards[0]["labels"].shape[1:])

    def rows(self, index: NDArray[np.int64], fields: Iterable[str]) -> dict[str, NDArray]:
        """The named arrays of the clips at index, stacked; `moving` comes back as bool [N, T, X, Y, Z]."""
        shard = np.searchsorted(self.starts, index, side="right") - 1
        places = list(zip(shard, index - self.starts[shard], strict=True))
        out = {name: np.stack([self.shards[s][name][i] for s, i in places]) for name in fields}
        if "moving" in out:
            count = int(np.prod(self.clip_shape))
            out["moving"] = np.unpackbits(out["moving"], axis=1, count=count).reshape(-1, *self.clip_shape) > 0
        for name in ("layout_static", "layout_agents"):
            if name in out:
                out[name] = out[name].astype(np.float32) / LAYOUT_SCALE
        return out
