"""Whether a passenger would mind: accelerations, jerks and turning within nuPlan's limits.

T frame, W frame of a fitting window. Seconds, metres, radians.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bridges.episode import Episode
from dcgen.types import Doubles

# nuPlan's limits, taken from human drivers, as in NAVSIM: lowest and highest
LIMITS = {
    "longitudinal_acceleration_mps2": (-4.05, 2.40),
    "lateral_acceleration_mps2": (-4.89, 4.89),
    "jerk_mps3": (0.0, 8.37),
    "longitudinal_jerk_mps3": (-4.13, 4.13),
    "yaw_rate_radps": (-0.95, 0.95),
    "yaw_acceleration_radps2": (-1.93, 1.93),
}
# NAVSIM's windows of 8, 15 and 5 frames at 0.1 s, in seconds
ACCELERATION_WINDOW_S, JERK_WINDOW_S, YAW_WINDOW_S = 0.8, 1.5, 0.5
ROUNDING = 1e-8


@lru_cache(maxsize=64)
def fit(frames: int, window: int, degree: int, derivative: int) -> Doubles:
    """[T, T] takes a signal a second apart to a derivative of it (Savitzky and Golay, 1964).

    A polynomial is fitted to the window around each frame; at the ends, the last whole window serves. Windows
    longer than the signal, and degrees that need more frames than there are, give way.
    """
    window = min(window, frames)
    degree = min(degree, window - 1)
    operator = np.zeros((frames, frames))
    if derivative > degree:
        return operator
    fitted = np.linalg.pinv(np.vander(np.arange(window, dtype=np.float64), degree + 1, increasing=True))
    power = np.arange(derivative, degree + 1)
    factor = np.prod([power - n for n in range(derivative)], axis=0) if derivative else np.ones(len(power))
    for t in range(frames):
        start = min(max(t - window // 2, 0), frames - window)
        operator[t, start : start + window] = (factor * float(t - start) ** (power - derivative)) @ fitted[derivative:]
    operator.flags.writeable = False
    return operator


def derived(signal: Doubles, dt_s: float, window_s: float, degree: int, derivative: int) -> Doubles:
    """[T] a derivative of a signal, smoothed over a window."""
    window = max(2 * int(window_s / dt_s / 2 + 1e-9) + 1, degree + 1 + degree % 2)
    return fit(len(signal), window, degree, derivative) @ signal / dt_s**derivative


def motion(episode: Episode) -> dict[str, Doubles]:
    """Each limited quantity [T], along the ego's axes."""
    dt = episode.dt_s
    yaw = np.unwrap(episode.ego[:, 2])
    yaw_rate = derived(yaw, dt, YAW_WINDOW_S, 2, 1)
    ahead = derived(episode.acceleration_mps2, dt, ACCELERATION_WINDOW_S, 2, 0)
    aside = derived(episode.speed_mps * yaw_rate, dt, ACCELERATION_WINDOW_S, 2, 0)
    ahead_jerk, aside_jerk = (derived(signal, dt, JERK_WINDOW_S, 2, 1) for signal in (ahead, aside))
    return {
        "longitudinal_acceleration_mps2": ahead,
        "lateral_acceleration_mps2": aside,
        "jerk_mps3": np.hypot(ahead_jerk, aside_jerk),
        "longitudinal_jerk_mps3": ahead_jerk,
        "yaw_rate_radps": yaw_rate,
        "yaw_acceleration_radps2": derived(yaw, dt, YAW_WINDOW_S, 3, 2),
    }


def peaks(signals: dict[str, Doubles]) -> dict[str, float]:
    """Of each quantity, the value that is nearest to its limit or furthest beyond."""
    worst = {}
    for name, (low, high) in LIMITS.items():
        signal = signals[name]
        share = np.where(signal < 0, signal / low if low else 0.0, signal / high)
        worst[name] = float(signal[np.argmax(share)])
    return worst


def history_comfort(worst: dict[str, float]) -> float:
    """NAVSIM v2's {0, 1}: every quantity within its limits all along."""
    return float(all(low - ROUNDING <= worst[name] <= high + ROUNDING for name, (low, high) in LIMITS.items()))
