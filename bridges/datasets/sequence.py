"""Frames of a recorded sequence -> clips. T frame of a clip, F frame of the sequence, X/Y/Z voxel axes, N point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bridges.datasets.agents import Box, moving_voxels, tracks_of
from dcgen.errors import DatasetError
from dcgen.types import UNKNOWN, Clip, Doubles, Floats, GridSpec, Labels
from scenarios.chunk import anchor_of, chunk_conditions

Mask = Literal["lidar", "camera"]
MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])  # y right <-> y left
ROUTE_M = 40.0  # of the ego's own path, back and ahead
ROUTE_STEP_M = 0.5


@dataclass(frozen=True)
class ReadOptions:
    """How a set is read, where it leaves a choice."""

    mask: Mask = "lidar"  # whose view `observed` is; what it does not see becomes UNKNOWN
    points: bool = False  # the sweeps, too
    dt_s: float | None = None  # between two frames of the set; None: as the set says
    y_right: bool | None = None  # UniOcc alone; None: right where it was made with CARLA


@dataclass(frozen=True)
class Frame:
    """One published frame in dcgen's axes, in the set's grid, which stands at the ego's pose."""

    labels: Labels  # [X, Y, Z], UNKNOWN where not observed
    observed: NDArray[np.bool_] | None = None  # [X, Y, Z]; None where the set does not say
    moving: NDArray[np.bool_] | None = None  # [X, Y, Z] by the labels; None where they do not say
    boxes: tuple[Box, ...] = ()
    points: Floats | None = None  # [N, 4] in the ego frame

    @staticmethod
    def seen(labels: Labels, observed: NDArray[np.bool_]) -> Frame:
        """A frame of which nothing is known outside a mask."""
        return Frame(np.where(observed, labels, np.uint8(UNKNOWN)), observed)


class Recording(Protocol):
    """A sequence of a set: cheap to list, its files are read when asked for."""

    @property
    def name(self) -> str: ...

    @property
    def frames(self) -> int: ...

    @property
    def grid(self) -> GridSpec: ...

    @property
    def dt_s(self) -> float: ...

    @property
    def world_se3_ego(self) -> Doubles:
        """[F, 4, 4] on the ground."""
        ...

    def frame(self, index: int) -> Frame: ...

    def frame_name(self, index: int) -> str: ...


def mirrored(world_se3_body: Doubles) -> Doubles:
    """Poses [..., 4, 4] of a frame whose y is right, in one whose y is left. Its own inverse."""
    return MIRROR @ world_se3_body @ MIRROR


def lowered(world_se3_sensor: Doubles, height_m: float) -> Doubles:
    """Poses [..., 4, 4] of the ground that many metres below a sensor, in the sensor's own frame."""
    down = np.eye(4)
    down[2, 3] = -height_m
    return world_se3_sensor @ down


def route_near(world_se3_ego: Doubles, middle: int) -> Doubles | None:
    """[P, 2] the ego's path, ROUTE_M back and ahead of a frame as far as the recording goes; None if it stands."""
    xy = world_se3_ego[:, :2, 3]
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    near = np.abs(s - s[middle]) <= ROUTE_M
    xy, s = xy[near], s[near]
    moved = np.concatenate([[True], np.diff(np.floor(s / ROUTE_STEP_M)) > 0])
    return xy[moved] if moved.sum() > 1 else None


def cut_recording(recording: Recording, at: NDArray[np.int64], anchored: bool, place: str) -> Clip:
    """The clip of the frames `at` [T], evenly spaced. Ego-centred as published, or re-binned into one still grid."""
    every = int(at[1] - at[0]) if len(at) > 1 else 1
    dt_s, grid = recording.dt_s * every, recording.grid
    poses = recording.world_se3_ego
    ego = poses[at]
    frames = [recording.frame(int(index)) for index in at]
    agents = tracks_of([frame.boxes for frame in frames], dt_s)
    route = route_near(poses, int(at[len(at) // 2]))
    conditions = chunk_conditions(None, ego, dt_s, agents, grid, route)
    labels = np.stack([frame.labels for frame in frames])
    moving = np.stack([_moving(frame, grid) for frame in frames])
    if len(agents.id):
        for t in range(len(at)):
            moving[t] |= moving_voxels(labels[t], grid, ego[t], agents, t)
    masks = [frame.observed for frame in frames if frame.observed is not None]
    if masks and len(masks) != len(frames):
        raise DatasetError(f"{place}: some frames have a mask and some have none; copy the set again")
    observed = np.stack(masks) if masks else None
    if anchored:
        anchor = anchor_of(ego)
        labels, moving, observed = _anchored(labels, moving, observed, grid, ego, anchor)
    sweeps = tuple(frame.points for frame in frames if frame.points is not None)
    source = f"{place}: frame {recording.frame_name(int(at[0]))}"
    return Clip(labels, moving, conditions, source, not anchored, observed, sweeps or None)


def _moving(frame: Frame, grid: GridSpec) -> NDArray[np.bool_]:
    return np.zeros(grid.shape, bool) if frame.moving is None else frame.moving


def _anchored(
    labels: Labels,
    moving: NDArray[np.bool_],
    observed: NDArray[np.bool_] | None,
    grid: GridSpec,
    world_se3_ego: Doubles,
    world_se3_anchor: Doubles,
) -> tuple[Labels, NDArray[np.bool_], NDArray[np.bool_] | None]:
    """The same [T, X, Y, Z] seen from the anchor: what lies at each voxel's centre. UNKNOWN where a frame ends."""
    new_labels, new_moving = np.empty_like(labels), np.empty_like(moving)
    new_observed = None if observed is None else np.empty_like(observed)
    for t, pose in enumerate(world_se3_ego):
        place, inside = voxels_below(grid, np.linalg.inv(pose) @ world_se3_anchor)
        new_labels[t] = np.where(inside, labels[t].reshape(-1)[place], np.uint8(UNKNOWN))
        new_moving[t] = inside & moving[t].reshape(-1)[place]
        if observed is not None and new_observed is not None:
            new_observed[t] = inside & observed[t].reshape(-1)[place]
    return new_labels, new_moving, new_observed


def voxels_below(grid: GridSpec, grid_se3_other: Doubles) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """[X, Y, Z] the flat place in a grid of each voxel centre of the same grid that stands elsewhere; and whether it
    lies inside (places outside are 0). Axis by axis: a centre is a sum of three terms, one an axis.
    """
    axes = [o + (np.arange(n) + 0.5) * v for n, v, o in zip(grid.shape, grid.voxel_m, grid.origin_m, strict=True)]
    place, inside = np.zeros(grid.shape, np.int32), np.ones(grid.shape, bool)
    for row, (size, voxel_m, origin_m) in enumerate(zip(grid.shape, grid.voxel_m, grid.origin_m, strict=True)):
        turn = grid_se3_other[row]
        x, y, z = (turn[k] / voxel_m * axes[k] for k in range(3))
        flat = x[:, None] + y[None, :] + (turn[3] - origin_m) / voxel_m
        index = np.floor(flat[:, :, None] + z).astype(np.int32)
        inside &= (index >= 0) & (index < size)
        place = place * size + index
    return np.where(inside, place, 0), inside
