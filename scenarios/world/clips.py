"""Labelled clips cut from worlds on the fly. T frame, N agent, M candidate; any motor vehicle may be the ego."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import MOVING_MPS, AgentTracks, Clip, Doubles, GridSpec, Semantics, pose_matrix
from scenarios.compile import anchor_of, chunk_conditions
from scenarios.world.store import World, build_world, load_world, save_world
from scenarios.world.traffic import TrafficLog
from scenarios.world.voxelize import cut_clip

__all__ = ["Candidates", "EgoMix", "World", "build_world", "iterate_clips", "load_world", "sample_clip", "save_world"]

ROUTE_M = 40.0
AHEAD_M = 20.0
NEAR_M = 20.0
TURN_RAD = 0.15
START_STEP_S = 0.5


@dataclass(frozen=True)
class EgoMix:
    """Shares of clips whose ego turns, has moving neighbours, or stands; the rest: any ego that drives."""

    turning: float = 0.25
    busy: float = 0.35
    standing: float = 0.06


@dataclass(frozen=True)
class Candidates:
    """Egos and start frames to choose from: row into the traffic log [M], first frame [M], groups of them."""

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    turning: NDArray[np.int64]  # indices into row and start
    busy: NDArray[np.int64]
    standing: NDArray[np.int64]
    driving: NDArray[np.int64]

    def draw(self, mix: EgoMix, rng: np.random.Generator) -> tuple[int, int]:
        """(row, start) of one candidate."""
        draw, group = rng.random(), self.driving
        for share, members in ((mix.turning, self.turning), (mix.busy, self.busy), (mix.standing, self.standing)):
            if draw < share:
                group = members
                break
            draw -= share
        if len(group) == 0:
            group = np.arange(len(self.row))
        index = int(group[rng.integers(len(group))])
        return int(self.row[index]), int(self.start[index])


def find_candidates(log: TrafficLog, frames: int, stride: int) -> Candidates:
    """Every motor vehicle that is there for the whole clip, at starts START_STEP_S apart. Raises WorldError if none."""
    span = (frames - 1) * stride
    starts = np.arange(0, log.frames - span, max(1, round(START_STEP_S / log.dt_s)))
    vehicles = np.flatnonzero(log.class_id == Semantics.VEHICLE)
    whole = log.valid[np.ix_(vehicles, starts)] & log.valid[np.ix_(vehicles, starts + span)] if len(starts) else None
    if whole is None or not whole.any():
        raise WorldError(f"no vehicle is on the road for {frames} frames; simulate longer or denser traffic")
    path = np.cumsum(np.where(log.valid, log.speed_mps, 0.0), axis=1) * log.dt_s
    middle = starts + (frames // 2) * stride
    ahead = path[vehicles, -1][:, None] - path[np.ix_(vehicles, middle)]
    if (whole & (ahead >= AHEAD_M)).any():
        whole &= ahead >= AHEAD_M
    row, column = np.nonzero(whole)
    row = vehicles[row]
    turn = np.diff(log.pose[..., 2], axis=1)
    turn = np.where(log.valid[:, 1:] & log.valid[:, :-1], (turn + np.pi) % (2 * np.pi) - np.pi, 0.0)
    total = np.concatenate([np.zeros((len(turn), 1)), np.cumsum(turn, axis=1)], axis=1)
    start = starts[column]
    net = np.abs(total[row, start + span] - total[row, start])
    speed = (path[row, start + span] - path[row, start]) / max(span * log.dt_s, log.dt_s)
    standing = speed < MOVING_MPS
    busy = _moving_neighbours(log, row, middle[column]) >= 2
    return Candidates(
        row,
        start,
        np.flatnonzero((net > TURN_RAD) & ~standing),
        np.flatnonzero(busy & ~standing),
        np.flatnonzero(standing),
        np.flatnonzero(~standing),
    )


def _moving_neighbours(log: TrafficLog, row: NDArray[np.int64], frame: NDArray[np.int64]) -> NDArray[np.int64]:
    """[M] agents faster than MOVING_MPS within NEAR_M of the agent, at a frame each."""
    from scipy.spatial import cKDTree

    count = np.zeros(len(row), np.int64)
    for t in np.unique(frame):
        moving = np.flatnonzero(log.valid[:, t] & (log.speed_mps[:, t] > MOVING_MPS))
        here = np.flatnonzero(frame == t)
        if len(moving):
            tree = cKDTree(log.pose[moving, t, :2])
            found = tree.query_ball_point(log.pose[row[here], t, :2], NEAR_M, return_length=True)
            count[here] = found - (log.speed_mps[row[here], t] > MOVING_MPS)
    return count


_found: WeakKeyDictionary[World, dict[tuple[int, int], Candidates]] = WeakKeyDictionary()


def _candidates(world: World, frames: int, stride: int) -> Candidates:
    """find_candidates, once for a world."""
    kept = _found.setdefault(world, {})
    if (frames, stride) not in kept:
        kept[frames, stride] = find_candidates(world.traffic, frames, stride)
    return kept[frames, stride]


def _stride(log: TrafficLog, dt_s: float) -> int:
    stride = round(dt_s / log.dt_s)
    if stride < 1 or abs(stride * log.dt_s - dt_s) > 1e-6:
        raise WorldError(f"clips of {dt_s} s a frame need a multiple of the traffic's {log.dt_s} s; change dt_s")
    return stride


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
    at = start + np.arange(frames) * stride
    ego = ego_poses(world, row, at)
    anchor = anchor_of(ego)
    agents = agents_near(world, row, start, frames, stride, anchor, grid)
    cut = cut_clip(world.tile, agents, anchor, grid)
    middle = int(at[frames // 2])
    conditions = chunk_conditions(world.raster, ego, dt_s, agents, grid, route_of(log, row, middle))
    source = f"{world.name}/{world.seed}: ego {int(log.id[row])} at {start * log.dt_s:.1f} s"
    return Clip(cut.labels, cut.moving, conditions, source)


def ego_poses(world: World, row: int, at: NDArray[np.int64]) -> Doubles:
    """[T, 4, 4] poses on the ground of one road user at frames of the log."""
    pose = world.traffic.pose[row, at].astype(np.float64)
    z = world.tile.ground_z_m(pose[:, :2], world.traffic.z_m[row, at])
    return np.stack([pose_matrix(x, y, height, yaw) for (x, y, yaw), height in zip(pose, z, strict=True)])


def agents_near(
    world: World, ego_row: int, start: int, frames: int, stride: int, anchor: Doubles, grid: GridSpec
) -> AgentTracks:
    """All road users but the ego that may reach into the grid, the parked ones included, on the ground of the tile."""
    low, size = np.array(grid.origin_m[:2]), np.array(grid.extent_m[:2])
    reach = float(np.hypot(*np.maximum(np.abs(low), np.abs(low + size)))) + 8.0
    centre = (float(anchor[0, 3]), float(anchor[1, 3]))
    log = world.traffic
    moving = log.window(start, frames, stride, centre, reach)
    moving = moving.select(moving.id != log.id[ego_row])
    rows = np.searchsorted(log.id, moving.id)
    hint = log.z_m[rows, start : start + (frames - 1) * stride + 1 : stride]
    moving_z = world.tile.ground_z_m(moving.pose[..., :2], hint)
    near = np.hypot(*(world.parked.pose[:, 0, :2] - centre).T) <= reach
    parked = world.parked.select(near)
    return AgentTracks(
        np.concatenate([moving.id, parked.id]),
        np.concatenate([moving.class_id, parked.class_id]),
        np.concatenate([moving.size_m, parked.size_m]),
        np.concatenate([moving.pose, parked.pose.repeat(frames, axis=1)]),
        np.concatenate([np.where(moving.valid, moving_z, 0), parked.z_m.repeat(frames, axis=1)]).astype(np.float32),
        np.concatenate([moving.speed_mps, parked.speed_mps.repeat(frames, axis=1)]),
        np.concatenate([moving.valid, parked.valid.repeat(frames, axis=1)]),
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
