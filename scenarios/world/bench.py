"""How fast clips come out of a world: frames a second of one core's time, of the kernel and end to end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.types import GridSpec, carlasc_grid, nano_grid
from scenarios.world.clips import EgoMix, World, agents_near, ego_poses, find_candidates, sample_clip
from scenarios.world.quality import check_world
from scenarios.world.store import load_world
from scenarios.world.voxelize import cut_clip, cut_frame

FRAMES, DT_S = 8, 0.2


def bench_world(world: World, seconds: float = 3.0, seed: int = 0) -> dict[str, Any]:
    """Frames a second: `kernel_*` cut labels alone, anchored clips and ego-centred frames; `clip_*` with conditions."""
    figures: dict[str, Any] = {"world": world.name, "frames": FRAMES, "dt_s": DT_S}
    grids = {"128x128x8": carlasc_grid(), "64x64x8": nano_grid()}
    for name, grid in grids.items():
        for key, rate in _kernel_rates(world, grid, seconds, seed).items():
            figures[f"kernel_{key}_{name}"] = round(rate)
        figures[f"clip_{name}"] = round(_clip_rate(world, grid, seconds, seed))
    return figures


def _kernel_rates(world: World, grid: GridSpec, seconds: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    stride = round(DT_S / world.traffic.dt_s)
    candidates = find_candidates(world.traffic, FRAMES, stride)
    jobs = []
    for _ in range(24):
        row, start = candidates.draw(EgoMix(), rng)
        ego = ego_poses(world, row, start + np.arange(FRAMES) * stride)
        jobs.append((agents_near(world, row, start, FRAMES, stride, ego[FRAMES // 2], grid), ego))
    rates = {}
    for key in ("anchored", "ego"):
        done, begun = 0, 0.0
        while begun == 0.0 or time.thread_time() - begun < seconds:
            for agents, ego in jobs:
                if key == "anchored":
                    cut_clip(world.tile, agents, ego[FRAMES // 2], grid)
                else:
                    for t in range(FRAMES):
                        cut_frame(world.tile, agents, t, ego[t], grid)
                done += FRAMES
            if begun == 0.0:  # the first round compiled
                done, begun = 0, time.thread_time()
        rates[key] = done / (time.thread_time() - begun)
    return rates


def _clip_rate(world: World, grid: GridSpec, seconds: float, seed: int) -> float:
    sample_clip(world, seed, grid, FRAMES, DT_S)
    begun, done = time.thread_time(), 0
    while time.thread_time() - begun < seconds:
        sample_clip(world, seed + done, grid, FRAMES, DT_S)
        done += 1
    return done * FRAMES / (time.thread_time() - begun)


def main(folder: str) -> None:
    """Print the throughput and the quality figures of a world as JSON lines."""
    world = load_world(Path(folder))
    print(json.dumps(bench_world(world)))
    print(json.dumps(check_world(world)))


if __name__ == "__main__":
    main(sys.argv[1])
