"""A scene's voxels in the grid and the frame of a format. X/Y/Z voxel axes of the target, P parts of its voxels.

A target voxel takes the class of the scene's voxel that its centre lies in. Where it is larger than the scene's, it is
cut into equal parts no larger than those, and takes what is commonest at their centres: free and unknown count as
classes do, and of equally common ones an occupied class comes before free, and free before unknown. Outside of the
scene's grid all is unknown: nothing is made up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.types import NUM_CLASSES, UNKNOWN, Doubles, GridSpec, Labels

_ROUNDING = 1e-9  # voxels; a centre on the face between two voxels belongs to the upper one on every machine
_VOTES = (*range(1, NUM_CLASSES), 0, UNKNOWN)


@dataclass(frozen=True)
class Frame:
    """A format's frame at the ego: target points are turned (axes may swap or flip) and lifted into the ego frame."""

    axes: tuple[tuple[int, int, int], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))  # rows: ego axes of target axes
    height_m: float = 0.0  # of the target's origin above the ground below the ego

    @property
    def ego_se3_target(self) -> Doubles:
        """[4, 4]; a reflection where the target is left-handed."""
        out = np.eye(4)
        out[:3, :3] = self.axes
        out[2, 3] = self.height_m
        return out

    def world_se3_target(self, world_se3_ego: Doubles) -> Doubles:
        """[..., 4, 4] poses as the format keeps them: of its own frame, in a world whose y points as its own does."""
        poses = world_se3_ego @ self.ego_se3_target
        if np.linalg.det(np.array(self.axes, float)) < 0:
            poses = np.diag([1.0, -1.0, 1.0, 1.0]) @ poses
        return poses


EGO = Frame()


def lidar(height_m: float) -> Frame:
    """A LiDAR above the ego with the ego's axes, as KITTI's."""
    return Frame(height_m=height_m)


def nuscenes_lidar(height_m: float) -> Frame:
    """nuScenes' LiDAR: x to the right, y ahead, z up."""
    return Frame(((0, 1, 0), (-1, 0, 0), (0, 0, 1)), height_m)


def y_right(height_m: float) -> Frame:
    """A LiDAR with CARLA's left-handed axes: y to the right."""
    return Frame(((1, 0, 0), (0, -1, 0), (0, 0, 1)), height_m)


@dataclass(frozen=True)
class Sampled:
    """Labels [X, Y, Z] of one frame in the target, and the scene's voxel that each came from."""

    labels: Labels
    source: NDArray[np.int32]  # [X, Y, Z] flat place in the scene's grid, its size where there is none

    @property
    def known(self) -> NDArray[np.bool_]:
        return self.labels != UNKNOWN

    def take(self, values: NDArray, outside: int = 0) -> NDArray:
        """[X, Y, Z] another field [X', Y', Z'] of the scene's frame at the same places."""
        return np.append(values.reshape(-1), values.dtype.type(outside))[self.source]


class Sampler:
    """The same resampling for every frame of a scene: places are worked out once."""

    def __init__(self, scene: GridSpec, target: GridSpec, frame: Frame = EGO) -> None:
        self.scene, self.target, self.frame = scene, target, frame
        self._size = int(np.prod(scene.shape))
        strides = (scene.shape[1] * scene.shape[2], scene.shape[2], 1)
        parts, steps = [], []
        for axis in range(3):
            row = next(b for b in range(3) if frame.axes[b][axis])  # the ego's axis that this one lies along
            cut = int(np.ceil(target.voxel_m[axis] / scene.voxel_m[row] - 1e-6)) or 1
            place = self._along(axis, row, cut)
            parts.append(cut)
            steps.append(np.where(place < 0, -4 * self._size, place * strides[row]).astype(np.int64))
        self._places = [
            self._joined(*(step[part::cut] for step, part, cut in zip(steps, at, parts, strict=True)))
            for at in np.ndindex(*parts)
        ]

    def _along(self, axis: int, row: int, cut: int) -> NDArray[np.int64]:
        """[n * cut] the scene's voxel along its axis `row` of each part along a target axis; -1 outside."""
        n, voxel_m, low_m = self.target.shape[axis], self.target.voxel_m[axis], self.target.origin_m[axis]
        centre_m = low_m + (np.arange(n * cut) + 0.5) * voxel_m / cut
        ego_m = self.frame.axes[row][axis] * centre_m + (self.frame.height_m if row == 2 else 0.0)
        place = np.floor((ego_m - self.scene.origin_m[row]) / self.scene.voxel_m[row] + _ROUNDING).astype(np.int64)
        return np.where((place >= 0) & (place < self.scene.shape[row]), place, -1)

    def _joined(self, x: NDArray[np.int64], y: NDArray[np.int64], z: NDArray[np.int64]) -> NDArray[np.int32]:
        place = x[:, None, None] + y[None, :, None] + z[None, None, :]
        return np.where(place < 0, self._size, place).astype(np.int32)

    def sample(self, labels: Labels) -> Sampled:
        """One frame's labels [X', Y', Z'] in the target."""
        padded = np.append(labels.reshape(-1), np.uint8(UNKNOWN))
        if len(self._places) == 1:
            return Sampled(padded[self._places[0]], self._places[0])
        parts = np.stack([padded[place] for place in self._places])
        winner, most = np.zeros(self.target.shape, np.uint8), np.zeros(self.target.shape, np.int32)
        for label in _VOTES:
            count = (parts == label).sum(axis=0, dtype=np.int32)
            more = count > most
            winner[more], most[more] = label, count[more]
        source = np.full(self.target.shape, self._size, np.int32)
        for part, place in zip(parts[::-1], self._places[::-1], strict=True):
            source = np.where(part == winner, place, source)
        return Sampled(winner, source)
