"""Keypoints + RoadMap -> dense route with road options. N points 0.5 m apart, world frame, metres, radians."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.ndimage import gaussian_filter1d

from dcgen.errors import MapError, ScenarioError
from dcgen.types import Doubles, wrap_angle
from scenarios.drive import EgoTrajectory, drive
from scenarios.lane_graph import LaneGraph, match_keypoints
from scenarios.lane_path import Chain, Piece, chain_of, draw_line
from scenarios.roadmap import RoadMap

__all__ = ["EgoTrajectory", "RoadOption", "Route", "drive", "plan_route", "random_route"]
STEP_M = 0.5
SMOOTH_M = 1.0  # turns the kink between a straight and an arc into a clothoid
DENSE_M = 6.0  # keypoints this close need no map
URBAN_MPS = 50 / 3.6


class RoadOption(IntEnum):
    """CARLA's numbers."""

    VOID = -1
    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANEFOLLOW = 4
    CHANGELANELEFT = 5
    CHANGELANERIGHT = 6


@dataclass(frozen=True)
class Route:
    """A line to drive along."""

    points_m: Doubles  # [N, 3]
    yaw_rad: Doubles  # [N]
    option: np.ndarray  # [N] int8, RoadOption
    lane_id: tuple[str, ...]  # [N], "" without a map
    speed_limit_mps: Doubles  # [N]

    def __post_init__(self) -> None:
        n = len(self.points_m)
        sizes = (self.points_m.shape, self.yaw_rad.shape, self.option.shape, self.speed_limit_mps.shape)
        if n < 2 or sizes != ((n, 3), (n,), (n,), (n,)) or len(self.lane_id) != n:
            raise ValueError(f"route needs at least 2 points and arrays of one length, got {sizes}")

    @property
    def s_m(self) -> Doubles:
        """[N] distance driven at every point, seen from above."""
        return _along(self.points_m)

    @property
    def length_m(self) -> float:
        return float(self.s_m[-1])


def plan_route(
    road_map: RoadMap | None,
    keypoints_m: Doubles,
    yaw_rad: Doubles | None = None,
    name: str = "route",
    town: str = "",
    graph: LaneGraph | None = None,
) -> Route:
    """The route through keypoints [K, 2 or 3], over the lanes of the map, or straight through them without one.

    yaw_rad [K] helps to tell directions apart. name and town only serve messages. Raises ScenarioError.
    """
    keypoints = _checked(keypoints_m, name)
    if road_map is None:
        return _without_map(keypoints, name, town)
    graph = graph or LaneGraph(road_map)
    if not graph.lanes:
        raise MapError(f"{road_map.name}: has no driving lanes; pass a map with roads")
    matches, ways = match_keypoints(graph, keypoints, yaw_rad, name, town)
    route = _route(graph, chain_of(graph, matches, ways))
    if route is None:
        raise ScenarioError(f"{name}: its keypoints fall on one place of the road; give it different keypoints")
    return route


def random_route(road_map: RoadMap, seed: int, length_m: float, graph: LaneGraph | None = None) -> Route:
    """A route of about this length drawn by seed; the longest of many tries where the map holds none as long."""
    graph = graph or LaneGraph(road_map)
    rng = np.random.default_rng(seed)
    starts = [key for key, lane in graph.lanes.items() if lane.junction_id < 0 and graph.length_m(key) > 2.0]
    if not starts:
        raise MapError(f"{road_map.name}: has no driving lane outside junctions to start on; pass another map")
    weight = np.array([graph.length_m(key) for key in starts])
    best: tuple[float, list[Piece]] = (0.0, [])
    for _ in range(64):
        start = starts[int(rng.choice(len(starts), p=weight / weight.sum()))]
        found = _walk(graph, start, rng, length_m)
        if found[0] > best[0]:
            best = found
        if best[0] >= length_m - STEP_M:
            break
    route = _route(graph, Chain(best[1], [])) if best[1] else None
    if route is None:
        raise MapError(f"{road_map.name}: no stretch of lanes is long enough for a route; pass another map")
    return route


