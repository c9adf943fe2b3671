"""The parts of a scenario file: poses, routes, agents, boxes, edits. Each is strict: unknown keys are refused.

Units and frames of reference as in scenarios.schema, which puts them together.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dcgen.types import GridSpec

Frame = Literal["world", "carla", "ego"]
CommandName = Literal["static", "forward", "left", "right"]
AgentClass = Literal["vehicle", "car", "van", "truck", "bus", "motorcycle", "bicycle", "pedestrian"]
Metres = Annotated[float, Field(ge=-1e6, le=1e6)]
Degrees = Annotated[float, Field(ge=-3600.0, le=3600.0)]
Seconds = Annotated[float, Field(ge=0.0, le=1e5)]
Speed = Annotated[float, Field(ge=0.0, le=80.0)]
Point = Annotated[tuple[Metres, ...], Field(min_length=2, max_length=3)]
Count = Annotated[int, Field(ge=0, le=2000)]
Size = Annotated[float, Field(gt=0.0, le=100.0)]


class Part(BaseModel):
    """A mapping in the file: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Pose(Part):
    """A place and, where it matters, a direction; without yaw_deg the lane's own is taken."""

    x: Metres
    y: Metres
    z: Metres | None = None
    yaw_deg: Degrees | None = None
    frame: Frame = "world"


class RouteSource(Part):
    """Keypoints, or one route of a route file."""

    keypoints: Annotated[tuple[Point, ...], Field(min_length=2, max_length=20_000)] | None = None
    frame: Literal["world", "carla"] | None = None
    file: str | None = None
    id: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> RouteSource:
        if (self.keypoints is None) == (self.file is None):
            raise ValueError("needs either keypoints or file; give one of them")
        if self.keypoints is not None and self.frame is None:
            raise ValueError("keypoints need their frame; add `frame: world` or `frame: carla`")
        if self.keypoints is not None and self.id is not None:
            raise ValueError("id names a route of a file; remove it or give file")
        if self.file is not None and self.frame is not None:
            raise ValueError("a route file is in CARLA's frame already; remove frame")
        return self


class TimedPose(Part):
    """A pose at a time of the scene."""

    t_s: Seconds
    x: Metres
    y: Metres
    z: Metres | None = None
    yaw_deg: Degrees | None = None


def _in_order(poses: tuple[TimedPose, ...]) -> None:
    for before, after in pairwise(poses):
        if after.t_s <= before.t_s:
            raise ValueError(f"t_s must grow from pose to pose, got {before.t_s:g} and then {after.t_s:g}; sort them")


class TrajectorySource(Part):
    """The ego's own path over time: a file (KITTI poses.txt, CSV t,x,y,yaw), or poses."""

    file: str | None = None
    poses: Annotated[tuple[TimedPose, ...], Field(min_length=2, max_length=100_000)] | None = None
    frame: Literal["world", "carla"] = "world"

    @model_validator(mode="after")
    def _one_source(self) -> TrajectorySource:
        if (self.poses is None) == (self.file is None):
            raise ValueError("needs either poses or file; give one of them")
        _in_order(self.poses or ())
        return self


class SpeedPoint(Part):
    """A speed wanted from this distance along the route on."""

    s_m: Annotated[float, Field(ge=0.0, le=1e6)]
    speed_mps: Speed


class Follow(Part):
    """A vehicle that follows the lanes: placed ahead of the ego, or at a start of its own."""

    start: Pose | None = None
    ahead_m: Annotated[float, Field(ge=-500.0, le=500.0)] | None = None
    lane_offset: Annotated[int, Field(ge=-6, le=6)] = 0
    oncoming: bool = False
    speed_mps: Speed = 8.0
    turn: Literal["straight", "left", "right", "random"] = "straight"

    @model_validator(mode="after")
    def _one_place(self) -> Follow:
        if (self.start is None) == (self.ahead_m is None):
            raise ValueError("needs either start or ahead_m; give one of them")
        return self


