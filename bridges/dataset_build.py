"""`dcgen dataset build`: maps to worlds to clips, by many workers, going on where it stopped. The same seed gives the
same clips, however many workers there are and however often a build was stopped.

World k stands on map k modulo the maps; part j is cut from world j modulo the worlds, each clip once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

from bridges.dataset import check_once
from bridges.dataset_worlds import WorldJob, build_job, plan_worlds, world_stands
from bridges.workers import choose_workers
from dcgen.dataset.parts import finished_parts, write_part
from dcgen.dataset.spec import PART_CLIPS, DatasetSpec
from dcgen.dataset.store import WORLDS, DatasetWriter
from dcgen.errors import DatasetError
from scenarios.world.cut.clips import make_clip, picks
from scenarios.world.cut.recipe import ClipRecipe
from scenarios.world.store import World, load_world
from scenarios.world.town.style import TownStyle
from scenarios.world.traffic.spec import TrafficSpec

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BuildOrder:
    """What is asked of `dcgen dataset build`.

    maps: OpenDRIVE files, names of library maps, or random:N for N networks made by netgenerate. shards: keep the
    clips themselves as HDF5, else they are cut from the worlds whenever they are read.
    """

    maps: tuple[str, ...]
    out: Path
    clips: int
    recipe: ClipRecipe
    seed: int = 0
    shards: bool = False
    points: bool = False
    worlds_per_map: int = 1
    seconds: float = 300.0
    style: TownStyle = field(default_factory=TownStyle)
    traffic: TrafficSpec = field(default_factory=TrafficSpec)
    workers: int = 1
    ray_address: str | None = None


def build_dataset(order: BuildOrder, tell: Tell, progress: Progress) -> Path:
    """Build, or go on building. Raises DcgenError with one line; what was finished stays whole."""
    if order.points and not (order.recipe.lidar and order.shards):
        raise DatasetError("--points: points need a sensor and shards to be kept in; add --lidar roof --shards")
    jobs = plan_worlds(order.maps, order.worlds_per_map, order.seed, order.seconds, order.style, order.traffic)
    spec = dataset_spec(order, jobs)
    workers = choose_workers(order.workers, order.ray_address)
    with DatasetWriter(order.out, spec, commit_of(), tell) as writer:
        missing = [part for part in range(spec.parts) if part not in writer.finished]
        done = len(writer.finished)
        if done:
            tell(f"{order.out}: {done} of {spec.parts} parts stand; going on")
        used = sorted({part % len(jobs) for part in (missing if order.shards else range(spec.parts))})
        needed = [k for k in used if not world_stands(order.out / WORLDS / jobs[k].name, jobs[k])]
        out, steps, total = str(order.out.absolute()), 0, len(needed) + len(missing)
        progress(0, max(total, 1))
        for _ in workers.run(build_job, [(out, jobs[k]) for k in needed]):
            steps += 1
            progress(steps, total)
        missing.sort(key=lambda part: (part % len(jobs), part))  # a worker keeps its world
        for _ in workers.run(_part_task, [(out, spec, p, jobs[p % len(jobs)]) for p in missing]):
            steps += 1
            progress(steps, total)
        left = set(range(spec.parts)) - finished_parts(order.out, spec)
        if left:
            raise DatasetError(f"{order.out}: {len(left)} parts are not whole; run the build again")
    return order.out


def dataset_spec(order: BuildOrder, jobs: Sequence[WorldJob]) -> DatasetSpec:
    """The spec of the order's data set. Where a map lies on this machine is no part of it, what it holds is."""
    recipe = order.recipe
    origin = {
        "kind": "worlds",
        "recipe": recipe.to_dict(),
        "maps": list(dict.fromkeys(f"{job.name.partition('-')[2]} {job.map_sha256}" for job in jobs)),
        "worlds": [job.name for job in jobs],
        "worlds_per_map": order.worlds_per_map,
        "seconds": order.seconds,
        "style": order.style.to_dict(),
        "traffic": order.traffic.to_dict(),
        "world_seeds": [job.seed for job in jobs],
    }
    return DatasetSpec(
        recipe.grid,
        recipe.frames,
        recipe.dt_s,
        order.clips,
        order.seed,
        recipe.ego_centred,
        observed=bool(recipe.lidar),
        points=order.points,
        cut=not order.shards,
        part_clips=max(1, min(PART_CLIPS, -(-order.clips // len(jobs)))),
        origin=origin,
    )


def commit_of() -> str:
    """The commit of the checkout that runs, empty outside of one."""
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 and (root / ".git").exists() else ""


@lru_cache(maxsize=1)
def _world(folder: str) -> World:
    check_once(Path(folder))
    return load_world(Path(folder))


def _part_task(out: str, spec: DatasetSpec, part: int, job: WorldJob) -> int:
    """Cut one part from its world: the clips that are next in the world's order."""
    recipe = ClipRecipe.from_dict(spec.origin["recipe"])
    world = _world(str(Path(out) / WORLDS / job.name))
    worlds = len(spec.origin["world_seeds"])
    first = (part // worlds) * spec.part_clips
    chosen = list(islice(picks(world, recipe, spec.seed), first, first + len(spec.part_range(part))))
    clips = (make_clip(world, pick, recipe) for pick in chosen)
    cuts = [{"world": job.name, "ego": pick.ego, "start": pick.start, "seed": pick.seed} for pick in chosen]
    write_part(Path(out), spec, part, clips, cuts)
    return part
