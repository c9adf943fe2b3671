"""nuPlan planners in dcgen: tracks and ego states with nuPlan's field names, in a right-handed world frame.

nuPlan's ego pose is that of the rear axle; agents' velocities are along the world's axes, the ego's along its own.
Metres, seconds, radians, time in whole microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from bridges.adapters.surroundings import (
    REAR_M,
    Past,
    Surroundings,
    moved_ahead,
    plan_of,
    pose_of,
    to_ego,
)
from bridges.planner import EGO_SIZE_M, Observation, Planner, Task, Trajectory
from dcgen.errors import PlannerError
from dcgen.types import Doubles, Semantics

HISTORY = 22
HORIZON_S, STEP_S = 8.0, 0.5  # asked for where a trajectory gives no samples of its own


@dataclass(frozen=True)
class StateSE2:
    x: float
    y: float
    heading: float


@dataclass(frozen=True)
class StateVector2D:
    x: float
    y: float

    def magnitude(self) -> float:
        return float(np.hypot(self.x, self.y))


@dataclass(frozen=True)
class TimePoint:
    time_us: int

    @property
    def time_s(self) -> float:
        return self.time_us * 1e-6


@dataclass(frozen=True)
class OrientedBox:
    center: StateSE2
    length: float
    width: float
    height: float


@dataclass(frozen=True)
class DynamicCarState:
    """Velocities and accelerations along the ego's own axes."""

    rear_axle_velocity_2d: StateVector2D
    rear_axle_acceleration_2d: StateVector2D
    angular_velocity: float
    speed: float
    acceleration: float


@dataclass(frozen=True)
class EgoState:
    rear_axle: StateSE2
    center: StateSE2
    car_footprint: OrientedBox
    dynamic_car_state: DynamicCarState
    tire_steering_angle: float
    time_point: TimePoint

    @property
    def time_us(self) -> int:
        return self.time_point.time_us

    @property
    def time_seconds(self) -> float:
        return self.time_point.time_s


class TrackedObjectType(IntEnum):
    """nuPlan's numbers."""

    VEHICLE = 0
    PEDESTRIAN = 1
    BICYCLE = 2


_TYPES = {
    int(Semantics.PEDESTRIAN): TrackedObjectType.PEDESTRIAN,
    int(Semantics.BICYCLE): TrackedObjectType.BICYCLE,
}


@dataclass(frozen=True)
class Agent:
    tracked_object_type: TrackedObjectType
    box: OrientedBox
    velocity: StateVector2D
    track_token: str

    @property
    def center(self) -> StateSE2:
        return self.box.center


@dataclass(frozen=True)
class TrackedObjects:
    tracked_objects: list[Agent]

    def get_agents(self) -> list[Agent]:
        return self.tracked_objects

    def get_static_objects(self) -> list[Agent]:
        return []

    def get_tracked_objects_of_type(self, kind: Any) -> list[Agent]:
        return [one for one in self.tracked_objects if one.tracked_object_type.name == kind.name]


@dataclass(frozen=True)
class DetectionsTracks:
    tracked_objects: TrackedObjects


@dataclass(frozen=True)
class SimulationIteration:
    time_point: TimePoint
    index: int

    @property
    def time_us(self) -> int:
        return self.time_point.time_us

    @property
    def time_s(self) -> float:
        return self.time_point.time_s


@dataclass(frozen=True)
class SimulationHistory:
    """The moments so far, the newest last: as few as one."""

    ego_states: list[EgoState]
    observations: list[DetectionsTracks]
    sample_interval: float

    @property
    def current_state(self) -> tuple[EgoState, DetectionsTracks]:
        return self.ego_states[-1], self.observations[-1]

    @property
    def size(self) -> int:
        return len(self.ego_states)


@dataclass(frozen=True)
class PlannerInput:
    iteration: SimulationIteration
    history: SimulationHistory
    traffic_light_data: list[Any]


class NoMap:
    """In place of nuPlan's map: says what there is instead when it is asked."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise PlannerError(
            f"the nuPlan planner asks its map for {name!r}, which dcgen cannot answer; use initialization.route instead"
        )


@dataclass(frozen=True)
class PlannerInitialization:
    route_roadblock_ids: list[str]
    mission_goal: StateSE2
    map_api: NoMap
    route: list[StateSE2]  # the whole way, which nuPlan gives by its map alone


def from_nuplan(planner: Any) -> Planner:
    """A Planner that drives as nuPlan's `planner` says. It is told no map and no traffic lights."""
    return _NuPlan(planner)