class Agent(Part):
    """Another road user: keyframes (one alone stands still), or lane following."""

    class_: AgentClass = Field(alias="class")
    id: Annotated[int, Field(ge=1, le=10**9)] | None = None
    size_m: tuple[Size, Size, Size] | None = None
    keyframes: Annotated[tuple[TimedPose, ...], Field(min_length=1, max_length=10_000)] | None = None
    frame: Frame = "world"
    follow: Follow | None = None

    @model_validator(mode="after")
    def _one_motion(self) -> Agent:
        if (self.keyframes is None) == (self.follow is None):
            raise ValueError("needs either keyframes or follow; give one of them")
        if self.follow is not None and self.class_ == "pedestrian":
            raise ValueError("a pedestrian follows no lanes; give it keyframes")
        _in_order(self.keyframes or ())
        return self


class Traffic(Part):
    """A population drawn by seed around the route."""

    vehicles: Count = 0
    bicycles: Count = 0
    pedestrians: Count = 0
    parked: Count = 0
    radius_m: Annotated[float, Field(gt=0.0, le=1000.0)] = 60.0
    speed_mps: Speed | None = None
    walk_mps: Annotated[float, Field(gt=0.0, le=5.0)] = 1.3
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class Box(Part):
    """A box in space, over frames first..last (both included; all of them when not given)."""

    centre: tuple[Metres, Metres, Metres]
    size: tuple[Size, Size, Size]
    yaw_deg: Degrees = 0.0
    frame: Frame = "ego"
    frames: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None

    @model_validator(mode="after")
    def _frames_in_order(self) -> Box:
        if self.frames is not None and self.frames[1] < self.frames[0]:
            raise ValueError(f"frames must be first and last, got {list(self.frames)}; swap them")
        return self


class Inpaint(Part):
    """What of a scene to make anew: what lies inside (or outside) of boxes and a mask."""

    boxes: tuple[Box, ...] = ()
    mask: str | None = None
    regenerate: Literal["inside", "outside"] = "inside"

    @model_validator(mode="after")
    def _something(self) -> Inpaint:
        if not self.boxes and self.mask is None:
            raise ValueError("needs boxes or mask; give at least one")
        return self


class Move(Part):
    """An agent of the scene put elsewhere: shifted and turned as it drives, or given keyframes."""

    id: int
    by: tuple[Metres, Metres] | None = None
    turn_deg: Degrees = 0.0
    keyframes: Annotated[tuple[TimedPose, ...], Field(min_length=1, max_length=10_000)] | None = None
    frame: Frame = "ego"

    @model_validator(mode="after")
    def _one_motion(self) -> Move:
        if (self.keyframes is None) == (self.by is None):
            raise ValueError("needs either by or keyframes; give one of them")
        _in_order(self.keyframes or ())
        return self


class Edit(Part):
    """Agents added to a finished scene, moved in it and removed from it."""

    add: tuple[Agent, ...] = ()
    move: tuple[Move, ...] = ()
    remove: tuple[int, ...] = ()
    margin_m: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0


class Outpaint(Part):
    """A finished scene seen from further along its route: what it shows is kept, the rest made."""

    along_m: Annotated[float, Field(ge=-200.0, le=200.0)]


class Continue(Part):
    """A scene that goes on where a finished one stops; its last frames are the first of the new one."""

    given_frames: Annotated[int, Field(ge=1, le=64)] = 2


MOST_VOXELS = 16_000_000
Cells = Annotated[int, Field(ge=1, le=1024)]


class Grid(Part):
    """The voxels of the scene; a model speaks the grid it was trained on."""

    shape: tuple[Cells, Cells, Cells]
    voxel_m: tuple[Size, Size, Size]
    origin_m: tuple[Metres, Metres, Metres]

    @model_validator(mode="after")
    def _fits_into_memory(self) -> Grid:
        voxels = self.shape[0] * self.shape[1] * self.shape[2]
        if voxels > MOST_VOXELS:
            raise ValueError(f"{voxels} voxels are more than the {MOST_VOXELS} that dcgen can hold; take fewer")
        return self

    def spec(self) -> GridSpec:
        return GridSpec(self.shape, self.voxel_m, self.origin_m)
