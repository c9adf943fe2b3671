"""How fast one may drive where: the map's speed limits, and bends taken with care. Needs a running SUMO. S steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.spatial import cKDTree

from dcgen.types import Doubles, wrap_angle
from scenarios.roadmap import RoadMap
from scenarios.world.traffic.sumo_roads import Roads

LATERAL_MPS2 = 2.6
EASE_MPS2 = 1.5  # how hard one brakes towards a bend
SLOWEST_MPS = 4.0
STEP_M = 4.0
TURN_MPS = 12.0  # paths through junctions that netconvert made slower than this turn
SAME_ROAD_M, SAME_LEVEL_M = 4.0, 3.0  # a SUMO lane and the map's lane it came from lie closer than this
SWEEPS = 4


class Limits:
    """The map's limits by place; netconvert reads limits from the lane type alone."""

    def __init__(self, road_map: RoadMap, factor: float) -> None:
        lanes = [lane for lane in road_map.lanes.values() if lane.is_driving and lane.speed_limit_mps]
        columns = [
            np.column_stack([lane.centre_m, lane.yaw_rad, np.full(len(lane.yaw_rad), lane.speed_limit_mps)])
            for lane in lanes
        ]
        self.rows = np.concatenate(columns) if columns else np.zeros((0, 5))  # x, y, z, yaw, limit
        self.tree = cKDTree(self.rows[:, :2])
        self.factor = factor

    def at(self, shape_m: Doubles, otherwise: float) -> float:
        """The limit of the map's lane below the middle of a polyline [n, 3], times the factor."""
        k = (len(shape_m) - 1) // 2
        middle, step = (shape_m[k] + shape_m[k + 1]) / 2, shape_m[k + 1] - shape_m[k]
        found = self.rows[np.array(self.tree.query_ball_point(middle[:2], SAME_ROAD_M), np.intp)]
        yaw_off = np.abs(wrap_angle(found[:, 3] - np.arctan2(step[1], step[0])))
        found = found[(yaw_off < np.pi / 4) & (np.abs(found[:, 2] - middle[2]) < SAME_LEVEL_M)]
        if len(found) == 0:
            return otherwise * self.factor
        return float(found[np.argmin(np.hypot(*(found[:, :2] - middle[:2]).T)), 4]) * self.factor


def drawn(sumo: Any, lane: str) -> Doubles:
    """[n, 3] the lane's line; SUMO leaves out heights of zero."""
    return np.array([(*point, 0.0)[:3] for point in sumo.lane.getShape(lane)], np.float64)


def bend_speeds(shape_m: Doubles) -> Doubles:
    """[S] the speed at which a polyline [n, 2 or 3] pushes sideways with LATERAL_MPS2, at S even steps along it."""
    step = np.diff(shape_m[:, :2], axis=0)
    length = np.maximum(np.hypot(*step.T), 1e-6)
    steps = max(2, round(length.sum() / STEP_M) + 1)
    heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    along = np.concatenate([[0.0], np.cumsum(length)])
    grid = np.linspace(0.0, along[-1], steps)
    smooth = uniform_filter1d(np.interp(grid, (along[:-1] + along[1:]) / 2, heading), 3, mode="nearest")
    curvature = np.abs(np.gradient(smooth, grid[1])) if steps > 2 else np.zeros(steps)
    pace: Doubles = np.sqrt(LATERAL_MPS2 / np.maximum(curvature, 1e-6))
    return np.maximum(pace, SLOWEST_MPS)


def ease_in(pace: Doubles, step_m: float, end_mps: float) -> Doubles:
    """[S] the same speeds, lowered so that nobody brakes harder than EASE_MPS2 towards slower ones and the end."""
    s = np.arange(len(pace) + 1) * step_m
    ahead = np.append(pace, end_mps) ** 2 + 2 * EASE_MPS2 * s
    out: Doubles = np.sqrt(np.minimum.accumulate(ahead[::-1])[::-1][:-1] - 2 * EASE_MPS2 * s[:-1])
    return out


class Pace:
    """The speed that fits every place of every driving lane, and the vehicles kept to it."""

    def __init__(self, sumo: Any, roads: Roads, road_map: RoadMap, factor: float) -> None:
        self.sumo = sumo
        self.own: dict[str, float] = {}  # top speed of the vehicles that are being held back
        limits = Limits(road_map, factor)
        profiles = self._profiles(roads, limits)
        for edge, rows in roads.lanes.items():
            tops = [float(profiles[lane].max()) for lane, _ in rows if lane in profiles]
            for lane, _ in rows:
                if lane in profiles:
                    sumo.lane.setMaxSpeed(lane, float(profiles[lane].max()))
            roads.speed[edge] = max(tops, default=0.0)
        self.bends = {lane: pace for lane, pace in profiles.items() if pace.min() < 0.98 * pace.max()}
        self._pace_junctions(limits)

    def _profiles(self, roads: Roads, limits: Limits) -> dict[str, Doubles]:
        open_lanes = [lane for rows in roads.lanes.values() for lane, classes in rows if "car" in classes]
        profiles, step_m = {}, {}
        for lane in open_lanes:
            shape = drawn(self.sumo, lane)
            limit = limits.at(shape, self.sumo.lane.getMaxSpeed(lane))
            profiles[lane] = np.minimum(bend_speeds(shape), limit)
            step_m[lane] = self.sumo.lane.getLength(lane) / (len(profiles[lane]) - 1)
        for _ in range(SWEEPS):
            for lane in open_lanes:
                ends = [float(profiles[link[0]][0]) for link in roads.links[lane] if link[0] in profiles]
                profiles[lane] = ease_in(profiles[lane], step_m[lane], min(ends, default=float("inf")))
        return profiles

    def _pace_junctions(self, limits: Limits) -> None:
        """Paths that cross a junction have the map's limit; those that turn keep what netconvert gave them."""
        lane = self.sumo.lane
        for name in lane.getIDList():
            if not name.startswith(":") or "pedestrian" in lane.getAllowed(name):
                continue
            if lane.getMaxSpeed(name) > TURN_MPS:
                shape = drawn(self.sumo, name)
                lane.setMaxSpeed(name, min(limits.at(shape, lane.getMaxSpeed(name)), float(bend_speeds(shape).min())))
            elif limits.factor < 1.0:
                lane.setMaxSpeed(name, lane.getMaxSpeed(name) * limits.factor)

    def hold_back(self, ahead_s: float = 0.7) -> None:
        """Slow those that come to a bend, and let go who has left it."""
        vehicle = self.sumo.vehicle
        for name in vehicle.getIDList():
            lane = vehicle.getLaneID(name)
            pace = self.bends.get(lane)
            if pace is not None:
                own = self.own.setdefault(name, vehicle.getMaxSpeed(name))
                at_m = vehicle.getLanePosition(name) + ahead_s * vehicle.getSpeed(name)
                index = at_m / self.sumo.lane.getLength(lane) * (len(pace) - 1)
                vehicle.setMaxSpeed(name, min(own, float(np.interp(index, np.arange(len(pace)), pace))))
            elif name in self.own and not lane.startswith(":"):
                vehicle.setMaxSpeed(name, self.own.pop(name))
