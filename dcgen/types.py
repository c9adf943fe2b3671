"""Nouns that every layer shares. T frame, C channel, X/Y/Z voxel axes, N agent.

Frames of reference are right-handed (x forward, y left, z up); metres, seconds, radians. `a_se3_b` maps
points of frame b into frame a. A voxel [i, j, k] covers origin_m + [i, j, k] * voxel_m up to one voxel more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Semantics(IntEnum):
    """The twelve classes of DynamicCity's CarlaSC set-up, by the same ids."""

    FREE = 0
    BUILDING = 1
    BARRIER = 2
    OTHER = 3
    PEDESTRIAN = 4
    POLE = 5
    ROAD = 6
    GROUND = 7
    SIDEWALK = 8
    VEGETATION = 9
    VEHICLE = 10
    BICYCLE = 11


UNKNOWN = 255
CLASS_NAMES = tuple(member.name.lower() for member in Semantics)
NUM_CLASSES = len(CLASS_NAMES)
MOVABLE = (Semantics.PEDESTRIAN, Semantics.VEHICLE, Semantics.BICYCLE)
SURFACES = (Semantics.ROAD, Semantics.GROUND, Semantics.SIDEWALK)
# One distinct colour a class: free is never drawn, road and free differ on purpose.
PALETTE = np.array(
    [
        [255, 255, 255],
        [222, 184, 135],
        [190, 110, 60],
        [150, 150, 150],
        [230, 40, 70],
        [250, 200, 40],
        [90, 80, 105],
        [150, 200, 110],
        [205, 140, 200],
        [30, 140, 60],
        [40, 110, 230],
        [20, 200, 210],
    ],
    dtype=np.uint8,
)

STATIC_CHANNELS = ("road", "marking", "junction", "sidewalk", "crosswalk", "route", "height")
AGENT_CHANNELS = ("vehicle", "bicycle", "pedestrian", "heading_cos", "heading_sin", "speed")
LAYOUT_CHANNELS = STATIC_CHANNELS + AGENT_CHANNELS
HEIGHT_SCALE_M = 4.0
SPEED_SCALE_MPS = 10.0
MOVING_MPS = 0.5


class Command(IntEnum):
    """What the ego does over a chunk, by its net heading change (DynamicCity, sec. 4.3)."""

    STATIC = 0
    FORWARD = 1
    LEFT = 2
    RIGHT = 3


