"""The static world that a long scene has seen so far, in world-fixed cells. P points, X/Y/Z voxel axes.

Chunks turn and shift against each other; the canvas is the one place where static labels live, so what was seen
once stays. Cells are half a voxel, so that a grid of any angle reads back whole what it has painted. Memory grows with
the ground covered (32 MB a kilometre of road for cells of 0.4 m), not with the number of frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.types import UNKNOWN, Doubles, GridSpec, Labels

TILE = 32
_OFFSET, _BITS = 1 << 20, 21  # tile indices are packed into one int64 key


def world_points(grid: GridSpec, world_se3_grid: Doubles, parts: int = 1) -> Doubles:
    """[X * parts, Y * parts, Z * parts, 3] centres of the voxels, or of their sub-cells, in the world."""
    fine = GridSpec(
        (grid.shape[0] * parts, grid.shape[1] * parts, grid.shape[2] * parts),
        (grid.voxel_m[0] / parts, grid.voxel_m[1] / parts, grid.voxel_m[2] / parts),
        grid.origin_m,
    )
    return fine.centres_m() @ world_se3_grid[:3, :3].T + world_se3_grid[:3, 3]


def grid_index(grid: GridSpec, world_se3_grid: Doubles, points: Doubles) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[..., 3] voxel that each world point falls in, and whether it lies inside the grid (indices are clipped)."""
    local = (points - world_se3_grid[:3, 3]) @ world_se3_grid[:3, :3]
    index = np.floor((local - np.array(grid.origin_m)) / np.array(grid.voxel_m)).astype(np.int64)
    inside = ((index >= 0) & (index < np.array(grid.shape))).all(axis=-1)
    return np.clip(index, 0, np.array(grid.shape) - 1), inside


def sample_grid(labels: Labels, grid: GridSpec, world_se3_grid: Doubles, points: Doubles) -> Labels:
    """[...] the label of the voxel that each world point falls in, UNKNOWN outside."""
    index, inside = grid_index(grid, world_se3_grid, points)
    return np.where(inside, labels[index[..., 0], index[..., 1], index[..., 2]], np.uint8(UNKNOWN))


class Canvas:
    """Sparse tiles of TILE^3 cells. A cell is written once; UNKNOWN until then."""

    def __init__(self, cell_m: float) -> None:
        self.cell_m = cell_m
        self._tiles: dict[int, Labels] = {}

    def _locate(self, points: Doubles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tile key and flat place within the tile of each point [P, 3]."""
        cell = np.floor(points / self.cell_m).astype(np.int64)
        tile, inner = cell // TILE, cell % TILE
        key = ((tile[:, 0] + _OFFSET) << 2 * _BITS) + ((tile[:, 1] + _OFFSET) << _BITS) + tile[:, 2] + _OFFSET
        return key, (inner[:, 0] * TILE + inner[:, 1]) * TILE + inner[:, 2]

    def centres(self, low_m: Doubles, high_m: Doubles) -> Doubles:
        """[A, B, C, 3] centres of the cells that a world box touches."""
        first = np.floor(low_m / self.cell_m).astype(np.int64)
        last = np.ceil(high_m / self.cell_m).astype(np.int64)
        axes = [(np.arange(a, b) + 0.5) * self.cell_m for a, b in zip(first, last, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def read(self, points: Doubles) -> Labels:
        """[...] label of the cell that each point [..., 3] falls in."""
        key, place = self._locate(points.reshape(-1, 3))
        out = np.full(len(key), UNKNOWN, np.uint8)
        for one in np.unique(key):
            if one in self._tiles:
                here = np.flatnonzero(key == one)
                out[here] = self._tiles[one][place[here]]
        return out.reshape(points.shape[:-1])

    def write(self, points: Doubles, labels: Labels) -> None:
        """Sets the cells of points [..., 3] that nobody has set; give each cell at most one point a call."""
        key, place = self._locate(points.reshape(-1, 3))
        flat = labels.reshape(-1)
        for one in np.unique(key[flat != UNKNOWN]):
            tile = self._tiles.setdefault(int(one), np.full(TILE**3, UNKNOWN, np.uint8))
            here = np.flatnonzero((key == one) & (flat != UNKNOWN))
            unseen = here[tile[place[here]] == UNKNOWN]
            tile[place[unseen]] = flat[unseen]

    @property
    def cells(self) -> int:
        """How many cells have been seen."""
        return sum(int((tile != UNKNOWN).sum()) for tile in self._tiles.values())
