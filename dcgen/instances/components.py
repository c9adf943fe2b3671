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


def seen_from_above(voxels: Voxels, grid: GridSpec, world_se3_grid: Doubles) -> View:
    """What voxels look like in the world, from a grid at a pose [4, 4]."""
    shape, voxel_m, origin_m = (np.asarray(v) for v in (grid.shape, grid.voxel_m, grid.origin_m))
    columns = np.unique(voxels[:, :2], axis=0)
    middle_z = origin_m[2] + (voxels[:, 2].min() + voxels[:, 2].max() + 1) / 2 * voxel_m[2]
    points = np.column_stack([origin_m[:2] + (columns + 0.5) * voxel_m[:2], np.full(len(columns), middle_z)])
    world = points @ world_se3_grid[:3, :3].T + world_se3_grid[:3, 3]
    tall = (voxels[:, 2].max() + 1 - voxels[:, 2].min()) * voxel_m[2]
    side = (columns == shape[:2] - 1).any(axis=0).astype(float) - (columns == 0).any(axis=0)
    outward = world_se3_grid[:2, :2] @ side
    middle = float(world[:, 2].mean())
    return View(world[:, :2], outward, middle - tall / 2, middle + tall / 2)
