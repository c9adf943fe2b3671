"""Labelled clips cut from worlds on the fly. T frame, N agent, M candidate; any motor vehicle may be the ego."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import (
    AGENT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Clip,
    Conditions,
    Doubles,
    GridSpec,
    pose_matrix,
)
from scenarios.chunk import anchor_of, chunk_conditions, command_of, relative_trajectory
from scenarios.world.cut.candidates import Candidates, EgoMix, find_candidates
from scenarios.world.cut.recipe import ClipRecipe, Pick
from scenarios.world.cut.voxelize import Cut, cut_clip, cut_frame
from scenarios.world.sensor.hollow import hollow
from scenarios.world.sensor.lidar import Observed, lidar_rig, observe_clip
from scenarios.world.store import World
from scenarios.world.traffic.log import TrafficLog

ROUTE_M = 40.0
LEAST_DT_S = 0.02
MOST_DRAWS = 400  # for one clip that is not there yet

_found: WeakKeyDictionary[World, dict[tuple[int, float], Candidates]] = WeakKeyDictionary()


def candidates_of(world: World, frames: int, dt_s: float) -> Candidates:
    """The clips that a world holds, looked for once. Raises WorldError where there are none."""
    kept, stride = _found.setdefault(world, {}), _stride(world.traffic, dt_s)
    if (frames, stride) not in kept:
        kept[frames, stride] = find_candidates(world.traffic, frames, stride, world.raster)
    return kept[frames, stride]


def _stride(log: TrafficLog, dt_s: float) -> float:
    """Frames of the log a frame of a clip: whole numbers read the log, others interpolate it. Raises WorldError."""
    if not LEAST_DT_S - 1e-9 <= dt_s < float("inf"):
        raise WorldError(f"clips of {dt_s} s a frame are too quick; dt_s needs at least {LEAST_DT_S} s")
    stride = dt_s / log.dt_s
    whole = round(stride)
    return whole if whole >= 1 and abs(whole * log.dt_s - dt_s) <= 1e-6 else stride


def sample_clip(
    world: World, rng: np.random.Generator | int, grid: GridSpec, frames: int, dt_s: float, mix: EgoMix | None = None
) -> Clip:
    """One anchored clip: an ego drawn from the traffic by mix, the world labelled in its grid, and its conditions."""
    rng = np.random.default_rng(rng)
    row, start = candidates_of(world, frames, dt_s).draw(mix or EgoMix(), rng)
    return cut_world(world, row, start, grid, frames, dt_s)


def cut_world(world: World, row: int, start: int, grid: GridSpec, frames: int, dt_s: float) -> Clip:
    """The anchored clip of one ego (a row of the traffic log) from one frame of the log on."""
    return make_clip(world, Pick(row, start, 0), ClipRecipe(grid, frames, dt_s))


def picks(world: World, recipe: ClipRecipe, seed: int) -> Iterator[Pick]:
    """Distinct clips of a world, the same for the same seed. Raises WorldError once there are no more to be found."""
    rng = np.random.default_rng([seed, world.seed])
    candidates = candidates_of(world, recipe.frames, recipe.dt_s)
    seen: set[tuple[int, int]] = set()
    while True:
        for _ in range(MOST_DRAWS):
            ego, start = candidates.draw(recipe.mix, rng)
            if (ego, start) not in seen:
                break
        else:
            raise WorldError(
                f"{world.name}: its traffic holds no more than {len(seen)} distinct clips; "
                "build more worlds a map, or simulate longer"
            )
        seen.add((ego, start))
        yield Pick(ego, start, int(rng.integers(2**31)))


def make_clip(world: World, pick: Pick, recipe: ClipRecipe, layouts: bool = True) -> Clip:
    """The clip of a pick. layouts False leaves the conditions' rasters zero, which saves their time."""
    log, grid, frames = world.traffic, recipe.grid, recipe.frames
    moment = moment_of(world, pick, recipe)
    ego, anchor, agents = moment.world_se3_ego, moment.world_se3_anchor, moment.agents
    cut = _cut(world, agents, ego, anchor, recipe)
    seen: Observed | None = None
    if recipe.lidar:
        rig = lidar_rig(recipe.lidar, pick.seed)
        still = None if recipe.ego_centred else anchor
        reach = _widened(grid, _travel_m(ego, anchor) + rig.range_m)
        near = agents_near(world, pick.ego, pick.start, frames, _stride(log, recipe.dt_s), anchor, reach)
        seen = observe_clip(world, near, ego, grid, still, rig, pick.seed, cut.labels)
    if layouts:
        route = route_of(log, pick.ego, moment.middle)
        conditions = chunk_conditions(world.raster, ego, recipe.dt_s, agents, grid, route)
    else:
        conditions = _bare_conditions(ego, anchor, agents, recipe)
    return Clip(
        cut.labels,
        cut.moving,
        conditions,
        f"{world.name}/{world.seed}: ego {int(log.id[pick.ego])} at {pick.start * log.dt_s:.1f} s",
        recipe.ego_centred,
        seen.observed if seen else None,
        tuple(sweep.points for sweep in seen.sweeps) if seen else None,
    )


@dataclass(frozen=True)
class Moment:
    """Where a clip is and who is near: ego poses [T, 4, 4], their middle's frame of the log, its anchor, the agents."""

    world_se3_ego: Doubles
    world_se3_anchor: Doubles
    middle: int
    agents: AgentTracks


