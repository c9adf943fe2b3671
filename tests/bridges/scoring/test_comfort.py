"""Limits of comfort at known motions, and fits against scipy's filter."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.scoring import score
from bridges.scoring.comfort import LIMITS, fit
from tests.bridges.scoring.episodes import episode

DT_S = 0.2


def straight(acceleration: np.ndarray, start_mps: float = 8.0) -> dict:
    """Along x with an acceleration [T]."""
    speed = start_mps + np.concatenate([[0], np.cumsum((acceleration[1:] + acceleration[:-1]) / 2)]) * DT_S
    x = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2)]) * DT_S
    ego = np.stack([x, 0 * x, 0 * x], axis=1)
    return {"ego": ego, "speed": speed, "acceleration_mps2": acceleration, "frames": len(x)}


def circle(speed: float, yaw_rate: float, frames: int = 21, dt_s: float = DT_S) -> dict:
    yaw = np.arange(frames) * dt_s * yaw_rate
    r = speed / yaw_rate
    ego = np.stack([r * np.sin(yaw), r - r * np.cos(yaw), (yaw + np.pi) % (2 * np.pi) - np.pi], axis=1)
    return {"ego": ego, "speed": speed, "dt_s": dt_s, "acceleration_mps2": np.zeros(frames)}


def comfort(case: dict) -> tuple[float, dict[str, float]]:
    marks = score(episode(case.pop("ego"), case.pop("speed"), **case))
    return marks.history_comfort, marks.comfort


@pytest.mark.parametrize(("factor", "value"), [(0.999, 1.0), (1.001, 0.0)])
@pytest.mark.parametrize("limit", LIMITS["longitudinal_acceleration_mps2"])
def test_longitudinal_acceleration(limit: float, factor: float, value: float) -> None:
    found, worst = comfort(straight(np.full(21, limit * factor), 30.0))
    assert found == value and worst["longitudinal_acceleration_mps2"] == pytest.approx(limit * factor)


@pytest.mark.parametrize(("factor", "value"), [(0.999, 1.0), (1.001, 0.0), (-0.999, 1.0), (-1.001, 0.0)])
def test_longitudinal_jerk(factor: float, value: float) -> None:
    jerk = LIMITS["longitudinal_jerk_mps3"][1] * factor
    found, worst = comfort(straight(jerk * (np.arange(6) - 2.5) * DT_S, 20.0))
    assert found == value and worst["longitudinal_jerk_mps3"] == pytest.approx(jerk)
    assert worst["jerk_mps3"] == pytest.approx(abs(jerk))


@pytest.mark.parametrize(("factor", "value"), [(0.999, 1.0), (1.001, 0.0), (-0.999, 1.0), (-1.001, 0.0)])
def test_a_circle_at_a_known_lateral_acceleration(factor: float, value: float) -> None:
    lateral = LIMITS["lateral_acceleration_mps2"][1] * factor
    found, worst = comfort(circle(12.0, lateral / 12.0))
    assert found == value and worst["lateral_acceleration_mps2"] == pytest.approx(lateral)
    assert worst["jerk_mps3"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("factor", "value"), [(0.999, 1.0), (1.001, 0.0)])
def test_yaw_rate_over_half_a_turn(factor: float, value: float) -> None:
    rate = LIMITS["yaw_rate_radps"][1] * factor
    found, worst = comfort(circle(3.0, rate, frames=41))
    assert found == value and worst["yaw_rate_radps"] == pytest.approx(rate)


@pytest.mark.parametrize(("factor", "value"), [(0.999, 1.0), (1.001, 0.0)])
def test_yaw_acceleration(factor: float, value: float) -> None:
    turning = LIMITS["yaw_acceleration_radps2"][1] * factor
    time = (np.arange(5) - 2) * DT_S
    ego = np.stack([0 * time, 0 * time, turning * time**2 / 2], axis=1)
    found, worst = comfort({"ego": ego, "speed": 0.1})
    assert found == value and worst["yaw_acceleration_radps2"] == pytest.approx(turning)


@pytest.mark.parametrize(("factor", "value"), [(0.999, 1.0), (1.001, 0.0)])
def test_jerk_is_that_of_both_axes(factor: float, value: float) -> None:
    """A spiral: lateral acceleration grows evenly, none along."""
    jerk, speed, time = LIMITS["jerk_mps3"][1] * factor, 25.0, (np.arange(6) - 2.5) * DT_S
    ego = np.stack([speed * time, 0 * time, jerk / speed * time**2 / 2], axis=1)
    found, worst = comfort({"ego": ego, "speed": speed, "acceleration_mps2": np.zeros(6)})
    assert found == value and worst["jerk_mps3"] == pytest.approx(jerk)


@pytest.mark.parametrize("window", [3, 5, 7])
@pytest.mark.parametrize(("degree", "derivative"), [(2, 0), (2, 1), (2, 2)])
def test_fits_are_those_of_the_usual_filter(window: int, degree: int, derivative: int) -> None:
    from scipy.signal import savgol_filter

    signal = np.random.default_rng(8).normal(size=19)
    want = savgol_filter(signal, window, degree, deriv=derivative, delta=1.0, mode="interp")
    assert np.allclose(fit(19, window, degree, derivative) @ signal, want, atol=1e-9)


def test_fits_give_way_in_short_signals() -> None:
    assert fit(1, 7, 2, 1) @ [4.0] == [0.0]
    assert np.allclose(fit(2, 7, 2, 1) @ [4.0, 7.0], 3.0)


def plans(wobble: float = 0.0, speed: float = 8.0, step_s: float = 0.5, frames: int = 21, n: int = 8) -> tuple:
    """Straight on; every second plan speeds up or slows down by so much."""
    time = np.arange(1, n + 1) * step_s
    return tuple(
        np.stack([time, k * DT_S * speed + speed * time + wobble * (-1) ** k * time**2 / 2, 0 * time, 0 * time], axis=1)
        for k in range(frames - 1)
    )


@pytest.mark.parametrize(("wobble", "value"), [(0.0, 1.0), (0.349, 1.0), (0.351, 0.0)])
def test_plans_that_disagree_on_acceleration(wobble: float, value: float) -> None:
    """By 0.7 m/s2 from one to the next; |a| would hide the sign, so all speed up by 1 on top."""
    both = tuple(plan + np.stack([0 * plan[:, 0], plan[:, 0] ** 2 / 2, 0 * plan[:, 0], 0 * plan[:, 0]], axis=1)
                 for plan in plans(wobble))  # fmt: skip
    marks = score(episode(plans=both))
    assert marks.extended_comfort == value and "extended_comfort" not in marks.not_measured


def test_extended_comfort_is_the_share_of_pairs() -> None:
    made = list(plans())
    made[10] = plans(3.0)[10]  # one that differs from the one before and the one after
    assert score(episode(plans=tuple(made))).extended_comfort == pytest.approx(1 - 2 / 19)


def test_turning_plans_and_other_steps() -> None:
    time = np.arange(1, 31) * 0.1

    def arc(k: int, rate: float) -> np.ndarray:
        return np.stack([time, k * DT_S * 8.0 + 8 * time, 0 * time, rate * time], axis=1)

    agree = tuple(arc(k, 0.05) for k in range(20))
    differ = tuple(arc(k, 0.05 + 0.12 * (k % 2)) for k in range(20))
    assert score(episode(plans=agree)).extended_comfort == 1.0
    assert score(episode(plans=differ)).extended_comfort == 0.0


def test_plans_of_uneven_steps_and_changing_lengths() -> None:
    time = np.cumsum(np.linspace(0.1, 0.9, 9))
    uneven = tuple(
        np.stack([time, k * DT_S * 8.0 + 8 * time, 0 * time, 0 * time], axis=1)[: 9 - k % 2 * (k > 10)]
        for k in range(20)
    )
    assert score(episode(plans=uneven)).extended_comfort == 1.0


def test_plans_that_shrink_are_compared_as_far_as_both_go() -> None:
    def shrinking(wobble: float) -> tuple:
        return tuple(plan[: 9 - k // 5] for k, plan in enumerate(plans(wobble, n=9)))

    assert score(episode(plans=shrinking(0.0))).extended_comfort == 1.0
    alternating = score(episode(plans=tuple(plan[: 9 - k % 2] for k, plan in enumerate(shrinking(0.0)))))
    assert alternating.extended_comfort == 1.0 and "extended_comfort" not in alternating.not_measured
    made = list(shrinking(0.0))
    made[5] = plans(3.0)[5][:8]
    assert score(episode(plans=tuple(made))).extended_comfort == pytest.approx(1 - 2 / 19)


def test_controls_have_no_plans_to_compare() -> None:
    assert "extended_comfort" in score(episode()).not_measured
