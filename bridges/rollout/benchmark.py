"""Planners in every scene of a folder: driven, marked, written down one by one, and put into a table."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dcgen
from bridges.rollout.closed_loop import LoopSettings
from bridges.rollout.order import SCENE_SUFFIXES, RolloutOrder, drive_file
from bridges.rollout.page import TERMS, page_of
from bridges.workers import choose_workers
from dcgen.errors import DcgenError, PlannerError, SceneError
from dcgen.whole_file import write_whole

FORMAT, VERSION = "dcgen-planner-benchmark", 1


@dataclass(frozen=True)
class BenchmarkOrder:
    """Which scenes, which planners, and how."""

    scenes: Path
    planners: tuple[str, ...]
    output: Path
    settings: LoopSettings
    time_limit_s: float
    workers: int = 1


@dataclass(frozen=True)
class Job:
    """One planner in one scene; digest stands for everything that its result follows from, save the planner's code."""

    scene: str
    planner: str
    settings: LoopSettings
    time_limit_s: float
    place: str  # of the result, without a suffix
    digest: str


def run_benchmark(
    order: BenchmarkOrder, tell: Callable[[str], None], progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Drive what was not driven yet; leaves results.json and report.html in the output folder.

    A planner that fails in a scene is a result. A scene that cannot be read is told, the others are driven, and then
    its error is raised. Raises PlannerError before anything runs where a planner cannot be loaded.
    """
    from bridges.rollout.host import PlannerProcess

    files = _scene_files(order.scenes)
    planners = list(dict.fromkeys(order.planners))
    for target in planners:
        PlannerProcess(target, order.time_limit_s).kill()
    _make_folder(order.output / "episodes")
    jobs = [_job(order, file, target) for file in files for target in planners]
    missing = [job for job in jobs if _finished(job) is None]
    progress(len(jobs) - len(missing), len(jobs))
    faults = []
    for count, fault in enumerate(choose_workers(order.workers, None).run(run_job, [(job,) for job in missing]), 1):
        progress(len(jobs) - len(missing) + count, len(jobs))
        if fault:
            faults.append(fault)
    done = [result for job in jobs if (result := _finished(job)) is not None]
    results = _results(order, planners, done)
    _write(order.output / "results.json", json.dumps(results, indent=1).encode())
    pictures = [Path(job.place + ".png") for job in jobs if _finished(job) is not None]
    _write(order.output / "report.html", page_of(results, pictures).encode())
    faults = sorted(set(faults))
    for line in faults[1:]:
        tell(line)
    if faults:
        raise DcgenError(faults[0])
    return results


def run_job(job: Job) -> str:
    """Drive, and write the result and its picture; returns what a user has to mend, or nothing."""
    from bridges.rollout.picture import picture

    try:
        driven = drive_file(RolloutOrder(Path(job.scene), job.planner, job.settings, job.time_limit_s))
    except DcgenError as fault:
        return str(fault)
    result = driven.to_dict()
    timing = {name: result.pop(name) for name in ("steps_per_s", "slowest_answer_s")}
    drawn = picture(driven.episode, driven.scene, driven.scores.contacts)
    _write(Path(job.place + ".png"), drawn)
    made = {"digest": job.digest, "result": result, "timing": timing}
    text = json.dumps({**made, "sha256": _checksum(made, drawn)}, indent=1)
    _write(Path(job.place + ".json"), text.encode())
    return ""


def table_of(results: dict[str, Any]) -> str:
    """The means as a table in Markdown, and below it who failed where and why."""
    names = [name.replace("_", " ") for name in TERMS]
    lines = [
        "| planner | episodes | failed | " + " | ".join(names) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in names) + " |",
    ]
    for planner, row in results["planners"].items():
        cells = ["-" if row["mean"][name] is None else f"{row['mean'][name]:.3f}" for name in TERMS]
        lines.append(f"| {planner} | {row['episodes']} | {row['failed']} | " + " | ".join(cells) + " |")
    failed = [one for one in results["episodes"] if one["failure"]]
    return "\n".join([*lines, *(f"{one['planner']} failed in {one['scene']}: {one['failure']}" for one in failed)])


def _results(order: BenchmarkOrder, planners: list[str], done: list[dict[str, Any]]) -> dict[str, Any]:
    settings = {**asdict(order.settings), "time_limit_s": order.time_limit_s}
    settings["map"] = None if order.settings.map is None else str(order.settings.map)
    episodes = [one["result"] for one in done]
    return {
        "format": FORMAT,
        "version": VERSION,
        "dcgen": dcgen.__version__,
        "settings": settings,
        "planners": {name: _row([one for one in done if one["result"]["planner"] == name]) for name in planners},
        "episodes": episodes,
    }


def _row(done: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of one planner: compositions over all episodes, terms over those in which they were measured."""
    means: dict[str, float | None] = {}
    for name in TERMS:
        values = [one["result"][name] for one in done if name not in one["result"]["not_measured"]]
        means[name] = sum(values) / len(values) if values else None
    speeds = [one["timing"]["steps_per_s"] for one in done if one["timing"]["steps_per_s"]]
    return {
        "episodes": len(done),
        "failed": sum(bool(one["result"]["failure"]) for one in done),
        "mean": means,
        "steps_per_s": round(len(speeds) / sum(1 / speed for speed in speeds), 1) if speeds else None,
    }


def _scene_files(place: Path) -> list[Path]:
    if not place.exists():
        raise SceneError(f"--scenes {place}: no such folder; give one that holds scenes, *.h5")
    if place.is_file():
        return [place]
    found = sorted(path for path in place.iterdir() if path.suffix in SCENE_SUFFIXES and path.is_file())
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise SceneError(f"--scenes {place}: holds no scene, *.h5; make some with: dcgen scenario ROUTE -o {place}")
    return found


def _job(order: BenchmarkOrder, file: Path, planner: str) -> Job:
    settings = asdict(order.settings)
    if order.settings.map is not None and order.settings.map.is_file():
        settings["map"] = hashlib.sha256(order.settings.map.read_bytes()).hexdigest()
    told = json.dumps([VERSION, _digest_of(file), planner, settings, order.time_limit_s], default=str, sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()
    apart = hashlib.sha256(f"{file.name} {planner}".encode()).hexdigest()[:8]
    name = f"{_plain(file.stem)}-{_plain(planner.replace(':', '.'))}-{apart}"
    return Job(str(file), planner, order.settings, order.time_limit_s, str(order.output / "episodes" / name), digest)


def _digest_of(file: Path) -> str:
    try:
        with open(file, "rb") as opened:
            digest = hashlib.sha256()
            while block := opened.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as fault:
        raise SceneError(f"{file}: may not be read ({fault.strerror}); change its permissions") from fault


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_-." else "-" for c in text)[-80:]


def _finished(job: Job) -> dict[str, Any] | None:
    """The result of a job, if there is one that was made in the same way."""
    try:
        found = json.loads(Path(job.place + ".json").read_text(encoding="utf-8"))
        whole = found.pop("sha256") == _checksum(found, Path(job.place + ".png").read_bytes())
        return found if whole and found["digest"] == job.digest else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _checksum(made: dict[str, Any], drawn: bytes) -> str:
    """Of a result and its picture: what was changed since is driven again."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode() + drawn).hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "permission denied")
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise PlannerError(f"--output {folder.parent}: cannot be written ({reason}); choose another folder") from fault


def _write(path: Path, data: bytes) -> None:
    write_whole(path, data, fault=PlannerError, remedy="choose another folder")
