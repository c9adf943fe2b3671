"""CARLA leaderboard agents in dcgen: asked twenty times a second, in CARLA's left-handed frame and degrees.

All that goes in or comes out is turned by scenarios.frames. CARLA's transforms look along x, with y to the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bridges.adapters.carla_sensors import Ego, Sensor, check_sensors, sense
from bridges.adapters.surroundings import to_world
from bridges.planner import Control, EgoState, Observation, Planner, Task
from dcgen.errors import PlannerError
from dcgen.types import Doubles, wrap_angle
from scenarios.frames import carla_yaw_to_world, world_to_carla

TICK_S = 0.05
THROTTLE_MPS2, BRAKE_MPS2, DRAG_PS = 4.0, 8.0, 0.05  # at full pedal; lost a second, as a share of the speed
STEER_DEG = 70.0  # of the front wheels at steer 1: that of CARLA's usual cars
TURN_RAD = 0.26  # within the next metres: what makes a route option LEFT or RIGHT
LOOK_M = 15


@dataclass(frozen=True)
class Location:
    x: float
    y: float
    z: float = 0.0


@dataclass(frozen=True)
class Rotation:
    pitch: float
    yaw: float
    roll: float


@dataclass(frozen=True)
class Transform:
    location: Location
    rotation: Rotation


def from_carla_agent(agent: Any, config: str = "") -> Planner:
    """A Planner that drives as a leaderboard agent says. config is the path that its setup() gets.

    Raises PlannerError where sensors() asks for what occupancy cannot answer, such as cameras.
    """
    return _Carla(agent, config)


class _Carla:
    def __init__(self, agent: Any, config: str) -> None:
        self._agent, self._who, self._config = agent, f"CARLA agent {type(agent).__name__}", config
        self._sensors: list[Sensor] | None = None

    def reset(self, task: Task) -> None:
        from bridges.adapters.carla_sensors import gps_of

        if self._sensors is None:
            if hasattr(self._agent, "setup"):
                self._agent.setup(self._config)
            self._sensors = check_sensors(self._agent.sensors() or [], self._who)
        self._tick = 0
        transforms = [_transform(pose) for pose in task.route]
        options = _options(task.route)
        gps = [gps_of(pose[0], pose[1], 0.0) for pose in task.route]
        if hasattr(self._agent, "set_global_plan"):
            flat = [
                ({"lat": lat, "lon": lon, "z": z}, option) for (lat, lon, z), option in zip(gps, options, strict=True)
            ]
            self._agent.set_global_plan(flat, list(zip(transforms, options, strict=True)))

    def plan(self, observation: Observation) -> Control:
        ticks = max(1, round(observation.dt_s / TICK_S))
        step_s = observation.dt_s / ticks
        assert self._sensors is not None
        ego, wanted = observation.ego, []
        for tick in range(ticks):
            at = Ego(observation.time_s + tick * step_s, ego.x_m, ego.y_m, ego.yaw_rad, ego.speed_mps,
                     ego.acceleration_mps2, ego.yaw_rate_radps)  # fmt: skip
            data = {
                one.id: (self._tick, sense(one, at, observation, _shift(observation.ego, ego))) for one in self._sensors
            }
            control = control_of(self._agent.run_step(data, at.time_s), ego.speed_mps, self._who)
            wanted.append(control)
            ego = _rolled(ego, control, step_s)
            self._tick += 1
        # One answer for all of them: the mean, which ends at the same speed.
        return Control(
            float(np.mean([one.acceleration_mps2 for one in wanted])),
            float(np.mean([one.steering_rad for one in wanted])),
        )

    def close(self) -> None:
        if hasattr(self._agent, "destroy"):
            self._agent.destroy()


def control_of(control: Any, speed_mps: float, who: str) -> Control:
    """A VehicleControl as acceleration and steering: pedals are shares of a car's, steer is positive to the right."""
    try:
        throttle, brake, steer = (float(getattr(control, name)) for name in ("throttle", "brake", "steer"))
    except (AttributeError, TypeError, ValueError):
        raise PlannerError(
            f"{who}: answered with {type(control).__name__}; it needs throttle, brake and steer"
        ) from None
    throttle, brake = float(np.clip(throttle, 0.0, 1.0)), float(np.clip(brake, 0.0, 1.0))
    if getattr(control, "hand_brake", False):
        brake = 1.0
    if getattr(control, "reverse", False):
        throttle = 0.0  # nobody drives backwards here
    acceleration = throttle * THROTTLE_MPS2 - brake * BRAKE_MPS2 - DRAG_PS * speed_mps
    return Control(acceleration, float(carla_yaw_to_world(float(np.clip(steer, -1.0, 1.0)) * STEER_DEG)))


def _rolled(ego: EgoState, control: Control, step_s: float) -> EgoState:
    """The ego a tick later, for what the agent senses between two observations."""
    from bridges.rollout.bicycle import substep

    return substep(ego, control, step_s)


def _shift(was: EgoState, now: EgoState) -> Doubles:
    """[3, 3] points of the frame of `was` in that of `now`."""
    origin = to_world(was, np.zeros((1, 3)))[0]
    angle = float(wrap_angle(was.yaw_rad - now.yaw_rad))
    c, s = np.cos(now.yaw_rad), np.sin(now.yaw_rad)
    dx, dy = origin[0] - now.x_m, origin[1] - now.y_m
    turn = [np.cos(angle), np.sin(angle)]
    return np.array([[turn[0], -turn[1], c * dx + s * dy], [turn[1], turn[0], c * dy - s * dx], [0.0, 0.0, 1.0]])


def _transform(pose: Doubles) -> Transform:
    x, y, z, yaw_deg = world_to_carla(float(pose[0]), float(pose[1]), 0.0, float(pose[2]))
    return Transform(Location(x, y, z), Rotation(0.0, yaw_deg, 0.0))


def _options(route: Doubles) -> list[Any]:
    """[R] scenarios.route.RoadOption, CARLA's numbers: LEFT, RIGHT where the way soon bends by more than TURN_RAD."""
    from scenarios.route import RoadOption

    yaw = np.unwrap(np.asarray(route)[:, 2]) if len(route) else np.zeros(0)
    ahead = yaw[np.minimum(np.arange(len(yaw)) + LOOK_M, max(len(yaw) - 1, 0))] - yaw
    return [
        RoadOption.LEFT if turn > TURN_RAD else RoadOption.RIGHT if turn < -TURN_RAD else RoadOption.LANEFOLLOW
        for turn in ahead
    ]
