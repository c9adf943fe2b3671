"""Waymax actors: right-handed world, the ego in row 0, the present at timestep."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bridges.adapters import from_waymax_actor
from dcgen.errors import PlannerError
from tests.bridges.adapters import left_turn


class Turner:
    def __init__(self, to_left: int, dynamics: str = "bicycle") -> None:
        self.to_left, self.dynamics, self.states, self.keys = to_left, dynamics, [], []

    def init(self, rng, state):
        self.keys.append(tuple(rng))
        return 0

    def select_action(self, params, state, actor_state, rng):
        assert params == {"w": 1}
        self.states.append(state)
        self.keys.append(tuple(rng))
        bend, way, now = self.to_left / 12.0, 1.0, state.timestep
        track = state.sim_trajectory
        yaw = track.yaw[0, now]
        row = {
            "bicycle": [0.0, bend],
            "delta": [way, 0.5 * bend * way**2, bend * way],
            "state": [
                track.x[0, now] + way * np.cos(yaw),
                track.y[0, now] + way * np.sin(yaw),
                yaw + bend * way,
                0.0,
                0.0,
            ],
        }[self.dynamics]
        if self.dynamics == "state":
            row[0] -= np.sin(yaw) * 0.5 * bend
            row[1] += np.cos(yaw) * 0.5 * bend
        data = np.zeros((state.num_objects, len(row)))
        data[0] = row
        return SimpleNamespace(actor_state=actor_state + 1, action=SimpleNamespace(data=data, valid=None))


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("dynamics", ["bicycle", "state", "delta"])
def test_it_turns_where_it_says(side: int, dynamics: str) -> None:
    planner = from_waymax_actor(Turner(side, dynamics), {"w": 1}, dynamics)
    assert side * left_turn.turned(left_turn.drive(planner, side)) > 0.5


def test_what_it_sees_lies_where_it_is() -> None:
    turner = Turner(1)
    egos = left_turn.drive(from_waymax_actor(turner, {"w": 1}), steps=14)
    for step, state in enumerate(turner.states):
        track, now = state.sim_trajectory, state.timestep
        assert track.x.shape == (2, 11) and state.object_metadata.is_sdc.tolist() == [True, False]
        assert np.allclose([track.x[0, now], track.y[0, now]], [egos[step].x_m, egos[step].y_m])
        assert left_turn.is_left(
            (track.x[0, now], track.y[0, now], track.yaw[0, now]), track.x[1, now], track.y[1, now]
        )
        assert np.allclose([track.vel_x[1, now], track.vel_y[1, now]], left_turn.AGENT_MPS)
        assert track.valid.sum(axis=1).tolist() == [min(step + 1, 11)] * 2
        assert track.timestamp_micros[0, now] == round(step * 2e5)
    yaw = np.unwrap(np.arctan2(np.diff(state.sdc_paths.y[0]), np.diff(state.sdc_paths.x[0])))
    assert yaw[-1] - yaw[0] > 0.5


def test_keys_are_new_each_step_and_the_same_each_time() -> None:
    drives = [Turner(1), Turner(1)]
    for turner in drives:
        left_turn.drive(from_waymax_actor(turner, {"w": 1}), steps=5)
    assert drives[0].keys == drives[1].keys and len(set(drives[0].keys)) == 6


def test_wrong_actions_are_told() -> None:
    with pytest.raises(PlannerError, match="'rocket'"):
        from_waymax_actor(Turner(1), None, "rocket")
    planner = from_waymax_actor(Turner(1, "bicycle"), {"w": 1}, "state")
    planner.reset(left_turn.task())
    with pytest.raises(PlannerError, match=r"shape \(2, 2\); state needs \[2, 3\]"):
        planner.plan(left_turn.observation(left_turn.START))
