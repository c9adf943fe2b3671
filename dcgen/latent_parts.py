"""Latents in parts on disk, the clips' conditions beside them: what the second stage reads. N clip, D values, T frame.

FOLDER/part-00000.safetensors   latents, known [n, D] float16; trajectory, command; layouts, each compressed by itself

A part says in its header what its latents were made of. It appears whole or not at all, and is mapped, never copied.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dcgen.dataset.packing import LAYOUT_SCALE, quantise
from dcgen.errors import CheckpointError
from dcgen.tensor_file import read_tensors, write_tensors

FORMAT = "dcgen-latents 1"
BATCH = 16  # clips encoded at once: parts hold whole numbers of them, so that a part's bytes depend on nothing else
PART_BYTES = 32 << 20  # of latents; with the layouts a part stays below 48 MiB
MOST_PART_CLIPS = 1024
ROWS = ("latents", "known", "trajectory", "command")


@dataclass(frozen=True)
class LatentSpec:
    """What decides every byte of the parts. Parts of another spec in the same folder are refused."""

    vae_sha256: str
    statistics_sha256: str
    clips_sha256: str  # of what the clips are, not of where
    clips: int
    seed: int
    values: int  # D
    static_shape: tuple[int, ...]  # [C, X, Y]
    agents_shape: tuple[int, ...]  # [T, A, X, Y]

    @property
    def part_clips(self) -> int:
        fit = PART_BYTES // (4 * self.values)
        return max(1, min(MOST_PART_CLIPS, fit - fit % BATCH if fit >= BATCH else fit))

    @property
    def parts(self) -> int:
        return -(-self.clips // self.part_clips)

    def part_range(self, part: int) -> range:
        """Numbers of the clips of a part."""
        return range(part * self.part_clips, min((part + 1) * self.part_clips, self.clips))

    def metadata(self, part: int) -> dict[str, str]:
        plain = {name: _text(value) for name, value in asdict(self).items()}
        return {"format": FORMAT, **plain, "part": str(part)}


def _text(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def part_path(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.safetensors"


def check_folder(folder: Path, spec: LatentSpec) -> None:
    """Raises CheckpointError where a readable part is not of this spec; damaged ones are the encoder's to make anew."""
    for path in sorted(folder.glob("part-*.safetensors")):
        if (said := _header(path)) is not None:
            _compare(path, said, spec)


def part_stands(folder: Path, spec: LatentSpec, part: int) -> bool:
    """Whether a part is there, every number as written. Raises CheckpointError where it is of another spec."""
    path = part_path(folder, part)
    if (said := _header(path)) is None:
        return False
    _compare(path, said, spec)
    try:
        read_tensors(path)
    except CheckpointError:
        return False
    return True


def _header(path: Path) -> dict[str, str] | None:
    """What a part says of itself; None where it is missing or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            said: dict[str, str] = file.metadata() or {}
            return said
    except (SafetensorError, OSError, ValueError):
        return None


def _compare(path: Path, said: dict[str, str], spec: LatentSpec) -> None:
    number = path.stem.removeprefix("part-")
    for name, want in spec.metadata(int(number) if number.isdecimal() else -1).items():
        if (got := said.get(name)) != want:
            shown = [f"{text}"[:16] for text in (got, want)]
            raise CheckpointError(
                f"{path}: field {name} is {shown[0]}, not {shown[1]}: latents of another run; "
                "train into another folder, or delete this one"
            )


def write_part(folder: Path, spec: LatentSpec, part: int, rows: dict[str, NDArray]) -> None:
    """rows: latents and known [n, D], trajectory, command, layout_static, layout_agents of the clips of the part."""
    names, layouts = ("layout_static", "layout_agents"), []
    for static, agents in zip(*(rows[name] for name in names), strict=True):
        layouts.append(zlib.compress(quantise(static).tobytes() + quantise(agents).tobytes(), 1))
    tensors = {name: torch.from_numpy(rows[name]) for name in ROWS}
    tensors["layouts"] = torch.frombuffer(bytearray(b"".join(layouts)), dtype=torch.uint8)
    tensors["layout_end"] = torch.tensor([len(each) for each in layouts]).cumsum(0)
    write_tensors(part_path(folder, part), tensors, spec.metadata(part))


class LatentParts:
    """All clips by index, from the parts of a folder. Raises CheckpointError where one is missing or does not fit."""

    def __init__(self, folder: Path, spec: LatentSpec) -> None:
        self.folder, self.spec = folder, spec
        self._parts = [_MappedPart(part_path(folder, part), spec, part) for part in range(spec.parts)]

    def __len__(self) -> int:
        return self.spec.clips

    def rows(self, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Normalised latents [B, D] of some clips, and of what is known of them (zero where nothing is)."""
        latents, known = (np.stack(self._each(index, lambda p, n, f=f: p.row(f, n))) for f in ("latents", "known"))
        return torch.from_numpy(latents.astype(np.float32)), torch.from_numpy(known.astype(np.float32))

    def conditions(self, index: NDArray[np.int64]) -> dict[str, NDArray]:
        """trajectory [B, T, 3], command [B], layout_static [B, C, X, Y] and layout_agents [B, T, A, X, Y]."""
        layouts = self._each(index, lambda part, n: part.layouts(n))
        made = {name: np.stack([each[k] for each in layouts]) for k, name in enumerate(("static", "agents"))}
        plain = {name: np.stack(self._each(index, lambda p, n, f=name: p.row(f, n))) for name in ROWS[2:]}
        scaled = {f"layout_{name}": part.astype(np.float32) / np.float32(LAYOUT_SCALE) for name, part in made.items()}
        return plain | scaled

    def _each(self, index: NDArray[np.int64], read: Callable[..., Any]) -> list[Any]:
        places = (divmod(int(n), self.spec.part_clips) for n in index)
        return [read(self._parts[part], n) for part, n in places]


