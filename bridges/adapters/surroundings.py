"""An observation as most stacks want it: in the world frame, with what was before. A agent, N pose; metres, radians."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from bridges.planner import WHEELBASE_M, EgoState, Observation, Trajectory
from dcgen.errors import PlannerError
from dcgen.types import Doubles, Floats, Labels, wrap_angle

REAR_M = WHEELBASE_M / 2  # from the centre of the ego's box back to its rear axle


@dataclass(frozen=True)
class Surroundings:
    """The ego, the agents and the way ahead at one moment, in the world."""

    time_s: float
    ego: EgoState
    id: np.ndarray  # [A]
    class_id: Labels  # [A]
    size_m: Floats  # [A, 3]
    pose: Doubles  # [A, 3] x, y, yaw
    velocity_mps: Doubles  # [A, 2]
    route: Doubles  # [R, 3]


def surroundings_of(observation: Observation) -> Surroundings:
    ego, agents = observation.ego, observation.agents
    return Surroundings(
        observation.time_s,
        ego,
        agents.id,
        agents.class_id,
        agents.size_m,
        to_world(ego, agents.pose),
        turned(agents.velocity_mps, ego.yaw_rad),
        to_world(ego, observation.route),
    )


def turned(vectors: Doubles, yaw_rad: float) -> Doubles:
    """[..., 2] vectors turned to the left by an angle."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    x, y = np.asarray(vectors, np.float64)[..., 0], np.asarray(vectors, np.float64)[..., 1]
    return np.stack([c * x - s * y, s * x + c * y], axis=-1)


def to_world(ego: EgoState, pose: Doubles) -> Doubles:
    """[N, 3] poses of the ego frame in the world."""
    pose = np.asarray(pose, np.float64).reshape(-1, 3)
    xy = turned(pose[:, :2], ego.yaw_rad) + [ego.x_m, ego.y_m]
    return np.column_stack([xy, wrap_angle(pose[:, 2] + ego.yaw_rad)])


def to_ego(ego: EgoState, pose: Doubles) -> Doubles:
    """[N, 3] poses of the world in the ego frame."""
    pose = np.asarray(pose, np.float64).reshape(-1, 3)
    xy = turned(pose[:, :2] - [ego.x_m, ego.y_m], -ego.yaw_rad)
    return np.column_stack([xy, wrap_angle(pose[:, 2] - ego.yaw_rad)])


def moved_ahead(pose: Doubles, metres: float) -> Doubles:
    """[N, 3] poses moved along their own headings: from the rear axle to the centre by REAR_M."""
    pose = np.asarray(pose, np.float64).reshape(-1, 3)
    return np.column_stack(
        [pose[:, 0] + metres * np.cos(pose[:, 2]), pose[:, 1] + metres * np.sin(pose[:, 2]), pose[:, 2]]
    )


def pose_of(ego: EgoState) -> Doubles:
    """[3] x, y, yaw of the box's centre."""
    return np.array([ego.x_m, ego.y_m, ego.yaw_rad])


class Past:
    """What was observed so far, the newest last; at most `most` moments."""

    def __init__(self, most: int) -> None:
        self._seen: deque[Surroundings] = deque(maxlen=most)

    def add(self, observation: Observation) -> Surroundings:
        self._seen.append(surroundings_of(observation))
        return self._seen[-1]

    def moments(self) -> list[Surroundings]:
        return list(self._seen)

    def ego_at(self, time_s: float) -> EgoState:
        """The ego at a moment that is over, between the observations; before the first it drove straight on."""
        first, times = self._seen[0], np.array([one.time_s for one in self._seen])
        if time_s <= first.time_s:
            back = first.ego.speed_mps * (first.time_s - time_s)
            x, y, _ = moved_ahead(pose_of(first.ego), -back)[0]
            return replace(first.ego, x_m=float(x), y_m=float(y), acceleration_mps2=0.0, yaw_rate_radps=0.0)
        yaw = np.unwrap([one.ego.yaw_rad for one in self._seen])
        names = ("x_m", "y_m", "speed_mps", "acceleration_mps2", "yaw_rate_radps", "steering_rad")
        mixed = {
            name: float(np.interp(time_s, times, [getattr(one.ego, name) for one in self._seen])) for name in names
        }
        return EgoState(yaw_rad=float(wrap_angle(float(np.interp(time_s, times, yaw)))), **mixed)


def plan_of(time_s: Doubles, pose: Doubles, who: str) -> Trajectory:
    """A Trajectory of those poses that lie ahead in time. Raises PlannerError where there are none."""
    time_s, pose = np.asarray(time_s, np.float64), np.asarray(pose, np.float64)
    if pose.ndim != 2 or pose.shape[1] != 3 or time_s.shape != pose.shape[:1]:
        raise PlannerError(f"{who}: answered with poses of shape {pose.shape}; it needs [N, 3], x, y, heading")
    ahead = time_s > 1e-6
    if not ahead.any():
        raise PlannerError(f"{who}: answered with a trajectory that ends now; add later poses")
    return Trajectory(time_s[ahead], pose[ahead])
