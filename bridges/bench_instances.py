"""How well instances, tracks and flow are found where a world knows them: every road user hidden from the tracker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bridges.bench import hardware
from bridges.evaluation import world_of
from dcgen import __version__
from dcgen.dataset.motion import instances_of, owners
from dcgen.errors import DcgenError
from dcgen.eval.tracking import FlowError, Tracking, flow_error, tracking
from dcgen.instances.scene_motion import InstanceFinder, flow_mps
from dcgen.types import MOVING_MPS, AgentTracks, Clip, GridSpec
from scenarios.world.bench import DT_S
from scenarios.world.cut.clips import make_clip, picks
from scenarios.world.cut.recipe import ClipRecipe
from scenarios.world.store import World, load_world

LEAST_IDF1, MOST_ERROR_MPS = 0.90, 0.4  # the bars
Tell = Callable[[str], None]


@dataclass(frozen=True)
class InstancesOrder:
    """What is asked of `dcgen bench instances`: a map (whose world is built and kept), or a world's folder."""

    grid: GridSpec
    map_path: Path | None = None
    world: Path | None = None
    clips: int = 32
    frames: int = 16
    seed: int = 0

    def opened(self) -> World:
        """Raises DcgenError unless one of the two is given, MapError and WorldError."""
        if (self.map_path is None) == (self.world is None):
            raise DcgenError("bench instances: give either --map X.xodr or --world DIR")
        return world_of(self.map_path, self.seed) if self.map_path else load_world(Path(str(self.world)))


@dataclass(frozen=True)
class _Judged:
    """One clip: its counts, the errors of its flow, and the share of standing voxels that are said to move."""

    counts: Tracking
    flow: FlowError
    restless: tuple[int, int]  # standing voxels of road users that are said to move, and all of them
    seconds: float


def bench_instances(order: InstancesOrder, tell: Tell) -> dict[str, Any]:
    """Figures of anchored and of ego-centred clips, and whether they pass the bars. Raises MapError, WorldError."""
    owners(
        np.zeros((1, *order.grid.shape), np.uint8), AgentTracks.empty(1), order.grid, np.eye(4)[None]
    )  # compiled now
    world = order.opened()
    rows = []
    for ego_centred in (False, True):
        tell(f"{world.name}: {order.clips} {'ego-centred' if ego_centred else 'anchored'} clips")
        rows.append(
            {"ego_centred": ego_centred, **_figures([_judge(clip) for clip in _clips(world, order, ego_centred)])}
        )
    within = all((row["idf1"] or 0) >= LEAST_IDF1 and (row["flow_median_mps"] or 0) <= MOST_ERROR_MPS for row in rows)
    grid = {"shape": order.grid.shape, "voxel_m": order.grid.voxel_m}
    asked = {"world": world.name, "grid": grid, "clips": order.clips, "frames": order.frames, "seed": order.seed}
    return {**asked, "rows": rows, "within_bars": within, "hardware": hardware(), "dcgen": __version__}


def _clips(world: World, order: InstancesOrder, ego_centred: bool) -> Iterator[Clip]:
    recipe = ClipRecipe(order.grid, order.frames, DT_S, ego_centred)
    return (
        make_clip(world, pick, recipe, layouts=False) for pick in islice(picks(world, recipe, order.seed), order.clips)
    )


def _judge(clip: Clip) -> _Judged:
    """Finds everything as if it were invented, and compares it with the agents of the clip."""
    agents, grid, poses = clip.conditions.agents, clip.conditions.grid, clip.world_se3_grid
    time_s = clip.conditions.dt_s * np.arange(clip.conditions.frames, dtype=np.float64)
    true = instances_of(owners(clip.labels, agents, grid, poses)).astype(np.uint16)
    true_mps = flow_mps(true, agents, grid, time_s, poses)
    began = time.perf_counter()
    finder = InstanceFinder(AgentTracks.empty(len(time_s)), grid, time_s, poses)
    found = finder.instances(clip.labels)
    found_mps = flow_mps(found, finder.objects(), grid, time_s, poses)
    seconds = time.perf_counter() - began
    standing = (true > 0) & ~clip.moving & (np.linalg.norm(true_mps, axis=-1) == 0)
    restless = np.linalg.norm(found_mps[standing].astype(np.float32), axis=-1) > MOVING_MPS
    error = flow_error(true_mps, found_mps, clip.moving & (true > 0))
    return _Judged(tracking(true, found), error, (int(restless.sum()), len(restless)), seconds)


def _figures(judged: list[_Judged]) -> dict[str, Any]:
    counts = sum((each.counts for each in judged), Tracking())
    flow = FlowError.joined(each.flow for each in judged)
    restless, standing = (sum(each.restless[k] for each in judged) for k in (0, 1))
    figures = {
        "idf1": counts.idf1,
        "mota": counts.mota,
        "flow_median_mps": flow.median_mps,
        "flow_mean_mps": flow.mean_mps,
        "restless_share": restless / max(standing, 1),
        "seconds_a_clip": float(np.median([each.seconds for each in judged])),
    }
    whole = {"objects": counts.true, "missed": counts.missed, "wrong": counts.wrong, "switched": counts.switched}
    return {**{name: None if np.isnan(v) else round(v, 4) for name, v in figures.items()}, **whole}


def instances_text(result: dict[str, Any]) -> str:
    """The figures as a table of Markdown."""
    names = [name for name in result["rows"][0] if name != "ego_centred"]
    lines = [f"| clips | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for row in result["rows"]:
        cells = " | ".join("-" if row[name] is None else str(row[name]) for name in names)
        lines.append(f"| {'ego-centred' if row['ego_centred'] else 'anchored'} | {cells} |")
    shape = "x".join(str(n) for n in result["grid"]["shape"])
    lines += [
        "",
        f"{result['world']}, {result['clips']} clips of {result['frames']} frames, {shape}; {result['hardware']}.",
    ]
    bars = f"IDF1 at least {LEAST_IDF1}, median error of flow at most {MOST_ERROR_MPS} m/s"
    return "\n".join([*lines, f"{bars}: {'yes' if result['within_bars'] else 'no'}."])
