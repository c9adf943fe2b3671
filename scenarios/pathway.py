"""Lines to drive and walk along: chains of lanes by a turn's choice. N points about 1 m apart, world frame, metres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from dcgen.types import Doubles, wrap_angle
from scenarios.lane_graph import LaneGraph
from scenarios.roadmap import Lane

STEP_M = 1.0
SMOOTH_M = 1.0
LATERAL_MPS2 = 2.5
URBAN_MPS = 50 / 3.6


@dataclass(frozen=True)
class Path:
    """A line to move along, and how fast the road lets one."""

    points_m: Doubles  # [N, 2]
    s_m: Doubles  # [N]
    yaw_rad: Doubles  # [N] unwrapped
    limit_mps: Doubles  # [N] by signs and by curvature

    def at(self, s_m: Doubles | float) -> Doubles:
        """[..., 3] x, y, yaw."""
        x, y = (np.interp(s_m, self.s_m, self.points_m[:, axis]) for axis in (0, 1))
        return np.stack([x, y, np.interp(s_m, self.s_m, self.yaw_rad)], axis=-1)


def make_path(points_m: Doubles, limit_mps: Doubles | float = URBAN_MPS) -> Path:
    """A smooth Path through points [n, 2 or more]."""
    points = points_m[:, :2]
    keep = np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 1e-6])
    points = points[keep]
    limits = np.broadcast_to(limit_mps, len(points_m))[keep]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    count = max(3, int(np.ceil(along[-1] / STEP_M)) + 1)
    at = np.linspace(0.0, along[-1], count)
    even = np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=1)
    pad = min(count - 1, 6)
    head, tail = 2 * even[0] - even[pad:0:-1], 2 * even[-1] - even[-2 : -pad - 2 : -1]
    whole = np.concatenate([head, even, tail])
    smooth = gaussian_filter1d(whole, SMOOTH_M / STEP_M, axis=0, mode="nearest")[pad : pad + count]
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(smooth, axis=0).T))])
    slope = np.gradient(smooth, axis=0)
    yaw = np.unwrap(np.arctan2(slope[:, 1], slope[:, 0]))
    bend = np.abs(np.gradient(yaw, np.maximum(s, 1e-9 * np.arange(count))))
    curve = np.sqrt(LATERAL_MPS2 / np.maximum(gaussian_filter1d(bend, 2.0, mode="nearest"), 1e-4))
    return Path(smooth, s, yaw, np.minimum(np.interp(at, along, limits), curve))


def shifted(path: Path, left_m: float) -> Path:
    """The path moved to the left by so much."""
    normal = np.column_stack([-np.sin(path.yaw_rad), np.cos(path.yaw_rad)])
    return make_path(path.points_m + left_m * normal, path.limit_mps)


def lane_path(graph: LaneGraph, lane: str, s_m: float, length_m: float, turn: str, rng: np.random.Generator) -> Path:
    """The way from s_m on a lane on, at least length_m where the map goes on; turn: straight, left, right, random."""
    lanes = graph.lanes
    points, limits, driven, here, skip = [], [], -s_m, lane, s_m
    while True:
        along = graph.along_m[here]
        keep = along > skip + 0.5 if skip else np.ones(len(along), bool)
        if skip:
            rows = np.arange(len(along))
            index = float(np.interp(skip, along, rows))
            points.append(np.array([[np.interp(index, rows, lanes[here].centre_m[:, axis]) for axis in (0, 1)]]))
            limits.append(np.full(1, lanes[here].speed_limit_mps or URBAN_MPS))
        points.append(lanes[here].centre_m[keep, :2])
        limits.append(np.full(int(keep.sum()), lanes[here].speed_limit_mps or URBAN_MPS))
        driven += float(along[-1])
        ahead = [key for key in lanes[here].successors if key in lanes]
        if driven >= length_m or not ahead:
            return make_path(np.concatenate(points), np.concatenate(limits))
        here, skip = choose(lanes, ahead, turn, rng), 0.0


def choose(lanes: Mapping[str, Lane], ahead: list[str], turn: str, rng: np.random.Generator) -> str:
    """Of the lanes ahead the one that turns as wished, as far as one does."""
    onward = [key for key in ahead if lanes[key].successors] or ahead
    if turn == "random":
        return onward[int(rng.integers(len(onward)))]
    net = {key: float(np.sum(wrap_angle(np.diff(lanes[key].yaw_rad)))) for key in onward}
    wanted = {"left": np.pi / 2, "right": -np.pi / 2}.get(turn, 0.0)
    return min(sorted(onward), key=lambda key: abs(net[key] - wanted))


def path_ahead(
    graph: LaneGraph, route_m: Doubles, world_se3_first: Doubles, ahead_m: float, place: str
) -> tuple[str, float]:
    """Lane, and metres along it, so far ahead of the ego on its route (negative: behind it)."""
    route = route_m[:, :2]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(route, axis=0).T))])
    start = float(along[np.argmin(np.hypot(*(route - world_se3_first[:2, 3]).T))])
    wanted = start + ahead_m
    s = float(np.clip(wanted, 0.0, along[-1]))
    slope = np.gradient(route, axis=0)
    yaw = float(np.interp(s, along, np.unwrap(np.arctan2(slope[:, 1], slope[:, 0]))))
    z = float(np.interp(s, along, route_m[:, 2])) if route_m.shape[1] > 2 else float(world_se3_first[2, 3])
    point = np.array([np.interp(s, along, route[:, 0]), np.interp(s, along, route[:, 1]), z])
    match = graph.matches(point, yaw, place)[0]
    lane, at = match.lane, match.s_m + wanted - s
    while at < 0:
        before = [key for key in graph.lanes[lane].predecessors if key in graph.lanes]
        if not before:
            return lane, 0.0
        lane = min(before)
        at += graph.length_m(lane)
    while at > graph.length_m(lane):
        after = [key for key in graph.lanes[lane].successors if key in graph.lanes]
        if not after:
            return lane, graph.length_m(lane)
        at -= graph.length_m(lane)
        lane = choose(graph.lanes, after, "straight", np.random.default_rng(0))
    return lane, at
