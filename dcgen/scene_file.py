"""Scenes as HDF5 files: written whole or not at all, read with every field checked. T frame, N agent, C channel.

A file holds what `Scene` holds: /occupancy, /grid, /frames, /agents and /conditions, and provenance as attributes.
Frames lie one to a compressed block, so a scene of any length is written and cut out frame by frame.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

import dcgen
from dcgen.errors import SceneError
from dcgen.frames import join_tracks
from dcgen.hdf5_sink import Sink
from dcgen.motion_file import MotionWriter, read_motion, write_tracks
from dcgen.scene_fields import (
    FORMAT,
    FORMAT_VERSION,
    PER_FRAME,
    check_head,
    check_names,
    check_values,
    checked_dataset,
    read_grid,
    read_metadata,
    read_tracks,
)
from dcgen.types import CLASS_NAMES, LAYOUT_CHANNELS, PALETTE, UNKNOWN, AgentTracks, Command, Scene

MOST_BYTES = 4 << 30  # of a scene that is read at once
MOST_NAME_BYTES = 230  # with what is added to it while it is written, 255


class SceneWriter:
    """Writes a scene part by part, with one part in memory at a time; the file appears under its name on close().

    Used as a context manager, it leaves nothing behind when the body fails. Raises SceneError where the file
    cannot be written (folder, permission, disk space).
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._temp = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._file: h5py.File | None = None
        self._sink: Sink
        self._motion: MotionWriter
        self._agents: list[AgentTracks] = []
        self._done = False
        check_destination(self.path)

    def append(self, part: Scene) -> None:
        """Add the frames of `part`. Grid, seed, model and agent ids must be those of the first part."""
        with self._guard():
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._sink = Sink(self._temp)
                self._file = h5py.File(self._sink, "w", track_order=True)
                _write_head(self._file, part)
                self._motion = MotionWriter(self._file, part.grid)
            elif not np.array_equal(part.agents.id, self._agents[0].id):
                raise ValueError("every part of a scene needs the same agents")
            for name, (place, _) in PER_FRAME.items():
                _extend(self._file[place], getattr(part, name))
            self._motion.append(part)
            self._file.flush()
            self._sink.check()
        self._agents.append(part.agents)

    def close(self) -> Path:
        """Finish the file, flush it to the disk and give it its name."""
        with self._guard():
            if self._file is None:
                raise ValueError("a scene needs at least one part")
            agents = join_tracks(self._agents)
            write_tracks(self._file, "agents", agents)
            self._motion.finish(agents)
            self._file.close()
            self._sink.check()
            self._sink.close()
            os.replace(self._temp, self.path)
            self._done = True
        return self.path

    def abort(self) -> None:
        """Drop what was written so far."""
        if self._file is not None:
            self._sink.fault = self._sink.fault or OSError("given up")  # nothing more is written
            self._file.close()
            with suppress(OSError):
                self._sink.close()
        with suppress(OSError):
            self._temp.unlink(missing_ok=True)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as fault:  # h5py raises either when a write fails
            self.abort()
            raise SceneError(f"{self.path}: cannot be written ({_reason(fault)}); choose another output") from fault
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> SceneWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._done:
            self.close()
        elif not self._done:
            self.abort()


def save_scene(scene: Scene, path: Path | str) -> Path:
    """Write a scene to one HDF5 file, or leave the folder as it was and raise SceneError."""
    with SceneWriter(path) as writer:
        writer.append(scene)
    return writer.path


