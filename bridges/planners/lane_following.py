"""A planner that keeps to its route and its distance to who is ahead on it. It looks at agents, never at occupancy.

A agent, N point of the plan. Ego frame, metres, seconds, radians.
"""

from __future__ import annotations

import numpy as np

from bridges.planner import EGO_SIZE_M, AgentStates, Observation, Task, Trajectory
from bridges.planners.course import Course, course_of
from dcgen.types import Doubles
from scenarios.carfollow import idm_mps2

HORIZON_S, STEP_S = 4.0, 0.1
SIDE_M = 0.35  # what counts as beside the way, not on it
RETURN_M = 10.0  # of way, in which it comes back to the middle of its lane


class LaneFollowing:
    """Intelligent Driver Model along the route: the usual yardstick."""

    def reset(self, task: Task) -> None:
        self._limit_mps = task.speed_limit_mps

    def plan(self, observation: Observation) -> Trajectory:
        course = course_of(observation.route)
        gap, leader = _gap_ahead(course, observation.agents)
        times: Doubles = np.arange(1, round(HORIZON_S / STEP_S) + 1, dtype=np.float64) * np.float64(STEP_S)
        s, speed, at = 0.0, max(observation.ego.speed_mps, 0.0), np.zeros(len(times))
        cap = course.speed_cap(course.s_m, self._limit_mps)
        for n in range(len(times)):
            wish = float(np.interp(s, course.s_m, cap))
            moved = max(0.0, speed + STEP_S * idm_mps2(speed, wish, gap + leader * n * STEP_S - s, leader))
            s += STEP_S * (speed + moved) / 2
            speed, at[n] = moved, s
        return Trajectory(times, along(course, at))

    def close(self) -> None:
        """Nothing is held."""


def along(course: Course, s_m: Doubles) -> Doubles:
    """[N, 3] poses at distances s_m [N], from where the ego is gently to the middle of the way."""
    _, left, yaw = course.place(np.zeros(2))
    part = np.clip(s_m / RETURN_M, 0.0, 1.0)
    slope = float(np.clip(np.tan(np.clip(-yaw, -1.0, 1.0)), -1.0, 1.0)) * RETURN_M
    ease = (1 - part) ** 3
    shift = ease * (float(left) * (1 + 3 * part + 6 * part**2) + slope * part * (1 + 3 * part))
    pose = course.pose(s_m, shift)
    rate = np.gradient(shift, np.maximum.accumulate(s_m + 1e-6 * np.arange(len(s_m))))
    pose[:, 2] += np.arctan(np.where(part < 1.0, rate, 0.0))
    return pose


def _gap_ahead(course: Course, agents: AgentStates) -> tuple[float, float]:
    """Metres from bumper to bumper to the nearest agent on the way, and its speed along it; inf and 0 without one."""
    if not len(agents.id):
        return np.inf, 0.0
    s, left, yaw = course.place(agents.pose[:, :2])
    turn = agents.pose[:, 2] - yaw
    length, width = agents.size_m[:, 0], agents.size_m[:, 1]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    reach = (length * cos + width * sin) / 2
    side = (width * cos + length * sin) / 2
    on_way = (np.abs(left) < side + EGO_SIZE_M[1] / 2 + SIDE_M) & (s > 0.5)
    gap = np.where(on_way, s - reach - EGO_SIZE_M[0] / 2, np.inf)
    first = int(np.argmin(gap))
    vx, vy = agents.velocity_mps[first]
    speed = float(vx * np.cos(yaw[first]) + vy * np.sin(yaw[first]))
    return (float(gap[first]), max(0.0, speed)) if np.isfinite(gap[first]) else (np.inf, 0.0)
