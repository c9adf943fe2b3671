"""Route -> ego trajectory within speed limits and comfort. T frames, N route points, SI units.

The speed profile is a forward-backward pass over the route under caps from limits and curvature; a moving average
over SMOOTH_S then bounds jerk. Caps are widened by what the average can reach, so that it breaks none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from dcgen.types import Doubles, wrap_angle

LATERAL_MPS2 = 2.5
ACCELERATE_MPS2, BRAKE_MPS2 = 1.5, 2.0  # with SMOOTH_S: jerk of at most 3.5
SMOOTH_S = 1.0
YAW_RATE_RPS, YAW_ACCELERATION_RPS2 = 0.85, 1.5
CRAWL_MPS = 1.0
FINE_S = 0.01
STOP_SHORT_M = 0.1


class Line(Protocol):
    """What drive needs of a route."""

    @property
    def points_m(self) -> Doubles: ...  # [N, 3]
    @property
    def yaw_rad(self) -> Doubles: ...  # [N]
    @property
    def speed_limit_mps(self) -> Doubles: ...  # [N]
    @property
    def s_m(self) -> Doubles: ...  # [N]


@dataclass(frozen=True)
class EgoTrajectory:
    """Where the ego is in every frame, world frame."""

    time_s: Doubles  # [T]
    pose: Doubles  # [T, 3] x, y, yaw
    z_m: Doubles  # [T]
    speed_mps: Doubles  # [T]
    s_m: Doubles  # [T] distance along the route

    def __post_init__(self) -> None:
        t = len(self.time_s)
        for name, shape in {"pose": (t, 3), "z_m": (t,), "speed_mps": (t,), "s_m": (t,)}.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"trajectory.{name} needs shape {shape}, got {getattr(self, name).shape}")


def drive(
    route: Line,
    frames: int,
    dt_s: float,
    start_s_m: float = 0.0,
    target_speed: float | Sequence[tuple[float, float]] | None = None,
    start_speed_mps: float | None = None,
) -> EgoTrajectory:
    """Drives the route from start_s_m. Never faster than the limits or target_speed: m/s, or (from s, m/s) steps.

    Starts at the profile's own speed, or at start_speed_mps where that is lower; stops at the route's end and holds.
    """
    if frames < 1 or not dt_s > 0:
        raise ValueError(f"drive needs frames >= 1 and dt_s > 0, got {frames}, {dt_s}")
    full = route.s_m
    start = float(np.clip(start_s_m, 0.0, full[-1]))
    along = np.concatenate([[start], full[full > start + 1e-6]])
    cap = np.interp(along, full, speed_cap(route, target_speed))
    stop_m = along[-1] - min(STOP_SHORT_M, along[-1] - start)
    reach = SMOOTH_S * (_profile(along, cap, stop_m, None) + ACCELERATE_MPS2 * SMOOTH_S)
    profile = _profile(along, _lowest_within(along, cap, reach), stop_m, start_speed_mps)
    at: Doubles = np.arange(frames, dtype=np.float64) * dt_s
    s, speed = _in_time(along, profile, at)
    s = np.minimum(s, full[-1])
    x, y, z = (np.interp(s, full, route.points_m[:, axis]) for axis in range(3))
    yaw = wrap_angle(np.interp(s, full, np.unwrap(route.yaw_rad)))
    return EgoTrajectory(at, np.column_stack([x, y, yaw]), z, speed, s)


def curvature(route: Line) -> Doubles:
    """[N] change of yaw per metre, left positive."""
    return np.gradient(
        np.unwrap(route.yaw_rad), np.maximum.accumulate(route.s_m + 1e-9 * np.arange(len(route.yaw_rad)))
    )


def speed_cap(route: Line, target_speed: float | Sequence[tuple[float, float]] | None = None) -> Doubles:
    """[N] the highest speed that limits, target, curvature and comfort allow."""
    along, cap = route.s_m, route.speed_limit_mps.astype(np.float64)
    if target_speed is not None:
        steps = [(0.0, target_speed)] if isinstance(target_speed, (int, float)) else sorted(target_speed)
        from_s = np.array([s for s, _ in steps])
        wanted = np.array([max(0.0, float(v)) for _, v in steps])
        cap = np.minimum(cap, wanted[np.clip(np.searchsorted(from_s, along, side="right") - 1, 0, None)])
    bend = np.abs(curvature(route))
    bend = np.maximum(bend, np.maximum(np.roll(bend, 1), np.roll(bend, -1)))  # between points, too
    change = np.abs(np.gradient(curvature(route), along + 1e-9 * np.arange(len(along))))
    change = maximum_filter1d(change, 5, mode="nearest")
    comfort = np.minimum.reduce(
        [
            np.sqrt(LATERAL_MPS2 * 0.95 / np.maximum(bend, 1e-6)),
            YAW_RATE_RPS / np.maximum(bend, 1e-6),
            np.sqrt(YAW_ACCELERATION_RPS2 / np.maximum(change, 1e-6)),
        ]
    )
    return np.minimum(cap, np.maximum(comfort, CRAWL_MPS))


def _profile(along: Doubles, cap: Doubles, stop_m: float, start_speed: float | None) -> Doubles:
    """[N] speeds under the cap that reach zero at stop_m, within acceleration and braking."""
    speed = np.minimum(cap, np.sqrt(2 * BRAKE_MPS2 * np.maximum(stop_m - along, 0.0)))
    gain = np.diff(along) * 2
    for i in range(len(along) - 2, -1, -1):
        speed[i] = min(speed[i], np.sqrt(speed[i + 1] ** 2 + BRAKE_MPS2 * gain[i]))
    if start_speed is not None:
        speed[0] = min(speed[0], max(0.0, start_speed))
    for i in range(1, len(along)):
        speed[i] = min(speed[i], np.sqrt(speed[i - 1] ** 2 + ACCELERATE_MPS2 * gain[i - 1]))
    return speed


def _lowest_within(along: Doubles, cap: Doubles, reach: Doubles) -> Doubles:
    low = np.searchsorted(along, along - reach)
    high = np.searchsorted(along, along + reach, side="right")
    return np.array([cap[a:b].min() for a, b in zip(low, high, strict=True)])


def _in_time(along: Doubles, profile: Doubles, at_s: Doubles) -> tuple[Doubles, Doubles]:
    """Distance and speed [T] at times, averaged over SMOOTH_S; before the start the speed was the first one."""
    half = round(SMOOTH_S / FINE_S / 2)
    clock = np.arange(-half, int(np.ceil(at_s[-1] / FINE_S)) + half + 1) * FINE_S
    with np.errstate(divide="ignore"):  # a standing ego stays for ever
        arrive = np.concatenate([[0.0], np.cumsum(2 * np.diff(along) / (profile[1:] + profile[:-1]))])
    cell = np.clip(np.searchsorted(arrive, clock, side="right") - 1, 0, max(len(along) - 2, 0))
    ahead = np.minimum(cell + 1, len(along) - 1)
    span = np.maximum(along[ahead] - along[cell], 1e-9)
    gain = (profile[ahead] ** 2 - profile[cell] ** 2) / (2 * span)
    spent = np.maximum(np.minimum(clock, arrive[ahead]) - arrive[cell], 0.0)
    s = along[cell] + profile[cell] * spent + gain * spent**2 / 2 + np.minimum(clock, 0.0) * profile[0]
    speed = np.where(clock < arrive[-1], profile[cell] + gain * spent, profile[-1])
    s, speed = (uniform_filter1d(v, 2 * half + 1, mode="nearest") for v in (s, speed))
    speed = np.where(speed > 1e-9, speed, 0.0)  # the running mean leaves dust
    now = clock[half:-half]
    s = s + along[0] - s[half]  # the average runs a few centimetres ahead
    return np.interp(at_s, now, s[half:-half]), np.interp(at_s, now, speed[half:-half])
