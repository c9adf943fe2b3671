"""Labelled clips cut from worlds on the fly. T frame, N agent, M candidate; any motor vehicle may be the ego."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import AgentTracks, Clip, Doubles, GridSpec, pose_matrix
from scenarios.compile import anchor_of, chunk_conditions
from scenarios.world.candidates import Candidates, EgoMix, find_candidates
from scenarios.world.store import World, build_world, load_world, save_world
from scenarios.world.traffic import TrafficLog
from scenarios.world.voxelize import cut_clip

__all__ = [
    "Candidates", "EgoMix", "World", "build_world", "find_candidates", "iterate_clips", "load_world", "sample_clip",
    "save_world",
]  # fmt: skip

ROUTE_M = 40.0
LEAST_DT_S = 0.02

_found: WeakKeyDictionary[World, dict[tuple[int, float], Candidates]] = WeakKeyDictionary()


def _candidates(world: World, frames: int, stride: float) -> Candidates:
    """find_candidates, once for a world."""
    kept = _found.setdefault(world, {})
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
    """One clip: an ego drawn from the traffic by mix, the world labelled in its anchored grid, and its conditions."""
    rng = np.random.default_rng(rng)
    stride = _stride(world.traffic, dt_s)
    row, start = _candidates(world, frames, stride).draw(mix or EgoMix(), rng)
    return cut_world(world, row, start, grid, frames, dt_s)


def cut_world(world: World, row: int, start: int, grid: GridSpec, frames: int, dt_s: float) -> Clip:
    """The clip of one ego (a row of the traffic log) from one frame of the log on."""
    log, stride = world.traffic, _stride(world.traffic, dt_s)
    at = log.instants(start, frames, stride)
    ego = ego_poses(world, row, at)
    anchor = anchor_of(ego)
    agents = agents_near(world, row, start, frames, stride, anchor, grid)
    cut = cut_clip(world.tile, agents, anchor, grid)
    conditions = chunk_conditions(world.raster, ego, dt_s, agents, grid, route_of(log, row, int(at[frames // 2])))
    source = f"{world.name}/{world.seed}: ego {int(log.id[row])} at {start * log.dt_s:.1f} s"
    return Clip(cut.labels, cut.moving, conditions, source)


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


def iterate_clips(
    world_dirs: Sequence[Path],
    seed: int,
    grid: GridSpec,
    frames: int,
    dt_s: float,
    mix: EgoMix | None = None,
    start: int = 0,
    keep: int = 16,
    group_clips: int = 512,
) -> Iterator[Clip]:
    """Clips without end, the same for the same arguments; clip n depends on (seed, n) alone, so that start skips.

    At most `keep` worlds are held at a time: with more, each group of group_clips clips has its own draw of worlds.
    """
    if not world_dirs:
        raise WorldError("no worlds to cut clips from; build some with `dcgen world build MAP`")
    folders = [Path(each) for each in world_dirs]
    held: OrderedDict[Path, World] = OrderedDict()
    n = start
    while True:
        chosen = folders
        if len(folders) > keep:
            pick = np.random.default_rng([seed, n // group_clips, 1]).permutation(len(folders))[:keep]
            chosen = [folders[k] for k in pick]
        rng = np.random.default_rng([seed, n])
        folder = chosen[int(rng.integers(len(chosen)))]
        if folder not in held:
            held[folder] = load_world(folder)
            while len(held) > keep:
                held.popitem(last=False)
        held.move_to_end(folder)
        yield sample_clip(held[folder], rng, grid, frames, dt_s, mix)
        n += 1
