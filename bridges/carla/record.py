"""A data set out of a live server, part by part: what stands already is left, what fails leaves nothing half."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridges.carla.order import RecordOrder
from bridges.carla.route import chosen_route
from bridges.carla.session import answers, town_of
from bridges.carla.watch import Watch, WorkerLost
from dcgen.dataset.files import appearing
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import DatasetWriter
from dcgen.errors import CarlaError, MissingExtra
from scenarios.reading import scratch_folder
from scenarios.roads import read_map

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]  # clips done, clips in all


def record(order: RecordOrder, tell: Tell, progress: Progress) -> Path:
    """Record the clips that are missing in order.folder and return it. Raises DcgenError.

    The server's settings are put back and dcgen's actors removed, however this ends: by Ctrl-C and SIGTERM too, where
    they reach Python as exceptions.
    """
    if importlib.util.find_spec("carla") is None:
        raise MissingExtra("carla", "carla", "recording from a CARLA server")
    route = chosen_route(order)
    order = replace(order, folder=order.folder.resolve(), map=order.map or (route.town if route else None))
    order = replace(order, route=order.route.resolve() if order.route else None)
    watch = Watch(order, tell)
    with scratch_folder("recording", CarlaError) as scratch:
        tell(f"connecting to {order.place}")
        given = scratch / "map.xodr"
        seen = watch.run({"task": "survey", "map": str(given)})
        town = town_of(seen["map"])
        given = given.rename(scratch / f"{town}.xodr")
        read_map(given)  # refused now, and kept for later
        spec = spec_of(order, seen, given.read_bytes())
        with DatasetWriter(order.folder, spec, tell=tell) as writer:
            kept = order.folder / f"{town}.xodr"
            with appearing(kept) as partial:
                partial.write_bytes(given.read_bytes())
            _record_parts(replace(order, map=seen["map"]), writer, watch, kept, progress)
    return order.folder


def spec_of(order: RecordOrder, seen: dict[str, Any], xodr: bytes) -> DatasetSpec:
    """What the data set is: a run that goes on has to ask for the same. Where the server is does not matter."""
    asked = {name: getattr(order, name) for name in _ASKED}
    maps = [f"{town_of(seen['map'])} {hashlib.sha256(xodr).hexdigest()}"]
    made = {"kind": "carla", "carla": seen["version"], "maps": maps, **asked}
    if order.route is not None:
        made["route"], made["route_id"] = order.route.name, order.route_id or ""
        made["route_sha256"] = hashlib.sha256(order.route.read_bytes()).hexdigest()
    return DatasetSpec(
        order.grid,
        order.frames,
        order.dt_s,
        order.clips,
        order.seed,
        observed=True,
        points=order.points,
        part_clips=min(order.part_clips, order.clips),
        origin=made,
    )


_ASKED = ("vehicles", "walkers", "lidars", "channels", "points_per_second", "range_m")


def _record_parts(order: RecordOrder, writer: DatasetWriter, watch: Watch, kept: Path, progress: Progress) -> None:
    spec = writer.spec
    done = sum(len(spec.part_range(part)) for part in writer.finished)
    progress(done, spec.clips)
    for part in sorted(set(range(spec.parts)) - writer.finished):
        task = {"task": "part", "part": part, "spec": spec.to_dict(), "map": str(kept)}
        first = spec.part_range(part).start

        def heard(note: dict[str, Any], first: int = first, done: int = done) -> None:
            if "clip" in note:
                progress(done + note["clip"] - first + 1, spec.clips)

        try:
            watch.run(task, heard)
        except WorkerLost as lost:  # the client is known to abort; once more, if the server lives
            if answers(order.host, order.port):
                raise
            watch.tell(f"{lost}".partition(";")[0] + "; trying once more")
            watch.run(task, heard)
        done += len(spec.part_range(part))
        progress(done, spec.clips)