def check_destination(path: Path) -> None:
    """Raise SceneError unless a file could be written at `path`: to be asked before minutes of work."""
    if path.is_dir():
        raise SceneError(f"{path}: is a folder; give the output a file name")
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise SceneError(f"{path}: {folder} is not a folder; choose another output")
    if len(os.fsencode(path.name)) > MOST_NAME_BYTES:
        raise SceneError(f"{path.name[:40]}...: the name is longer than {MOST_NAME_BYTES} bytes; choose another output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SceneError(f"{path}: the folder {folder} is not writable; choose another output")


def load_scene(path: Path | str, start: int = 0, stop: int | None = None, motion: bool = False) -> Scene:
    """Read frames [start, stop) of a scene file, all by default.

    motion: also its instances, flow and objects, which are found where the file is of a version that had none.

    Raises SceneError when the file is missing, not HDF5, cut short, or has a field of a wrong name, shape,
    type or value; the message names the field.
    """
    path = Path(path)
    with opened(path) as file:
        return _read(file, path, start, stop, motion)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A scene file to read from; what goes wrong with it in the body becomes a SceneError."""
    if path.exists() and not path.is_file():
        raise SceneError(f"{path}: is a {'folder' if path.is_dir() else 'pipe or a device'}; pass a scene file")
    if not path.is_file():
        raise SceneError(f"{path}: no such file; make one with: dcgen scenario ROUTE -o {path.name}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except SceneError:
        raise
    except PermissionError as fault:
        raise SceneError(f"{path}: may not be read; change its permissions") from fault
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError) as fault:
        raise SceneError(f"{path}: not a scene file, or a damaged one ({_reason(fault)}); make it again") from fault


def _write_head(file: h5py.File, part: Scene) -> None:
    texts = {
        "dcgen_version": dcgen.__version__,
        "model": part.model,
        "model_sha256": part.model_sha256,
        "scenario": part.scenario,
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "metadata": json.dumps(part.metadata, ensure_ascii=False, sort_keys=True),
    }
    file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "seed": part.seed, **texts})
    grid = file.create_group("grid")
    grid.attrs.update({"origin_m": part.grid.origin_m, "voxel_m": part.grid.voxel_m, "shape": part.grid.shape})
    grid.attrs["frame"] = "ego: x forward, y left, z up; origin on the ground below the ego"
    for name, (place, dtype) in PER_FRAME.items():
        shape = getattr(part, name).shape[1:]
        block = (1, *shape) if shape[1:] else (1024, *shape)
        file.create_dataset(
            place, (0, *shape), dtype, maxshape=(None, *shape), chunks=block, compression="gzip", compression_opts=4
        )
    file["occupancy/labels"].attrs.update({"class_names": CLASS_NAMES, "palette": PALETTE, "unknown": UNKNOWN})
    file["conditions/layout"].attrs["channels"] = LAYOUT_CHANNELS
    file["conditions/command"].attrs["names"] = [command.name.lower() for command in Command]


def _extend(dataset: h5py.Dataset, values: np.ndarray) -> None:
    frames = len(dataset)
    dataset.resize(frames + len(values), axis=0)
    dataset[frames:] = values


def _read(file: h5py.File, path: Path, start: int, stop: int | None, motion: bool) -> Scene:
    check_head(file, path)
    grid = read_grid(file, path)
    total = len(checked_dataset(file, path, "frames/time_s", "f8", (None,)))
    start, stop, _ = slice(start, stop).indices(total)
    if stop <= start:
        raise SceneError(f"{path}: has frames 0 to {total - 1}, none of which was asked for; choose others")
    shapes = {
        "labels": grid.shape,
        "time_s": (),
        "world_se3_ego": (4, 4),
        "trajectory": (3,),
        "command": (),
        "layout": (len(LAYOUT_CHANNELS), *grid.shape[:2]),
        "known": grid.shape,
    }
    stored = {
        name: checked_dataset(file, path, place, dtype, (total, *shapes[name]))
        for name, (place, dtype) in PER_FRAME.items()
    }
    size = sum(dataset.nbytes for dataset in stored.values()) // total * (stop - start)
    size += motion * 8 * stored["labels"].nbytes // total * (stop - start)
    if size > MOST_BYTES:
        raise SceneError(f"{path}: frames {start} to {stop - 1} take {size / 1e9:.0f} GB; read fewer of them at a time")
    fields = {name: dataset[start:stop] for name, dataset in stored.items()}
    check_names(file["occupancy/labels"], path, "class_names", CLASS_NAMES)
    check_names(file["conditions/layout"], path, "channels", LAYOUT_CHANNELS)
    whole = read_tracks(file, path, "agents", total)
    agents = whole.frames(start, stop)
    check_values(path, fields, agents)
    if motion:
        fields |= read_motion(file, path, grid, whole, slice(start, stop))
    attrs = file.attrs
    return Scene(
        **fields,
        grid=grid,
        agents=agents,
        seed=int(attrs["seed"]),
        model=str(attrs["model"]),
        model_sha256=str(attrs["model_sha256"]),
        scenario=str(attrs["scenario"]),
        metadata=read_metadata(attrs.get("metadata", "{}"), path),
    )


def _reason(fault: BaseException) -> str:
    """One short line that says what an exception of h5py is about."""
    code = getattr(fault, "errno", None)
    if isinstance(code, int) and code > 0:
        return os.strerror(code).lower()
    return " ".join(str(fault).split())[:120] or type(fault).__name__
