"""The clips of one part as HDF5. N clip, M agent, P point; agents and points of all clips in one list with offsets.

A shard is compared with the checksum in its part's index before HDF5's own code sees a byte of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcgen.dataset.files import appearing, cannot_write
from dcgen.dataset.packing import AGENT_FIELDS, Packed, agent_shapes, field_shapes
from dcgen.dataset.spec import DatasetSpec
from dcgen.errors import DatasetError, SceneError
from dcgen.scene_fields import checked_dataset

FORMAT, VERSION = "dcgen-clips", 1
_BLOCK_ROWS = 4096  # of agents and points in one compressed block


def write_shard(path: Path, clips: Sequence[Packed], sources: Sequence[str], spec: DatasetSpec) -> None:
    """One HDF5 file of packed clips, whole or not at all. Raises DatasetError."""
    with appearing(path) as partial:
        try:
            with h5py.File(partial, "w", libver="v110") as file:
                _write(file, clips, sources, spec)
        except RuntimeError as error:  # how h5py says that the disk is full, now and then
            raise cannot_write(path, OSError(str(error))) from error


def _write(file: h5py.File, clips: Sequence[Packed], sources: Sequence[str], spec: DatasetSpec) -> None:
    file.attrs.update({"format": FORMAT, "version": VERSION, "clips": len(clips), "dt_s": spec.dt_s})
    grid = spec.grid
    file.attrs.update({"shape": grid.shape, "voxel_m": grid.voxel_m, "origin_m": grid.origin_m})
    file.attrs["frame"] = "ego" if spec.ego_centred else "anchor"
    file.create_dataset("source", data=list(sources), dtype=h5py.string_dtype())
    for name, (dtype, shape) in field_shapes(spec).items():
        values = file.create_dataset(
            name, (len(clips), *shape), dtype, chunks=(1, *shape), compression="gzip", compression_opts=2
        ) if shape else file.create_dataset(name, (len(clips),), dtype)  # fmt: skip
        for n, clip in enumerate(clips):
            values[n] = clip[name]
    _write_list(file, "agent", AGENT_FIELDS, clips)
    if spec.points:
        _write_list(file, "point", {"points": "f4"}, clips)


def _write_list(file: h5py.File, label: str, fields: dict[str, str], clips: Sequence[Packed]) -> None:
    first = next(iter(fields))
    file[f"{label}_offset"] = np.cumsum([0, *(len(clip[first]) for clip in clips)], dtype=np.int64)
    for name, dtype in fields.items():
        values = np.concatenate([clip[name] for clip in clips])
        packed: dict[str, Any] = {}
        if values.size:
            chunks = (min(_BLOCK_ROWS, len(values)), *values.shape[1:])
            packed = {"chunks": chunks, "compression": "gzip", "compression_opts": 2}
        file.create_dataset(name, data=values, dtype=dtype, **packed)


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
            self._open_list("agent", AGENT_FIELDS, agent_shapes(spec))
            if spec.points:
                self._open_list("point", {"points": "f4"}, {"points": (4,)})
        except (SceneError, OSError, RuntimeError, KeyError, ValueError) as error:
            raise self._damaged(error) from error

    def _open_list(self, label: str, fields: dict[str, str], tails: dict[str, tuple[int, ...]]) -> None:
        offset = checked_dataset(self._file, self.path, f"{label}_offset", "i8", (self.clips + 1,))[()]
        if offset[0] != 0 or (np.diff(offset) < 0).any():
            raise ValueError(f"{label}_offset does not rise")
        self._data[f"{label}_offset"] = offset
        for name, dtype in fields.items():
            self._data[name] = checked_dataset(self._file, self.path, name, dtype, (int(offset[-1]), *tails[name]))

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
