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
from typing import Any

import numpy as np

from bridges.workers import choose_workers
from dcgen.dataset.files import appearing, cannot_write, file_sha256, read_json, write_json
from dcgen.dataset.parts import finished_parts, write_part
from dcgen.dataset.spec import PART_CLIPS, DatasetSpec
from dcgen.dataset.store import WORLDS, DatasetWriter
from dcgen.errors import DatasetError
from scenarios.roads import read_map
from scenarios.sources import library_maps
from scenarios.world.cut.clips import make_clip, picks
from scenarios.world.cut.recipe import ClipRecipe
from scenarios.world.random_map import random_map
from scenarios.world.store import World, build_world, load_world
from scenarios.world.town.style import TownStyle
from scenarios.world.traffic.spec import TrafficSpec

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]
RANDOM = "random"
_WORLD_FORMAT, _WORLD_VERSION = "dcgen-dataset-world", 1


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


@dataclass(frozen=True)
class WorldJob:
    """One world to build: everything that decides its content."""

    name: str
    map: str  # a file, or random:SEED
    map_sha256: str
    seed: int
    seconds: float
    style: dict[str, Any]
    traffic: dict[str, Any]


def build_dataset(order: BuildOrder, tell: Tell, progress: Progress) -> Path:
    """Build, or go on building. Raises DcgenError with one line; what was finished stays whole."""
    if order.points and not (order.recipe.lidar and order.shards):
        raise DatasetError("--points: points need a sensor and shards to be kept in; add --lidar roof --shards")
    jobs = plan_worlds(order)
    for path in dict.fromkeys(job.map for job in jobs if not job.map.startswith(f"{RANDOM}:")):
        read_map(Path(path))  # before anything is written
    spec = dataset_spec(order, jobs)
    workers = choose_workers(order.workers, order.ray_address)
    with DatasetWriter(order.out, spec, commit_of(), tell) as writer:
        missing = [part for part in range(spec.parts) if part not in writer.finished]
        done = len(writer.finished)
        if done:
            tell(f"{order.out}: {done} of {spec.parts} parts stand; going on")
        needed = sorted({part % len(jobs) for part in missing})
        out, steps, total = str(order.out.absolute()), 0, len(needed) + len(missing)
        progress(0, max(total, 1))
        for _ in workers.run(_world_task, [(out, jobs[k]) for k in needed]):
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


def plan_worlds(order: BuildOrder) -> list[WorldJob]:
    """Every world of the order, in order. Raises DcgenError where a map is missing."""
    words = [word for name in order.maps for word in ([name] if Path(name).exists() else name.split(","))]
    maps = [each for word in words if word for each in _maps_of(word, order.seed)]
    if not maps:
        raise DatasetError("--maps names no map; give .xodr files, library maps, or random:8")
    jobs = []
    for k in range(len(maps) * order.worlds_per_map):
        name, path, digest = maps[k % len(maps)]
        seed = int(np.random.default_rng([order.seed, k]).integers(2**31))
        world = f"{k:04d}-{name}"
        jobs.append(WorldJob(world, path, digest, seed, order.seconds, order.style.to_dict(), order.traffic.to_dict()))
    return jobs


def _maps_of(name: str, seed: int) -> list[tuple[str, str, str]]:
    """(short name, file or random:SEED, digest) of what one --maps word means."""
    kind, _, count = name.partition(":")
    if kind == RANDOM:
        if not count.isdigit() or not 1 <= int(count) <= 10_000:
            raise DatasetError(f"--maps {name}: random needs a number of networks; write random:8")
        seeds = np.random.default_rng([seed, 1]).integers(2**31, size=int(count))
        return [(f"random-{n}", f"{RANDOM}:{s}", f"{RANDOM}:{s}") for n, s in enumerate(seeds.tolist())]
    path = library_maps().get(name, Path(name))
    if path.is_dir() and (inside := sorted(path.glob("*.xodr"))):
        return [each for one in inside for each in _maps_of(str(one), seed)]
    try:
        digest = file_sha256(path)
    except OSError as error:
        kind = "is a folder without maps" if path.is_dir() else "is a pipe or a device" if path.exists() else ""
        reason = kind or (error.strerror or str(error)).lower()
        raise DatasetError(f"--maps {name}: {reason}; give an .xodr file, a library map, or random:8") from error
    return [(path.stem, str(path.absolute()), digest)]


def dataset_spec(order: BuildOrder, jobs: Sequence[WorldJob]) -> DatasetSpec:
    """The spec of the order's data set. Where a map lies on this machine is no part of it, what it holds is."""
    recipe = order.recipe
    origin = {
        "kind": "worlds",
        "recipe": recipe.to_dict(),
        "maps": sorted({f"{job.name.partition('-')[2]} {job.map_sha256}" for job in jobs}),
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


def _world_task(out: str, job: WorldJob) -> str:
    """Build a world of the data set, unless it stands. Its record, with the checksums of its files, comes last."""
    folder = Path(out) / WORLDS / job.name
    if not world_stands(folder):
        source = Path(job.map)
        if job.map.startswith(f"{RANDOM}:"):
            source = _kept_map(folder, job.name.partition("-")[2], int(job.map.partition(":")[2]))
        elif file_sha256(source) != job.map_sha256:
            raise DatasetError(
                f"{source}: has changed since the build began; put it back, or build into another folder"
            )
        build_world(
            source, folder, job.seed, job.seconds, TownStyle.from_dict(job.style), TrafficSpec.from_dict(job.traffic)
        )
        files = {path.name: file_sha256(path) for path in sorted(folder.glob("*.npz"))}
        record = {"format": _WORLD_FORMAT, "version": _WORLD_VERSION, "map": source.stem, "files": files}
        write_json(_record(folder), {**record, "map_sha256": job.map_sha256, "seed": job.seed})
    return job.name


def _record(folder: Path) -> Path:
    return folder.with_name(folder.name + ".json")


def _kept_map(folder: Path, name: str, seed: int) -> Path:
    """The OpenDRIVE file of a random network, kept beside its world."""
    path = folder.with_name(f"{folder.name}.xodr")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as partial:
            random_map(partial, seed)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def world_stands(folder: Path) -> bool:
    """Whether a world of a data set is finished, its files as its record says."""
    try:
        check_world_files(folder)
    except DatasetError:
        return False
    return True


def check_world_files(folder: Path) -> None:
    """Raises DatasetError naming what does not fit a world's record."""
    files = read_json(_record(folder), _WORLD_FORMAT, _WORLD_VERSION).get("files")
    if not isinstance(files, dict) or not files:
        raise DatasetError(f"{_record(folder)}: names no files; delete it and run the build again")
    for name, digest in files.items():
        path = folder / Path(name).name
        try:
            fits = file_sha256(path) == digest
        except OSError as error:
            raise DatasetError(f"{path}: {(error.strerror or str(error)).lower()}; run the build again") from error
        if not fits:
            raise DatasetError(f"{path}: its checksum does not fit its record; run the build again")


@lru_cache(maxsize=1)
def _world(folder: str) -> World:
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
