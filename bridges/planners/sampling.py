"""A planner that sees occupancy: it weighs many ways along its route against what stands and moves there.

C candidate, K moment, D disc of the ego, B box, X/Y voxel axes. Ego frame, metres, seconds, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridges.planner import EGO_SIZE_M, WHEELBASE_M, Observation, Task, Trajectory
from bridges.planners.candidates import HORIZON_S, STEP_S, TIME_S, Candidates, candidates
from bridges.planners.course import course_of
from bridges.planners.obstacles import FAR_M, Boxes, Obstacles, obstacles_of, sight_m
from dcgen.types import LAYOUT_CHANNELS, UNKNOWN, Doubles, Floats

DISCS = 4  # that cover the ego's box from end to end
DISC_AT_M = (np.arange(DISCS) + 0.5) * EGO_SIZE_M[0] / DISCS - EGO_SIZE_M[0] / 2
DISC_M = float(np.hypot(EGO_SIZE_M[0] / DISCS / 2, EGO_SIZE_M[1] / 2))
EVERY = 2  # moments at which moving things are looked at
MOST_CURVATURE_PM = float(np.tan(0.6) / WHEELBASE_M)
_ROAD, _JUNCTION = LAYOUT_CHANNELS.index("road"), LAYOUT_CHANNELS.index("junction")


@dataclass(frozen=True)
class Weights:
    """What counts how much. A metre of progress is the measure of the others."""

    touch: float = 40.0  # a metre driven in touch with something
    near: float = 0.8  # a metre driven with no clearance
    lane: float = 0.02  # a metre driven a metre beside the lane's middle
    off_road: float = 4.0  # a metre driven with all four corners off the road
    progress: float = 0.35  # a metre not made
    comfort: float = 0.05  # a second at 1 m/s2, along or across
    jerk: float = 0.08  # a change of acceleration by 1 m/s2 now
    headway: float = 1.5  # a metre driven at something less than HEADWAY_S ahead
    change: float = 0.12  # another offset than last time, by a metre
    sharp: float = 200.0  # a moment of a bend sharper than the wheels can turn


HEADWAY_S = 1.1
CLEAR_M, TOUCH_M, DEEP_M = 0.9, 0.1, 0.4  # comfortable clearance; what counts as touch; touch at its worst


class OccupancySampling:
    """Samples lateral shifts and speed profiles along the route and takes the cheapest."""

    def __init__(self, weights: Weights | None = None) -> None:
        self.weights = weights or Weights()

    def reset(self, task: Task) -> None:
        self._limit_mps = task.speed_limit_mps
        self._goal_m = 0.0

    def plan(self, observation: Observation) -> Trajectory:
        course = course_of(observation.route)
        ways = candidates(course, observation.ego.speed_mps, self._limit_mps, sight_m(observation, course))
        seen = obstacles_of(observation, course, TIME_S[EVERY - 1 :: EVERY])
        cost = self._cost(observation, ways, seen)
        best = int(np.argmin(cost))
        self._goal_m = float(ways.goal_m[best])
        return Trajectory(TIME_S.copy(), ways.pose[best].copy())

    def close(self) -> None:
        """Nothing is held."""

    def _cost(self, observation: Observation, ways: Candidates, seen: Obstacles) -> Doubles:
        """[C]"""
        w = self.weights
        metres = ways.speed_mps * STEP_S
        discs = _discs(ways)
        still = still_clearance_m(seen, discs)
        moving = box_clearance_m(seen.boxes, discs[..., EVERY - 1 :: EVERY], TIME_S[EVERY - 1 :: EVERY])
        soon = 1 / (1 + 0.25 * TIME_S)
        cost = w.touch * (_touch(still) * metres * soon).sum(axis=1)
        # To be hit is also a harm, so a standing ego counts as one that creeps.
        creep = (metres + 0.5 * STEP_S)[:, EVERY - 1 :: EVERY] * EVERY
        cost += w.touch * (_touch(moving) * creep * soon[EVERY - 1 :: EVERY]).sum(axis=1)
        cost += w.headway * (_touch(self._ahead(ways, seen)) * metres).sum(axis=1)
        cost += w.near * (_closeness(still) * metres).sum(axis=1)
        cost += w.near * (_closeness(moving) * metres[:, EVERY - 1 :: EVERY] * EVERY).sum(axis=1)
        cost += w.lane * (ways.left_m**2 * metres).sum(axis=1)
        cost += w.off_road * (_off_road(observation, ways.pose) * metres).sum(axis=1)
        cost += w.progress * (self._limit_mps * HORIZON_S - ways.s_m[:, -1])
        across = ways.speed_mps**2 * ways.curvature_pm
        cost += w.comfort * STEP_S * (ways.acceleration_mps2**2 + across**2).sum(axis=1)
        cost += w.jerk * (ways.acceleration_mps2[:, 0] - observation.ego.acceleration_mps2) ** 2
        cost += w.change * np.abs(ways.goal_m - self._goal_m)
        cost += w.sharp * np.maximum(np.abs(ways.curvature_pm) - MOST_CURVATURE_PM, 0.0).sum(axis=1)
        return np.asarray(cost)

    def _ahead(self, ways: Candidates, seen: Obstacles) -> Floats:
        """[C, K] clearance of where the ego's front would be HEADWAY_S on, if it drove straight on."""
        front = EGO_SIZE_M[0] / 2 - DISC_M + HEADWAY_S * ways.speed_mps * np.array([0.5, 1.0])[:, None, None]
        discs = _discs(ways, front)
        clear = still_clearance_m(seen, discs)
        part = slice(EVERY - 1, None, EVERY)
        moving = box_clearance_m(seen.boxes, discs[..., part], TIME_S[part])
        clear[:, part] = np.minimum(clear[:, part], moving)
        return clear


