"""The clips of one part as HDF5. N clip, M agent, P point; agents and points of all clips in one list with offsets.

A shard is compared with the checksum in its part's index before HDF5's own code sees a byte of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcgen.dataset.files import appearing, cannot_write
from dcgen.dataset.packing import AGENT_FIELDS, Packed, agent_shapes, field_shapes
from dcgen.dataset.spec import DatasetSpec
from dcgen.errors import DatasetError, SceneError
from dcgen.hdf5_sink import Sink
from dcgen.scene_fields import checked_dataset

FORMAT, VERSION = "dcgen-clips", 1
_BLOCK_ROWS = {"agent": 64, "point": 16384}  # in one compressed block: about a clip's agents, part of a sweep
_PACKED = {"compression": "gzip", "compression_opts": 2}


def write_shard(path: Path, clips: Iterable[tuple[Packed, str]], count: int, spec: DatasetSpec) -> None:
    """One HDF5 file of `count` packed clips and their sources, whole or not at all; one clip is held at a time.

    Raises DatasetError.
    """
    with appearing(path) as partial:
        sink = Sink(partial)
        try:
            with h5py.File(sink, "w", libver="v110") as file:
                _create(file, count, spec)
                for n, (clip, source) in enumerate(clips):
                    _add(file, n, clip, source, spec)
                    sink.check()
            sink.check()
        except RuntimeError as error:  # how h5py says that the disk is full, now and then
            raise cannot_write(path, OSError(str(error))) from error
        finally:
            sink.close()


def _lists(spec: DatasetSpec) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Fields of which every clip has another number of rows -> (type, shape of a row), by what sets the number."""
    tails = agent_shapes(spec)
    lists = {"agent": {name: (dtype, tails[name]) for name, dtype in AGENT_FIELDS.items()}}
    return {**lists, "point": {"points": ("f4", (4,))}} if spec.points else lists


def _create(file: h5py.File, count: int, spec: DatasetSpec) -> None:
    grid = spec.grid
    file.attrs.update({"format": FORMAT, "version": VERSION, "clips": count, "dt_s": spec.dt_s})
    file.attrs.update({"shape": grid.shape, "voxel_m": grid.voxel_m, "origin_m": grid.origin_m})
    file.attrs["frame"] = "ego" if spec.ego_centred else "anchor"
    file.create_dataset("source", (count,), h5py.string_dtype())
    for name, (dtype, shape) in field_shapes(spec).items():
        kept = {"chunks": (1, *shape), **_PACKED} if shape else {}
        file.create_dataset(name, (count, *shape), dtype, **kept)
    for label, fields in _lists(spec).items():
        file[f"{label}_offset"] = np.zeros(count + 1, np.int64)
        for name, (dtype, tail) in fields.items():
            chunks = (_BLOCK_ROWS[label], *tail)
            file.create_dataset(name, (0, *tail), dtype, maxshape=(None, *tail), chunks=chunks, **_PACKED)


def _add(file: h5py.File, n: int, clip: Packed, source: str, spec: DatasetSpec) -> None:
    file["source"][n] = source
    for name in field_shapes(spec):
        file[name][n] = clip[name]
    for label, fields in _lists(spec).items():
        for name in fields:
            values, rows = file[name], clip[name]
            start = len(values)
            values.resize(start + len(rows), axis=0)
            values[start:] = rows
            file[f"{label}_offset"][n + 1] = start + len(rows)


class Shard:
    """An open shard. Fields are read clip by clip. Raises DatasetError, naming the file, for what does not fit."""

    def __init__(self, path: Path, spec: DatasetSpec, clips: int) -> None:
        self.path, self.spec, self.clips = path, spec, clips
        self._shapes = field_shapes(spec)
        try:
            self._file: Any = h5py.File(path, "r", rdcc_nbytes=0)  # every block is read once: nothing is kept
            self._data = {
                name: checked_dataset(self._file, path, name, dtype, (clips, *shape))
                for name, (dtype, shape) in self._shapes.items()
            }
            for label, fields in _lists(spec).items():
                self._open_list(label, fields)
        except (SceneError, OSError, RuntimeError, KeyError, ValueError) as error:
            raise self._damaged(error) from error

    def _open_list(self, label: str, fields: dict[str, tuple[str, tuple[int, ...]]]) -> None:
        offset = checked_dataset(self._file, self.path, f"{label}_offset", "i8", (self.clips + 1,))[()]
        if offset[0] != 0 or (np.diff(offset) < 0).any():
            raise ValueError(f"{label}_offset does not rise")
        self._data[f"{label}_offset"] = offset
        for name, (dtype, tail) in fields.items():
            self._data[name] = checked_dataset(self._file, self.path, name, dtype, (int(offset[-1]), *tail))

    def read(self, clip: int, fields: Iterable[str]) -> Packed:
        """The packed arrays of one clip."""
        try:
            return {name: self._field(clip, name) for name in fields}
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise self._damaged(error) from error

    def _field(self, clip: int, name: str) -> np.ndarray:
        if name in self._shapes:
            dtype, shape = self._shapes[name]
            if not shape:
                return np.asarray(self._data[name][clip])
            out = np.empty(shape, dtype)
            self._data[name].read_direct(out, np.s_[clip])
            return out
        offset = self._data["point_offset" if name == "points" else "agent_offset"]
        return np.asarray(self._data[name][offset[clip] : offset[clip + 1]])

    def _damaged(self, error: BaseException) -> DatasetError:
        reason = " ".join(str(error).split())[:160].removeprefix(f"{self.path}: ").removesuffix("; make the file again")
        return DatasetError(f"{self.path}: unreadable shard ({reason}); delete it and run the build again")

    def close(self) -> None:
        self._file.close()


def all_fields(spec: DatasetSpec) -> list[str]:
    """Every field of a packed clip."""
    return [*field_shapes(spec), *AGENT_FIELDS, *(["points"] if spec.points else [])]
