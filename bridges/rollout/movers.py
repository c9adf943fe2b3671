"""Road users put back into the static world, in their own voxels. T frame, N object, X/Y/Z voxel axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.rollout import kernels
from bridges.rollout.traffic import TrafficState
from dcgen.compiled import compiled
from dcgen.types import AgentTracks, Doubles, Floats, GridSpec, Labels, Scene

WHOLE = 0.5  # of its most voxels: a frame that shows less of an object is not taken for its shape


@dataclass(frozen=True)
class Stamped:
    """A grid with its movers."""

    occupancy: Labels  # [X, Y, Z]
    instances: NDArray[np.uint16]  # [X, Y, Z] 1 + row of the object, 0 where it is nobody's
    flow_mps: Floats  # [X, Y, Z, 3] velocity over ground, along the grid's axes


class Movers:
    """The objects of a scene with the voxels that they have in its frames."""

    def __init__(self, scene: Scene, instances: NDArray[np.uint16], objects: AgentTracks) -> None:
        self._labels, self._grid, self._poses = np.ascontiguousarray(scene.labels), scene.grid, scene.world_se3_ego
        self._instances, self.objects = np.ascontiguousarray(instances), objects
        frames, count = len(instances), len(objects.id)
        self._voxels = np.zeros((frames, count), np.int64)
        self._boxes = np.zeros((frames, count, 6), np.int64)
        if count:
            compiled(kernels.extents_kernel)(self._instances, self._voxels, self._boxes)
        self._voxels[~objects.valid.T] = 0  # where it was is not known, so nothing can be moved from there
        self._shape_frame = self._shapes()

    def _shapes(self) -> NDArray[np.int64]:
        """[T, N] the frame nearest to each that shows (nearly) all of an object; -1 where none shows anything."""
        frames, count = self._voxels.shape
        out = np.full((frames, count), -1, np.int64)
        for row in np.flatnonzero(self._voxels.any(axis=0)):
            seen = self._voxels[:, row]
            enough = np.flatnonzero(seen >= WHOLE * seen.max())
            out[:, row] = enough[np.abs(enough - np.arange(frames)[:, None]).argmin(axis=1)]
        return out

    def stamp(self, occupancy: Labels, grid_pose: Doubles, state: TrafficState) -> Stamped:
        """The movers at a moment put into a static world [X, Y, Z] that is cut at a pose [4, 4]; changes occupancy."""
        owner = np.zeros(occupancy.shape, np.uint16)
        flow = np.zeros((*occupancy.shape, 3), np.float32)
        present = np.flatnonzero(state.valid & self._may_reach(state, grid_pose))
        chosen = self._shape_frame[state.shape_frame[present], present]
        hits = self._stamp(occupancy, owner, flow, grid_pose, state, present, chosen)
        lost = (hits == 0) & (chosen >= 0)  # a small shape may slip between the new grid's centres
        self._stamp(occupancy, owner, flow, grid_pose, state, present[lost], np.full(lost.sum(), -1, np.int64))
        return Stamped(occupancy, owner, flow)

    def _may_reach(self, state: TrafficState, grid_pose: Doubles) -> NDArray[np.bool_]:
        reach = np.linalg.norm(np.abs(self._grid.origin_m[:2]) + np.array(self._grid.extent_m[:2])) + 30.0
        away = np.hypot(*(state.pose[:, :2] - grid_pose[:2, 3]).T)
        return np.asarray(away < reach)

    def _stamp(
        self,
        occupancy: Labels,
        owner: NDArray[np.uint16],
        flow: Floats,
        grid_pose: Doubles,
        state: TrafficState,
        who: NDArray[np.int64],
        chosen: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        hits = np.zeros(len(who), np.int64)
        if not len(who):
            return hits
        low, voxel = np.array(self._grid.origin_m), np.array(self._grid.voxel_m)
        size = self.objects.size_m[who].astype(np.float64)
        half = np.column_stack([np.maximum(size[:, :2], voxel[:2]) / 2, np.maximum(size[:, 2], voxel[2])])
        boxes = np.stack([-half, half], axis=1)  # [n, 2, 3]
        boxes[:, 0, 2] = 0.0
        grid_se3_source = np.linalg.inv(grid_pose) @ _upright(state.pose[who], state.z_m[who])
        own = chosen >= 0
        whose, frames = who[own], chosen[own]
        then = _upright(self.objects.pose[whose, frames], self.objects.z_m[whose, frames])
        grid_se3_source[own] = grid_se3_source[own] @ np.linalg.inv(then) @ self._poses[frames]
        index = self._boxes[frames, whose].reshape(-1, 2, 3)
        boxes[own] = low + (index + np.array([[0], [1]])) * voxel
        windows = _windows(boxes, grid_se3_source, low, voxel, occupancy.shape)
        source = np.ascontiguousarray(np.linalg.inv(grid_se3_source)[:, :3]).reshape(-1, 12)
        place, motion = _in_grid(grid_pose, state, who)
        compiled(kernels.stamp_kernel)(
            self._labels, self._instances, who, chosen, source, half, self.objects.class_id[who], place, motion,
            windows, low, voxel, occupancy, owner, flow, hits,
        )  # fmt: skip
        return hits


def _upright(pose: Doubles, z_m: NDArray[np.floating]) -> Doubles:
    """[n, 4, 4] of poses [n, 3] that stand upright at heights z_m [n]."""
    out = np.zeros((len(pose), 4, 4))
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1] = cos, -sin, sin, cos
    out[:, :2, 3], out[:, 2, 3], out[:, 2, 2], out[:, 3, 3] = pose[:, :2], z_m, 1.0, 1.0
    return out


def _windows(
    boxes: Doubles, grid_se3_box: Doubles, low: Doubles, voxel: Doubles, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """[n, 6] first and last + 1 indices of the grid's voxels around boxes [n, 2, 3] of other frames."""
    pick = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
    corners = boxes[:, pick, np.arange(3)]  # [n, 8, 3]
    moved = corners @ grid_se3_box[:, :3, :3].transpose(0, 2, 1) + grid_se3_box[:, None, :3, 3]
    inside = (moved - low) / voxel
    first = np.clip(np.floor(inside.min(axis=1) - 1e-6), 0, shape)
    last = np.clip(np.floor(inside.max(axis=1) + 1e-6) + 1, 0, shape)
    return np.concatenate([first, last], axis=1).astype(np.int64)