@dataclass(frozen=True)
class GridSpec:
    """A box of voxels. shape (X, Y, Z); voxel_m edge lengths; origin_m the outer corner of voxel [0, 0, 0]."""

    shape: tuple[int, int, int]
    voxel_m: tuple[float, float, float]
    origin_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(n < 1 for n in self.shape):
            raise ValueError(f"grid.shape needs three sizes of at least 1, got {self.shape}")
        if len(self.voxel_m) != 3 or any(not 0 < v < float("inf") for v in self.voxel_m):
            raise ValueError(f"grid.voxel_m needs three positive lengths, got {self.voxel_m}")
        if len(self.origin_m) != 3 or not np.all(np.isfinite(self.origin_m)):
            raise ValueError(f"grid.origin_m needs three finite numbers, got {self.origin_m}")

    @property
    def extent_m(self) -> tuple[float, float, float]:
        x, y, z = (n * v for n, v in zip(self.shape, self.voxel_m, strict=True))
        return (x, y, z)

    def centres_m(self) -> Doubles:
        """[X, Y, Z, 3] centres of the voxels."""
        axes = [o + (np.arange(n) + 0.5) * v for n, v, o in zip(self.shape, self.voxel_m, self.origin_m, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def nano_grid() -> GridSpec:
    """51.2 x 51.2 x 6.4 m at 0.8 m: what the shipped model speaks. Flat ground is the middle of layer 2."""
    return GridSpec((64, 64, 8), (0.8, 0.8, 0.8), (-25.6, -25.6, -2.0))


def carlasc_grid() -> GridSpec:
    """The CarlaSC volume of the paper, z seen from a LiDAR 1.8 m above the road."""
    return GridSpec((128, 128, 8), (0.4, 0.4, 0.375), (-25.6, -25.6, -0.2))


def wide_grid() -> GridSpec:
    """80 x 80 x 6.4 m at 0.4 m: the paper's large set-up."""
    return GridSpec((200, 200, 16), (0.4, 0.4, 0.4), (-40.0, -40.0, -1.0))


def pose_matrix(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> Doubles:
    """[4, 4] pose of a body that stands upright at (x, y, z) and looks along yaw."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0, x_m], [s, c, 0, y_m], [0, 0, 1, z_m], [0, 0, 0, 1]], dtype=np.float64)


def wrap_angle(angle_rad: Doubles | float) -> Doubles:
    """The same angle in [-pi, pi)."""
    return (np.asarray(angle_rad, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True)
class AgentTracks:
    """Road users over T frames. Poses are of the box centre on the ground, in the world frame."""

    id: NDArray[np.int64]
    class_id: NDArray[np.uint8]
    size_m: Floats  # [N, 3] length, width, height
    pose: Doubles  # [N, T, 3] x, y, yaw
    z_m: Floats  # [N, T] height of the ground below
    speed_mps: Floats  # [N, T]
    valid: NDArray[np.bool_]  # [N, T]

    def __post_init__(self) -> None:
        n, t = self.valid.shape
        want = {"id": (n,), "class_id": (n,), "size_m": (n, 3), "pose": (n, t, 3), "z_m": (n, t), "speed_mps": (n, t)}
        for name, shape in want.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"agents.{name} needs shape {shape}, got {getattr(self, name).shape}")

    @staticmethod
    def empty(frames: int) -> AgentTracks:
        return AgentTracks(
            np.zeros(0, np.int64),
            np.zeros(0, np.uint8),
            np.zeros((0, 3), np.float32),
            np.zeros((0, frames, 3)),
            np.zeros((0, frames), np.float32),
            np.zeros((0, frames), np.float32),
            np.zeros((0, frames), bool),
        )

    def frames(self, start: int, stop: int) -> AgentTracks:
        """The same agents over frames [start, stop)."""
        cut = slice(start, stop)
        return AgentTracks(
            self.id,
            self.class_id,
            self.size_m,
            self.pose[:, cut],
            self.z_m[:, cut],
            self.speed_mps[:, cut],
            self.valid[:, cut],
        )

    def select(self, keep: NDArray[np.bool_]) -> AgentTracks:
        """The agents for which keep [N] is true."""
        return AgentTracks(
            self.id[keep],
            self.class_id[keep],
            self.size_m[keep],
            self.pose[keep],
            self.z_m[keep],
            self.speed_mps[keep],
            self.valid[keep],
        )


@dataclass(frozen=True)
class Conditions:
    """What one chunk is generated from. All rasters stand still in the anchor frame: the ego's middle pose."""

    grid: GridSpec
    dt_s: float
    world_se3_anchor: Doubles  # [4, 4]
    world_se3_ego: Doubles  # [T, 4, 4]
    trajectory: Floats  # [T, 3] ego x, y, yaw in the anchor frame
    command: Command
    layout_static: Floats  # [len(STATIC_CHANNELS), X, Y], fractions in 0..1; height / HEIGHT_SCALE_M on mapped cells
    layout_agents: Floats  # [T, len(AGENT_CHANNELS), X, Y]; speed / SPEED_SCALE_MPS
    known: Labels  # [T, X, Y, Z], UNKNOWN where it is to be generated
    agents: AgentTracks  # over the same T frames
    first_frame: int = 0  # where the chunk stands in its scene; frames outside the scene are context, not output

    def __post_init__(self) -> None:
        x, y, z = self.grid.shape
        t = self.frames
        want = {
            "world_se3_anchor": (4, 4),
            "world_se3_ego": (t, 4, 4),
            "trajectory": (t, 3),
            "layout_static": (len(STATIC_CHANNELS), x, y),
            "layout_agents": (t, len(AGENT_CHANNELS), x, y),
            "known": (t, x, y, z),
        }
        for name, shape in want.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"conditions.{name} needs shape {shape}, got {getattr(self, name).shape}")

    @property
    def frames(self) -> int:
        return len(self.world_se3_ego)

    @property
    def layout(self) -> Floats:
        """[T, C, X, Y] static and agent channels together, in the order of LAYOUT_CHANNELS."""
        static = np.broadcast_to(self.layout_static, (self.frames, *self.layout_static.shape))
        return np.concatenate([static, self.layout_agents], axis=1)


@dataclass(frozen=True)
class Clip:
    """A labelled chunk to learn from: occupancy, and the conditions a user would have had.

    labels, moving and observed lie in the anchor frame, or where ego_centred in each frame's own ego frame; the
    conditions' rasters always in the anchor frame. labels are UNKNOWN where a recording saw nothing.
    """

    labels: Labels  # [T, X, Y, Z]
    moving: NDArray[np.bool_]  # [T, X, Y, Z] voxels of agents faster than MOVING_MPS
    conditions: Conditions
    source: str = ""
    ego_centred: bool = False
    observed: NDArray[np.bool_] | None = None  # [T, X, Y, Z] voxels that a sensor sees; None: not asked for
    points: tuple[Floats, ...] | None = None  # T sweeps [N, 4] x, y, z, intensity in the ego frame of each frame

    def __post_init__(self) -> None:
        want = (self.conditions.frames, *self.conditions.grid.shape)
        if self.labels.shape != want or self.moving.shape != want:
            raise ValueError(f"clip needs labels and moving of shape {want}, got {self.labels.shape}")
        if self.observed is not None and self.observed.shape != want:
            raise ValueError(f"clip.observed needs shape {want}, got {self.observed.shape}")
        if self.points is not None and (
            len(self.points) != want[0] or any(sweep.ndim != 2 or sweep.shape[1] != 4 for sweep in self.points)
        ):
            raise ValueError(f"clip.points needs {want[0]} sweeps of shape [N, 4]")

    @property
    def world_se3_grid(self) -> Doubles:
        """[T, 4, 4] where the grid of each frame stands."""
        conditions = self.conditions
        if self.ego_centred:
            return conditions.world_se3_ego
        return np.broadcast_to(conditions.world_se3_anchor, (conditions.frames, 4, 4))


@dataclass(frozen=True)
class Scene:
    """A generated or recorded 4D scene: ego-centred occupancy, poses, agents, conditions and provenance."""

    labels: Labels  # [T, X, Y, Z] in each frame's ego frame; UNKNOWN where nothing was generated
    grid: GridSpec
    time_s: Doubles  # [T]
    world_se3_ego: Doubles  # [T, 4, 4]
    agents: AgentTracks
    trajectory: Floats  # [T, 3] ego x, y, yaw in the frame of the first pose
    command: NDArray[np.int8]  # [T] Command of the chunk that made the frame
    layout: NDArray[np.float16]  # [T, C, X, Y] in each frame's ego frame
    known: NDArray[np.bool_]  # [T, X, Y, Z] voxels that were given, not generated
    seed: int = 0
    model: str = ""
    model_sha256: str = ""
    scenario: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    # Who each voxel is, and where it goes: all three or none (dcgen.instances finds them).
    instances: NDArray[np.uint16] | None = None  # [T, X, Y, Z] 1 + row in objects, 0 where it is nobody's
    flow_mps: NDArray[np.float16] | None = None  # [T, X, Y, Z, 3] velocity over ground, along the frame's ego axes
    objects: AgentTracks | None = None  # the agents, in their rows, and behind them what else was found to move

    def __post_init__(self) -> None:
        t, (x, y, z) = len(self.time_s), self.grid.shape
        want = {
            "labels": (t, x, y, z),
            "world_se3_ego": (t, 4, 4),
            "trajectory": (t, 3),
            "command": (t,),
            "layout": (t, len(LAYOUT_CHANNELS), x, y),
            "known": (t, x, y, z),
        }
        for name, shape in want.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"scene.{name} needs shape {shape}, got {getattr(self, name).shape}")
        if self.agents.valid.shape[1] != t:
            raise ValueError(f"scene.agents needs {t} frames, got {self.agents.valid.shape[1]}")
        if self.instances is not None and self.instances.shape != (t, x, y, z):
            raise ValueError(f"scene.instances needs shape {(t, x, y, z)}, got {self.instances.shape}")
        if self.flow_mps is not None and self.flow_mps.shape != (t, x, y, z, 3):
            raise ValueError(f"scene.flow_mps needs shape {(t, x, y, z, 3)}, got {self.flow_mps.shape}")
