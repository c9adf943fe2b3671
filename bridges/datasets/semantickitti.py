"""SemanticKITTI's voxels, and SSCBench's of the same layout: `sequences/XX/voxels/NNNNNN.{label,invalid}`.

Published in the LiDAR's frame (x forward, y left); here z counts from the road. X/Y/Z voxel axes, F frame, N point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bridges.datasets.class_maps import SEMANTICKITTI, SEMANTICKITTI_MOVING
from bridges.datasets.files import (
    check_poses,
    numbered,
    read_bits,
    read_bytes,
    read_raw,
    read_sweep,
    read_table,
    square,
)
from bridges.datasets.sequence import Frame, ReadOptions, lowered
from dcgen.errors import DatasetError
from dcgen.types import UNKNOWN, Doubles, Floats, GridSpec

SHAPE = (256, 256, 32)
LIDAR_M = 1.73
DT_S = 0.1
DIGITS = 6
SUFFIXES = (".label", ".invalid", ".occluded", ".bin")
STEPS = (1, 5)  # of the scans, every fifth has voxels


def kitti_grid() -> GridSpec:
    """51.2 x 51.2 x 6.4 m at 0.2 m ahead of the car, z from the road: 2 m below the LiDAR is its floor."""
    return GridSpec(SHAPE, (0.2, 0.2, 0.2), (0.0, -25.6, LIDAR_M - 2.0))


@dataclass(frozen=True)
class KittiSequence:
    """One sequence. Voxels are published of every fifth scan, poses of all."""

    folder: Path  # .../sequences/XX
    numbers: tuple[int, ...]
    step: int
    options: ReadOptions

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def frames(self) -> int:
        return len(self.numbers)

    @property
    def grid(self) -> GridSpec:
        return kitti_grid()

    @property
    def dt_s(self) -> float:
        return self.options.dt_s or DT_S * self.step

    def frame_name(self, index: int) -> str:
        return f"{self.numbers[index]:0{DIGITS}d}"

    @cached_property
    def world_se3_ego(self) -> Doubles:
        """[F, 4, 4] on the road: the poses of the left camera, through the calibration, down from the LiDAR."""
        path = self._poses_path()
        rows = read_table(path, 12)
        last = self.numbers[-1]
        most = last + self.step if self.frames > 1 else len(rows)  # one frame tells no step
        if not last < len(rows) <= most:
            raise DatasetError(
                f"{path}: holds {len(rows)} poses, the frames run to {self.frame_name(-1)} in steps of {self.step}; "
                "copy the sequence again"
            )
        camera_se3_lidar = self._calibration()
        world_se3_camera = check_poses(path, square(rows))[list(self.numbers)]
        return lowered(np.linalg.inv(camera_se3_lidar) @ world_se3_camera @ camera_se3_lidar, LIDAR_M)

    def frame(self, index: int) -> Frame:
        stem = self.folder / "voxels" / self.frame_name(index)
        path = stem.with_suffix(".label")
        ids = read_raw(path, np.uint16, SHAPE)
        observed = ~read_bits(stem.with_suffix(".invalid"), SHAPE)
        labels = SEMANTICKITTI.apply(ids, path)
        observed &= labels != UNKNOWN  # a stray echo says nothing
        seen = Frame.seen(labels, observed)
        moving = observed & (ids >= SEMANTICKITTI_MOVING.start) & (ids < SEMANTICKITTI_MOVING.stop)
        return Frame(seen.labels, observed, moving, points=self._sweep(index) if self.options.points else None)

    def _sweep(self, index: int) -> Floats:
        points = read_sweep(self.folder / "velodyne" / f"{self.frame_name(index)}.bin").copy()
        points[:, 2] += LIDAR_M
        return points

    def _poses_path(self) -> Path:
        beside, apart = self.folder / "poses.txt", self.folder.parents[1] / "poses" / f"{self.name}.txt"
        if not beside.is_file() and apart.is_file():
            return apart
        return beside

    def _calibration(self) -> Doubles:
        """[4, 4] camera_se3_lidar, the line `Tr:` of calib.txt."""
        path = self.folder / "calib.txt"
        for line in read_bytes(path, 100_000).decode("ascii", "replace").splitlines():
            key, _, rest = line.partition(":")
            if key.strip() == "Tr":
                try:
                    return check_poses(path, square(np.array([rest.split()], np.float64).reshape(1, 12)))[0]
                except ValueError:
                    break
        raise DatasetError(f"{path}: has no line `Tr:` of 12 numbers; copy the file again")


def open_semantickitti(folder: Path, options: ReadOptions) -> list[KittiSequence]:
    """The sequences with voxels in a folder that holds `sequences` (or `dataset/sequences`)."""
    if options.mask != "lidar":
        raise DatasetError(f"{folder}: SemanticKITTI has no camera mask; choose the LiDAR's")
    for base in (folder / "sequences", folder / "dataset" / "sequences", folder):
        places = sorted(base.glob("*/voxels")) if base.is_dir() else []
        known = [each for each in places if next(each.glob("*.label"), None)]  # test sequences have no labels
        if known:
            listed = ((each.parent, *numbered(each, SUFFIXES, DIGITS, STEPS)) for each in known)
            return [KittiSequence(place, numbers, step, options) for place, numbers, step in listed]
    raise DatasetError(
        f"{folder}: holds no sequences/XX/voxels/NNNNNN.label; give the folder of SemanticKITTI's sequences"
    )
