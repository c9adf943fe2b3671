"""Waymax actors in dcgen: numpy arrays under the names of Waymax's SimulatorState. N object (0 is the ego), T step.

World frame, right-handed; metres, radians, microseconds. The state holds the present at `timestep` and what was
before it, a step every dt of the scene, and nothing of the future.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bridges.adapters.surroundings import Past, Surroundings, pose_of, to_ego, turned
from bridges.planner import EGO_SIZE_M, WHEELBASE_M, Control, Observation, Planner, Task
from dcgen.errors import PlannerError
from dcgen.types import Doubles, Semantics, wrap_angle

STEPS = 11
EGO_ID = -1
MOST_MPS2 = 8.0
Dynamics = Literal["bicycle", "state", "delta"]
_TYPES = {int(Semantics.PEDESTRIAN): 2, int(Semantics.BICYCLE): 3}  # Waymo's numbers; a vehicle is 1


@dataclass(frozen=True)
class Track:
    """Waymax's Trajectory: arrays [N, T]."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    vel_x: np.ndarray
    vel_y: np.ndarray
    yaw: np.ndarray
    valid: np.ndarray
    length: np.ndarray
    width: np.ndarray
    height: np.ndarray
    timestamp_micros: np.ndarray

    @property
    def xy(self) -> np.ndarray:
        return np.stack([self.x, self.y], axis=-1)

    @property
    def speed(self) -> np.ndarray:
        return np.hypot(self.vel_x, self.vel_y)


@dataclass(frozen=True)
class ObjectMetadata:
    """[N]"""

    ids: np.ndarray
    object_types: np.ndarray
    is_sdc: np.ndarray
    is_valid: np.ndarray
    is_controlled: np.ndarray


@dataclass(frozen=True)
class Paths:
    """The route, as the one path [1, R] of the ego."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    arc_length: np.ndarray
    valid: np.ndarray
    on_route: np.ndarray


@dataclass(frozen=True)
class SimulatorState:
    sim_trajectory: Track
    log_trajectory: Track
    object_metadata: ObjectMetadata
    sdc_paths: Paths
    timestep: int

    @property
    def num_objects(self) -> int:
        return len(self.object_metadata.ids)


def from_waymax_actor(actor: Any, params: Any = None, dynamics: Dynamics = "bicycle") -> Planner:
    """A Planner that drives as a Waymax actor says; the ego's row of its action counts.

    dynamics says what an action is: "bicycle" acceleration and curvature (InvertibleBicycleModel, not normalised),
    "state" x, y, yaw and perhaps velocity of the next step (StateDynamics), "delta" dx, dy, dyaw in the ego's frame
    (DeltaLocal). The keys are as jax.random.PRNGKey makes them, uint32 [2], a new one each step.
    """
    if dynamics not in ("bicycle", "state", "delta"):
        raise PlannerError(f"dynamics {dynamics!r} are not known; give 'bicycle', 'state' or 'delta'")
    return _Waymax(actor, params, dynamics)


class _Waymax:
    def __init__(self, actor: Any, params: Any, dynamics: Dynamics) -> None:
        self._actor, self._params, self._dynamics = actor, params, dynamics
        self._who = f"Waymax actor {getattr(actor, 'name', type(actor).__name__)}"

    def reset(self, task: Task) -> None:
        self._past, self._seed, self._begun, self._state = Past(STEPS), task.seed, False, None

    def plan(self, observation: Observation) -> Control:
        now = self._past.add(observation)
        state = _state(self._past.moments(), now, observation.dt_s)
        if not self._begun:
            self._state, self._begun = self._actor.init(self._key(-1), state), True
        output = self._actor.select_action(self._params, state, self._state, self._key(observation.step))
        self._state = getattr(output, "actor_state", self._state)
        data = np.asarray(getattr(getattr(output, "action", None), "data", np.zeros(0)), np.float64)
        row = data[0] if data.ndim == 2 and len(data) == state.num_objects else data
        if row.ndim != 1 or len(row) < (2 if self._dynamics == "bicycle" else 3) or not np.isfinite(row).all():
            raise PlannerError(
                f"{self._who}: answered with action.data of shape {data.shape}; {self._dynamics} needs "
                f"[{state.num_objects}, {2 if self._dynamics == 'bicycle' else 3}] finite numbers"
            )
        if self._dynamics == "bicycle":
            return Control(float(row[0]), float(np.arctan(row[1] * WHEELBASE_M)))
        step = to_ego(observation.ego, row[:3])[0] if self._dynamics == "state" else row[:3]
        return _control(step, observation.ego.speed_mps, observation.dt_s)

    def close(self) -> None:
        """Waymax's actors are not told."""

    def _key(self, step: int) -> np.ndarray:
        return np.random.SeedSequence([self._seed, step + 1]).generate_state(2, np.uint32)


def _control(step: Doubles, speed_mps: float, dt_s: float) -> Control:
    """What brings the ego by dx, dy, dyaw [3] within dt_s: the mean speed of the step, and its bend."""
    way = float(np.hypot(step[0], step[1])) * (1.0 if step[0] >= 0 else 0.0)
    bend = float(wrap_angle(float(step[2]))) / max(way, 0.1)
    return Control(
        float(np.clip((way / dt_s - speed_mps) / dt_s, -MOST_MPS2, MOST_MPS2)), float(np.arctan(bend * WHEELBASE_M))
    )


def _state(moments: list[Surroundings], now: Surroundings, dt_s: float) -> SimulatorState:
    ids = np.array([EGO_ID, *now.id], np.int64)
    rows = np.zeros((len(ids), STEPS, 5))
    valid = np.zeros((len(ids), STEPS), bool)
    for step, one in zip(range(STEPS - len(moments), STEPS), moments, strict=True):
        forward = turned(np.array([one.ego.speed_mps, 0.0]), one.ego.yaw_rad)
        rows[0, step], valid[0, step] = [*pose_of(one.ego), *forward], True
        at = {int(track): k for k, track in enumerate(one.id)}
        for n, track in enumerate(now.id, start=1):
            if int(track) in at:
                k = at[int(track)]
                rows[n, step], valid[n, step] = [*one.pose[k], *one.velocity_mps[k]], True
    size = np.concatenate([[EGO_SIZE_M], now.size_m]).astype(np.float64)
    micros = np.round((now.time_s + (np.arange(STEPS) - STEPS + 1) * dt_s) * 1e6).astype(np.int64)
    x, y, yaw, vx, vy = (rows[..., k] for k in range(5))
    length, width, height = (np.repeat(column[:, None], STEPS, axis=1) for column in size.T)
    stamps = np.repeat(micros[None], len(ids), axis=0)
    track = Track(x, y, np.zeros_like(x), vx, vy, yaw, valid, length, width, height, stamps)
    kinds = np.array([1, *(_TYPES.get(int(kind), 1) for kind in now.class_id)], np.int64)
    is_ego = ids == EGO_ID
    about = ObjectMetadata(ids, kinds, is_ego, np.ones(len(ids), bool), is_ego)
    return SimulatorState(track, track, about, _paths(now.route), STEPS - 1)


def _paths(route: Doubles) -> Paths:
    step = np.hypot(*np.diff(route[:, :2], axis=0).T) if len(route) > 1 else np.zeros(0)
    arc = np.concatenate([[0.0], np.cumsum(step)])[: len(route)]
    there = np.ones((1, len(route)), bool)
    return Paths(route[None, :, 0], route[None, :, 1], np.zeros((1, len(route))), arc[None], there, np.array([[True]]))