def _walk(graph: LaneGraph, start: str, rng: np.random.Generator, length_m: float) -> tuple[float, list[Piece]]:
    """Metres and pieces of a walk along lanes, turning and changing lanes by chance, until length_m or a dead end."""
    last = len(graph.lanes[start].width_m) - 1
    begin = float(rng.uniform(0, 0.7) * last)
    pieces: list[Piece] = []
    driven, here, u = 0.0, start, begin
    while True:
        lane, along = graph.lanes[here], graph.along_m[here]
        index = np.arange(len(along))
        rest = float(along[-1] - np.interp(u, index, along))
        change = [k for k in (lane.left_change, lane.right_change) if k in graph.lanes]
        if change and rest > 60.0 and driven + rest < length_m and rng.random() < 0.2:
            other = change[int(rng.integers(len(change)))]
            cut = (u + last) / 2
            pieces.append(Piece(here, u, cut, pieces[-1].change if pieces and pieces[-1].lane == here else 0))
            pieces.append(Piece(str(other), cut, float(last), 1 if other == lane.right_change else -1))
            here = str(other)
        else:
            stop_m = min(float(along[-1]), float(along[-1]) - rest + length_m - driven)
            pieces.append(Piece(here, u, float(np.interp(stop_m, along, index))))
        driven += min(rest, length_m - driven)
        ahead = [k for k in graph.lanes[here].successors if k in graph.lanes]
        if driven >= length_m - 1e-6 or not ahead:
            return driven, pieces
        onward = [k for k in ahead if graph.lanes[k].successors] or ahead
        here, u = onward[int(rng.integers(len(onward)))], 0.0
        last = len(graph.lanes[here].width_m) - 1


def _route(graph: LaneGraph, chain: Chain) -> Route | None:
    line = draw_line(graph, chain)
    if _along(line.points_m)[-1] < STEP_M:
        return None
    points, source = _resampled(line.points_m)
    lanes = [graph.lanes[chain.pieces[int(i)].lane] for i in line.piece[source]]
    limit = np.array([lane.speed_limit_mps or URBAN_MPS for lane in lanes])
    return Route(points, _yaw(points), line.option[source].astype(np.int8), tuple(lane.id for lane in lanes), limit)


def _without_map(keypoints: Doubles, name: str, town: str) -> Route:
    widest = float(np.linalg.norm(np.diff(keypoints[:, :2], axis=0), axis=1).max())
    if widest > DENSE_M:
        place = f"of {town} " if town else ""
        raise ScenarioError(
            f"{name}: keypoints lie up to {widest:.0f} m apart, which needs the road network {place}to join them; "
            f"pass its OpenDRIVE file with --map {town or 'town'}.xodr"
        )
    points, _ = _resampled(keypoints)
    count = len(points)
    option = np.full(count, RoadOption.LANEFOLLOW, np.int8)
    return Route(points, _yaw(points), option, ("",) * count, np.full(count, URBAN_MPS))


def _checked(keypoints_m: Doubles, name: str) -> Doubles:
    keypoints = np.asarray(keypoints_m, dtype=np.float64)
    if keypoints.ndim != 2 or keypoints.shape[1] not in (2, 3) or len(keypoints) < 2:
        raise ScenarioError(f"{name}: needs at least 2 keypoints of x, y (and z); add the missing ones")
    if keypoints.shape[1] == 2:
        keypoints = np.column_stack([keypoints, np.zeros(len(keypoints))])
    bad = ~(np.isfinite(keypoints).all(axis=1) & (np.abs(keypoints).max(axis=1) < 1e6))
    if bad.any():
        raise ScenarioError(f"{name}: keypoint {int(np.argmax(bad))}: NaN, infinite or huge coordinates; correct it")
    if _along(keypoints)[-1] < STEP_M:
        raise ScenarioError(f"{name}: is {_along(keypoints)[-1]:.2f} m long; give it different keypoints")
    return keypoints


def _resampled(points: Doubles) -> tuple[Doubles, np.ndarray]:
    """Points about STEP_M apart, smoothed, and for each the index of the point before it."""
    keep = np.concatenate([[True], np.diff(_along(points)) > 1e-6])
    kept, along = np.flatnonzero(keep), _along(points[keep])
    count = max(2, int(np.ceil(along[-1] / STEP_M)) + 1)
    at = np.linspace(0.0, along[-1], count)
    even = np.stack([np.interp(at, along, points[keep, axis]) for axis in range(3)], axis=-1)
    pad = min(count - 1, int(6 * SMOOTH_M / STEP_M))  # mirrored through the ends, so that they stay
    head, tail = 2 * even[0] - even[pad:0:-1], 2 * even[-1] - even[-2 : -pad - 2 : -1]
    smooth = gaussian_filter1d(np.concatenate([head, even, tail]), SMOOTH_M / STEP_M, axis=0, mode="nearest")
    before = np.clip(np.searchsorted(along, at + 1e-9, side="right") - 1, 0, len(along) - 1)
    return np.asarray(smooth[pad : pad + count]), kept[before]


def _along(points: Doubles) -> Doubles:
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1))])


def _yaw(points: Doubles) -> Doubles:
    slope = np.gradient(points[:, :2], axis=0)
    return wrap_angle(np.arctan2(slope[:, 1], slope[:, 0]))
