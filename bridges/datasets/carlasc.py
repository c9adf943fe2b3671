"""CarlaSC: `<scene>/cartesian/evaluation/NNNNNN.{label,bin}` and poses. X/Y/Z voxel axes, F frame, N point.

Published with y to the right, seen from a LiDAR 1.8 m above the road; here y is left and z counts from the road.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bridges.datasets.class_maps import CARLASC
from bridges.datasets.files import check_growing, check_poses, numbered, read_raw, read_sweep, read_table, square
from bridges.datasets.sequence import Frame, ReadOptions, lowered, mirrored
from dcgen.errors import DatasetError
from dcgen.types import Doubles, Floats, GridSpec, carlasc_grid
from scenarios.frames import carla_points_to_world

LIDAR_M = 1.8
DT_S = 0.1
DIGITS = 6


@dataclass(frozen=True)
class CarlaScene:
    """One recorded drive."""

    folder: Path  # that holds cartesian/
    options: ReadOptions
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def frames(self) -> int:
        return len(self.numbers)

    @property
    def grid(self) -> GridSpec:
        return carlasc_grid()

    @property
    def dt_s(self) -> float:
        return self.options.dt_s or DT_S

    def frame_name(self, index: int) -> str:
        return f"{self.numbers[index]:0{DIGITS}d}"

    @cached_property
    def world_se3_ego(self) -> Doubles:
        """[F, 4, 4] on the road, y left. Raises DatasetError where poses or times do not fit the frames."""
        path = self._beside("poses.txt")
        rows = read_table(path, 12)
        if len(rows) != self.frames:
            raise DatasetError(
                f"{path}: holds {len(rows)} poses for {self.frames} frames in {self._evaluation}; copy the scene again"
            )
        times = self._beside("times.txt", needed=False)
        if times.exists():
            seconds = read_table(times, 1)[:, 0]
            if len(seconds) != self.frames:
                raise DatasetError(
                    f"{times}: holds {len(seconds)} times for {self.frames} frames; copy the scene again"
                )
            check_growing(times, seconds)
        return lowered(mirrored(check_poses(path, square(rows))), LIDAR_M)

    def frame(self, index: int) -> Frame:
        stem = self._evaluation / self.frame_name(index)
        shape = self.grid.shape
        label, hits = stem.with_suffix(".label"), stem.with_suffix(".bin")
        labels = CARLASC.apply(read_raw(label, np.uint32, shape), label)
        observed = read_raw(hits, np.float32, shape) > 0
        seen = Frame.seen(labels[:, ::-1], observed[:, ::-1])
        return Frame(seen.labels, seen.observed, points=self._sweep(index) if self.options.points else None)

    def _sweep(self, index: int) -> Floats:
        points = read_sweep(self.folder / "cartesian" / "velodyne" / f"{self.frame_name(index)}.bin").copy()
        points[:, :3] = carla_points_to_world(points[:, :3])
        points[:, 2] += LIDAR_M
        return points

    @property
    def _evaluation(self) -> Path:
        return self.folder / "cartesian" / "evaluation"

    def _beside(self, name: str, needed: bool = True) -> Path:
        """The file of that name beside the frames or above them."""
        places = [self.folder / "cartesian" / name, self._evaluation / name, self.folder / name]
        for path in places:
            if path.is_file():
                return path
        if needed:
            raise DatasetError(f"{places[0]}: is missing; copy it from the set")
        return places[0]


def open_carlasc(folder: Path, options: ReadOptions) -> list[CarlaScene]:
    """The scenes in a folder (or of its splits, or the folder itself). Raises DatasetError."""
    if options.mask != "lidar":
        raise DatasetError(f"{folder}: CarlaSC has no camera mask; choose the LiDAR's")
    found = {folder} | {
        path.parents[1] for depth in ("*", "*/*") for path in folder.glob(f"{depth}/cartesian/evaluation")
    }
    scenes = []
    for scene in sorted(found):
        if (scene / "cartesian" / "evaluation").is_dir():
            numbers, _ = numbered(scene / "cartesian" / "evaluation", (".label", ".bin"), DIGITS)
            scenes.append(CarlaScene(scene, options, numbers))
    if not scenes:
        raise DatasetError(f"{folder}: holds no <scene>/cartesian/evaluation; give the folder of CarlaSC's scenes")
    return scenes
