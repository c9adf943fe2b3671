"""Occupancy labels cut from a town's columns and from road users. T frame, X/Y/Z voxel, L level, S span, N agent.

The static world of an anchored clip is cut once; agents are stamped on it frame by frame. The law: a voxel column
has at most one surface voxel; obstacles fill voxels strictly above it that they cover to a quarter or more of the
height, when their weighted count of 0.2 m sub-cells beats the free ones. Heights and votes are integers, so that the
numba kernels (kernels.py) and their numpy twins (kernels_numpy.py) agree bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import MOVING_MPS, AgentTracks, Doubles, GridSpec, Labels, Semantics
from scenarios.paint import compiled
from scenarios.world.cut import kernels, kernels_numpy
from scenarios.world.cut.packing import packed
from scenarios.world.town.tile import TownTile

FREE_WEIGHT = 2
# What a sub-cell of a class counts for against FREE_WEIGHT for a free one: rare and thin classes win.
WEIGHTS = np.zeros(len(Semantics), np.int64)
WEIGHTS[Semantics.BUILDING] = 3
WEIGHTS[Semantics.VEGETATION] = 7
WEIGHTS[Semantics.VEHICLE] = 6
WEIGHTS[Semantics.OTHER] = 8
WEIGHTS[Semantics.BARRIER] = 10
WEIGHTS[Semantics.PEDESTRIAN] = 8
WEIGHTS[Semantics.BICYCLE] = 8
WEIGHTS[Semantics.POLE] = 64
# Surfaces in the order in which ties are settled.
SURFACE_ORDER = np.array([Semantics.ROAD, Semantics.SIDEWALK, Semantics.GROUND], np.uint8)
DECK_CM = 80  # thickness of a deck seen from below
CAR_HEIGHT_M = 1.95  # lower and longer than 3 m: hull and cabin; everything else is a box
_RANK = np.zeros(len(Semantics), np.int64)  # stamping order: walkers over bicycles over vehicles
_RANK[Semantics.BICYCLE] = 1
_RANK[Semantics.PEDESTRIAN] = 2


@dataclass(frozen=True)
class StaticCut:
    """The world without agents: labels [X, Y, Z] and the surface voxel's layer [X, Y] (-1 below, Z above the grid)."""

    labels: Labels
    surface_k: NDArray[np.int16]


@dataclass(frozen=True)
class Cut:
    """labels [T, X, Y, Z] and the voxels of agents faster than MOVING_MPS [T, X, Y, Z]."""

    labels: Labels
    moving: NDArray[np.bool_]


@dataclass(frozen=True)
class _Steps:
    """Positions of sub-cells along the grid's own axes: u_m [X * s], v_m [Y * s], and s itself."""

    u_m: Doubles
    v_m: Doubles
    sub: int


@cache
def _steps(grid: GridSpec, cell_m: float) -> _Steps:
    sub = max(1, round(min(grid.voxel_m[0], grid.voxel_m[1]) / cell_m))
    u, v = (
        grid.origin_m[axis] + (np.arange(grid.shape[axis] * sub) + 0.5) * (grid.voxel_m[axis] / sub) for axis in (0, 1)
    )
    return _Steps(u.astype(np.float64), v.astype(np.float64), sub)


def _millimetres(metres: float) -> int:
    return round(metres * 1000)


def _columns(tile: TownTile, fast: bool) -> tuple[Any, ...]:
    """The tile as the kernel or its twin reads it."""
    if not fast:
        return (tile.surface_class, tile.surface_cm, tile.span_class, tile.span_lo_cm, tile.span_hi_cm)
    small = packed(tile)
    stacks = (small.stack_class, small.stack_lo_mm, small.stack_hi_mm)
    return (small.word, small.level_class, small.level_cm, *stacks, *tile.cells)


def cut_static(tile: TownTile, world_se3_anchor: Doubles, grid: GridSpec, fast: bool = True) -> StaticCut:
    """The static world in a grid at an upright pose [4, 4]. fast picks the numba kernel, else the numpy twin."""
    steps = _steps(grid, tile.cell_m)
    cos, sin = float(world_se3_anchor[0, 0]), float(world_se3_anchor[1, 0])
    anchor_mm = _millimetres(float(world_se3_anchor[2, 3]) - tile.z0_m)
    at = [(float(world_se3_anchor[axis, 3]) - tile.origin_m[axis]) / tile.cell_m for axis in (0, 1)]
    cells = 1.0 / tile.cell_m
    arguments: tuple[Any, ...] = (
        steps.u_m * (cos * cells) + at[0],
        steps.u_m * (sin * cells) + at[1],
        steps.v_m * (-sin * cells),
        steps.v_m * (cos * cells),
        steps.sub,
        anchor_mm,
        anchor_mm + _millimetres(grid.origin_m[2]),
        _millimetres(grid.voxel_m[2]),
        WEIGHTS,
        FREE_WEIGHT,
        SURFACE_ORDER,
        DECK_CM * 10,
        int(Semantics.OTHER),
    )
    labels = np.zeros(grid.shape, np.uint8)
    surface_k = np.empty(grid.shape[:2], np.int16)
    run: Any = compiled(kernels.static_columns) if fast else kernels_numpy.static_columns
    run(*_columns(tile, fast), *arguments, labels, surface_k)
    return StaticCut(labels, surface_k)


