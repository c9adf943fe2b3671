"""What is in the way: still voxels as a field of distances, moving things as boxes at constant velocity.

H frame of history, X/Y/Z voxel axes, B box, K moment. Ego frame, metres, seconds, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from bridges.planner import EGO_SIZE_M, AgentStates, Observation
from bridges.planners.course import Course
from dcgen.types import MOVING_MPS, SURFACES, UNKNOWN, Doubles, Floats, GridSpec, Labels, Semantics

FAR_M = 50.0
LUMP_M = 1.6  # moving voxels of nobody are put together in cells of this size
MOST_LUMPS = 24
MOST_BOXES = 32
AROUND_AGENT_M = 0.8  # voxels this near to an agent's box are the agent's
CORRIDOR_M = 8.0
LEAST_SIGHT_M = 5.0
_IS_SURFACE = np.isin(np.arange(256), [int(kind) for kind in SURFACES])
_IS_SOLID = ~_IS_SURFACE & (np.arange(256) != Semantics.FREE) & (np.arange(256) != UNKNOWN)


@dataclass(frozen=True)
class Boxes:
    """Moving things, or agents that stand. A pedestrian is a small box."""

    pose: Doubles  # [B, 3] x, y, yaw now
    half_m: Doubles  # [B, 2] half of length and width
    velocity_mps: Doubles  # [B, 2]

    def at(self, time_s: Doubles) -> Doubles:
        """[K, B, 2] centres at moments time_s [K]."""
        return np.asarray(self.pose[None, :, :2] + time_s[:, None, None] * self.velocity_mps[None])


@dataclass(frozen=True)
class Obstacles:
    """Everything to keep clear of."""

    origin_m: tuple[float, float]  # centre of cell [0, 0]
    cell_m: tuple[float, float]
    distance_m: Floats  # [X, Y] from the centre of each cell to the centre of the nearest still one
    boxes: Boxes


def still_and_moving(observation: Observation) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[X, Y] columns with a solid voxel as high as the ego: those that stand (in the newest frame, or where that knows
    nothing in the one before), and those that move."""
    labels, grid = observation.occupancy[-1], observation.grid
    i, j, k = np.nonzero(solid_voxels(labels, grid))
    flow = observation.flow_mps[i, j, k, :2].astype(np.float32)
    fast = flow[:, 0] ** 2 + flow[:, 1] ** 2 > MOVING_MPS**2
    still, moving = np.zeros(grid.shape[:2], bool), np.zeros(grid.shape[:2], bool)
    still[i[~fast], j[~fast]] = True
    moving[i[fast], j[fast]] = True
    if len(observation.occupancy) > 1:
        unseen = labels[..., 0] == UNKNOWN
        for layer in range(1, grid.shape[2]):
            unseen &= labels[..., layer] == UNKNOWN
        if unseen.any():
            still |= unseen & _remembered(observation)
    return still, moving


