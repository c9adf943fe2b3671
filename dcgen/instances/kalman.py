"""A constant-velocity Kalman filter of a point on the ground, and its smoother. States are x, y, vx, vy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dcgen.types import Doubles

FIRST_SPEED_MPS = 8.0  # what may be expected of who has just been seen: standard deviation
_SEES = np.eye(2, 4)


@dataclass(frozen=True)
class Belief:
    """Mean [4] and covariance [4, 4] of a state."""

    mean: Doubles
    covariance: Doubles


def begun(centre_m: Doubles, sigma_m: float, speed_mps: float = FIRST_SPEED_MPS) -> Belief:
    """At a place that was measured, at rest as far as anyone knows."""
    mean = np.array([*centre_m, 0.0, 0.0])
    return Belief(mean, np.diag([sigma_m, sigma_m, speed_mps, speed_mps]) ** 2)


def predicted(belief: Belief, dt_s: float, accel_mps2: float) -> Belief:
    """The belief after a time; accelerations are white noise (Bar-Shalom et al. 2001, sec. 6.2.2)."""
    step = _step(dt_s)
    return Belief(step @ belief.mean, step @ belief.covariance @ step.T + _noise(dt_s, accel_mps2))


def corrected(belief: Belief, centre_m: Doubles, sigma_m: float) -> Belief:
    """The belief after a measurement, in Joseph's form: its covariance stays symmetric and positive."""
    gain = np.linalg.solve(innovation(belief, sigma_m), _SEES @ belief.covariance).T
    keep = np.eye(4) - gain @ _SEES
    covariance = keep @ belief.covariance @ keep.T + sigma_m**2 * gain @ gain.T
    return Belief(belief.mean + gain @ (centre_m - belief.mean[:2]), covariance)


def innovation(belief: Belief, sigma_m: float) -> Doubles:
    """[2, 2] covariance of what a measurement should differ by."""
    return np.asarray(belief.covariance[:2, :2] + sigma_m**2 * np.eye(2))


def surprises(beliefs: Sequence[Belief], centres_m: Doubles, sigma_m: float) -> Doubles:
    """[N, K] squared Mahalanobis distances of N measurements [N, 2] from K beliefs."""
    expected = np.stack([belief.mean[:2] for belief in beliefs])
    weight = np.linalg.inv(np.stack([innovation(belief, sigma_m) for belief in beliefs]))
    x, y = np.moveaxis(centres_m[:, None] - expected, 2, 0)
    return np.asarray(weight[:, 0, 0] * x**2 + 2 * weight[:, 0, 1] * x * y + weight[:, 1, 1] * y**2)


def smoothed(time_s: Doubles, centres_m: Sequence[Doubles], sigmas_m: Sequence[float], accel_mps2: float) -> Doubles:
    """[K, 4] states at K measurements, each in the light of all (Rauch, Tung and Striebel 1965)."""
    after = [begun(centres_m[0], sigmas_m[0])]
    before = [after[0]]
    steps = np.diff(time_s).tolist()
    for dt_s, centre, sigma in zip(steps, centres_m[1:], sigmas_m[1:], strict=True):
        before.append(predicted(after[-1], dt_s, accel_mps2))
        after.append(corrected(before[-1], centre, sigma))
    out = [after[-1].mean]
    for k in range(len(after) - 2, -1, -1):
        back = np.linalg.solve(before[k + 1].covariance, _step(steps[k]) @ after[k].covariance).T
        out.append(after[k].mean + back @ (out[-1] - before[k + 1].mean))
    return np.stack(out[::-1])


@lru_cache
def _noise(dt_s: float, accel_mps2: float) -> Doubles:
    q = accel_mps2**2 * np.array([[dt_s**3 / 3, dt_s**2 / 2], [dt_s**2 / 2, dt_s]])
    return np.asarray(np.kron(q, np.eye(2)))


@lru_cache
def _step(dt_s: float) -> Doubles:
    step = np.eye(4)
    step[0, 2] = step[1, 3] = dt_s
    return step
