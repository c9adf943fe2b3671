"""What training asks of clips: rows of named arrays, whatever they are kept in. N clip, T frame, X/Y/Z voxel axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dcgen.dataset.packing import LAYOUT_SCALE, unpack_bits
from dcgen.dataset.store import ClipDataset

FIELDS = ("labels", "moving", "trajectory", "command", "layout_static", "layout_agents")


@runtime_checkable
class ClipSource(Protocol):
    """How many clips, of what shape, and the named arrays of some of them."""

    def __len__(self) -> int: ...

    @property
    def clip_shape(self) -> tuple[int, ...]: ...

    @property
    def content_sha256(self) -> str:
        """Of what decides the clips: two sources that differ in a clip differ in it."""
        ...

    def rows(self, index: NDArray[np.int64], fields: Iterable[str]) -> dict[str, NDArray]: ...


def in_order(source: ClipSource, size: int) -> Iterator[NDArray[np.int64]]:
    """Every clip once, in batches of indices."""
    for start in range(0, len(source), size):
        yield np.arange(start, min(start + size, len(source)))


@dataclass(frozen=True)
class ClipRows:
    """The rows of a data set."""

    dataset: ClipDataset

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """(T, X, Y, Z)."""
        return self.dataset.spec.clip_shape

    @property
    def content_sha256(self) -> str:
        return self.dataset.content_sha256

    def rows(self, index: NDArray[np.int64], fields: Iterable[str]) -> dict[str, NDArray]:
        """The named arrays out of FIELDS, stacked: `moving` as bool [N, T, X, Y, Z], layouts as float32."""
        wanted = list(fields)
        clips = [self.dataset.packed(int(n), wanted) for n in index]
        return {name: np.stack([self._plain(name, clip[name]) for clip in clips]) for name in wanted}

    def _plain(self, name: str, values: NDArray) -> NDArray:
        if name == "moving":
            return unpack_bits(values, self.clip_shape)
        if name.startswith("layout"):
            return values.astype(np.float32) / np.float32(LAYOUT_SCALE)
        return values
