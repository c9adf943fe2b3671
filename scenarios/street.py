"""Paths and roads where there is no map: turns of constant curvature, and a street under a path. N points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dcgen.types import Doubles, wrap_angle
from scenarios.roadmap import Lane, RoadMap

STEP_M = 0.5
TURN_RADIUS_M = 12.0
TURN_RAD = np.pi / 2
LANE_M = 3.5
WALK_M = 2.5
EXTEND_M = 60.0  # the street goes on before and beyond the path
REACH_M = 2.0  # between the points of the street


def turning_path(command: str, length_m: float, pose: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Doubles:
    """[N, 2] a path from pose (x, y, yaw): straight, or a quarter circle to the left or right and then straight."""
    s = np.arange(0.0, max(length_m, 2 * STEP_M) + STEP_M, STEP_M)
    side = {"left": 1.0, "right": -1.0}.get(command, 0.0)
    turned = np.minimum(s / TURN_RADIUS_M, TURN_RAD)
    beyond = np.maximum(s - TURN_RADIUS_M * TURN_RAD, 0.0)
    if side == 0.0:
        x, y = s, np.zeros_like(s)
    else:
        x = TURN_RADIUS_M * np.sin(turned) + beyond * np.cos(TURN_RAD)
        y = side * (TURN_RADIUS_M * (1 - np.cos(turned)) + beyond * np.sin(TURN_RAD))
    c, sn = np.cos(pose[2]), np.sin(pose[2])
    return np.stack([pose[0] + c * x - sn * y, pose[1] + sn * x + c * y], axis=1)


def extend(points_m: Doubles, before_m: float, after_m: float, yaws: tuple[float, float]) -> Doubles:
    """[N + 2, D] the line with a straight piece at both ends, along yaws (first, last)."""
    first, last = points_m[0].copy(), points_m[-1].copy()
    first[:2] -= before_m * np.array([np.cos(yaws[0]), np.sin(yaws[0])])
    last[:2] += after_m * np.array([np.cos(yaws[1]), np.sin(yaws[1])])
    return np.concatenate([first[None], points_m, last[None]])


def street_along(points_m: Doubles) -> RoadMap:
    """Two lanes and two sidewalks: what the ego drives along points [N, 3] is the right-hand lane.

    Only the street under the path is drawn; what lies around it is nobody's knowledge.
    """
    line = _thinned(points_m)
    slope = np.diff(line[:, :2], axis=0)
    yaws = np.arctan2(slope[:, 1], slope[:, 0])
    line = _thinned(extend(line, EXTEND_M, EXTEND_M, (float(yaws[0]), float(yaws[-1]))))
    tangent = np.gradient(line[:, :2], axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)

    def offset(metres: float) -> Doubles:
        out = line.copy()
        out[:, :2] += normal * metres
        return out

    yaw = np.arctan2(tangent[:, 1], tangent[:, 0])
    half = LANE_M / 2
    # lane id, kind, offsets of its right and left edge seen along the path, marks
    plan = [
        (-1, "driving", -half, half, "solid", "broken"),
        (1, "driving", half, half + LANE_M, "broken", "solid"),
        (-2, "sidewalk", -half - WALK_M, -half, "none", "none"),
        (2, "sidewalk", half + LANE_M, half + LANE_M + WALK_M, "none", "none"),
    ]
    lanes = {}
    for lane_id, kind, right, left, right_mark, left_mark in plan:
        sides = [offset(right), offset(left)]
        heading, marks = yaw, [right_mark, left_mark]
        if lane_id > 0:
            sides, heading, marks = [sides[1][::-1], sides[0][::-1]], wrap_angle(yaw[::-1] + np.pi), marks[::-1]
        key = f"0:0:{lane_id}"
        width = np.full(len(line), left - right)
        lanes[key] = Lane(
            key, 0, lane_id, kind, (sides[0] + sides[1]) / 2, sides[1], sides[0], width, heading, -1, None,
            left_marking=marks[1], right_marking=marks[0],
        )  # fmt: skip
    low, high = line[:, :2].min(axis=0) - 8.0, line[:, :2].max(axis=0) + 8.0
    return RoadMap("street", lanes, (), (), (), (float(low[0]), float(low[1]), float(high[0]), float(high[1])))


def _thinned(line: Doubles) -> Doubles:
    """The points at least REACH_M apart: close ones would fold the edges of the street over."""
    keep, here = [0], line[0, :2]
    for index in range(1, len(line)):
        if np.linalg.norm(line[index, :2] - here) >= REACH_M:
            keep.append(index)
            here = line[index, :2]
    if len(keep) < 2:
        keep = [0, len(line) - 1]
    return np.concatenate([_even(a, b) for a, b in pairwise(line[keep])] + [line[keep[-1]][None]])


def _even(a: Doubles, b: Doubles) -> Doubles:
    """Points from a up to b, b itself left out, REACH_M apart."""
    count = max(1, round(float(np.linalg.norm(b[:2] - a[:2])) / REACH_M))
    return a + (b - a) * (np.arange(count) / count)[:, None]
