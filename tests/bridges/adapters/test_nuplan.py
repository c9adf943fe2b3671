"""nuPlan planners: poses of the rear axle in a right-handed world, tracks with velocities along its axes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bridges.adapters import from_nuplan
from bridges.planner import WHEELBASE_M
from dcgen.errors import PlannerError
from tests.bridges.adapters import left_turn

ARC_M = 14.0


class Turner:
    """Turns on a circle of its own, told in poses of the rear axle. to_left is 1 or -1 in nuPlan's sense of heading."""

    def __init__(self, to_left: int) -> None:
        self.to_left, self.inputs, self.told = to_left, [], None

    def name(self) -> str:
        return "turner"

    def observation_type(self) -> type:
        return type("DetectionsTracks", (), {})

    def initialize(self, initialization) -> None:
        self.told = initialization

    def compute_planner_trajectory(self, current_input):
        self.inputs.append(current_input)
        ego, _ = current_input.history.current_state
        states = []
        for k in range(1, 21):
            s = 5.0 * k * 0.2
            bend = self.to_left * s / ARC_M
            x, y = ARC_M * np.sin(bend) * self.to_left, ARC_M * (1 - np.cos(bend)) * self.to_left
            c, d = np.cos(ego.rear_axle.heading), np.sin(ego.rear_axle.heading)
            rear = SimpleNamespace(
                x=ego.rear_axle.x + c * x - d * y,
                y=ego.rear_axle.y + d * x + c * y,
                heading=ego.rear_axle.heading + bend,
            )
            states.append(
                SimpleNamespace(rear_axle=rear, time_point=SimpleNamespace(time_us=ego.time_us + round(k * 2e5)))
            )
        return SimpleNamespace(get_sampled_trajectory=lambda: states)


@pytest.mark.parametrize("side", [1, -1])
def test_it_turns_where_it_says(side: int) -> None:
    turn = left_turn.turned(left_turn.drive(from_nuplan(Turner(side)), side))
    assert side * turn > 0.6


def test_what_it_sees_lies_where_it_is() -> None:
    turner = Turner(1)
    left_turn.drive(from_nuplan(turner), steps=4)
    headings = np.unwrap([one.heading for one in turner.told.route])
    assert headings[-1] - headings[0] > 1.4 and turner.told.mission_goal == turner.told.route[-1]
    for step, current in enumerate(turner.inputs):
        ego, tracks = current.history.current_state
        (agent,) = tracks.tracked_objects.tracked_objects
        assert left_turn.is_left((ego.center.x, ego.center.y, ego.center.heading), agent.center.x, agent.center.y)
        assert np.allclose([agent.velocity.x, agent.velocity.y], left_turn.AGENT_MPS)
        assert agent.center.heading == pytest.approx(left_turn.START.yaw_rad + left_turn.AGENT[2])
        ahead = np.array([ego.center.x - ego.rear_axle.x, ego.center.y - ego.rear_axle.y])
        assert np.allclose(ahead, WHEELBASE_M / 2 * np.array([np.cos(ego.center.heading), np.sin(ego.center.heading)]))
        assert current.iteration.index == step and current.history.size == step + 1
        assert current.iteration.time_us == round(step * 2e5)


def test_it_is_told_what_there_is_not() -> None:
    turner = Turner(1)
    planner = from_nuplan(turner)
    planner.reset(left_turn.task())
    with pytest.raises(PlannerError, match=r"get_proximal_map_objects.*initialization\.route"):
        turner.told.map_api.get_proximal_map_objects()
    turner.observation_type = lambda: type("Sensors", (), {})
    with pytest.raises(PlannerError, match=r"turner.*Sensors"):
        from_nuplan(turner)
