"""Ways to go that are weighed against each other: lateral shifts times speed profiles.

C candidate, K moment. Ego frame, metres, seconds, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridges.planners.course import Course
from dcgen.types import Doubles

HORIZON_S, STEP_S = 4.8, 0.2
TIME_S: Doubles = np.arange(1, round(HORIZON_S / STEP_S) + 1, dtype=np.float64) * np.float64(STEP_S)
OFFSETS_M = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 1.6, -1.6, 2.2, -2.2, 2.8, -2.8, 3.4, -3.4, 4.0, -4.0])
SHIFTS = ((8.0, 1.4), (14.0, 2.6))  # of way at least, and seconds: how soon it gets to another offset
SHARES = (1.0, 0.75, 0.5, 0.3, 0.15, 0.0)  # of the wished speed
RATES = ((1.2, 1.8), (2.0, 3.5))  # m/s2 up and down
HARDEST_MPS2 = 7.5
SIGHT_MPS2, BEFORE_BLIND_M = 3.0, 3.0  # how it would brake, and where it would stand, short of what it cannot see


@dataclass(frozen=True)
class Candidates:
    """Ways to go, at moments TIME_S."""

    pose: Doubles  # [C, K, 3] x, y, yaw
    speed_mps: Doubles  # [C, K]
    acceleration_mps2: Doubles  # [C, K]
    s_m: Doubles  # [C, K] along the course
    left_m: Doubles  # [C, K] beside it
    goal_m: Doubles  # [C] the offset it is on its way to
    curvature_pm: Doubles  # [C, K] of the way itself


def candidates(course: Course, speed_mps: float, limit_mps: float, sight_m: float = np.inf) -> Candidates:
    """Every offset by every shift by every speed profile, none so fast that it could not stop within sight_m."""
    s, speed, rate = _profiles(course, max(speed_mps, 0.0), limit_mps, sight_m)  # [P, K]
    goal, length = _shifts(max(speed_mps, 0.0))  # [Q]
    left, slope, bend = _shifted(course, s, goal, length)  # [Q, P, K]
    q, p, k = left.shape
    s, speed, rate = (np.broadcast_to(values, left.shape).reshape(q * p, k) for values in (s, speed, rate))
    left, slope, bend = (values.reshape(q * p, k) for values in (left, slope, bend))
    pose = course.pose(s, left)
    line = np.interp(s, course.s_m, course.curvature_pm)
    pose[..., 2] += np.arctan(slope / np.clip(1 - line * left, 0.3, None))
    curvature = line / np.clip(1 - line * left, 0.3, None) + bend
    return Candidates(pose, speed, rate, s, left, np.repeat(goal, p), curvature)


def _profiles(course: Course, now_mps: float, limit_mps: float, sight_m: float) -> tuple[Doubles, Doubles, Doubles]:
    """Distances, speeds, accelerations [P, K]: towards a share of what the way allows, gently or not; a full stop."""
    share = np.array([part for part in SHARES for _ in RATES] + [0.0])
    up = np.array([rate[0] for _ in SHARES for rate in RATES] + [RATES[0][0]])
    down = np.array([rate[1] for _ in SHARES for rate in RATES] + [HARDEST_MPS2])
    cap = course.speed_cap(course.s_m, limit_mps)
    cap = np.minimum(cap, np.sqrt(2 * SIGHT_MPS2 * np.maximum(sight_m - BEFORE_BLIND_M - course.s_m, 0.0)))
    s, speed = np.zeros(len(share)), np.full(len(share), now_mps)
    rows = []
    for _ in TIME_S:
        wanted = share * np.interp(s + speed * STEP_S, course.s_m, cap)
        rate = np.clip((wanted - speed) / STEP_S, -down, up)
        after = np.maximum(speed + rate * STEP_S, 0.0)
        s = s + (speed + after) / 2 * STEP_S
        rows.append((s, after, (after - speed) / STEP_S))
        speed = after
    at, speeds, rates = (np.stack(column, axis=1) for column in zip(*rows, strict=True))
    return at, speeds, rates


def _shifts(speed_mps: float) -> tuple[Doubles, Doubles]:
    goal = np.array([offset for offset in OFFSETS_M for _ in SHIFTS])
    length = np.array([max(least, seconds * speed_mps) for _ in OFFSETS_M for least, seconds in SHIFTS])
    return goal, length


def _shifted(course: Course, s_m: Doubles, goal: Doubles, length: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Offset, its slope and its second derivative [Q, P, K]: a quintic from where the ego is and looks to the goal."""
    _, left, yaw = course.place(np.zeros(2))
    slope = float(np.tan(np.clip(-yaw, -1.2, 1.2)))
    u = np.clip(s_m[None] / length[:, None, None], 0.0, 1.0)
    span, reach = (float(left) - goal)[:, None, None], length[:, None, None]
    v = 1 - u
    ease = 1 - u**3 * (10 - 15 * u + 6 * u**2)
    shift = goal[:, None, None] + span * ease + slope * reach * u * v**3 * (1 + 3 * u)
    first = -30 * span * u**2 * v**2 / reach + slope * v**2 * (1 + 2 * u - 15 * u**2)
    second = -60 * span * u * v * (1 - 2 * u) / reach**2 + slope * (-36 * u + 96 * u**2 - 60 * u**3) / reach
    return shift, first, second