def _discs(ways: Candidates, ahead_m: Doubles = DISC_AT_M[:, None, None]) -> Floats:
    """[2, D, C, K] x and y of the centres of discs ahead_m [D, 1 or C, 1 or K] of the ego's: those that cover it."""
    pose = ways.pose.astype(np.float32)
    ahead = ahead_m.astype(np.float32)
    x = pose[..., 0] + ahead * np.cos(pose[..., 2])
    y = pose[..., 1] + ahead * np.sin(pose[..., 2])
    return np.stack([x, y])


def still_clearance_m(seen: Obstacles, discs: Floats) -> Floats:
    """[C, K] metres between the ego's discs [2, D, C, K] and the centres of still voxels; FAR_M off the grid."""
    u = (discs[0] - np.float32(seen.origin_m[0])) / np.float32(seen.cell_m[0])
    v = (discs[1] - np.float32(seen.origin_m[1])) / np.float32(seen.cell_m[1])
    x, y = seen.distance_m.shape
    within = (u >= -0.5) & (v >= -0.5) & (u <= x - 0.5) & (v <= y - 0.5)
    u, v = np.clip(u, 0, x - 1.001), np.clip(v, 0, y - 1.001)
    i, j = u.astype(np.int32), v.astype(np.int32)
    a, b = u - i, v - j
    field = seen.distance_m.ravel()
    at = i * y + j
    next_i, next_j = (y if x > 1 else 0), (1 if y > 1 else 0)
    low = field[at] * (1 - b) + field[at + next_j] * b
    high = field[at + next_i] * (1 - b) + field[at + next_i + next_j] * b
    away = np.where(within, low * (1 - a) + high * a, np.float32(FAR_M))
    return np.asarray(away.min(axis=0) - np.float32(DISC_M))


def box_clearance_m(boxes: Boxes, discs: Floats, time_s: Doubles) -> Floats:
    """[C, K] metres from the ego's discs [2, D, C, K] to the nearest box at moments time_s [K]; FAR_M without one."""
    nearest = np.full(discs.shape[2:], FAR_M, np.float32)
    centres = boxes.at(time_s).astype(np.float32)
    for b, (half, yaw) in enumerate(zip(boxes.half_m.astype(np.float32), boxes.pose[:, 2], strict=True)):
        cos, sin = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
        dx, dy = discs[0] - centres[:, b, 0], discs[1] - centres[:, b, 1]
        along = np.maximum(np.abs(dx * cos + dy * sin) - half[0], 0)
        beside = np.maximum(np.abs(dy * cos - dx * sin) - half[1], 0)
        square = (along * along + beside * beside).min(axis=0)
        nearest = np.minimum(nearest, np.sqrt(square) - np.float32(DISC_M))
    return nearest


def _touch(clearance_m: Floats) -> Floats:
    return np.clip((TOUCH_M - clearance_m) / DEEP_M, 0.0, 1.0)


def _closeness(clearance_m: Floats) -> Floats:
    return np.asarray(np.clip(1 - clearance_m / CLEAR_M, 0.0, 1.0) ** 2)


def _off_road(observation: Observation, pose: Doubles) -> Floats:
    """[C, K] share of the ego's corners that stand off the road; 0 where no road, or nothing, is known."""
    grid = observation.grid
    road = (observation.layout[_ROAD] > 0.5) | (observation.layout[_JUNCTION] > 0.5)
    if not road.any():
        return np.zeros(pose.shape[:2], np.float32)
    unknown = observation.occupancy[-1][..., 0] == UNKNOWN
    for layer in range(1, grid.shape[2]):
        unknown &= observation.occupancy[-1][..., layer] == UNKNOWN
    road |= unknown
    cos, sin = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    off = np.zeros(pose.shape[:2], np.float32)
    for ahead, left in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        a, b = ahead * EGO_SIZE_M[0] / 2, left * EGO_SIZE_M[1] / 2
        i = np.floor((pose[..., 0] + a * cos - b * sin - grid.origin_m[0]) / grid.voxel_m[0]).astype(np.int64)
        j = np.floor((pose[..., 1] + a * sin + b * cos - grid.origin_m[1]) / grid.voxel_m[1]).astype(np.int64)
        within = (i >= 0) & (j >= 0) & (i < grid.shape[0]) & (j < grid.shape[1])
        on = road[np.clip(i, 0, grid.shape[0] - 1), np.clip(j, 0, grid.shape[1] - 1)]
        off += np.where(within & ~on, np.float32(0.25), np.float32(0.0))
    return off
