"""Slow twin of surface_kernels: every unit face by itself, over whole arrays. X/Y/Z voxel axes, Q face."""

from __future__ import annotations

import numpy as np


def unit_faces(
    paint: np.ndarray, colours: np.ndarray, axis: int, sign: int, light: np.ndarray, sunny: bool, step: np.ndarray
) -> np.ndarray:
    """[X, Y, Z, 2, 2, 3] colour at the corners of each voxel's face on that side, by the face's axes; -1 where none."""
    solid = np.pad(paint != 0, 1)
    ahead = np.zeros(3, int)
    ahead[axis] = sign
    one, two = (i for i in range(3) if i != axis)
    beyond = tuple(slice(1 + n, size - 1 + n) for n, size in zip(ahead, solid.shape, strict=True))
    cell = np.argwhere((paint != 0) & ~solid[beyond])
    base = colours[paint[tuple(cell.T)], cell[:, 2]]
    seen = np.full((*paint.shape, 2, 2, 3), -1, int)
    for u in (-1, 1):
        for v in (-1, 1):
            side_one, side_two = np.zeros(3, int), np.zeros(3, int)
            side_one[one], side_two[two] = u, v
            near = cell + 1 + ahead
            first, second, third = (solid[tuple((near + s).T)] for s in (side_one, side_two, side_one + side_two))
            free = np.where(first & second, 0, 3 - first.astype(int) - second - third)
            start = cell + 0.5 + 0.5 * ahead + 0.4 * (0.5 * (side_one + side_two)) + 0.02 * ahead
            lit = _lit(solid, start, step) if sunny else np.ones(len(cell), int)
            colour = np.minimum(base * light[lit, free][:, None], np.float32(255)).astype(np.uint8)
            seen[(*cell.T, (u + 1) // 2, (v + 1) // 2)] = colour
    return seen


def _lit(solid: np.ndarray, start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """[Q] 1 where no solid voxel stands between there and the sun, sought in half steps."""
    shadow = np.zeros(len(start), bool)
    limit = np.array(solid.shape) - 1
    for k in range(1, 4 * sum(solid.shape)):
        at = np.clip(np.floor(start + 0.5 * k * step).astype(int) + 1, 0, limit)
        shadow |= solid[tuple(at.T)]
    return (~shadow).astype(int)