def _in_grid(grid_pose: Doubles, state: TrafficState, who: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Places [N, 2] and velocities [N, 3] (x, y, about z) along the grid's axes."""
    norm = np.hypot(grid_pose[0, 0], grid_pose[1, 0])
    c, s = grid_pose[0, 0] / norm, grid_pose[1, 0] / norm
    turn = np.array([[c, -s], [s, c]])
    place = (state.pose[who, :2] - grid_pose[:2, 3]) @ turn
    return place, np.column_stack([state.velocity[who, :2] @ turn, state.velocity[who, 2]])


def agents_in_grid(
    grid_pose: Doubles, state: TrafficState, grid: GridSpec
) -> tuple[NDArray[np.int64], Doubles, Doubles]:
    """Rows of the objects within a grid, and their poses [A, 3] and velocities [A, 3] in its frame."""
    every = np.arange(len(state.valid))
    place, motion = _in_grid(grid_pose, state, every)
    low, high = np.array(grid.origin_m[:2]), np.array(grid.origin_m[:2]) + grid.extent_m[:2]
    here = np.flatnonzero(state.valid & ((place >= low) & (place < high)).all(axis=1))
    yaw = state.pose[here, 2] - np.arctan2(grid_pose[1, 0], grid_pose[0, 0])
    return here, np.column_stack([place[here], (yaw + np.pi) % (2 * np.pi) - np.pi]), motion[here]
