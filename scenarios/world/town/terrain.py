"""Ground heights everywhere from the heights of the roads. X/Y cell axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenarios.layout import RoadRaster

COARSE_M = 1.0
SMOOTH_M = 10.0
HOLD_M = 7.0  # how far the ground keeps the height of the road's edge


def terrain_cm(raster: RoadRaster) -> NDArray[np.int16]:
    """[X, Y] level-0 heights: the map's own where it has one, else led smoothly outwards from the nearest road."""
    from scipy import ndimage

    height = raster.height_cm[0]
    known = raster.flags[0] > 0
    if not known.any():
        return np.zeros(height.shape, np.int16)
    if not height[known].any():
        return height.copy()
    step = max(1, round(COARSE_M / raster.cell_m))
    coarse, mapped = _means(height, known, step)
    distance, nearest = ndimage.distance_transform_edt(~mapped, return_indices=True)
    filled = coarse[nearest[0], nearest[1]]
    smooth = ndimage.gaussian_filter(filled, SMOOTH_M / COARSE_M)
    hold = np.exp(-(distance * COARSE_M) / HOLD_M)
    ground = hold * ndimage.gaussian_filter(filled, 1.0) + (1 - hold) * smooth
    out = height.copy()
    rows = (np.arange(height.shape[1]) + 0.5) / step - 0.5
    for start in range(0, height.shape[0], 512):  # in strips: whole maps would take a gigabyte of doubles
        stop = min(start + 512, height.shape[0])
        lines = (np.arange(start, stop) + 0.5) / step - 0.5
        grid = np.meshgrid(lines, rows, indexing="ij")
        fine = ndimage.map_coordinates(ground, grid, order=1, mode="nearest", output=np.float32)
        out[start:stop] = np.where(known[start:stop], height[start:stop], np.round(fine))
    return out


def _means(height: NDArray[np.int16], known: NDArray[np.bool_], step: int) -> tuple[NDArray, NDArray[np.bool_]]:
    """Mean height of the known cells in step x step blocks, and which blocks have any."""
    x, y = (-(-n // step) for n in height.shape)
    pad = ((0, x * step - height.shape[0]), (0, y * step - height.shape[1]))
    blocks = np.pad(known, pad).reshape(x, step, y, step)
    tall = np.pad(height, pad).reshape(x, step, y, step)
    count = blocks.sum(axis=(1, 3))
    total = (tall * blocks).sum(axis=(1, 3), dtype=np.int64)
    return total / np.maximum(count, 1), count > 0
