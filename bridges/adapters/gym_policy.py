"""Policies of reinforcement learning in dcgen: what they see, and what their actions mean.

Actions are [steer, throttle or brake] in -1..1; steer is positive to the left, as all angles here. H frame of history,
X/Y/Z voxel axes, R route point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bridges.planner import Control, Observation, Planner, Task
from dcgen.errors import PlannerError
from dcgen.types import Floats

STEERING_RAD, THROTTLE_MPS2, BRAKE_MPS2 = 0.6, 4.0, 8.0  # at 1, 1 and -1
ROUTE_POINTS = 40
EGO_FIELDS = ("speed_mps", "acceleration_mps2", "yaw_rate_radps", "steering_rad")


def seen(observation: Observation) -> dict[str, Any]:
    """occupancy uint8 [H, X, Y, Z], ego float32 [4] (EGO_FIELDS), route float32 [ROUTE_POINTS, 3], command."""
    return {
        "occupancy": np.array(observation.occupancy, np.uint8),
        "ego": np.array([getattr(observation.ego, name) for name in EGO_FIELDS], np.float32),
        "route": _route(observation),
        "command": np.int64(observation.command),
    }


def control_of(action: Any, who: str = "the policy") -> Control:
    """An action as acceleration and steering. Values beyond -1..1 are cut off. Raises PlannerError."""
    try:
        values = np.asarray(action, np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (2,) or not np.isfinite(values).all():
        raise PlannerError(f"{who}: answered with {action!r}; an action is two numbers, [steer, throttle or brake]")
    steer, pedal = (float(value) for value in np.clip(values, -1.0, 1.0))
    return Control(pedal * (THROTTLE_MPS2 if pedal > 0 else BRAKE_MPS2), steer * STEERING_RAD)


def from_gym_policy(policy: Any) -> Planner:
    """A Planner that drives as a policy says: an object with predict(observation, deterministic=True), as those of
    Stable-Baselines3, or a function of the observation. It sees what as_gym_env shows."""
    return _Policy(policy)


class _Policy:
    def __init__(self, policy: Any) -> None:
        self._policy, self._who = policy, f"policy {type(policy).__name__}"
        if not (hasattr(policy, "predict") or callable(policy)):
            raise PlannerError(f"{self._who}: has neither predict() nor can it be called")

    def reset(self, task: Task) -> None:
        if callable(getattr(self._policy, "reset", None)):
            self._policy.reset()

    def plan(self, observation: Observation) -> Control:
        shown = seen(observation)
        if hasattr(self._policy, "predict"):
            action = self._policy.predict(shown, deterministic=True)
            action = action[0] if isinstance(action, tuple) else action
        else:
            action = self._policy(shown)
        return control_of(action, self._who)

    def close(self) -> None:
        """Policies are not told."""


def _route(observation: Observation) -> Floats:
    """[ROUTE_POINTS, 3] the way ahead, its last point repeated where it is short."""
    route = np.asarray(observation.route, np.float32)[:ROUTE_POINTS]
    if not len(route):
        route = np.zeros((1, 3), np.float32)
    return np.concatenate([route, np.repeat(route[-1:], ROUTE_POINTS - len(route), axis=0)])
