"""A data set's folder: one writer, any number of readers. N clip.

DIR/dataset.json          what it is (spec.py)
DIR/worlds/NAME/          towns and traffic, where clips are cut from worlds
DIR/parts/part-N.json     the index: a row a clip, with the digest of its content (parts.py)
DIR/parts/part-N.h5       the clips themselves, where they are kept (shard.py)
"""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Protocol, overload

import numpy as np

import dcgen
from dcgen.dataset.files import LOCK, only_writer, sweep
from dcgen.dataset.packing import Packed, unpack_clip
from dcgen.dataset.parts import FOLDER as PARTS
from dcgen.dataset.parts import Part, Row, check_shard, finished_parts, index_path, read_part, write_part
from dcgen.dataset.shard import Shard, all_fields
from dcgen.dataset.spec import NAME, DatasetSpec, load_spec, save_spec
from dcgen.errors import DatasetError
from dcgen.types import NUM_CLASSES, UNKNOWN, Clip

WORLDS = "worlds"
OPEN_SHARDS = 96


class DatasetWriter:
    """Goes on with the data set of this spec in a folder, or begins it. Use as a context: it holds the folder's lock.

    Raises DatasetError where another data set is there, where another process writes, or nothing can be written.
    """

    def __init__(
        self, folder: Path, spec: DatasetSpec, commit: str = "", tell: Callable[[str], None] = lambda line: None
    ) -> None:
        self.folder, self.spec = Path(folder), spec
        self._made_by = {"dcgen": dcgen.__version__, "commit": commit}
        self._tell = tell
        self.finished: frozenset[int] = frozenset()
        self._held = ExitStack()

    def __enter__(self) -> DatasetWriter:
        if (self.folder / "world.npz").exists():
            raise DatasetError(f"{self.folder}: is the folder of a world; choose another folder")
        began_here = not (self.folder / NAME).exists()
        self._held.enter_context(only_writer(self.folder))
        if began_here:
            self._held.push(self._leave_nothing)
        try:
            begun = any((self.folder / PARTS).glob("part-*.json"))  # an order that came to nothing may be mended
            if begun and (self.folder / NAME).exists():
                self._compare(load_spec(self.folder)[0])
            else:
                save_spec(self.folder, self.spec, self._made_by)
            sweep(self.folder)
            self.finished = finished_parts(self.folder, self.spec, self._tell)
        except BaseException:
            self._held.__exit__(*sys.exc_info())
            raise
        return self

    def _leave_nothing(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After a fault before anything was finished, a mended order finds the folder as it was."""
        if kind is None:
            return
        sweep(self.folder)
        for name in (PARTS, WORLDS):
            with suppress(OSError):
                (self.folder / name).rmdir()
        if {path.name for path in self.folder.iterdir()} <= {NAME, LOCK}:
            for name in (NAME, LOCK):
                (self.folder / name).unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.rmdir()

    def _compare(self, there: DatasetSpec) -> None:
        mine, other = self.spec.to_dict(), there.to_dict()
        for name, value in mine.items():
            if _plain(value) != _plain(other[name]):
                detail = (
                    f"{name} {_brief(other[name])}, asked for {_brief(value)}"
                    if name != "origin"
                    else _origin_gap(other[name], value)
                )
                raise DatasetError(f"{self.folder}: holds another data set ({detail}); choose another folder")

    def write_shard(self, part: int, clips: Iterable[Clip]) -> None:
        """Keep the clips of one part, whole or not at all."""
        write_part(self.folder, self.spec, part, clips)
        self.finished |= {part}

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, fault, trace)


def _plain(value: object) -> object:
    """The value as JSON would give it back."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _brief(value: object) -> str:
    return f"{value}"[:80]


def _origin_gap(there: dict[str, object], asked: dict[str, object]) -> str:
    for key in sorted(there.keys() | asked.keys()):
        if _plain(there.get(key)) != _plain(asked.get(key)):
            return f"{key} {_brief(there.get(key))}, asked for {_brief(asked.get(key))}"
    return "another origin"


class ClipReader(Protocol):
    """Packed clips of a data set by their place in the index."""

    def packed(self, index: int, fields: Iterable[str]) -> Packed: ...


@dataclass
class ShardReader:
    """Clips of shards. A shard is checked before it is first read; the last OPEN_SHARDS stay open."""

    folder: Path
    spec: DatasetSpec
    parts: tuple[Part, ...]
    _open: OrderedDict[int, Shard] = field(default_factory=OrderedDict)
    _whole: dict[int, Path] = field(default_factory=dict)  # shards whose checksum was compared

    def packed(self, index: int, fields: Iterable[str]) -> Packed:
        place, clip = divmod(index, self.spec.part_clips)
        shard = self._open.get(place)
        if shard is None:
            part = self.parts[place]
            if place not in self._whole:
                self._whole[place] = check_shard(self.folder, part)
            shard = self._open[place] = Shard(self._whole[place], self.spec, len(part.rows))
            while len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(place)
        return shard.read(clip, fields)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict(), "_whole": {}}  # a worker opens its own