class _NuPlan:
    def __init__(self, planner: Any) -> None:
        self._planner, self._who = planner, f"nuPlan planner {_name(planner)}"
        kind = planner.observation_type() if hasattr(planner, "observation_type") else DetectionsTracks
        if getattr(kind, "__name__", "") != "DetectionsTracks":
            raise PlannerError(
                f"{self._who}: observes {getattr(kind, '__name__', kind)}; dcgen gives DetectionsTracks alone"
            )

    def reset(self, task: Task) -> None:
        self._past = Past(HISTORY)
        route = [StateSE2(*(float(v) for v in row)) for row in task.route]
        goal = route[-1] if route else StateSE2(0.0, 0.0, 0.0)
        self._planner.initialize(PlannerInitialization([], goal, NoMap(), route))

    def plan(self, observation: Observation) -> Trajectory:
        self._past.add(observation)
        moments = self._past.moments()
        history = SimulationHistory([_ego(one) for one in moments], [_tracks(one) for one in moments], observation.dt_s)
        now = history.ego_states[-1].time_point
        answer = self._planner.compute_planner_trajectory(
            PlannerInput(SimulationIteration(now, observation.step), history, [])
        )
        states = _states(answer, now, self._who)
        later = np.array([_microseconds(state) - now.time_us for state in states]) * 1e-6
        centres = np.array([_centre(state, self._who) for state in states])
        return plan_of(later, to_ego(observation.ego, centres), self._who)

    def close(self) -> None:
        """nuPlan's planners are not told."""


def _name(planner: Any) -> str:
    return str(planner.name()) if callable(getattr(planner, "name", None)) else type(planner).__name__


def _ego(one: Surroundings) -> EgoState:
    ego, centre = one.ego, StateSE2(one.ego.x_m, one.ego.y_m, one.ego.yaw_rad)
    rear = StateSE2(*(float(v) for v in moved_ahead(pose_of(ego), -REAR_M)[0]))
    dynamic = DynamicCarState(
        StateVector2D(ego.speed_mps, 0.0),
        StateVector2D(ego.acceleration_mps2, 0.0),
        ego.yaw_rate_radps,
        ego.speed_mps,
        ego.acceleration_mps2,
    )
    at = TimePoint(round(one.time_s * 1e6))
    return EgoState(rear, centre, OrientedBox(centre, *EGO_SIZE_M), dynamic, ego.steering_rad, at)


def _tracks(one: Surroundings) -> DetectionsTracks:
    tracks = [
        Agent(
            _TYPES.get(int(class_id), TrackedObjectType.VEHICLE),
            OrientedBox(StateSE2(*(float(v) for v in pose)), *(float(v) for v in size)),
            StateVector2D(float(velocity[0]), float(velocity[1])),
            str(int(track)),
        )
        for track, class_id, size, pose, velocity in zip(
            one.id, one.class_id, one.size_m, one.pose, one.velocity_mps, strict=True
        )
    ]
    return DetectionsTracks(TrackedObjects(tracks))


def _states(answer: Any, now: TimePoint, who: str) -> list[Any]:
    if hasattr(answer, "get_sampled_trajectory"):
        return list(answer.get_sampled_trajectory())
    if hasattr(answer, "get_state_at_time"):
        steps = range(1, round(HORIZON_S / STEP_S) + 1)
        return [answer.get_state_at_time(TimePoint(now.time_us + round(n * STEP_S * 1e6))) for n in steps]
    raise PlannerError(f"{who}: answered with {type(answer).__name__}; it needs get_sampled_trajectory()")


def _microseconds(state: Any) -> int:
    return int(state.time_point.time_us if hasattr(state, "time_point") else state.time_us)


def _centre(state: Any, who: str) -> Doubles:
    """[3] x, y, yaw of the box's centre in the world: of `center`, else from the rear axle."""
    if getattr(state, "center", None) is not None:
        return np.array([state.center.x, state.center.y, state.center.heading])
    if getattr(state, "rear_axle", None) is not None:
        rear = state.rear_axle
        return np.asarray(moved_ahead(np.array([rear.x, rear.y, rear.heading]), REAR_M)[0])
    raise PlannerError(f"{who}: a state of its trajectory has neither center nor rear_axle")