def stamp_agents(
    static: StaticCut, agents: AgentTracks, world_se3_anchor: Doubles, grid: GridSpec, fast: bool = True
) -> Cut:
    """The static world with the agents of each frame on it."""
    # One block for both: large ones that come and go by twos cost more page faults than the copy itself.
    block = np.empty((2, agents.valid.shape[1], *grid.shape), np.uint8)
    labels, moving = block[0], block[1].view(np.bool_)
    labels[:] = static.labels
    moving[:] = False
    boxes = boxes_of(agents, world_se3_anchor, grid)
    if len(boxes.frame):
        steps = _steps(grid, 0.2)
        run: Any = compiled(kernels.agent_boxes) if fast else kernels_numpy.agent_boxes
        run(
            boxes.frame,
            boxes.class_id,
            boxes.moving,
            boxes.shape_m,
            boxes.heights_mm,
            steps.u_m,
            steps.v_m,
            steps.sub,
            _millimetres(grid.voxel_m[2]),
            WEIGHTS,
            FREE_WEIGHT,
            static.surface_k,
            labels,
            moving,
        )
    return Cut(labels, moving)


def cut_clip(tile: TownTile, agents: AgentTracks, world_se3_anchor: Doubles, grid: GridSpec, fast: bool = True) -> Cut:
    """All frames of the agents in ONE grid that stands still at the anchor pose."""
    return stamp_agents(cut_static(tile, world_se3_anchor, grid, fast), agents, world_se3_anchor, grid, fast)


def cut_frame(
    tile: TownTile, agents: AgentTracks, frame: int, world_se3_ego: Doubles, grid: GridSpec, fast: bool = True
) -> Cut:
    """One frame [1, X, Y, Z] in the grid of an ego pose."""
    return cut_clip(tile, agents.frames(frame, frame + 1), world_se3_ego, grid, fast)


@dataclass(frozen=True)
class AgentBoxes:
    """Agent boxes B in the grid's frame, in stamping order."""

    row: NDArray[np.int64]  # [B] of the agent in its tracks
    frame: NDArray[np.int64]  # [B]
    class_id: NDArray[np.uint8]  # [B]
    moving: NDArray[np.bool_]  # [B]
    shape_m: Doubles  # [B, 8] x, y, cos, sin, half length, half width, cabin's rear end, cabin's front end
    heights_mm: NDArray[np.int64]  # [B, 3] bottom, top of the hull, top of the cabin, from the grid's floor


def boxes_of(agents: AgentTracks, world_se3_anchor: Doubles, grid: GridSpec) -> AgentBoxes:
    """The boxes of all frames that may reach into a grid at an upright pose [4, 4]."""
    cos, sin = world_se3_anchor[0, 0], world_se3_anchor[1, 0]
    dx = agents.pose[..., 0] - world_se3_anchor[0, 3]
    dy = agents.pose[..., 1] - world_se3_anchor[1, 3]
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    reach = 0.5 * np.hypot(agents.size_m[:, 0], agents.size_m[:, 1])[:, None]
    low, extent = grid.origin_m, grid.extent_m
    near = agents.valid & (x > low[0] - reach) & (x < low[0] + extent[0] + reach)
    near &= (y > low[1] - reach) & (y < low[1] + extent[1] + reach)
    t, n = np.nonzero(near.T)
    order = np.argsort(t * len(_RANK) + _RANK[agents.class_id[n]], kind="stable")
    n, t = n[order], t[order]
    class_id = agents.class_id[n]
    yaw = agents.pose[n, t, 2] - np.arctan2(sin, cos)
    length, width, height = agents.size_m[n].T.astype(np.float64)
    car = (class_id == Semantics.VEHICLE) & (height < CAR_HEIGHT_M) & (length > 3.0)
    rear, front = np.where(car, -0.33 * length, -length), np.where(car, 0.22 * length, length)
    shape = np.array([x[n, t], y[n, t], np.cos(yaw), np.sin(yaw), length / 2, width / 2, rear, front])
    bottom = agents.z_m[n, t] - world_se3_anchor[2, 3] - grid.origin_m[2]
    heights = np.array([bottom, bottom + height * np.where(car, 0.6, 1.0), bottom + height])
    return AgentBoxes(
        n,
        t,
        class_id,
        agents.speed_mps[n, t] > MOVING_MPS,
        np.ascontiguousarray(shape.T),
        np.rint(heights.T * 1000).astype(np.int64, order="C"),
    )