@dataclass(frozen=True, repr=False)
class ClipDataset(Sequence[Clip]):  # type: ignore[type-arg,unused-ignore]
    """The clips of a data set, in the order of its index. Reads a clip when it is asked for; pickles to workers."""

    folder: Path
    spec: DatasetSpec
    made_by: dict[str, str]
    rows: tuple[Row, ...]
    reader: ClipReader

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"ClipDataset({str(self.folder)!r}: {len(self)} clips of {self.spec.clip_shape})"

    def packed(self, index: int, fields: Iterable[str]) -> Packed:
        """Named arrays of one clip (packing.py). Raises IndexError and DatasetError."""
        fields = list(fields)
        if unknown := set(fields) - set(all_fields(self.spec)):
            raise DatasetError(f"{self.folder}: has no {', '.join(sorted(unknown))}; give fields that it holds")
        return self.reader.packed(range(len(self))[index], fields)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[n] for n in range(len(self))[index]]
        place = range(len(self))[index]
        packed = self.reader.packed(place, all_fields(self.spec))
        labels = packed["labels"]
        if not np.isin(np.unique(labels), [*range(NUM_CLASSES), UNKNOWN]).all():
            raise DatasetError(f"{self.folder}: clip {place} holds classes that do not exist; run the build again")
        return unpack_clip(packed, self.spec, self.rows[place].source)

    def __iter__(self) -> Iterator[Clip]:
        return (self[n] for n in range(len(self)))

    @property
    def complete(self) -> bool:
        return len(self) == self.spec.clips

    @cached_property
    def content_sha256(self) -> str:
        """A digest of the clips' contents in the order of the index; the same for kept and for cut clips."""
        return hashlib.sha256("".join(row.sha256 for row in self.rows).encode()).hexdigest()


def read_index(folder: Path) -> tuple[DatasetSpec, dict[str, str], tuple[Part, ...]]:
    """(spec, made_by, finished parts from the first on without a gap). Raises DatasetError."""
    folder = Path(folder)
    spec, made_by = load_spec(folder)
    parts = []
    for number in range(spec.parts):
        if not index_path(folder, number).exists():
            break
        parts.append(read_part(folder, spec, number))
    if not parts:
        raise DatasetError(f"{folder}: holds no finished part yet; run the build again, it goes on where it stopped")
    return spec, made_by, tuple(parts)


def open_dataset(
    folder: Path, cutter: Callable[[Path, DatasetSpec, tuple[Row, ...]], ClipReader] | None = None
) -> ClipDataset:
    """The data set in a folder, as far as it is built. cutter makes the reader of clips that are cut from worlds.

    Raises DatasetError.
    """
    folder = Path(folder)
    spec, made_by, parts = read_index(folder)
    rows = tuple(row for part in parts for row in part.rows)
    if not spec.cut:
        return ClipDataset(folder, spec, made_by, rows, ShardReader(folder, spec, parts))
    if cutter is None:
        raise DatasetError(f"{folder}: its clips are cut from worlds; open it with bridges.dataset.dcgen_dataset")
    return ClipDataset(folder, spec, made_by, rows, cutter(folder, spec, rows))
