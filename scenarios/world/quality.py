"""How sound a world is, in figures: what stands where, and whether the static world stands still. N agent, T frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import CLASS_NAMES, MOVABLE, AgentTracks, Doubles, GridSpec, Semantics, nano_grid
from scenarios.footprints import footprint
from scenarios.world.cut.candidates import EgoMix, find_candidates
from scenarios.world.cut.clips import cut_world
from scenarios.world.store import World
from scenarios.world.town.tile import TownTile
from scenarios.world.traffic.checks import check_traffic
from scenarios.world.traffic.clearance import boxes_touch

__all__ = ["check_traffic", "check_world", "in_solid"]

TRAFFIC_STEP_S = 0.2  # between the frames in which overlaps and surfaces are looked at
CLEARANCE_M = 0.3  # the lowest part of a road user that a kerb may reach


def check_world(world: World, seed: int = 0, samples: int = 400, clips: int = 40) -> dict[str, Any]:
    """Figures of a world, ready for JSON; shares are of sampled agents or clips."""
    rng = np.random.default_rng(seed)
    agents = _sampled_agents(world, rng, samples)
    solid = np.array([in_solid(world.tile, *row) for row in agents])
    vehicle = np.array([row[0] == Semantics.VEHICLE for row in agents])
    on_road = np.array([_on_road(world.tile, *row) for row in agents])
    parked = _frame_of(world.parked, 0)
    return {
        "world": world.name,
        "seed": world.seed,
        "agents_sampled": len(agents),
        "agents_in_solid": _mean(solid),
        "vehicles_in_solid": _mean(solid[vehicle]),
        "vehicle_on_road": _mean(on_road[vehicle]),
        "parked": len(parked),
        "parked_in_solid": _mean(np.array([in_solid(world.tile, *row) for row in parked])),
        "parked_on_road": _mean(np.array([_on_road(world.tile, *row) for row in parked]), empty=1.0),
        "overlapping_agents": _overlaps(world, rng),
        "traffic": check_traffic(world.traffic, world.raster, max(1, round(TRAFFIC_STEP_S / world.traffic.dt_s))),
        **_clip_figures(world, rng, clips),
    }


def _mean(flags: NDArray[np.bool_], empty: float = 0.0) -> float:
    return round(float(flags.mean()), 5) if len(flags) else empty


_Row = tuple[int, Doubles, NDArray[np.float64], float]


def _sampled_agents(world: World, rng: np.random.Generator, samples: int) -> list[_Row]:
    """(class, pose, size, ground height) of agents of the traffic at random times."""
    log = world.traffic
    n, t = np.nonzero(log.valid[:, ::5])
    pick = rng.permutation(len(n))[:samples]
    n, t = n[pick], t[pick] * 5
    pose = log.pose[n, t].astype(np.float64)
    z = world.tile.ground_z_m(pose[:, :2], log.z_m[n, t])
    size = log.size_m[n].astype(np.float64)
    return [(int(log.class_id[k]), pose[i], size[i], float(z[i])) for i, k in enumerate(n)]


def _frame_of(agents: AgentTracks, frame: int) -> list[_Row]:
    return [
        (
            int(agents.class_id[k]),
            agents.pose[k, frame],
            agents.size_m[k].astype(np.float64),
            float(agents.z_m[k, frame]),
        )
        for k in np.flatnonzero(agents.valid[:, frame])
    ]


def in_solid(tile: TownTile, kind: int, pose: Doubles, size_m: NDArray[np.float64], z_m: float) -> bool:
    """Whether a span of the tile reaches into the agent's box, CLEARANCE_M above its ground and below its top."""
    del kind
    x, y = tile.cell_of(footprint(pose[:2], pose[2], size_m[0], size_m[1], 0.2))
    low, high = (z_m + CLEARANCE_M - tile.z0_m) * 100, (z_m + size_m[2] - tile.z0_m) * 100
    hit = (tile.span_class[:, x, y] > 0) & (tile.span_lo_cm[:, x, y] < high) & (tile.span_hi_cm[:, x, y] > low)
    return bool(hit.any())


def _on_road(tile: TownTile, kind: int, pose: Doubles, size_m: NDArray[np.float64], z_m: float) -> bool:
    """Whether most of the surface below the agent (the level it stands on) is road."""
    del kind
    x, y = tile.cell_of(footprint(pose[:2], pose[2], 0.8 * size_m[0], 0.8 * size_m[1], 0.2))
    road = tile.surface_class[0, x, y] == Semantics.ROAD
    for level in range(1, len(tile.surface_class)):
        height = tile.surface_cm[level, x, y] / 100 + tile.z0_m
        ground = tile.surface_cm[0, x, y] / 100 + tile.z0_m
        upper = (tile.surface_class[level, x, y] > 0) & (np.abs(height - z_m) < np.abs(ground - z_m))
        road = np.where(upper, tile.surface_class[level, x, y] == Semantics.ROAD, road)
    return bool(road.mean() > 0.5)


