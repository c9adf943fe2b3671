"""Solid labels as a sensor sees them: shells. N frame, X/Y/Z voxel axes.

A voxel that is not free goes when its six neighbours are not free either: no ray can reach it. Things go on beyond the
sides and the top of the grid, and below it is nothing to see, so that what is missing there counts as not free.
Surfaces stay, since one layer of them is all there is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import SURFACES, UNKNOWN, Labels, Semantics
from scenarios.paint import compiled


def hollow(labels: Labels, fast: bool = True) -> Labels:
    """Labels [..., X, Y, Z] without the insides of solid things; surfaces and UNKNOWN stay.

    The same voxels go in every frame that is alike, none is added, and a second time changes nothing. fast picks the
    numba kernel, else its numpy twin.
    """
    if labels.ndim < 3 or labels.dtype != np.uint8:
        raise ValueError(f"labels need uint8 of shape [..., X, Y, Z], got {labels.dtype} of {labels.shape}")
    frames = np.ascontiguousarray(labels).reshape(-1, *labels.shape[-3:])
    out = frames.copy()
    stays = np.zeros(256, np.bool_)
    stays[[Semantics.FREE, UNKNOWN, *SURFACES]] = True
    run: Any = compiled(clear_insides) if fast else clear_insides_numpy
    run(frames, stays, out)
    return out.reshape(labels.shape)


def clear_insides(frames: Labels, stays: NDArray[np.bool_], out: Labels) -> None:
    """Kernel: zero in `out` [N, X, Y, Z] what has no free neighbour in `frames`, but for classes that stay [256]."""
    count, nx, ny, nz = frames.shape
    for n in range(count):
        for i in range(nx):
            west, east = max(i - 1, 0), min(i + 1, nx - 1)
            for j in range(ny):
                south, north = max(j - 1, 0), min(j + 1, ny - 1)
                for k in range(nz):
                    if (
                        not stays[frames[n, i, j, k]]
                        and frames[n, i, j, max(k - 1, 0)] != 0
                        and frames[n, i, j, min(k + 1, nz - 1)] != 0
                        and frames[n, west, j, k] != 0
                        and frames[n, east, j, k] != 0
                        and frames[n, i, south, k] != 0
                        and frames[n, i, north, k] != 0
                    ):
                        out[n, i, j, k] = 0


def clear_insides_numpy(frames: Labels, stays: NDArray[np.bool_], out: Labels) -> None:
    """The kernel's twin over whole arrays."""
    solid = np.pad(frames != Semantics.FREE, ((0, 0), (1, 1), (1, 1), (1, 1)), constant_values=True)
    inside = ~stays[frames]
    for axis in (1, 2, 3):
        for shift in (0, 2):
            window = [slice(None), slice(1, -1), slice(1, -1), slice(1, -1)]
            window[axis] = slice(shift, shift + frames.shape[axis])
            inside &= solid[tuple(window)]
    out[inside] = Semantics.FREE
