"""How fast clips come out of worlds: frames a second of ONE core's time, of the kernels alone and end to end.

T frame, X/Y/Z voxel axes. Times are `time.thread_time`: what other processes do counts as little as it can.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dcgen.errors import WorldError
from dcgen.types import AgentTracks, Doubles, GridSpec, carlasc_grid, nano_grid, wide_grid
from scenarios.world.cut.clips import sample_clip
from scenarios.world.cut.voxelize import cut_clip, cut_frame
from scenarios.world.sensor.lidar import lidar_rig, observe_clip
from scenarios.world.sensor.spec import RIGS
from scenarios.world.store import World, load_world

FRAMES, DT_S = 16, 0.2
LIDAR_FRAMES = 2
CLIPS = 24  # drawn from a world, cut over and over
GRIDS: dict[str, Callable[[], GridSpec]] = {"128": carlasc_grid, "200": wide_grid, "64": nano_grid}


def bench_world(world: World, seconds: float = 3.0, seed: int = 0) -> dict[str, Any]:
    """Frames a second of one world. `kernel_fps_N`: labels and moving masks alone, anchored clips with their traffic in
    grids of N x N columns; `ego_fps_N`: the same cut frame by frame around the ego; `end_to_end_fps`: whole clips with
    agents, layout and conditions at 128x128x8; `lidar_fps_RIG`: labels, points and observed voxels at 128x128x8."""
    figures: dict[str, Any] = {"world": world.name, "tile_mb": round(world.tile.bytes / 1e6)}
    for name, grid in ((name, make()) for name, make in GRIDS.items()):
        drawn = [_drawn(world, seed + n, grid) for n in range(CLIPS)]
        figures[f"kernel_fps_{name}"] = _rate(partial(_cut_anchored, world, grid), drawn, seconds)
        figures[f"ego_fps_{name}"] = _rate(partial(_cut_frames, world, grid), drawn, seconds)
    drawn = [_drawn(world, seed + n, carlasc_grid()) for n in range(4)]
    for rig in RIGS:
        figures[f"lidar_fps_{rig}"] = _rate(partial(_observe, world, rig), drawn, seconds, frames=LIDAR_FRAMES)
    figures["end_to_end_fps"] = _rate(
        lambda n: sample_clip(world, n, carlasc_grid(), FRAMES, DT_S), range(seed, seed + CLIPS), seconds
    )
    return figures


def bench_worlds(folders: Sequence[Path], seconds: float = 3.0, seed: int = 0) -> dict[str, Any]:
    """Figures of the slowest of the worlds, of each, and whether cost is linear in clips and processes."""
    if not folders:
        raise WorldError("no worlds to measure; build some with `dcgen world build MAP`")
    worlds = []
    for folder in folders:
        begun = time.thread_time()
        world = load_world(Path(folder))
        load_s = round(time.thread_time() - begun, 2)
        worlds.append({**bench_world(world, seconds, seed), "load_s": load_s, "peak_rss_mb": peak_rss_mb()})
        del world
    figures: dict[str, Any] = {"frames": FRAMES, "dt_s": DT_S, "seconds": seconds, "seed": seed}
    more = ("ego_fps_128", "ego_fps_200", *(f"lidar_fps_{rig}" for rig in RIGS))
    for key in ("kernel_fps_128", "kernel_fps_200", "end_to_end_fps", *more):
        figures[key] = min(each[key] for each in worlds)
    clips = max(4, round(seconds * figures["end_to_end_fps"] / FRAMES / 8))
    figures["linearity"] = bench_linearity(Path(folders[0]), clips, seed)
    return {**figures, "peak_rss_mb": peak_rss_mb(), "worlds": worlds}


def bench_linearity(folder: Path, clips: int, seed: int) -> dict[str, Any]:
    """Frames a second of core time, end to end: for `clips` clips, four times as many, and in two processes at once."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        once, fourfold = (pool.submit(clip_seconds, folder, seed, n).result() for n in (clips, 4 * clips))
        begun = time.perf_counter()
        two = [pool.submit(clip_seconds, folder, seed + k, 4 * clips) for k in range(2)]
        both = sum(each.result() for each in two)
        wall = time.perf_counter() - begun
    return {
        "clips": clips,
        "fps_1x_clips": round(clips * FRAMES / once),
        "fps_4x_clips": round(4 * clips * FRAMES / fourfold),
        "fps_a_core_1_process": round(4 * clips * FRAMES / fourfold),
        "fps_a_core_2_processes": round(8 * clips * FRAMES / both),
        "wall_s_2_processes": round(wall, 2),
    }


def clip_seconds(folder: Path, seed: int, clips: int) -> float:
    """Core time of `clips` clips of a world once it is loaded and warm."""
    world, grid = load_world(folder), carlasc_grid()
    sample_clip(world, seed, grid, FRAMES, DT_S)
    begun = time.thread_time()
    for n in range(clips):
        sample_clip(world, seed + n, grid, FRAMES, DT_S)
    return time.thread_time() - begun


def peak_rss_mb() -> int:
    """The most memory that this process has held."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


@dataclass(frozen=True)
class _Drawn:
    """What a clip is cut from, without the clip: hundreds of megabytes of those would count as the world's."""

    agents: AgentTracks
    world_se3_anchor: Doubles
    world_se3_ego: Doubles  # [T, 4, 4]


def _drawn(world: World, seed: int, grid: GridSpec) -> _Drawn:
    given = sample_clip(world, seed, grid, FRAMES, DT_S).conditions
    return _Drawn(given.agents, given.world_se3_anchor, given.world_se3_ego)


def _cut_anchored(world: World, grid: GridSpec, drawn: _Drawn) -> None:
    cut_clip(world.tile, drawn.agents, drawn.world_se3_anchor, grid)


def _cut_frames(world: World, grid: GridSpec, drawn: _Drawn) -> None:
    for t in range(FRAMES):
        cut_frame(world.tile, drawn.agents, t, drawn.world_se3_ego[t], grid)


def _observe(world: World, rig: str, drawn: _Drawn) -> None:
    cut = slice(0, LIDAR_FRAMES)
    agents, ego = drawn.agents.frames(0, LIDAR_FRAMES), drawn.world_se3_ego[cut]
    observe_clip(world, agents, ego, carlasc_grid(), drawn.world_se3_anchor, lidar_rig(rig, 0), 0)


def _rate(cut: Callable[[Any], object], jobs: Sequence[Any], seconds: float, frames: int = FRAMES) -> float:
    """Frames a second over whole rounds of the jobs; the first job compiles."""
    cut(jobs[0])
    done, begun = 0, time.thread_time()
    while time.thread_time() - begun < seconds:
        for job in jobs:
            cut(job)
        done += len(jobs)
    return round(done * frames / (time.thread_time() - begun), 1 if frames < FRAMES else None)