def _overlaps(world: World, rng: np.random.Generator, frames: int = 12) -> float:
    """Share of agents whose box (5 cm smaller all round) meets another's at the same height, at random times."""
    log = world.traffic
    bad = total = 0
    for t in rng.integers(0, log.frames, frames):
        rows = np.flatnonzero(log.valid[:, t])
        pose = np.concatenate([log.pose[rows, t].astype(np.float64), world.parked.pose[:, 0]])
        size = np.concatenate([log.size_m[rows], world.parked.size_m]).astype(np.float64) - 0.1
        z = np.concatenate([log.z_m[rows, t], world.parked.z_m[:, 0]])
        for i in range(len(rows)):
            near = np.flatnonzero((np.abs(pose[:, :2] - pose[i, :2]) < 13).all(axis=1) & (np.abs(z - z[i]) < 2.5))
            near = near[near != i]
            bad += bool(len(near)) and bool(boxes_touch(pose[i], size[i], pose[near], size[near]).any())
        total += len(rows)
    return round(bad / max(total, 1), 5)


def _clip_figures(world: World, rng: np.random.Generator, clips: int, grid: GridSpec | None = None) -> dict[str, Any]:
    """Class shares, the ego's free path, and agreement of static voxels of two clips of one ego half a second apart."""
    grid = grid or nano_grid()
    candidates = find_candidates(world.traffic, 13, 2)
    counts = np.zeros(len(CLASS_NAMES), np.int64)
    agree, compared, free, frames = 0, 0, 0, 0
    for _ in range(clips):
        row, start = candidates.draw(EgoMix(), rng)
        first = cut_world(world, row, start, grid, 8, 0.2)
        second = cut_world(world, row, start + 10, grid, 8, 0.2)
        counts += np.bincount(first.labels.ravel(), minlength=len(counts))
        hits, seen = _agreement(first.labels[4], second.labels[4], first, second, grid)
        agree, compared = agree + hits, compared + seen
        clear = _ego_path_free(first, world.traffic.size_m[row])
        free, frames = free + clear, frames + 8
    shares = counts / max(counts.sum(), 1)
    return {
        "class_shares": {name: round(float(share), 6) for name, share in zip(CLASS_NAMES, shares, strict=True)},
        "ego_path_free": round(free / max(frames, 1), 5),
        "static_consistency": round(agree / max(compared, 1), 5),
    }


def _agreement(a: NDArray, b: NDArray, first: Any, second: Any, grid: GridSpec) -> tuple[int, int]:
    """(agreeing, compared) non-free static voxels of a whose centre falls into a voxel of b; one voxel of slack."""
    transform = np.linalg.inv(second.conditions.world_se3_anchor) @ first.conditions.world_se3_anchor
    index = np.argwhere((a > 0) & ~np.isin(a, MOVABLE))
    centre = (index + 0.5) * grid.voxel_m + grid.origin_m
    there = centre @ transform[:3, :3].T + transform[:3, 3]
    at = np.floor((there - grid.origin_m) / grid.voxel_m).astype(int)
    inside = np.all((at >= 1) & (at < np.array(grid.shape) - 1), axis=1)
    index, at = index[inside], at[inside]
    hidden = np.isin(b[tuple(at.T)], MOVABLE)
    index, at = index[~hidden], at[~hidden]
    kind = a[tuple(index.T)]
    hit = np.zeros(len(kind), bool)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dz in (-1, 0, 1):
                hit |= b[at[:, 0] + dx, at[:, 1] + dy, at[:, 2] + dz] == kind
    return int(hit.sum()), len(hit)


def _ego_path_free(clip: Any, size_m: NDArray[np.float32]) -> int:
    """In how many frames no static obstacle voxel has its centre in the ego's box, above the surface."""
    grid = clip.conditions.grid
    static = (clip.labels[0] > 0) & ~np.isin(
        clip.labels[0], [*MOVABLE, Semantics.ROAD, Semantics.GROUND, Semantics.SIDEWALK]
    )
    centres = grid.centres_m()[static]
    free = 0
    for x, y, yaw in clip.conditions.trajectory.astype(np.float64):
        dx, dy = centres[:, 0] - x, centres[:, 1] - y
        along, across = dx * np.cos(yaw) + dy * np.sin(yaw), dy * np.cos(yaw) - dx * np.sin(yaw)
        hit = (np.abs(along) < size_m[0] / 2) & (np.abs(across) < size_m[1] / 2) & (centres[:, 2] < size_m[2])
        free += not bool((hit & (centres[:, 2] > 0.2)).any())
    return free
