"""NAVSIM agents in dcgen: four ego statuses, half a second apart, in the present rear axle's frame (x ahead, y left).

A LiDAR, where the agent asks for one, is the centres of the solid voxels; cameras cannot be given.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from bridges.adapters.surroundings import REAR_M, Past, moved_ahead, plan_of, pose_of, to_ego, turned
from bridges.planner import EgoState, Observation, Planner, Task, Trajectory
from dcgen.errors import PlannerError
from dcgen.types import UNKNOWN, Command, Doubles, Floats, Semantics

STATUSES, INTERVAL_S = 4, 0.5
HISTORY = 64
_COMMANDS = {Command.LEFT: 0, Command.FORWARD: 1, Command.STATIC: 1, Command.RIGHT: 2}


@dataclass(frozen=True)
class EgoStatus:
    """Where the ego was, seen from where it is; velocity and acceleration along its own axes at that time."""

    ego_pose: Doubles  # [3] x, y, heading of the rear axle
    ego_velocity: Doubles  # [2]
    ego_acceleration: Doubles  # [2]
    driving_command: np.ndarray  # [4] one of left, straight, right, unknown
    in_global_frame: bool = False


@dataclass(frozen=True)
class Lidar:
    lidar_pc: Floats | None = None  # [6, P] x, y, z, intensity, ring, id; ring is the voxel's class


@dataclass(frozen=True)
class Cameras:
    """None of them is there."""

    cam_f0: None = None
    cam_l0: None = None
    cam_l1: None = None
    cam_l2: None = None
    cam_r0: None = None
    cam_r1: None = None
    cam_r2: None = None
    cam_b0: None = None


@dataclass(frozen=True)
class AgentInput:
    """The oldest first."""

    ego_statuses: list[EgoStatus]
    cameras: list[Cameras]
    lidars: list[Lidar]


def from_navsim(agent: Any) -> Planner:
    """A Planner that drives as NAVSIM's `agent` says. Raises PlannerError where it wants cameras or the whole scene."""
    return _Navsim(agent)


class _Navsim:
    def __init__(self, agent: Any) -> None:
        name = agent.name() if callable(getattr(agent, "name", None)) else type(agent).__name__
        self._agent, self._who = agent, f"NAVSIM agent {name}"
        if getattr(agent, "requires_scene", False):
            raise PlannerError(
                f"{self._who}: requires_scene: it looks at the recorded future, which dcgen does not give"
            )
        self._lidar = self._sensors(agent.get_sensor_config())
        self._ready = False

    def _sensors(self, config: Any) -> bool:
        """Whether a LiDAR is wanted. Raises PlannerError for cameras."""
        if isinstance(config, dict):
            asked = config
        elif is_dataclass(config):
            asked = {one.name: getattr(config, one.name) for one in fields(config)}
        else:
            asked = dict(vars(config)) if hasattr(config, "__dict__") else {}
        cameras = [name for name, wanted in asked.items() if name.startswith("cam_") and wanted]
        if cameras:
            raise PlannerError(
                f"{self._who}: asks for cameras ({', '.join(cameras)}); dcgen has no images: ask for lidar_pc alone"
            )
        return bool(asked.get("lidar_pc", False))

    def reset(self, task: Task) -> None:
        self._past = Past(HISTORY)
        if not self._ready:
            self._agent.initialize()
            self._ready = True

    def plan(self, observation: Observation) -> Trajectory:
        self._past.add(observation)
        now = observation.time_s
        egos = [self._past.ego_at(now - k * INTERVAL_S) for k in range(STATUSES - 1, -1, -1)]
        command = np.zeros(4, np.int64)
        command[_COMMANDS[observation.command]] = 1
        lidars = [Lidar()] * (STATUSES - 1) + [Lidar(_points(observation) if self._lidar else None)]
        seen = AgentInput([_status(ego, observation.ego, command) for ego in egos], [Cameras()] * STATUSES, lidars)
        answer = self._agent.compute_trajectory(seen)
        if not hasattr(answer, "poses"):
            raise PlannerError(f"{self._who}: answered with {type(answer).__name__}; it needs poses [N, 3]")
        rear = np.asarray(answer.poses, np.float64)
        if rear.ndim != 2 or rear.shape[1] != 3:
            raise PlannerError(
                f"{self._who}: answered with poses of shape {rear.shape}; it needs [N, 3], x, y, heading"
            )
        every = getattr(getattr(answer, "trajectory_sampling", None), "interval_length", None) or INTERVAL_S
        centre = moved_ahead(rear, REAR_M) - [REAR_M, 0.0, 0.0]  # the rear axle's frame lies behind the ego's
        return plan_of(np.arange(1, len(rear) + 1, dtype=np.float64) * np.float64(every), centre, self._who)

    def close(self) -> None:
        """NAVSIM's agents are not told."""


def _status(ego: EgoState, now: EgoState, command: np.ndarray) -> EgoStatus:
    centre = to_ego(now, pose_of(ego))
    rear = moved_ahead(centre, -REAR_M) + [REAR_M, 0.0, 0.0]
    velocity = turned(np.array([ego.speed_mps, 0.0]), 0.0)
    across = ego.speed_mps * ego.yaw_rate_radps
    return EgoStatus(rear[0], velocity, np.array([ego.acceleration_mps2, across]), command)


def _points(observation: Observation) -> Floats:
    """[6, P] centres of solid voxels in the rear axle's frame."""
    labels, grid = observation.occupancy[-1], observation.grid
    cell = np.argwhere((labels != Semantics.FREE) & (labels != UNKNOWN))
    centre = np.array(grid.origin_m) + (cell + 0.5) * np.array(grid.voxel_m)
    kind = labels[tuple(cell.T)]
    rows = [centre[:, 0] + REAR_M, centre[:, 1], centre[:, 2], np.ones(len(cell)), kind, np.arange(len(cell))]
    return np.stack(rows).astype(np.float32)