def moment_of(world: World, pick: Pick, recipe: ClipRecipe) -> Moment:
    """All of a clip that takes no voxels."""
    stride = _stride(world.traffic, recipe.dt_s)
    at = world.traffic.instants(pick.start, recipe.frames, stride)
    ego = ego_poses(world, pick.ego, at)
    anchor = anchor_of(ego)
    reach = _widened(recipe.grid, _travel_m(ego, anchor) if recipe.ego_centred else 0.0)
    agents = agents_near(world, pick.ego, pick.start, recipe.frames, stride, anchor, reach)
    return Moment(ego, anchor, int(at[recipe.frames // 2]), agents)


def _travel_m(ego: Doubles, anchor: Doubles) -> float:
    return float(np.hypot(*(ego[:, :2, 3] - anchor[:2, 3]).T).max())


def _widened(grid: GridSpec, more_m: float) -> GridSpec:
    """One voxel that reaches more_m beyond the grid on every side."""
    if more_m == 0.0:
        return grid
    low, size = grid.origin_m, grid.extent_m
    return GridSpec(
        (1, 1, 1),
        (size[0] + 2 * more_m, size[1] + 2 * more_m, size[2]),
        (low[0] - more_m, low[1] - more_m, low[2]),
    )


def _cut(world: World, agents: AgentTracks, ego: Doubles, anchor: Doubles, recipe: ClipRecipe) -> Cut:
    if recipe.ego_centred:
        parts = [cut_frame(world.tile, agents, t, ego[t], recipe.grid) for t in range(recipe.frames)]
        cut = Cut(np.concatenate([p.labels for p in parts]), np.concatenate([p.moving for p in parts]))
    else:
        cut = cut_clip(world.tile, agents, anchor, recipe.grid)
    if not recipe.hollow:
        return cut
    labels = hollow(cut.labels)
    return Cut(labels, cut.moving & (labels == cut.labels))


def _bare_conditions(ego: Doubles, anchor: Doubles, agents: AgentTracks, recipe: ClipRecipe) -> Conditions:
    x, y, z = recipe.grid.shape
    trajectory = relative_trajectory(ego, anchor)
    zero = np.float32(0)
    return Conditions(
        recipe.grid,
        recipe.dt_s,
        anchor,
        ego,
        trajectory,
        command_of(trajectory, recipe.dt_s),
        np.broadcast_to(zero, (len(STATIC_CHANNELS), x, y)),
        np.broadcast_to(zero, (recipe.frames, len(AGENT_CHANNELS), x, y)),
        np.broadcast_to(np.uint8(UNKNOWN), (recipe.frames, x, y, z)),
        agents,
    )


def ego_poses(world: World, row: int, at: NDArray[Any]) -> Doubles:
    """[T, 4, 4] poses on the ground of one road user at frames of the log, whole or between them."""
    seen = world.traffic.sample(np.array([row]), at)
    z = world.tile.ground_z_m(seen.pose[0, :, :2], seen.z_m[0])
    return np.stack([pose_matrix(x, y, height, yaw) for (x, y, yaw), height in zip(seen.pose[0], z, strict=True)])


def agents_near(
    world: World, ego_row: int, start: int, frames: int, stride: float, anchor: Doubles, grid: GridSpec
) -> AgentTracks:
    """All road users but the ego that may reach into the grid, the parked ones included, on the ground of the tile."""
    low, size = np.array(grid.origin_m[:2]), np.array(grid.extent_m[:2])
    reach = float(np.hypot(*np.maximum(np.abs(low), np.abs(low + size)))) + 8.0
    centre = (float(anchor[0, 3]), float(anchor[1, 3]))
    log, at = world.traffic, world.traffic.instants(start, frames, stride)
    rows = log.rows_near(at, centre, reach)
    rows = rows[rows != ego_row]
    seen = log.sample(rows, at)
    moving_z = world.tile.ground_z_m(seen.pose[..., :2], seen.z_m)
    parked = world.parked.select(np.hypot(*(world.parked.pose[:, 0, :2] - centre).T) <= reach)
    return AgentTracks(
        np.concatenate([log.id[rows], parked.id]),
        np.concatenate([log.class_id[rows], parked.class_id]),
        np.concatenate([log.size_m[rows], parked.size_m]),
        np.concatenate([seen.pose, parked.pose.repeat(frames, axis=1)]),
        np.concatenate([np.where(seen.valid, moving_z, 0), parked.z_m.repeat(frames, axis=1)]).astype(np.float32),
        np.concatenate([seen.speed_mps, parked.speed_mps.repeat(frames, axis=1)]),
        np.concatenate([seen.valid, parked.valid.repeat(frames, axis=1)]),
    )


def route_of(log: TrafficLog, row: int, middle: int) -> Doubles:
    """[N, 2] the ego's own path, ROUTE_M back and ahead of a frame as far as the log goes."""
    there = np.flatnonzero(log.valid[row])
    xy = log.pose[row, there[0] : there[-1] + 1, :2].astype(np.float64)
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    here = s[middle - there[0]]
    near = np.abs(s - here) <= ROUTE_M
    xy, s = xy[near], s[near]
    moved = np.concatenate([[True], np.diff(np.floor(s / 0.5)) > 0])
    moved[-1] = True
    return xy[moved]