class _MappedPart:
    """One part, its rows read where they lie in the file."""

    def __init__(self, path: Path, spec: LatentSpec, part: int) -> None:
        self.path, self.spec, self.count = path, spec, len(spec.part_range(part))
        if (said := _header(path)) is None:
            what = "not a whole file of latents" if path.exists() else "no such part of the latents"
            raise CheckpointError(f"{path}: {what}; run the training again, it makes the part")
        _compare(path, said, spec)
        self._file = safe_open(path, framework="numpy")
        try:
            self._rows = {name: self._file.get_slice(name) for name in (*ROWS, "layouts", "layout_end")}
            shapes = {name: tuple(rows.get_shape()) for name, rows in self._rows.items()}
        except SafetensorError as error:
            raise self._unfit(str(error).splitlines()[0]) from error
        values, frames = (self.count, spec.values), spec.agents_shape[0]
        want = {"latents": values, "known": values, "trajectory": (self.count, frames, 3), "command": (self.count,)}
        want["layout_end"] = (self.count,)
        for name, shape in want.items():
            if shapes[name] != shape:
                raise self._unfit(f"field {name} has shape {shapes[name]}, not {shape}")

    def _unfit(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {reason}; delete it and run the training again, it makes the part anew")

    def row(self, name: str, n: int) -> NDArray:
        return np.asarray(self._rows[name][n : n + 1][0])

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.concatenate([[0], self._rows["layout_end"][:]])

    def layouts(self, n: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        static, agents = self.spec.static_shape, self.spec.agents_shape
        size = int(np.prod(static)) + int(np.prod(agents))
        try:
            packed = self._rows["layouts"][int(self._ends[n]) : int(self._ends[n + 1])].tobytes()
            plain = zlib.decompressobj().decompress(packed, size)
        except (zlib.error, SafetensorError) as error:
            raise self._unfit(f"field layouts is damaged at row {n}") from error
        if len(plain) != size:
            raise self._unfit(f"field layouts has {len(plain)} values at row {n}, not {size}")
        both = np.frombuffer(plain, np.int8)
        return both[: int(np.prod(static))].reshape(static), both[int(np.prod(static)) :].reshape(agents)


def carried_spec(folder: Path, like: LatentSpec) -> LatentSpec:
    """`like`, but for the clips: those of latents that were made elsewhere. Raises CheckpointError."""
    path = part_path(folder, 0)
    said = _header(path)
    if said is None:
        raise CheckpointError(f"{path}: no whole part of latents; carry the folder again, or give the clips")
    if not said.get("clips", "").isdecimal():
        raise CheckpointError(f"{path}: field clips is no number; carry the folder again, or give the clips")
    return replace(like, clips=int(said["clips"]), clips_sha256=said.get("clips_sha256", ""))
