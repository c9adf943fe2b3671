"""The worlds of a data set: which ones an order means, how each is built, and whether one stands as its record says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.dataset.files import appearing, cannot_write, canonical, file_sha256, read_json, write_json
from dcgen.dataset.store import WORLDS
from dcgen.errors import DatasetError
from scenarios.roads import MAX_BYTES, read_map
from scenarios.world.random_map import random_map
from scenarios.world.store import build_world
from scenarios.world.town.style import TownStyle
from scenarios.world.traffic.spec import TrafficSpec

RANDOM = "random"
MOST_WORLDS = 100_000
_FORMAT, _VERSION = "dcgen-dataset-world", 1


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

    @property
    def content(self) -> dict[str, Any]:
        """All but the place where the map lies on this machine."""
        return {key: value for key, value in asdict(self).items() if key != "map"}


def plan_worlds(
    names: Sequence[str], worlds_per_map: int, seed: int, seconds: float, style: TownStyle, traffic: TrafficSpec
) -> list[WorldJob]:
    """Every world of an order, in order: number k on map k modulo the maps. Raises DcgenError for maps that fail."""
    words = [word for name in names for word in ([name] if Path(name).exists() else name.split(","))]
    maps = [each for word in words if word for each in _maps_of(word, seed)]
    if not maps:
        raise DatasetError("--maps names no map; give .xodr files, library maps, or random:8")
    if len(maps) * worlds_per_map > MOST_WORLDS:
        raise DatasetError(
            f"{len(maps)} maps and --worlds {worlds_per_map} are too many worlds; keep below {MOST_WORLDS}"
        )
    for path in dict.fromkeys(path for _, path, digest in maps if path != digest):
        read_map(Path(path))  # better now than after minutes of work
    jobs = []
    for k in range(len(maps) * worlds_per_map):
        name, path, digest = maps[k % len(maps)]
        own = int(np.random.default_rng([seed, k]).integers(2**31))
        jobs.append(WorldJob(f"{k:04d}-{name}", path, digest, own, seconds, style.to_dict(), traffic.to_dict()))
    return jobs


def _maps_of(name: str, seed: int) -> list[tuple[str, str, str]]:
    """(short name, file or random:SEED, digest) of what one --maps word means."""
    from scenarios.sources import library_maps  # here: machines that train read worlds, and no scenarios

    kind, _, count = name.partition(":")
    if kind == RANDOM:
        if not count.isdecimal() or len(count) > 5 or not 1 <= int(count) <= 10_000:
            raise DatasetError(f"--maps {name}: random needs a number of networks, up to 10000; write random:8")
        seeds = np.random.default_rng([seed, 1]).integers(2**31, size=int(count))
        return [(f"random-{n}", f"{RANDOM}:{s}", f"{RANDOM}:{s}") for n, s in enumerate(seeds.tolist())]
    path = library_maps().get(name, Path(name))
    if path.is_dir() and (inside := sorted(path.glob("*.xodr"))):
        return [each for one in inside for each in _maps_of(str(one), seed)]
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"--maps {name}: larger than {MAX_BYTES // 10**6} MB; give an .xodr file")
        path.name.encode()
        digest = file_sha256(path)
    except UnicodeEncodeError:
        raise DatasetError(f"--maps {name!a}: its name is no text; give the file another name") from None
    except OSError as error:
        kind = "is a folder without maps" if path.is_dir() else "is a pipe or a device" if path.exists() else ""
        reason = kind or (error.strerror or str(error)).lower()
        known = ", ".join(library_maps())
        raise DatasetError(f"--maps {name}: {reason}; give an .xodr file, random:8, or one of {known}") from error
    return [(path.stem, str(path.absolute()), digest)]


def build_job(out: str, job: WorldJob) -> str:
    """Build a world of the data set, unless it stands. Its record, with the checksums of its files, comes last."""
    folder = Path(out) / WORLDS / job.name
    if not world_stands(folder, job):
        source = Path(job.map)
        if job.map.startswith(f"{RANDOM}:"):
            source = _kept_map(folder, job.name.partition("-")[2], int(job.map.partition(":")[2]))
        elif file_sha256(source) != job.map_sha256:
            raise DatasetError(
                f"{source}: has changed since the build began; put it back, or build into another folder"
            )
        build_world(
            source, folder, job.seed, job.seconds, TownStyle.from_dict(job.style), TrafficSpec.from_dict(job.traffic),
            over=True,
        )  # fmt: skip
        files = {path.name: file_sha256(path) for path in sorted(folder.glob("*.npz"))}
        write_json(_record(folder), {"format": _FORMAT, "version": _VERSION, "job": job.content, "files": files})
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


def world_stands(folder: Path, job: WorldJob) -> bool:
    """Whether the world of a job is finished, its files as its record says."""
    try:
        return canonical(check_world_files(folder)["job"]) == canonical(job.content)
    except (DatasetError, KeyError):
        return False


def check_world_files(folder: Path) -> dict[str, Any]:
    """A world's record. Raises DatasetError naming what does not fit it."""
    record = read_json(_record(folder), _FORMAT, _VERSION)
    files = record.get("files")
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
    return record
