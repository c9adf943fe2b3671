"""Policies: actions in -1..1, steer positive to the left."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.adapters import from_gym_policy
from bridges.adapters.gym_policy import BRAKE_MPS2, ROUTE_POINTS, STEERING_RAD, THROTTLE_MPS2, control_of, seen
from bridges.planner import Control
from dcgen.errors import PlannerError
from tests.bridges.adapters import left_turn


class Turner:
    def __init__(self, steer: float) -> None:
        self.steer, self.seen = steer, []

    def predict(self, observation, deterministic: bool = False):
        assert deterministic
        self.seen.append(observation)
        return np.array([self.steer, 0.1], np.float32), None


@pytest.mark.parametrize("side", [1, -1])
def test_it_turns_where_it_steers(side: int) -> None:
    turner = Turner(0.4 * side)
    assert side * left_turn.turned(left_turn.drive(from_gym_policy(turner), side)) > 0.6
    assert side * turner.seen[0]["route"][-1, 1] > 5.0, "a route to the left has positive y"
    assert side * turner.seen[0]["route"][-1, 2] > 1.4
    assert side * turner.seen[-1]["ego"][2] > 0, "and so has its yaw rate"


def test_a_function_is_a_policy_too() -> None:
    assert left_turn.turned(left_turn.drive(from_gym_policy(lambda observation: [0.4, 0.0]))) > 0.6
    with pytest.raises(PlannerError, match="neither predict"):
        from_gym_policy(3)


def test_actions() -> None:
    assert control_of([1.0, 1.0]) == Control(THROTTLE_MPS2, STEERING_RAD)
    assert control_of(np.array([[-3.0, -1.0]])) == Control(-BRAKE_MPS2, -STEERING_RAD)
    for wrong in (None, [0.1], [np.nan, 0.0], "left"):
        with pytest.raises(PlannerError, match="an action is two numbers"):
            control_of(wrong)


def test_a_short_route_is_filled_with_its_end() -> None:
    whole = left_turn.observation(left_turn.START)
    shown = seen(whole)["route"]
    assert shown.shape == (ROUTE_POINTS, 3) and np.allclose(shown, whole.route[:ROUTE_POINTS], atol=1e-5)
    end = left_turn.route()[-1]
    from dataclasses import replace

    near = replace(left_turn.START, x_m=float(end[0]), y_m=float(end[1]), yaw_rad=float(end[2]))
    short = seen(left_turn.observation(near))["route"]
    assert short.shape == (ROUTE_POINTS, 3) and np.allclose(short, 0.0, atol=1e-5)
