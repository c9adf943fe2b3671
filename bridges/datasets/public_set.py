"""A public set as a list of clips: windows of T frames over all its sequences, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from bridges.datasets.carlasc import open_carlasc
from bridges.datasets.occ3d import open_occ3d_nuscenes, open_occ3d_waymo
from bridges.datasets.semantickitti import open_semantickitti
from bridges.datasets.sequence import Mask, ReadOptions, Recording, cut_recording
from bridges.datasets.uniocc import open_uniocc
from dcgen.errors import DatasetError
from dcgen.types import Clip

FORMATS: dict[str, Callable[[Path, ReadOptions], Sequence[Recording]]] = {
    "carlasc": open_carlasc,
    "occ3d-nuscenes": open_occ3d_nuscenes,
    "occ3d-waymo": open_occ3d_waymo,
    "uniocc": open_uniocc,
    "semantickitti": open_semantickitti,
    "sscbench": open_semantickitti,
}

WITH_POINTS = ("carlasc", "semantickitti", "sscbench")


@dataclass(frozen=True)
class PublicSet:
    """Clip n is always the same, whatever was read before it; its sequence and first frame are windows[n]."""

    format: str
    recordings: tuple[Recording, ...]
    frames: int
    every: int
    anchored: bool
    windows: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, n: int) -> Clip:
        """Raises DatasetError, naming the file, for what cannot be read."""
        row, first = self.windows[n]
        recording = self.recordings[row]
        at = first + np.arange(self.frames) * self.every
        return cut_recording(recording, at, self.anchored, f"{self.format} {recording.name}")

    def __iter__(self) -> Iterator[Clip]:
        return (self[n] for n in range(len(self)))


def open_set(
    format: str,
    folder: Path,
    frames: int,
    stride: int | None = None,
    every: int = 1,
    anchored: bool = False,
    options: ReadOptions | None = None,
) -> PublicSet:
    """Lists the clips of a set and reads none: `frames` frames, `every` n-th of the set, a clip begun each `stride`.

    stride counts frames of the set; None: clips do not overlap. Clips are ego-centred as published, or anchored:
    re-binned into one grid that stands still at the middle pose. Raises DatasetError, naming what is missing.
    """
    folder = Path(folder)
    if format not in FORMATS:
        raise DatasetError(f"no public set {format!r}; choose one of {', '.join(FORMATS)}")
    step = frames * every if stride is None else stride
    if min(frames, every, step) < 1:
        raise DatasetError(f"frames {frames}, every {every}, stride {step}: give at least 1 of each")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is no folder; give the one that the set was unpacked into")
    chosen = options or ReadOptions()
    if chosen.mask not in get_args(Mask):
        raise DatasetError(f"no mask {chosen.mask!r}; choose one of {', '.join(get_args(Mask))}")
    if chosen.points and format not in WITH_POINTS:
        raise DatasetError(f"{folder}: {format} holds no sweeps; leave the points out, or change the format")
    recordings = tuple(FORMATS[format](folder, chosen))
    span = (frames - 1) * every + 1
    windows = tuple(
        (row, first)
        for row, recording in enumerate(recordings)
        for first in range(0, recording.frames - span + 1, step)
    )
    if not windows:
        longest = max(recording.frames for recording in recordings)
        raise DatasetError(f"{folder}: no sequence has {span} frames, the longest {longest}; give fewer frames a clip")
    _check_alike(folder, [recordings[row] for row in sorted({row for row, _ in windows})])
    return PublicSet(format, recordings, frames, every, anchored, windows)


def _check_alike(folder: Path, recordings: Sequence[Recording]) -> None:
    """Raises DatasetError where clips of one set would differ in time."""
    first = recordings[0]
    for each in recordings:
        if abs(each.dt_s - first.dt_s) > 1e-9:
            raise DatasetError(
                f"{folder}: {first.name} has a frame each {first.dt_s:g} s, {each.name} each {each.dt_s:g} s; "
                "give them one by one"
            )


def read_clips(
    format: str,
    folder: Path,
    frames: int,
    stride: int | None = None,
    every: int = 1,
    anchored: bool = False,
    options: ReadOptions | None = None,
    start: int = 0,
) -> Iterator[Clip]:
    """The clips of open_set from number `start` on, one at a time."""
    clips = open_set(format, folder, frames, stride, every, anchored, options)
    return (clips[n] for n in range(start, len(clips)))


def count_clips(
    format: str,
    folder: Path,
    frames: int,
    stride: int | None = None,
    every: int = 1,
    options: ReadOptions | None = None,
) -> int:
    """How many clips read_clips would give. Lists folders, reads no voxels."""
    return len(open_set(format, folder, frames, stride, every, False, options))
