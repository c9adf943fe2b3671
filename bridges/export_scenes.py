"""`dcgen export`: scene files into a format, by many workers, going on where an export stopped.

The same scenes and options give the same files, however many workers there are and however often it was stopped.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridges.export_staging import STATE, Receipts, plain_name
from bridges.formats.choices import ALSO_CALLED, FORMATS, VERSION, Format
from bridges.formats.writing import Named
from bridges.workers import choose_workers
from dcgen.dataset.files import cannot_write, file_sha256, only_writer
from dcgen.errors import DatasetError, DcgenError, SceneError
from dcgen.scene_file import load_scene

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportOrder:
    """What is asked of `dcgen export`. frames: [first, end) of each scene, None: all of them."""

    sources: tuple[Path, ...]
    format: str
    out: Path
    frames: tuple[int, int] | None = None
    compact: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Job:
    """One scene to export."""

    path: str
    name: str
    number: int
    format: str
    out: str
    frames: tuple[int, int] | None
    compact: bool


@dataclass(frozen=True)
class Done:
    """What became of a scene: a fault, or files that were made now or stood already."""

    name: str
    fault: str = ""
    stood: bool = False
    frames: int = 0
    bytes: int = 0
    sha256: str = ""
    core_seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """What an export has done."""

    format: str
    out: str
    exported: int
    stood: int
    frames: int
    bytes: int
    seconds: float
    core_seconds: float  # of all workers together, for what was exported
    content_sha256: str  # of every scene that stands now, by name
    faults: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "faults": list(self.faults)}


def export_scenes(order: ExportOrder, tell: Tell, progress: Progress) -> Report:
    """Export every scene; one that cannot be is told of and left out, the others go on.

    Raises DcgenError where nothing can be done at all: an unknown format, no scene, a folder that cannot be written.
    """
    began = time.monotonic()
    format = _format(order)
    scenes = _named(_files(order.sources))
    receipts = Receipts(order.out, format.name)
    with _held(receipts):
        jobs = _jobs(order, receipts, scenes, format)
        done: list[Done] = []
        progress(0, len(jobs))
        workers = choose_workers(min(order.workers, len(jobs)), None)
        for each in workers.run(export_scene, [(job,) for job in jobs]):
            done.append(each)
            if each.fault and len(jobs) > 1:
                tell(each.fault)
            progress(len(done), len(jobs))
        whole, damaged = receipts.whole()
        if format.index is not None and whole:
            _write_index(receipts, format, whole)
    done.sort(key=lambda each: each.name)
    sound = [each for each in done if not each.fault]
    faults = dict.fromkeys([*(each.fault for each in done if each.fault), *damaged])  # each once
    return Report(
        format.name,
        str(order.out),
        sum(not each.stood for each in sound),
        sum(each.stood for each in sound),
        sum(each.frames for each in sound),
        sum(each.bytes for each in sound),
        round(time.monotonic() - began, 3),
        round(sum(each.core_seconds for each in sound), 3),
        hashlib.sha256("".join(f"{each['name']} {each['content_sha256']}\n" for each in whole).encode()).hexdigest(),
        tuple(faults),
    )


def export_scene(job: Job) -> Done:
    """Export one scene unless it stands already. A fault that a user can mend is told in the answer."""
    began = time.process_time()
    try:
        path, format = Path(job.path), FORMATS[job.format]
        receipts = Receipts(Path(job.out), format.name)
        order = {
            "source_sha256": _digest(path),
            "frames": job.frames and list(job.frames),
            "compact": job.compact,
            "number": job.number if format.numbered else 0,
            "writer": VERSION,
        }
        if receipts.stands(job.name, order):
            found = receipts.read(job.name) or {}
            return Done(
                job.name, stood=True, frames=found["frames"], bytes=found["bytes"], sha256=found["content_sha256"]
            )
        first, end = job.frames or (0, None)
        scene = load_scene(path, first, end, motion=format.motion)
        write = format.compact if job.compact and format.compact else format.write
        with receipts.staging(job.name, format.depth) as staging:
            try:
                entry = write(scene, Named(job.name, job.number), staging.put)
            except DatasetError as error:
                raise DatasetError(f"{path}: {error}") from None
            receipt: dict[str, Any] = {"order": order, "entry": entry, "frames": len(scene.time_s)}
            receipt |= {"bytes": staging.size_bytes, "files": staging.files, "content_sha256": staging.sha256}
            receipts.keep(job.name, staging, receipt)
        seconds = time.process_time() - began
        return Done(job.name, "", False, len(scene.time_s), staging.size_bytes, staging.sha256, seconds)
    except DcgenError as error:
        return Done(job.name, fault=str(error))


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        load_scene(path)  # says what is wrong with it
        raise SceneError(f"{path}: cannot be read; check it and its permissions") from None


def _format(order: ExportOrder) -> Format:
    name = ALSO_CALLED.get(order.format, order.format)
    if name not in FORMATS:
        raise DatasetError(f"--format {order.format}: no such format; choose one of {', '.join(FORMATS)}")
    if order.compact and FORMATS[name].compact is None:
        able = ", ".join(each.name for each in FORMATS.values() if each.compact)
        raise DatasetError(f"--compact: {name} lists no voxels; use it with {able}, or leave it out")
    if name == "uniocc" and re.match("carla|opencood|opv2v", order.out.resolve().name, re.IGNORECASE):
        raise DatasetError(
            f"{order.out}: readers take UniOcc's folders called Carla, OpenCOOD or OPV2V for ones with y to the right; "
            "choose another name, as dcgen-5Hz"
        )
    return FORMATS[name]


def _files(sources: Sequence[Path]) -> list[Path]:
    """The scene files that were named, and those in folders that were named. Raises DatasetError."""
    found: dict[Path, Path] = {}
    for source in sources:
        if not source.is_dir():
            found.setdefault(source.absolute(), source)
            continue
        inside = [path for path in sorted(source.rglob("*.h5")) if not path.name.startswith(".")]
        if not inside:
            raise DatasetError(f"{source}: holds no scene, *.h5; give a scene file, or a folder of them")
        for path in inside:
            found.setdefault(path.absolute(), path)
    return list(found.values())


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """The scenes by their names, in order. Raises DatasetError where two have the same."""
    out: dict[str, Path] = {}
    for path in paths:
        name = plain_name(path)
        if name in out:
            raise DatasetError(
                f"{out[name]} and {path} are both called {name}; export them to two folders, or rename one"
            )
        out[name] = path
    return dict(sorted(out.items()))


@contextmanager
def _held(receipts: Receipts) -> Iterator[None]:
    """The folder, for this export alone. Raises DatasetError where it cannot be."""
    try:
        receipts.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(receipts.out, error) from error
    with only_writer(receipts.out / STATE):
        receipts.sweep()
        yield


def _jobs(order: ExportOrder, receipts: Receipts, scenes: dict[str, Path], format: Format) -> list[Job]:
    """A job a scene. Numbers that were given stay; new scenes get the lowest free ones, in their order."""
    numbers: dict[str, int] = {}
    for receipt in receipts.folder.glob("*.json") if format.numbered else ():
        name = receipt.name.removesuffix(".json")
        if (found := receipts.read(name)) is not None:
            numbers[name] = int(found["order"]["number"])
    taken, free = set(numbers.values()), 0
    for name in scenes:
        if name not in numbers:
            while free in taken:
                free += 1
            numbers[name] = free
            taken.add(free)
    out = str(order.out.absolute())
    return [
        Job(str(path), name, numbers.get(name, 0), format.name, out, order.frames, order.compact)
        for name, path in scenes.items()
    ]


def _write_index(receipts: Receipts, format: Format, whole: Sequence[dict[str, Any]]) -> None:
    """What stands once for all scenes of the folder."""

    def put(place: str, *data: bytes) -> None:
        aside = receipts.folder / f".{place}.part"
        try:
            with open(aside, "wb") as file:
                file.write(b"".join(data))
                file.flush()
                os.fsync(file.fileno())
            aside.replace(receipts.out / place)
        except OSError as error:
            raise cannot_write(receipts.out / place, error) from error

    if format.index is not None:
        format.index([each["entry"] for each in whole], put)
