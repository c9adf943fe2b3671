"""The way an ego is to go: as it went in the scene, and on from there. F frame, R route point a metre apart.

World frame, metres, radians.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridges.planner import EgoState
from bridges.rollout.static_world import StaticWorld
from dcgen.types import STATIC_CHANNELS, Doubles, Scene, wrap_angle
from scenarios.lane_graph import LaneGraph
from scenarios.pathway import lane_path

STEP_M = 1.0
ONWARD_M = 60.0  # of route behind the scene's last pose
AHEAD_POINTS = 60  # that an observation shows
FAN_RAD = np.radians(np.arange(-30, 31, 5))
LOOK_POINTS, SMOOTH_POINTS = 3, 2
LEAST_ROUTE = 0.3  # of a drawn route, below which it has ended
BACK, ON = 3, 40  # points around the last place among which the ego is looked for

_ROUTE = STATIC_CHANNELS.index("route")


def reference_of(scene: Scene) -> Doubles:
    """[F, 3] x, y, yaw of the scene's own ego."""
    poses = scene.world_se3_ego
    return np.stack([poses[:, 0, 3], poses[:, 1, 3], np.arctan2(poses[:, 1, 0], poses[:, 0, 0])], axis=1)


def route_of(reference: Doubles, world: StaticWorld, graph: LaneGraph | None) -> Doubles:
    """[R, 3] the scene's own drive and ONWARD_M on: by the map's lanes, else as the route is drawn, else straight."""
    driven = evenly(reference)
    last = driven[-1]
    onward = _by_lanes(graph, last) if graph is not None else None
    if onward is None:
        onward = _by_drawing(world, last)
    missing = round(ONWARD_M / STEP_M) - len(onward)
    end = onward[-1] if len(onward) else last
    way = np.arange(1, missing + 1)[:, None] * STEP_M
    straight = end + way * [np.cos(end[2]), np.sin(end[2]), 0.0]
    return np.concatenate([driven, onward, straight])


def evenly(reference: Doubles) -> Doubles:
    """[R, 3] the driven line with a point a metre, its yaw that of the ego there."""
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(reference[:, :2], axis=0).T))])
    keep = np.concatenate([[True], np.diff(s) > 1e-6])
    at = np.arange(0.0, s[-1] + 1e-9, STEP_M)
    yaw = np.unwrap(reference[:, 2])
    columns = [np.interp(at, s[keep], column[keep]) for column in (reference[:, 0], reference[:, 1], yaw)]
    return np.stack([columns[0], columns[1], wrap_angle(columns[2])], axis=1)


def _by_lanes(graph: LaneGraph, last: Doubles) -> Doubles | None:
    """The lanes straight on; None where no lane is near."""
    from dcgen.errors import ScenarioError

    try:
        match = graph.matches(np.array([last[0], last[1], 0.0]), float(last[2]), "the route's end")[0]
    except ScenarioError:
        return None
    path = lane_path(graph, match.lane, match.s_m, ONWARD_M, "straight", np.random.default_rng(0))
    away = np.hypot(*(path.points_m - last[:2]).T)
    start = float(path.s_m[int(away.argmin())])
    at = np.arange(start + STEP_M, min(start + ONWARD_M, float(path.s_m[-1])), STEP_M)
    return path.at(at)


def _by_drawing(world: StaticWorld, last: Doubles) -> Doubles:
    """The route's channel of the layout, followed a metre at a time where it is strongest."""
    here, points = last.copy(), []
    for _ in range(round(ONWARD_M / STEP_M)):
        yaw = here[2] + FAN_RAD
        heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        ahead = [_strength(world, here[:2] + STEP_M * n * heading, yaw) for n in range(1, LOOK_POINTS + 1)]
        strength = np.mean(ahead, axis=0) - 1e-3 * np.abs(FAN_RAD)
        best = strength >= strength.max() - 1e-2
        if strength.max() < LEAST_ROUTE:
            break
        turn = float(FAN_RAD[best].mean())
        yaw_rad = here[2] + turn
        here = np.array([*(here[:2] + STEP_M * np.array([np.cos(yaw_rad), np.sin(yaw_rad)])), yaw_rad])
        points.append(here)
    return _smooth(last, np.array(points).reshape(-1, 3))


def _smooth(start: Doubles, points: Doubles) -> Doubles:
    """The same points [R, 3] without the cells' zigzag, from a pose on."""
    from scipy.ndimage import gaussian_filter1d

    if len(points) < 3:
        return points
    before = start[:2] - np.arange(3 * SMOOTH_POINTS, -1, -1)[:, None] * STEP_M * [np.cos(start[2]), np.sin(start[2])]
    line = gaussian_filter1d(np.concatenate([before, points[:, :2]]), SMOOTH_POINTS, axis=0, mode="nearest")
    xy = np.concatenate([start[None, :2], line[len(before) :]])
    slope = np.gradient(xy, axis=0)
    return evenly(np.column_stack([xy, np.arctan2(slope[:, 1], slope[:, 0])]))[1:]


def _strength(world: StaticWorld, points: Doubles, yaw: Doubles) -> Doubles:
    """[K] how much of a cross-section at each point is drawn as route: greatest in its middle."""
    side = np.linspace(-1.5, 1.5, 7)
    across = np.stack([-np.sin(yaw), np.cos(yaw)], axis=-1)
    samples = points[:, None] + side[:, None] * across[:, None]
    cell = np.floor(samples / world.column_m).astype(np.int64) - world.first_column
    size = np.array(world.columns.shape[:2])
    inside = ((cell >= 0) & (cell < size)).all(axis=-1)
    cell = np.clip(cell, 0, size - 1)
    value = np.where(inside, world.columns[cell[..., 0], cell[..., 1], _ROUTE], 0.0)
    weight = 1.0 / (1.0 + side**2)
    return np.asarray((value * weight).sum(axis=1) / weight.sum(), np.float64)


class RouteAhead:
    """Where on the route the ego is; it looks near the last place, for a route may cross itself."""

    def __init__(self, route: Doubles) -> None:
        self._route, self._at = route, 0

    def points(self, ego: EgoState) -> Doubles:
        """[R, 3] the way ahead in the ego's frame, from the point nearest to it."""
        first = max(0, self._at - BACK)
        near = self._route[first : self._at + ON]
        self._at = first + int(np.argmin(np.hypot(near[:, 0] - ego.x_m, near[:, 1] - ego.y_m)))
        return in_frame(ego, self._route[self._at : self._at + AHEAD_POINTS])


def in_frame(ego: EgoState, poses: Doubles) -> Doubles:
    """[..., 3] poses of the world in the ego's frame."""
    c, s = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    x, y = poses[..., 0] - ego.x_m, poses[..., 1] - ego.y_m
    return np.stack([c * x + s * y, c * y - s * x, wrap_angle(poses[..., 2] - ego.yaw_rad)], axis=-1)


def nearest(points_m: Doubles, line_m: Doubles, within_m: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[P] index of the line's point nearest to each point, and whether it is near enough."""
    from scipy.spatial import cKDTree

    gap, index = cKDTree(line_m[:, :2]).query(points_m, distance_upper_bound=within_m)
    return np.minimum(index, len(line_m) - 1).astype(np.int64), np.isfinite(gap)
