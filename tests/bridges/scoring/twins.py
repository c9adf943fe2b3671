"""Slow twins: the plainest way to compute what the scores compute in bulk."""

from __future__ import annotations

import numpy as np
from shapely import affinity
from shapely.geometry import LineString, Point, Polygon, box

from bridges.episode import Episode


def polygon(pose, size) -> Polygon:
    shape = box(-size[0] / 2, -size[1] / 2, size[0] / 2, size[1] / 2)
    return affinity.translate(affinity.rotate(shape, pose[2], origin=(0, 0), use_radians=True), pose[0], pose[1])


def meets(case: Episode) -> np.ndarray:
    """[N, T] whether boxes touch."""
    agents = case.agents
    return np.array(
        [
            [
                agents.valid[n, t]
                and polygon(case.ego[t], case.ego_size_m).intersects(polygon(agents.pose[n, t], agents.size_m[n]))
                for t in range(len(case.ego))
            ]
            for n in range(len(agents.id))
        ]
    )


def contact_s(case: Episode, until_s: float = 2.0, step_s: float = 0.005) -> np.ndarray:
    """[N, T] time of the first contact at constant velocity, to within a step; inf beyond until_s."""
    agents, times = case.agents, np.arange(0.0, until_s, step_s)
    found = np.full(agents.valid.shape, np.inf)
    for n, t in np.ndindex(*found.shape):
        if not agents.valid[n, t]:
            continue
        ego, other = polygon(case.ego[t], case.ego_size_m), polygon(agents.pose[n, t], agents.size_m[n])
        closing = case.speed_mps[t] * heading(case.ego[t, 2]) - agents.speed_mps[n, t] * heading(agents.pose[n, t, 2])
        for s in times:
            if affinity.translate(ego, *(closing * s)).intersects(other):
                found[n, t] = s
                break
    return found


def heading(yaw_rad: float) -> np.ndarray:
    return np.array([np.cos(yaw_rad), np.sin(yaw_rad)])


def arc_and_distance(line: np.ndarray, pose: np.ndarray) -> tuple[float, float]:
    path, point = LineString(line[:, :2]), Point(*pose[:2])
    return path.project(point), path.distance(point)


def most_in_a_second(against_m: np.ndarray, dt_s: float) -> float:
    window = max(round(1.0 / dt_s), 1)
    return max(sum(against_m[max(0, t - window + 1) : t + 1]) for t in range(len(against_m)))


def longest_run(on: np.ndarray) -> int:
    longest = run = 0
    for value in on:
        run = run + 1 if value else 0
        longest = max(longest, run)
    return longest
