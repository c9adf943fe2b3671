"""Extended comfort: whether a plan goes on as the plan before it would have.

P plan, N point of a plan, Q quantity. World frame, metres, seconds, radians; times from when a plan is made, which
is k * dt for plan k.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from bridges.episode import Episode
from bridges.scoring.comfort import ACCELERATION_WINDOW_S, JERK_WINDOW_S, YAW_WINDOW_S, derived
from dcgen.types import Doubles

# NAVSIM v2: root mean squares of the differences between two plans, where both say something
LIMITS = {"acceleration_mps2": 0.7, "jerk_mps3": 0.5, "yaw_rate_radps": 0.1, "yaw_acceleration_radps2": 0.1}
LEAST_POINTS = 3  # with the pose it starts from, a plan needs so many to have a jerk


def extended_comfort(episode: Episode) -> tuple[float, str]:
    """Share of successive plans that agree within LIMITS, and why it is not measured.

    NAVSIM scores one pair of frames 0 or 1, and averages over its frames; an episode averages over its own.
    """
    rms = differences(episode)
    if not len(rms):
        return 1.0, "no two plans follow each other: the planner answered with controls, with few points, or once"
    return float((rms <= np.array(list(LIMITS.values())) + 1e-9).all(axis=1).mean()), ""


def differences(episode: Episode) -> Doubles:
    """[pairs, Q] root mean square of what two successive plans say differently, in the order of LIMITS."""
    found = []
    for first, plans in _alike(episode):
        time, values = quantities(plans)
        found.append(_between(time + (first + np.arange(len(plans)))[:, None] * episode.dt_s, values))
    return np.concatenate(found) if found else np.zeros((0, len(LIMITS)))


def _alike(episode: Episode) -> list[tuple[int, Doubles]]:
    """Runs of successive plans with as many points: number of the first, and [P, N + 1, 4] with their starts.

    Where the number changes, the longer of the two is cut for their comparison.
    """
    plans = episode.plans[: len(episode.ego)]
    points = np.array([len(plan) for plan in plans])
    borders = [0, *(np.flatnonzero(np.diff(points)) + 1), len(plans)] if len(plans) else []
    runs = []
    for first, stop in [*pairwise(borders), *((k - 1, k + 1) for k in borders[1:-1])]:
        cut = points[first:stop].min()
        if cut >= LEAST_POINTS and stop > first + 1:
            start = np.concatenate([np.zeros((stop - first, 1)), episode.ego[first:stop]], axis=1)
            whole = np.concatenate([start[:, None], np.stack([plan[:cut] for plan in plans[first:stop]])], axis=1)
            runs.append((int(first), whole))
    return runs


def quantities(plans: Doubles) -> tuple[Doubles, Doubles]:
    """[P, N] even times, and [P, Q, N] what LIMITS limits, of plans [P, N, 4]."""
    points = plans.shape[1]
    step = plans[:, -1:, 0] / (points - 1)
    time = step * np.arange(points)
    x, y, yaw = (_sampled(plans[..., 0], part, time) for part in (plans[..., 1], plans[..., 2], _unwrapped(plans)))
    values = np.empty((len(plans), len(LIMITS), points))
    for size in np.unique(np.round(step, 6)):
        mine = np.round(step[:, 0], 6) == size
        values[mine] = _slopes(x[mine], y[mine], yaw[mine], float(size))
    return time, values


def _slopes(x: Doubles, y: Doubles, yaw: Doubles, step_s: float) -> Doubles:
    """[P, Q, N] of plans [P, N] with one step."""

    def slope(signal: Doubles, window_s: float, degree: int, order: int) -> Doubles:
        return derived(signal.T, step_s, window_s, degree, order).T

    acceleration = [slope(part, ACCELERATION_WINDOW_S, 2, 2) for part in (x, y)]
    jerk = [slope(part, JERK_WINDOW_S, 3, 3) for part in (x, y)]
    turning = [slope(yaw, YAW_WINDOW_S, 2, 1), slope(yaw, YAW_WINDOW_S, 3, 2)]
    return np.stack([np.hypot(*acceleration), np.hypot(*jerk), *turning], axis=1)


def _unwrapped(plans: Doubles) -> Doubles:
    return np.unwrap(plans[..., 3], axis=-1)


def _sampled(time: Doubles, value: Doubles, at: Doubles) -> Doubles:
    """Each row of values, linearly between its times."""
    if np.allclose(time, at, rtol=0, atol=1e-9):
        return value
    shift = np.arange(len(time))[:, None] * (1.0 + max(time.max(), at.max()) - min(time.min(), at.min()))
    return np.interp((at + shift).ravel(), (time + shift).ravel(), value.ravel()).reshape(value.shape)


def _between(time: Doubles, values: Doubles) -> Doubles:
    """[pairs, Q] of runs of plans: times [P, N] and quantities [P, Q, N]."""
    at, both = time[1:], time[1:] <= time[:-1, -1:] + 1e-9
    before = np.stack([_sampled(time[:-1], values[:-1, q], at) for q in range(len(LIMITS))], axis=1)
    square = (values[1:] - before) ** 2 * both[:, None]
    count = both.sum(axis=1)
    return np.sqrt(square.sum(axis=2)[count > 1] / count[count > 1, None])
