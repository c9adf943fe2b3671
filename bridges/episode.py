"""What happened in a closed loop, to be scored: the ego, the agents, the road.

T frame, N agent, X/Y cell, R route point. World frame, right-handed, metres, seconds, radians. Frame 0 is the start,
before the planner was asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.planner import EGO_SIZE_M
from dcgen.types import NUM_CLASSES, AgentTracks, Doubles, Floats


@dataclass(frozen=True)
class RoadField:
    """The road around an episode, as cells that stand still in the world."""

    origin_m: Doubles  # [2] outer corner of cell [0, 0]
    cell_m: float
    drivable: NDArray[np.bool_]  # [X, Y] road and junction; False also where nothing is known
    known: NDArray[np.bool_]  # [X, Y] cells of which anything is known
    heading_rad: Floats  # [X, Y] direction of travel there; NaN where none is known, in junctions too

    def __post_init__(self) -> None:
        for name in ("known", "heading_rad"):
            if getattr(self, name).shape != self.drivable.shape:
                raise ValueError(f"road.{name} needs shape {self.drivable.shape}, got {getattr(self, name).shape}")

    def cell_of(self, xy_m: Doubles) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """[..., 2] cell indices of points, clipped into the raster, and whether they lie within."""
        cell = np.floor((np.asarray(xy_m) - self.origin_m) / self.cell_m).astype(np.int64)
        size = np.array(self.drivable.shape)
        return np.clip(cell, 0, size - 1), np.all((cell >= 0) & (cell < size), axis=-1)


@dataclass(frozen=True)
class Episode:
    """One closed loop of one planner in one scene."""

    scene: str
    planner: str
    dt_s: float
    ego: Doubles  # [T, 3] x, y, yaw of the box's centre
    speed_mps: Doubles  # [T] along its heading
    acceleration_mps2: Doubles  # [T] along its heading
    plans: tuple[Doubles, ...]  # T - 1 plans [N, 4]: t since it was made, x, y, yaw in the world; N = 0: controls
    agents: AgentTracks  # as they moved, over the same frames
    touched: NDArray[np.int64]  # [T, NUM_CLASSES] voxels of each class within the ego's box and above the ground
    unknown: NDArray[np.int64]  # [T] and those of which nothing is known
    road: RoadField
    route: Doubles  # [R, 3] x, y, yaw of the way the ego was to go
    reference: Doubles  # [F, 3] x, y, yaw of the ego in the scene itself, a frame each: how far it came is progress 1
    speed_limit_mps: float
    wanted_frames: int  # T of an episode that came to its end
    failure: str = ""  # why it was stopped before
    step_s: tuple[float, ...] = ()  # seconds that each answer took
    ego_size_m: tuple[float, float, float] = EGO_SIZE_M

    def __post_init__(self) -> None:
        t = len(self.ego)
        want = {
            "ego": (t, 3),
            "speed_mps": (t,),
            "acceleration_mps2": (t,),
            "touched": (t, NUM_CLASSES),
            "unknown": (t,),
        }
        for name, shape in want.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"episode.{name} needs shape {shape}, got {getattr(self, name).shape}")
        if self.agents.valid.shape[1] != t:
            raise ValueError(f"episode.agents needs {t} frames, got {self.agents.valid.shape[1]}")
