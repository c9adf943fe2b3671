"""The ego as a body."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.planner import WHEELBASE_M, Control, EgoState, Trajectory
from bridges.rollout.bicycle import (
    ACCELERATE_MPS2,
    BRAKE_MPS2,
    FASTEST_MPS,
    STEERING_RAD,
    PlannerFault,
    advance,
    checked,
)


def driven(ego: EgoState, answer: Control, steps: int) -> list[EgoState]:
    out = [ego]
    for _ in range(steps):
        out.append(advance(out[-1], answer, 0.2))
    return out


@pytest.mark.parametrize("steering", [0.31, -0.17])
def test_a_circle_has_the_radius_of_its_steering(steering: float) -> None:
    ego = EgoState(3.0, -2.0, 0.7, 5.0, steering_rad=steering)
    way = np.array([[state.x_m, state.y_m] for state in driven(ego, Control(0.0, steering), 80)])
    radius = WHEELBASE_M / np.tan(steering)
    centre = way[0] + radius * np.array([-np.sin(0.7), np.cos(0.7)])
    assert np.allclose(np.hypot(*(way - centre).T), abs(radius), atol=1e-9)


def test_positive_steering_turns_left() -> None:
    end = driven(EgoState(0.0, 0.0, 0.0, 6.0), Control(0.0, 0.2), 5)[-1]
    assert end.yaw_rad > 0.1 and end.y_m > 0.1 and end.yaw_rate_radps > 0


def test_limits_hold_and_nobody_drives_backwards() -> None:
    fast = driven(EgoState(0.0, 0.0, 0.0, 48.0), Control(25.0, 1.2), 4)
    assert fast[1].acceleration_mps2 == pytest.approx(ACCELERATE_MPS2) and fast[-1].speed_mps == FASTEST_MPS
    assert fast[-1].steering_rad == STEERING_RAD
    stops = driven(EgoState(0.0, 0.0, 0.0, 3.0), Control(-25.0, 0.0), 5)
    assert stops[1].acceleration_mps2 == pytest.approx(-BRAKE_MPS2)
    assert stops[-1].speed_mps == 0 and stops[-1].x_m == pytest.approx(3.0**2 / 2 / BRAKE_MPS2, abs=1e-6)


def test_a_drivable_trajectory_is_followed() -> None:
    """A bend of 15 m to the left, at a speed that rises from 5 m/s: planned anew from where the ego is."""
    times, radius = np.arange(1, 31) * 0.1, 15.0
    ego, worst = EgoState(0.0, 0.0, 0.0, 5.0), 0.0
    for step in range(15):
        now = step * 0.2
        s = 5.0 * (now + times) + 0.4 * (now + times) ** 2 / 2
        world = np.stack([radius * np.sin(s / radius), radius * (1 - np.cos(s / radius)), s / radius], axis=1)
        c, n = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
        x, y = world[:, 0] - ego.x_m, world[:, 1] - ego.y_m
        ego = advance(
            ego, Trajectory(times, np.stack([c * x + n * y, c * y - n * x, world[:, 2] - ego.yaw_rad], 1)), 0.2
        )
        worst = max(worst, float(np.hypot(ego.x_m - world[1, 0], ego.y_m - world[1, 1])))
    assert worst < 0.5 and ego.yaw_rad > 0.9


def test_a_trajectory_that_stands_or_lies_behind_stops_the_ego() -> None:
    for pose in (np.zeros((3, 3)), np.array([[-1.0, 0, 0], [-2, 0, 0], [-3, 0, 0]])):
        ego = EgoState(0.0, 0.0, 0.0, 4.0)
        for _ in range(25):
            ego = advance(ego, Trajectory(np.array([0.5, 1.0, 1.5]), pose), 0.2)
        assert ego.speed_mps < 0.1 and 0 < ego.x_m < 6


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "NoneType"),
        (Control(np.nan, 0.0), "nan"),
        (Control("fast", 0.0), "not numbers"),
        (Control(10**400, 0.0), "not numbers"),
        (Trajectory(np.array([1e200]), np.array([[1e200, 0, 0]])), "reaches beyond"),
        (Control(0.0, 1.5), "impossible"),
        (Trajectory(np.array([0.1]), np.array([[8.0, 0, 0]])), "impossible"),
        (Trajectory(np.array([0.5, 0.5]), np.zeros((2, 3))), "rise"),
        (Trajectory(np.array([0.0, 0.5]), np.zeros((2, 3))), "rise"),
        (Trajectory(np.array([0.5]), np.array([[0.0, np.inf, 0]])), "NaN"),
        (Trajectory(np.zeros(0), np.zeros((0, 3))), "shapes"),
    ],
)
def test_what_no_car_could_do_is_refused(answer: object, why: str) -> None:
    with pytest.raises(PlannerFault, match=why):
        checked(answer)
