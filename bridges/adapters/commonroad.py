"""CommonRoad planners in dcgen: a scenario of obstacles, a planning problem and a reference path, under its names.

World frame, right-handed; metres, radians, steps of the scene's dt. Voxels that no agent explains stand as boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bridges.adapters.surroundings import Surroundings, plan_of, surroundings_of, to_ego, to_world
from bridges.planner import Observation, Planner, Task, Trajectory
from bridges.planners.obstacles import Boxes, covered, still_and_moving
from dcgen.errors import PlannerError
from dcgen.types import MOVING_MPS, Doubles, Semantics

PREDICTED_S = 4.0
FIRST_VOXEL_ID = 1_000_000
_TYPES = {int(Semantics.PEDESTRIAN): "pedestrian", int(Semantics.BICYCLE): "bicycle", int(Semantics.VEHICLE): "car"}


@dataclass(frozen=True)
class State:
    """position [2] in the world."""

    position: Doubles
    orientation: float
    velocity: float
    time_step: int
    acceleration: float = 0.0
    yaw_rate: float = 0.0
    slip_angle: float = 0.0


@dataclass(frozen=True)
class Rectangle:
    length: float
    width: float


@dataclass(frozen=True)
class StatePath:
    """CommonRoad's Trajectory."""

    initial_time_step: int
    state_list: list[State]


@dataclass(frozen=True)
class Prediction:
    """Straight on, at constant velocity."""

    trajectory: StatePath


@dataclass(frozen=True)
class Obstacle:
    obstacle_id: int
    obstacle_type: str
    obstacle_shape: Rectangle
    initial_state: State
    prediction: Prediction | None = None

    def state_at_time(self, time_step: int) -> State | None:
        ahead = [] if self.prediction is None else self.prediction.trajectory.state_list
        found = next((one for one in [self.initial_state, *ahead] if one.time_step == time_step), None)
        return self.initial_state if found is None and self.prediction is None else found


@dataclass(frozen=True)
class Scenario:
    dt: float
    dynamic_obstacles: list[Obstacle]
    static_obstacles: list[Obstacle]

    @property
    def obstacles(self) -> list[Obstacle]:
        return [*self.dynamic_obstacles, *self.static_obstacles]

    @property
    def lanelet_network(self) -> Any:
        raise PlannerError("the CommonRoad planner asks for the lanelet network, which dcgen cannot give; use ref_path")


@dataclass(frozen=True)
class GoalRegion:
    state_list: list[State]


@dataclass(frozen=True)
class PlanningProblem:
    planning_problem_id: int
    initial_state: State
    goal: GoalRegion


def from_commonroad(planner: Any) -> Planner:
    """A Planner that drives as plan(sc, pp, ref_path) says: by a trajectory with state_list, or a tuple of it."""
    return _CommonRoad(planner)


class _CommonRoad:
    def __init__(self, planner: Any) -> None:
        self._planner, self._who = planner, f"CommonRoad planner {type(planner).__name__}"

    def reset(self, task: Task) -> None:
        self._goal = np.asarray(task.route, np.float64)[-1] if len(task.route) else np.zeros(3)
        self._last_step = max(0, task.frames - 1)

    def plan(self, observation: Observation) -> Trajectory:
        now, step = surroundings_of(observation), observation.step
        ego = now.ego
        start = State(
            np.array([ego.x_m, ego.y_m]), ego.yaw_rad, ego.speed_mps, step, ego.acceleration_mps2, ego.yaw_rate_radps
        )
        goal = State(self._goal[:2].copy(), float(self._goal[2]), 0.0, self._last_step)
        problem = PlanningProblem(1, start, GoalRegion([goal]))
        answer = self._planner.plan(_scenario(now, observation), problem, now.route[:, :2].copy())
        answer = answer[0] if isinstance(answer, tuple) and answer else answer
        states = list(getattr(answer, "state_list", answer if isinstance(answer, list) else []))
        if not states:
            raise PlannerError(
                f"{self._who}: answered with {type(answer).__name__}; it needs a trajectory with state_list"
            )
        time_s = np.array([(one.time_step - step) * observation.dt_s for one in states])
        pose = np.array([[*np.asarray(one.position, np.float64)[:2], one.orientation] for one in states])
        return plan_of(time_s, to_ego(ego, pose), self._who)

    def close(self) -> None:
        """CommonRoad's planners are not told."""


def _scenario(now: Surroundings, observation: Observation) -> Scenario:
    moving = np.hypot(*now.velocity_mps.T) > MOVING_MPS
    agents = [_agent(now, n, observation, bool(moving[n])) for n in range(len(now.id))]
    still = [one for one, moves in zip(agents, moving, strict=True) if not moves]
    return Scenario(
        observation.dt_s,
        [one for one, moves in zip(agents, moving, strict=True) if moves],
        still + _voxels(observation),
    )


def _agent(now: Surroundings, n: int, observation: Observation, moves: bool) -> Obstacle:
    velocity, pose = now.velocity_mps[n], now.pose[n]
    speed, step, dt = float(np.hypot(*velocity)), observation.step, observation.dt_s

    def state(k: int) -> State:
        return State(pose[:2] + k * dt * velocity, float(pose[2]), speed, step + k)

    ahead = range(1, max(1, round(PREDICTED_S / dt)) + 1)
    prediction = Prediction(StatePath(step + 1, [state(k) for k in ahead])) if moves else None
    shape = Rectangle(float(now.size_m[n, 0]), float(now.size_m[n, 1]))
    return Obstacle(int(now.id[n]), _TYPES.get(int(now.class_id[n]), "unknown"), shape, state(0), prediction)


def _voxels(observation: Observation) -> list[Obstacle]:
    """Still columns that are no agent's, joined along the ego's x axis."""
    grid, agents = observation.grid, observation.agents
    boxes = Boxes(np.asarray(agents.pose), np.asarray(agents.size_m[:, :2], np.float64) / 2, agents.velocity_mps)
    still = still_and_moving(observation)[0] & ~covered(boxes, grid, np.ones(len(agents.id), bool))
    edge = np.diff(np.pad(still.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    first, last = np.argwhere(edge.T == 1), np.argwhere(edge.T == -1)  # by column of y, then along x
    made: list[Obstacle] = []
    for (j, low), (_, high) in zip(first, last, strict=True):
        x = grid.origin_m[0] + (low + high) / 2 * grid.voxel_m[0]
        y = grid.origin_m[1] + (j + 0.5) * grid.voxel_m[1]
        wx, wy, yaw = to_world(observation.ego, np.array([[x, y, 0.0]]))[0]
        shape = Rectangle(float((high - low) * grid.voxel_m[0]), float(grid.voxel_m[1]))
        state = State(np.array([wx, wy]), float(yaw), 0.0, observation.step)
        made.append(Obstacle(FIRST_VOXEL_ID + len(made), "unknown", shape, state))
    return made
