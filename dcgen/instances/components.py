"""Pieces of movable classes in one frame, and what they look like from above. X/Y/Z voxel, V voxel, M column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.types import MOVABLE, Doubles, GridSpec, Labels

Voxels = NDArray[np.intp]  # [V, 3] indices


@dataclass(frozen=True)
class Piece:
    """Voxels of one class that hang together."""

    class_id: int
    voxels: Voxels


@dataclass(frozen=True)
class View:
    """A piece seen from above, in the world: what a tracker measures of it."""

    columns_m: Doubles  # [M, 2] middles of the columns that it fills
    outward: Doubles  # [2] the way, in the world, to the side of the grid that cuts it; 0 where none does
    bottom_m: float
    top_m: float

    @property
    def centre_m(self) -> Doubles:
        """[2] the middle of its columns."""
        return np.asarray(self.columns_m.mean(axis=0))


def pieces_of(labels: Labels, free: NDArray[np.bool_]) -> list[Piece]:
    """Connected pieces of each movable class in labels [X, Y, Z], of voxels for which free [X, Y, Z] is true."""
    from scipy import ndimage

    out = []
    touching = np.ones((3, 3, 3), bool)
    for class_id in MOVABLE:
        mine = free & (labels == class_id)
        at = np.argwhere(mine)
        if len(at) == 0:
            continue
        low, high = at.min(axis=0), at.max(axis=0) + 1
        named, count = ndimage.label(mine[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], touching)
        whose = named[tuple((at - low).T)]
        order = np.argsort(whose, kind="stable")
        ends = np.searchsorted(whose[order], np.arange(2, count + 1))
        out += [Piece(int(class_id), at[rows]) for rows in np.split(order, ends)]
    return out


def touched_by(piece: Piece, owner: NDArray[np.int32], labels: Labels) -> int:
    """Whose voxels of its class a piece touches, by the names in owner [X, Y, Z]: the most frequent; 0 for nobody's."""
    from scipy import ndimage

    low = np.maximum(piece.voxels.min(axis=0) - 1, 0)
    box = tuple(slice(a, b) for a, b in zip(low, piece.voxels.max(axis=0) + 2, strict=True))
    mine = np.zeros(owner[box].shape, bool)
    mine[tuple((piece.voxels - low).T)] = True
    beside = ndimage.binary_dilation(mine, np.ones((3, 3, 3), bool)) & (labels[box] == piece.class_id)
    names = owner[box][beside & (owner[box] > 0)]
    return int(np.bincount(names).argmax()) if len(names) else 0


def columns_of(voxels: Voxels, grid: GridSpec, world_se3_grid: Doubles) -> Doubles:
    """[V, 2] where voxels lie in the world, from above."""
    points = np.asarray(grid.origin_m) + (voxels + 0.5) * np.asarray(grid.voxel_m)
    return np.asarray(points @ world_se3_grid[:2, :3].T + world_se3_grid[:2, 3])


def seen_from_above(voxels: Voxels, grid: GridSpec, world_se3_grid: Doubles) -> View:
    """What voxels look like in the world, from a grid at a pose [4, 4]."""
    columns = np.unique(voxels[:, :2], axis=0)
    low, high = int(voxels[:, 2].min()), int(voxels[:, 2].max()) + 1
    side = (columns == np.array(grid.shape[:2]) - 1).any(axis=0).astype(float) - (columns == 0).any(axis=0)
    middle = grid.origin_m + np.array([*(columns.mean(axis=0) + 0.5), (low + high) / 2]) * grid.voxel_m
    height = float(world_se3_grid[2, :3] @ middle + world_se3_grid[2, 3])
    half = (high - low) * grid.voxel_m[2] / 2
    flat = np.column_stack([columns, np.full(len(columns), (low + high - 1) / 2)])
    return View(columns_of(flat, grid, world_se3_grid), world_se3_grid[:2, :2] @ side, height - half, height + half)