def solid_voxels(labels: Labels, grid: GridSpec) -> NDArray[np.bool_]:
    """[X, Y, Z] voxels that are no surface, above the ground of their column and below the ego's roof."""
    flat = int(np.clip((0.0 - grid.origin_m[2]) // grid.voxel_m[2], 0, grid.shape[2] - 1))
    top = np.full(labels.shape[:2], -1, np.int8)
    for layer in range(grid.shape[2]):  # many times as fast as a reduction along so short an axis
        top[_IS_SURFACE[labels[..., layer]]] = layer
    top[top < 0] = flat
    tall = max(1, int(np.ceil(EGO_SIZE_M[2] / grid.voxel_m[2])))
    layers = np.arange(grid.shape[2], dtype=np.int8)
    above = (layers > top[..., None]) & (layers <= top[..., None] + tall)
    return _IS_SOLID[labels] & above


def _remembered(observation: Observation) -> NDArray[np.bool_]:
    """[X, Y] columns that the frame before shows as solid, and of no kind that walks, moved into the present."""
    labels, grid = observation.occupancy[-2], observation.grid
    stays = solid_voxels(labels, grid) & ~np.isin(labels, (Semantics.PEDESTRIAN, Semantics.BICYCLE))
    cells = np.argwhere(stays.any(axis=2))
    origin, voxel = np.array(grid.origin_m[:2]), np.array(grid.voxel_m[:2])
    old = origin + (cells + 0.5) * voxel
    turn = observation.now_se3_ego[-2]
    now = old @ turn[:2, :2].T + turn[:2, 3]
    index = np.floor((now - origin) / voxel).astype(np.int64)
    index = index[np.all((index >= 0) & (index < grid.shape[:2]), axis=1)]
    seen = np.zeros(grid.shape[:2], bool)
    seen[index[:, 0], index[:, 1]] = True
    return seen


def obstacles_of(observation: Observation, course: Course, time_s: Doubles) -> Obstacles:
    """What an observation shows, as far as it can matter near the course within moments time_s [K]."""
    grid = observation.grid
    still, moving = still_and_moving(observation)
    agents = _of_agents(observation.agents)
    driven = covered(agents, grid, np.hypot(*agents.velocity_mps.T) > MOVING_MPS)
    still &= ~driven  # what an agent leaves behind, where the flow does not say so
    lumps = _lumps(observation, moving & ~driven)
    boxes = Boxes(
        np.concatenate([agents.pose, lumps.pose]),
        np.concatenate([agents.half_m, lumps.half_m]),
        np.concatenate([agents.velocity_mps, lumps.velocity_mps]),
    )
    voxel = (grid.voxel_m[0], grid.voxel_m[1])
    first = (grid.origin_m[0] + voxel[0] / 2, grid.origin_m[1] + voxel[1] / 2)
    far = distance_transform_edt(~still, sampling=voxel) if still.any() else np.full(still.shape, FAR_M)
    return Obstacles(first, voxel, far.astype(np.float32), _near(boxes, course, time_s))


def sight_m(observation: Observation, course: Course) -> float:
    """How far along the course the newest frame knows what is there; never less than LEAST_SIGHT_M."""
    grid, labels = observation.grid, observation.occupancy[-1]
    s = np.arange(0.0, FAR_M, grid.voxel_m[0])
    index = np.floor((course.pose(s)[:, :2] - grid.origin_m[:2]) / grid.voxel_m[:2]).astype(np.int64)
    inside = np.all((index >= 0) & (index < grid.shape[:2]), axis=1)
    i, j = np.where(inside[:, None], index, 0).T
    blind = ~inside | (labels[i, j] == UNKNOWN).all(axis=1)
    return max(LEAST_SIGHT_M, float(s[blind.argmax()]) if blind.any() else FAR_M)


def _of_agents(agents: AgentStates) -> Boxes:
    half = np.asarray(agents.size_m[:, :2], np.float64) / 2
    return Boxes(np.asarray(agents.pose, np.float64), half, np.asarray(agents.velocity_mps, np.float64))


def covered(boxes: Boxes, grid: GridSpec, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[X, Y] cells within or just beside those boxes."""
    covered = np.zeros(grid.shape[:2], bool)
    origin, voxel = np.array(grid.origin_m[:2]), np.array(grid.voxel_m[:2])
    for pose, half in zip(boxes.pose[which], boxes.half_m[which], strict=True):
        reach = float(np.hypot(*half)) + AROUND_AGENT_M
        low = np.maximum(np.floor((pose[:2] - reach - origin) / voxel).astype(int), 0)
        high = np.minimum(np.ceil((pose[:2] + reach - origin) / voxel).astype(int), grid.shape[:2])
        if np.any(high <= low):
            continue
        x = origin[0] + (np.arange(low[0], high[0])[:, None] + 0.5) * voxel[0] - pose[0]
        y = origin[1] + (np.arange(low[1], high[1])[None, :] + 0.5) * voxel[1] - pose[1]
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        within = (np.abs(x * cos + y * sin) < half[0] + AROUND_AGENT_M) & (
            np.abs(y * cos - x * sin) < half[1] + AROUND_AGENT_M
        )
        covered[low[0] : high[0], low[1] : high[1]] |= within
    return covered


def _lumps(observation: Observation, cells: NDArray[np.bool_]) -> Boxes:
    """Moving columns that belong to no agent, as boxes of LUMP_M with their mean flow; the nearest to the ego."""
    index = np.argwhere(cells)
    if not len(index):
        return Boxes(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 2)))
    grid = observation.grid
    voxel = np.array(grid.voxel_m[:2])
    centre = np.array(grid.origin_m[:2]) + (index + 0.5) * voxel
    flow = observation.flow_mps[index[:, 0], index[:, 1]].astype(np.float64)  # [M, Z, 3]
    fastest = np.hypot(flow[..., 0], flow[..., 1]).argmax(axis=1)
    velocity = flow[np.arange(len(index)), fastest, :2]
    _, row, count = np.unique(np.floor(centre / LUMP_M), axis=0, return_inverse=True, return_counts=True)
    row = row.reshape(-1)
    mean = [np.bincount(row, weights) / count for weights in (*centre.T, *velocity.T)]
    order = np.argsort(np.hypot(mean[0], mean[1]), kind="stable")[:MOST_LUMPS]
    pose = np.column_stack([mean[0], mean[1], np.zeros(len(count))])[order]
    return Boxes(pose, np.full((len(order), 2), LUMP_M / 2), np.column_stack(mean[2:])[order])


def _near(boxes: Boxes, course: Course, time_s: Doubles) -> Boxes:
    """The boxes that come near the course at one of these moments; of too many, those nearest to the ego."""
    if not len(boxes.pose):
        return boxes
    _, left, _ = course.place(boxes.at(time_s))
    reach = np.hypot(*boxes.half_m.T) + CORRIDOR_M
    away = np.hypot(*boxes.pose[:, :2].T)
    keep = np.flatnonzero((np.abs(left) < reach).any(axis=0) & (away < FAR_M * 1.5))
    keep = keep[np.argsort(away[keep], kind="stable")[:MOST_BOXES]]
    return Boxes(boxes.pose[keep], boxes.half_m[keep], boxes.velocity_mps[keep])
