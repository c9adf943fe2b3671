"""The loops that mark what rays see in a grid, for numba. A azimuth, C channel, X/Y/Z voxel axes.

As in lidar_kernels.py, one walk over the ground plan serves all channels of an azimuth, and distances are horizontal
metres. Twins with the same arguments stand in lidar_numpy.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def pass_voxels(
    at_x: float,  # the sensor in the grid's voxels
    at_y: float,
    at_z: float,
    step_x: Any,  # float64 [A] voxels a horizontal metre
    step_y: Any,  # float64 [A]
    step_z: Any,  # float64 [C]
    distance_m: Any,  # float64 [A, C] how far each ray came; at 0 it saw nothing
    azimuth_from_m: Any,  # float64 [A] from where on an azimuth's rays are looked at
    channel_from_m: Any,  # float64 [C]
    passed: Any,  # in and out, bool [X, Y, Z]
) -> None:
    """Mark every voxel that a ray passes through."""
    nx, ny, nz = passed.shape
    most = nx + ny + 2
    column_x = np.empty(most, np.int64)
    column_y = np.empty(most, np.int64)
    edge = np.empty(most + 1)
    for a in range(distance_m.shape[0]):
        # The part of the azimuth that is over the grid.
        near, far = azimuth_from_m[a], distance_m[a].max()
        metres_x = 1.0 / step_x[a] if step_x[a] != 0 else np.inf
        metres_y = 1.0 / step_y[a] if step_y[a] != 0 else np.inf
        if step_x[a] != 0:
            one, other = -at_x * metres_x, (nx - at_x) * metres_x
            near, far = max(near, min(one, other)), min(far, max(one, other))
        elif at_x < 0 or at_x >= nx:
            continue
        if step_y[a] != 0:
            one, other = -at_y * metres_y, (ny - at_y) * metres_y
            near, far = max(near, min(one, other)), min(far, max(one, other))
        elif at_y < 0 or at_y >= ny:
            continue
        if near >= far:
            continue
        # The voxel columns it crosses, from edge[n] to edge[n + 1].
        i = min(max(math.floor(at_x + step_x[a] * near), 0), nx - 1)
        j = min(max(math.floor(at_y + step_y[a] * near), 0), ny - 1)
        move_x = 1 if step_x[a] > 0 else -1
        move_y = 1 if step_y[a] > 0 else -1
        ahead_x = max(move_x, 0)
        ahead_y = max(move_y, 0)
        next_x = (i + ahead_x - at_x) * metres_x if step_x[a] != 0 else np.inf
        next_y = (j + ahead_y - at_y) * metres_y if step_y[a] != 0 else np.inf
        count = 0
        edge[0] = near
        while count < most and 0 <= i < nx and 0 <= j < ny and edge[count] < far:
            column_x[count] = i
            column_y[count] = j
            count += 1
            edge[count] = min(next_x, next_y)
            if next_x <= next_y:
                i += move_x
                next_x = (i + ahead_x - at_x) * metres_x
            else:
                j += move_y
                next_y = (j + ahead_y - at_y) * metres_y
        for c in range(distance_m.shape[1]):
            end = distance_m[a, c]
            n = 0
            while n < count and edge[n + 1] <= channel_from_m[c]:
                n += 1
            if n == count:
                continue
            k = math.floor(at_z + step_z[c] * edge[n])
            while n < count and edge[n] < end:
                if (k < 0 and step_z[c] <= 0) or (k >= nz and step_z[c] >= 0):
                    break  # it has left the grid for good
                last = math.floor(at_z + step_z[c] * min(edge[n + 1], end))
                for at in range(max(min(k, last), 0), min(max(k, last), nz - 1) + 1):
                    passed[column_x[n], column_y[n], at] = True
                k = last
                n += 1


def end_voxels(
    at_x: float,  # the sensor in the grid's voxels
    at_y: float,
    at_z: float,
    step_x: Any,  # float64 [A] voxels a horizontal metre
    step_y: Any,  # float64 [A]
    step_z: Any,  # float64 [C]
    distance_m: Any,  # float64 [A, C]
    class_id: Any,  # uint8 [A, C], 0 where nothing was hit
    place_m: Any,  # float64 [C, P] where a hit's voxels are looked for: just before it, and from there on behind it
    labels: Any,  # uint8 [X, Y, Z]
    observed: Any,  # in and out, bool [X, Y, Z]
) -> None:
    """Mark, for every hit, the voxel it lies in and the first one behind it, each where it is not free."""
    nx, ny, nz = labels.shape
    for a in range(distance_m.shape[0]):
        for c in range(distance_m.shape[1]):
            if class_id[a, c] == 0:
                continue
            for p in range(place_m.shape[1]):
                s = distance_m[a, c] + place_m[c, p]
                i = math.floor(at_x + step_x[a] * s)
                j = math.floor(at_y + step_y[a] * s)
                k = math.floor(at_z + step_z[c] * s)
                if 0 <= i < nx and 0 <= j < ny and 0 <= k < nz and labels[i, j, k] != 0:
                    observed[i, j, k] = True
                    if p > 0:
                        break
