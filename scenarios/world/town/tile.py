"""A town as columns of 0.2 m: surfaces and the solid spans above them. L level, S span, X/Y cell axes.

Heights are centimetres above the tile's `z0_m`. Level 0 is the terrain and exists everywhere; level 1 holds decks
(bridges), class 0 where there is none. See docs/adr/0001-columns.md.
"""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import NUM_CLASSES, Doubles, Labels

SPANS = 3
CELL_M = 0.2
_ARRAYS = ("surface_class", "surface_cm", "span_class", "span_lo_cm", "span_hi_cm")
_VERSION = 1

Heights = NDArray[np.int16]


@dataclass(frozen=True)
class TownTile:
    """Columns of a town. Cell [x, y] covers origin_m + [x, y] * cell_m up to one cell more, in the world frame."""

    origin_m: tuple[float, float]
    cell_m: float
    z0_m: float
    surface_class: Labels  # [L, X, Y]
    surface_cm: Heights  # [L, X, Y]
    span_class: Labels  # [S, X, Y], 0 where free; used spans come first
    span_lo_cm: Heights  # [S, X, Y]
    span_hi_cm: Heights  # [S, X, Y]

    def __post_init__(self) -> None:
        if self.surface_class.ndim != 3 or self.span_class.ndim != 3:
            raise ValueError("tile.surface_class and tile.span_class need three axes")
        levels, x, y = self.surface_class.shape
        want = {
            "surface_class": ((levels, x, y), np.uint8),
            "surface_cm": ((levels, x, y), np.int16),
            "span_class": ((SPANS, x, y), np.uint8),
            "span_lo_cm": ((SPANS, x, y), np.int16),
            "span_hi_cm": ((SPANS, x, y), np.int16),
        }
        for name, (shape, dtype) in want.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"tile.{name} needs {dtype.__name__} of shape {shape}, got {array.shape}")
        if not self.cell_m > 0 or levels < 1 or min(x, y) < 1:
            raise ValueError("tile needs cells of positive size and at least one of them")

    @property
    def cells(self) -> tuple[int, int]:
        return (self.surface_class.shape[1], self.surface_class.shape[2])

    @property
    def bytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def cell_of(self, xy_m: Doubles) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of the cells that hold the points [..., 2]; points outside take the nearest edge cell."""
        at = np.floor((np.asarray(xy_m) - np.asarray(self.origin_m)) / self.cell_m).astype(np.intp)
        return np.clip(at[..., 0], 0, self.cells[0] - 1), np.clip(at[..., 1], 0, self.cells[1] - 1)

    def ground_z_m(self, xy_m: Doubles, near_z_m: NDArray[np.floating[Any]] | float | None = None) -> Doubles:
        """[...] height of the surface below the points [..., 2]: the level nearest to near_z_m, else the terrain."""
        x, y = self.cell_of(xy_m)
        height = self.surface_cm[0, x, y] / 100.0 + self.z0_m
        if near_z_m is None:
            return np.asarray(height, np.float64)
        for level in range(1, len(self.surface_class)):
            other = self.surface_cm[level, x, y] / 100.0 + self.z0_m
            nearer = (self.surface_class[level, x, y] > 0) & (np.abs(other - near_z_m) < np.abs(height - near_z_m))
            height = np.where(nearer, other, height)
        return np.asarray(height, np.float64)


def save_tile(tile: TownTile, path: Path) -> None:
    """Write the tile as one .npz of plain arrays (no pickle), whole or not at all. Raises WorldError."""
    head = {
        "format": "dcgen-tile",
        "version": _VERSION,
        "origin_m": list(tile.origin_m),
        "cell_m": tile.cell_m,
        "z0_m": tile.z0_m,
    }
    arrays = {name: getattr(tile, name) for name in _ARRAYS}
    save_arrays(path, head, arrays)


def load_tile(path: Path) -> TownTile:
    """Read a tile back. Raises WorldError on a file that is not one."""
    head, arrays = load_arrays(path, "dcgen-tile", _VERSION, _ARRAYS)
    try:
        tile = TownTile(
            origin_m=(float(head["origin_m"][0]), float(head["origin_m"][1])),
            cell_m=float(head["cell_m"]),
            z0_m=float(head["z0_m"]),
            **arrays,
        )
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise WorldError(f"{path}: not a usable tile ({error}); build the world again") from error
    if max(int(tile.surface_class.max()), int(tile.span_class.max())) >= NUM_CLASSES:
        raise WorldError(f"{path}: surface_class or span_class holds an unknown class; build the world again")
    return tile


def save_arrays(path: Path, head: dict[str, object], arrays: dict[str, NDArray]) -> None:
    """Write a JSON head and arrays to an .npz with fast compression: temporary name, fsync, rename."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    packed = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for name, array in packed.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise WorldError(
            f"{path}: cannot be written ({error.strerror or error}); free the disk or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def load_arrays(path: Path, kind: str, version: int, names: tuple[str, ...]) -> tuple[dict, dict[str, NDArray]]:
    """The JSON head and the named arrays of an .npz that save_arrays wrote. Raises WorldError."""
    try:
        if path.is_file() and not zipfile.is_zipfile(path):  # numpy would advise to unpickle it
            raise zipfile.BadZipFile("no archive")
        with np.load(path, allow_pickle=False) as archive:
            head = json.loads(archive["head"].tobytes())
            if not isinstance(head, dict) or head.get("format") != kind or head.get("version") != version:
                raise WorldError(f"{path}: not a {kind} file of version {version}; build the world again")
            return head, {name: archive[name] for name in names}
    except FileNotFoundError as error:
        raise WorldError(f"{path}: no such file; build the world first") from error
    except WorldError:
        raise
    except Exception as error:  # zipfile, zlib, tokenize and numpy each raise their own on a damaged file
        raise WorldError(f"{path}: damaged or not a {kind} file ({error}); build the world again") from error
