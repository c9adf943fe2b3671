"""What a planner is to dcgen: it sees an Observation and answers with a Trajectory or a Control.

H frame of history, X/Y/Z voxel axes, C layout channel, A agent, R route point, N point of a plan. Right-handed frames
(x ahead, y left, z up), metres, seconds, radians. The ego frame is that of a scene's poses: its origin
is on the ground below the centre of the ego's box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Command, Doubles, Floats, GridSpec, Labels

PROTOCOL_VERSION = 1
EGO_SIZE_M = (4.6, 1.9, 1.6)  # length, width, height
WHEELBASE_M = 2.8


@dataclass(frozen=True)
class EgoState:
    """The ego as a body: x, y, yaw of its box's centre in the world, and how it moves."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    acceleration_mps2: float = 0.0
    yaw_rate_radps: float = 0.0
    steering_rad: float = 0.0  # of the front wheels, left positive


@dataclass(frozen=True)
class AgentStates:
    """Road users at one moment, in the ego frame of the observation."""

    id: NDArray[np.int64]  # [A]
    class_id: NDArray[np.uint8]  # [A] Semantics
    size_m: Floats  # [A, 3] length, width, height
    pose: Doubles  # [A, 3] x, y, yaw
    velocity_mps: Doubles  # [A, 2] over ground, along the ego frame's axes

    def __post_init__(self) -> None:
        a = len(self.id)
        want = {"class_id": (a,), "size_m": (a, 3), "pose": (a, 3), "velocity_mps": (a, 2)}
        _check(self, want)


@dataclass(frozen=True)
class Observation:
    """What the ego sees at one moment. Arrays are read-only: a planner that needs to change one copies it."""

    time_s: float
    dt_s: float  # seconds until the next observation
    step: int
    ego: EgoState
    grid: GridSpec
    occupancy: Labels  # [H, X, Y, Z] oldest first, each in the ego frame of its own moment; 0 free, 255 unknown
    now_se3_ego: Doubles  # [H, 4, 4] from those ego frames into the present one; the last is the identity
    flow_mps: Floats  # [X, Y, Z, 3] velocity over ground of the newest frame's voxels, along the ego's axes
    layout: Floats  # [C, X, Y] the road from above, channels LAYOUT_CHANNELS, in the present ego frame
    agents: AgentStates
    command: Command
    route: Doubles  # [R, 3] x, y, yaw of the way ahead in the ego frame, a point a metre
    frame: str = "ego: x ahead, y left, z up"
    version: int = PROTOCOL_VERSION

    def __post_init__(self) -> None:
        h, grid = len(self.occupancy), self.grid.shape
        _check(self, {"occupancy": (h, *grid), "now_se3_ego": (h, 4, 4), "flow_mps": (*grid, 3)})
        for array in (self.occupancy, self.now_se3_ego, self.flow_mps, self.layout, self.route):
            array.flags.writeable = False


@dataclass(frozen=True)
class Trajectory:
    """Where the ego is to be. Poses in the ego frame of the observation; times from the observation on, rising."""

    time_s: Doubles  # [N] the first greater than 0
    pose: Doubles  # [N, 3] x, y, yaw

    def __post_init__(self) -> None:
        _check(self, {"time_s": (len(self.pose),), "pose": (len(self.pose), 3)})


@dataclass(frozen=True)
class Control:
    """What the ego is to do until the next observation."""

    acceleration_mps2: float
    steering_rad: float  # of the front wheels, left positive


@dataclass(frozen=True)
class Task:
    """What a planner is told before the first observation."""

    scene: str
    dt_s: float
    frames: int
    grid: GridSpec
    route: Doubles  # [R, 3] the whole way in the world: x, y, yaw
    speed_limit_mps: float
    seed: int


@runtime_checkable
class Planner(Protocol):
    """A class with these three methods, found by `--planner module:Class` and made without arguments."""

    def reset(self, task: Task) -> None:
        """A new episode begins."""

    def plan(self, observation: Observation) -> Trajectory | Control:
        """What to do now; it has a limited time to answer."""

    def close(self) -> None:
        """The last episode is over."""


def _check(noun: object, want: dict[str, tuple[int, ...]]) -> None:
    for name, shape in want.items():
        if np.shape(getattr(noun, name)) != shape:
            raise ValueError(f"{type(noun).__name__}.{name} needs shape {shape}, got {np.shape(getattr(noun, name))}")
