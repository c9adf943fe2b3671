"""CommonRoad planners: states in the right-handed world, time in steps."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bridges.adapters import from_commonroad
from bridges.adapters.commonroad import FIRST_VOXEL_ID
from dcgen.errors import PlannerError
from tests.bridges.adapters import left_turn

ARC_M = 14.0


class Turner:
    def __init__(self, to_left: int) -> None:
        self.to_left, self.seen = to_left, []

    def plan(self, sc, pp, ref_path):
        self.seen.append((sc, pp, ref_path))
        start, states = pp.initial_state, []
        for k in range(12):
            bend = self.to_left * start.velocity * k * sc.dt / ARC_M
            x, y = abs(ARC_M * np.sin(bend)), self.to_left * ARC_M * (1 - np.cos(bend))
            c, s = np.cos(start.orientation), np.sin(start.orientation)
            states.append(
                SimpleNamespace(
                    position=start.position + [c * x - s * y, s * x + c * y],
                    orientation=start.orientation + bend,
                    time_step=start.time_step + k,
                )
            )
        return SimpleNamespace(state_list=states), None


@pytest.mark.parametrize("side", [1, -1])
def test_it_turns_where_it_says(side: int) -> None:
    assert side * left_turn.turned(left_turn.drive(from_commonroad(Turner(side)), side)) > 0.4


def test_what_it_sees_lies_where_it_is() -> None:
    turner = Turner(1)
    left_turn.drive(from_commonroad(turner), steps=5)
    for step, (scenario, problem, path) in enumerate(turner.seen):
        start = problem.initial_state
        ego = (*start.position, start.orientation)
        (agent,) = scenario.dynamic_obstacles
        assert agent.obstacle_id == 7 and agent.obstacle_type == "car" and start.time_step == step
        assert left_turn.is_left(ego, *agent.initial_state.position)
        later = agent.state_at_time(step + 5)
        assert np.allclose(later.position - agent.initial_state.position, left_turn.AGENT_MPS)
        yaw = np.unwrap(np.arctan2(*np.diff(path, axis=0).T[::-1]))
        assert yaw[-1] - yaw[0] > 0.9
        assert all(left_turn.is_left(ego, *one.initial_state.position) for one in scenario.static_obstacles)
    assert np.allclose(problem.goal.state_list[0].position, left_turn.route()[-1, :2])


def test_voxels_of_nobody_stand_as_boxes() -> None:
    turner = Turner(1)
    left_turn.drive(from_commonroad(turner), steps=1)
    (wall,) = turner.seen[0][0].static_obstacles
    assert wall.obstacle_id == FIRST_VOXEL_ID
    assert np.allclose([wall.obstacle_shape.length, wall.obstacle_shape.width], [3 * 0.8, 0.8])
    grid = left_turn.GRID
    j = int((left_turn.WALL_LEFT_M - grid.origin_m[1]) / 0.8)
    here = left_turn.to_world(left_turn.START, np.array([5.2, grid.origin_m[1] + (j + 0.5) * 0.8, 0.0]))
    assert np.allclose(wall.initial_state.position, here[:2])


def test_what_there_is_not_is_told() -> None:
    turner = Turner(1)
    planner = from_commonroad(turner)
    planner.reset(left_turn.task())
    planner.plan(left_turn.observation(left_turn.START))
    with pytest.raises(PlannerError, match="ref_path"):
        _ = turner.seen[0][0].lanelet_network
    turner.plan = lambda sc, pp, ref_path: None
    with pytest.raises(PlannerError, match="NoneType; it needs a trajectory with state_list"):
        planner.plan(left_turn.observation(left_turn.START))
