"""Files of a public set, read with care: raw arrays, members of an .npz, tables of poses, numbered frames.

Everything raises DatasetError in one line that names the file. Nothing is unpickled; see restricted.py.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from bridges.datasets.restricted import load_restricted, shown
from dcgen.errors import DatasetError
from dcgen.types import Doubles
from scenarios.reading import read_file

MOST_TEXT_BYTES = 50_000_000
MOST_OBJECT_BYTES = 64_000_000  # of a member that numpy has pickled
_AGAIN = "copy the file again"


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """All of a file, at most most_bytes."""
    if not path.exists():
        raise DatasetError(f"{path}: is missing; copy it from the set")
    return read_file(path, most_bytes, "a file of the set", DatasetError)


def read_raw(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray:
    """An array without header, little-endian, C order."""
    kind = np.dtype(dtype).newbyteorder("<")
    want = int(np.prod(shape)) * kind.itemsize
    data = read_bytes(path, want + (1 << 20))
    if len(data) != want:
        words = " x ".join(map(str, shape))
        raise DatasetError(f"{path}: holds {len(data)} bytes, {words} of {kind.name} are {want}; {_AGAIN}")
    return np.frombuffer(data, kind).reshape(shape)


def read_bits(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask of one bit a voxel, the most significant first."""
    count = int(np.prod(shape))
    packed = read_raw(path, np.uint8, (-(-count // 8),))
    return np.unpackbits(packed, count=count, bitorder="big").reshape(shape) > 0


def read_sweep(path: Path) -> NDArray[np.float32]:
    """[N, 4] points x, y, z, intensity of a sweep of float32."""
    data = read_bytes(path, 1_000_000_000)
    if len(data) % 16:
        raise DatasetError(f"{path}: holds {len(data)} bytes, which are no points of 16; {_AGAIN}")
    points = np.frombuffer(data, "<f4").reshape(-1, 4)
    if not np.isfinite(points[:, :3]).all():
        raise DatasetError(f"{path}: holds a point that is no number; {_AGAIN}")
    return points.astype(np.float32)


class Archive:
    """An .npz file, open for a `with` block. Only plain arrays are read, and only as large as they have to be."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Archive:
        if not self.path.is_file():
            raise DatasetError(f"{self.path}: is missing; copy it from the set")
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise self._damaged(error) from None
        self._names = set(self._zip.namelist())
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._names

    def array(self, name: str, shape: tuple[int, ...], kinds: str) -> NDArray:
        """Member of that shape, of a type whose kind (numpy's letter) is among kinds."""
        found, dtype, fortran, data = self._member(name, kinds, shape)
        count = int(np.prod(shape)) * dtype.itemsize
        if len(data) != count:
            raise DatasetError(f"{self.path}: {name} holds {len(data)} bytes, not {count}; {_AGAIN}")
        return np.frombuffer(data, dtype).reshape(found, order="F" if fortran else "C")

    def mask(self, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Member of 0 and 1 (or bool)."""
        values = self.array(name, shape, "bui")
        if values.dtype != bool and ((values != 0) & (values != 1)).any():
            raise DatasetError(f"{self.path}: {name} holds other numbers than 0 and 1; {_AGAIN}")
        return values != 0

    def objects(self, name: str) -> list[Any]:
        """Member that numpy has pickled, through the restricted reader, as a list."""
        shape, dtype, _, data = self._member(name, "Of", None)
        if not dtype.hasobject:  # an empty list becomes an empty array of floats
            if int(np.prod(shape)):
                raise DatasetError(f"{self.path}: {name} is an array of {shown(dtype)}, not a list; {_AGAIN}")
            return []
        value = load_restricted(data, f"{self.path}: {name}", MOST_OBJECT_BYTES)
        items = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(items, list):
            raise DatasetError(f"{self.path}: {name} is no list; {_AGAIN}")
        return items

    def _member(self, name: str, kinds: str, shape: tuple[int, ...] | None) -> tuple[Any, np.dtype, bool, bytes]:
        if name not in self:
            there = ", ".join(sorted(shown(each.removesuffix(".npy")) for each in self._names)[:6])
            raise DatasetError(f"{self.path}: has no array {name!r}, only {there}; check which set this is")
        try:
            with self._zip.open(f"{name}.npy") as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                found, fortran, dtype = read(file)
                if dtype.kind not in kinds or (shape is not None and found != shape):
                    raise DatasetError(
                        f"{self.path}: {name} is {shown(dtype)} {list(found)}, expected kind {'/'.join(kinds)} "
                        f"{list(shape or ())}; check which set this is"
                    )
                most = MOST_OBJECT_BYTES if shape is None else int(np.prod(shape)) * dtype.itemsize
                return found, dtype, fortran, file.read(most + 1)
        except (
            OSError,
            ValueError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DatasetError:
        return DatasetError(f"{self.path}: damaged ({shown(error)}); {_AGAIN}")


def read_table(path: Path, columns: int) -> Doubles:
    """[N, columns] the numbers of a text file, a row a line."""
    try:
        text = read_bytes(path, MOST_TEXT_BYTES).decode("ascii")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: byte {error.start} is no text; {_AGAIN}") from None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            raise DatasetError(f"{path}: line {number} is no row of numbers; {_AGAIN}") from None
        if len(row) != columns or not np.isfinite(row).all():
            raise DatasetError(f"{path}: line {number} holds {len(row)} numbers, expected {columns} finite; {_AGAIN}")
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, columns)


def square(rows: NDArray) -> Doubles:
    """[N, 4, 4] poses out of rows [N, 12] of their upper three lines."""
    out = np.tile(np.eye(4), (len(rows), 1, 1))
    out[:, :3] = rows.reshape(-1, 3, 4)
    return out


MOST_COORDINATE_M = 2e7  # half the way round the earth


def check_poses(path: Path, poses: NDArray) -> Doubles:
    """The same poses [N, 4, 4], of which each turns and shifts and does nothing else."""
    out = np.asarray(poses, np.float64)
    turn = out[:, :3, :3]
    whole = (np.abs(out) < MOST_COORDINATE_M).all(axis=(1, 2)) & (np.abs(out[:, 3] - (0, 0, 0, 1)) < 1e-6).all(axis=1)
    rigid = (np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)) < 1e-3).all(axis=(1, 2)) & (np.linalg.det(turn) > 0)
    if not (whole & rigid).all():
        raise DatasetError(f"{path}: pose {int(np.argmin(whole & rigid))} is no rotation and shift; {_AGAIN}")
    return out


def check_growing(path: Path, times: Sequence[float] | NDArray) -> None:
    """Raises DatasetError where the frames of a file do not follow each other in time."""
    try:
        late = np.diff(np.asarray(times, np.float64)) > 0
    except OverflowError:
        late = np.zeros(1, np.bool_)
    if not late.all():
        at = int(np.argmin(late)) + 1
        raise DatasetError(f"{path}: frame {at} is not later than the one before; put the frames in order of time")


def numbered(
    folder: Path, suffixes: tuple[str, ...], digits: int, steps: tuple[int, ...] = (1,)
) -> tuple[tuple[int, ...], int]:
    """(numbers, step) of the frames in a folder: named by `digits` digits, one of `steps` apart.

    A file of any of the suffixes tells that there is a frame, the first suffix is what each frame needs. Raises
    DatasetError that names the first missing file.
    """
    found: dict[str, set[int]] = {suffix: set() for suffix in suffixes}
    pattern = re.compile(rf"(\d{{{digits}}})({'|'.join(map(re.escape, suffixes))})")
    for each in folder.iterdir():
        if name := pattern.fullmatch(each.name):
            found[name[2]].add(int(name[1]))
    numbers = sorted(set().union(*found.values()))
    if not numbers:
        raise DatasetError(f"{folder}: holds no frame {'0' * digits}{suffixes[0]}; copy the frames here")
    least = int(np.diff(numbers).min()) if len(numbers) > 1 else 1
    step = max(each for each in steps if each <= least)
    there = found[suffixes[0]]
    for number in range(numbers[0], numbers[-1] + 1, step):
        if number not in there:
            raise DatasetError(f"{folder / f'{number:0{digits}d}{suffixes[0]}'}: is missing; copy the frame again")
    return tuple(numbers), step
