"""The loops of a LiDAR that numba compiles. A azimuth, C channel, L level, S span, B box, X/Y/Z cell or voxel axes.

All channels of an azimuth lie in one upright plane, so that one walk over the ground plan serves them all: distances
are horizontal metres along that plane, and a channel's height is a straight line over them. Whatever is solid is an
interval of heights over an interval of distances. Twins with the same arguments stand in lidar_numpy.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def cast_columns(
    surface_class: Any,  # uint8 [L, X, Y] of the tile
    surface_cm: Any,  # int16 [L, X, Y]
    span_class: Any,  # uint8 [S, X, Y]
    span_lo_cm: Any,  # int16 [S, X, Y]
    span_hi_cm: Any,  # int16 [S, X, Y]
    deck_m: float,
    step_m: float,
    deck_class: int,
    cell_m: float,
    at_x: float,  # the sensor in cells
    at_y: float,
    at_z: float,  # metres above the tile's z0
    dir_x: Any,  # float64 [A] unit vectors along the world's axes
    dir_y: Any,  # float64 [A]
    slope: Any,  # float64 [C] height gained a metre, ascending
    cosine: Any,  # float64 [C] of the elevation
    sine: Any,  # float64 [C]
    distance_m: Any,  # in: how far each ray reaches, out: how far it came, float64 [A, C]
    class_id: Any,  # in: 0, out, uint8 [A, C]
    incidence: Any,  # in: 0, out: |cos| of the angle of incidence, float64 [A, C]
) -> None:
    """Cast a turn of rays against the columns of a tile; a sensor inside a solid gets hits at distance 0."""
    levels, cells_x, cells_y = surface_class.shape
    spans = span_class.shape[0]
    azimuths, channels = distance_m.shape
    reach = distance_m.max() if distance_m.size else 0.0
    lows = np.empty(levels + spans)
    highs = np.empty(levels + spans)
    kinds = np.empty(levels + spans, np.int64)
    level_of = np.empty(levels + spans, np.int64)  # -1: not a surface but a span
    closed_at = np.empty(channels, np.int64)  # the step at which a channel met something
    for a in range(azimuths):
        # The grid walk of Amanatides and Woo, A Fast Voxel Traversal Algorithm for Ray Tracing (1987).
        i = math.floor(at_x)
        j = math.floor(at_y)
        move_x = 1 if dir_x[a] > 0 else -1
        move_y = 1 if dir_y[a] > 0 else -1
        ahead_x = max(move_x, 0)
        ahead_y = max(move_y, 0)
        metres_x = cell_m / dir_x[a] if dir_x[a] != 0 else np.inf
        metres_y = cell_m / dir_y[a] if dir_y[a] != 0 else np.inf
        next_x = (i + ahead_x - at_x) * metres_x if dir_x[a] != 0 else np.inf
        next_y = (j + ahead_y - at_y) * metres_y if dir_y[a] != 0 else np.inf
        closed_at[:] = 1 << 60
        low = 0  # channels below and above these have met something
        high = channels - 1
        near = 0.0
        through_x = True
        step = 0
        while near <= reach and low <= high:
            far = min(next_x, next_y)
            x = min(max(i, 0), cells_x - 1)
            y = min(max(j, 0), cells_y - 1)
            count = 0
            for level in range(levels):
                if level == 0 or surface_class[level, x, y] > 0:
                    highs[count] = surface_cm[level, x, y] * 0.01
                    lows[count] = highs[count] - deck_m if level > 0 else -np.inf
                    kinds[count] = surface_class[level, x, y]
                    level_of[count] = level
                    count += 1
            for span in range(spans):
                if span_class[span, x, y] == 0:
                    break
                lows[count] = span_lo_cm[span, x, y] * 0.01
                highs[count] = span_hi_cm[span, x, y] * 0.01
                kinds[count] = span_class[span, x, y]
                level_of[count] = -1
                count += 1
            for n in range(count):
                lo = lows[n]
                hi = highs[n]
                if min(at_z + slope[low] * near, at_z + slope[low] * far) > hi:
                    continue
                if max(at_z + slope[high] * near, at_z + slope[high] * far) < lo:
                    continue
                first = low
                last = high
                while first < last and n > 0:  # the lowest channel that reaches lo; the terrain goes down for ever
                    middle = (first + last) // 2
                    if max(at_z + slope[middle] * near, at_z + slope[middle] * far) < lo:
                        first = middle + 1
                    else:
                        last = middle
                level = level_of[n]
                tilt_x = 0.0
                tilt_y = 0.0
                if level >= 0:  # the slope of a surface, which is stored as steps
                    here = int(surface_cm[level, x, y])
                    other = min(x + 1, cells_x - 1)
                    east = int(surface_cm[level, other, y]) if surface_class[level, other, y] > 0 else here
                    other = max(x - 1, 0)
                    west = int(surface_cm[level, other, y]) if surface_class[level, other, y] > 0 else here
                    other = min(y + 1, cells_y - 1)
                    north = int(surface_cm[level, x, other]) if surface_class[level, x, other] > 0 else here
                    other = max(y - 1, 0)
                    south = int(surface_cm[level, x, other]) if surface_class[level, x, other] > 0 else here
                    tilt_x = (east - west) * (0.005 / cell_m)
                    tilt_y = (north - south) * (0.005 / cell_m)
                scale = 1.0 / math.sqrt(1.0 + tilt_x * tilt_x + tilt_y * tilt_y)
                along = tilt_x * dir_x[a] + tilt_y * dir_y[a]
                for c in range(first, high + 1):
                    start = at_z + slope[c] * near
                    end = at_z + slope[c] * far
                    if min(start, end) > hi:
                        break
                    if max(start, end) < lo or closed_at[c] < step:
                        continue
                    closed_at[c] = step
                    upright = lo <= start <= hi  # it meets a side
                    if upright:
                        at = near
                    else:
                        at = min(max(((hi if start > hi else lo) - at_z) / slope[c], near), far)
                    if at >= distance_m[a, c]:
                        continue
                    distance_m[a, c] = at
                    # A step of a deck's surface still belongs to the surface; what is lower is its side.
                    skin = level == 0 or (level > 0 and start > hi - step_m)
                    class_id[a, c] = kinds[n] if skin or level < 0 else deck_class
                    if skin:
                        incidence[a, c] = abs(sine[c] - along * cosine[c]) * scale
                    elif not upright:
                        incidence[a, c] = abs(sine[c])
                    elif through_x:
                        incidence[a, c] = abs(dir_x[a]) * cosine[c]
                    else:
                        incidence[a, c] = abs(dir_y[a]) * cosine[c]
            while low <= high and closed_at[low] <= step:
                low += 1
            while low <= high and closed_at[high] <= step:
                high -= 1
            near = far
            through_x = next_x <= next_y
            if through_x:
                i += move_x
                next_x = (i + ahead_x - at_x) * metres_x
            else:
                j += move_y
                next_y = (j + ahead_y - at_y) * metres_y
            step += 1


def cast_boxes(
    shape_m: Any,  # float64 [B, 8] as voxelize.AgentBoxes has it, in the world's axes around the sensor
    heights_m: Any,  # float64 [B, 3] bottom, top of the hull, top of the cabin above the sensor
    box_class: Any,  # uint8 [B]
    yaw_rad: float,  # where azimuth 0 points to
    dir_x: Any,  # float64 [A]
    dir_y: Any,  # float64 [A]
    slope: Any,  # float64 [C], ascending
    cosine: Any,  # float64 [C]
    sine: Any,  # float64 [C]
    distance_m: Any,  # in and out, float64 [A, C]
    class_id: Any,  # in and out, uint8 [A, C]
    incidence: Any,  # in and out, float64 [A, C]
    box: Any,  # in: -1, out: the box that was hit, int32 [A, C]
) -> None:
    """Shorten rays at boxes: each box looks only at the azimuths and channels that may meet it."""
    azimuths, channels = distance_m.shape
    per_rad = azimuths / (2 * math.pi)
    for b in range(shape_m.shape[0]):
        x, y, cos, sin = shape_m[b, 0], shape_m[b, 1], shape_m[b, 2], shape_m[b, 3]
        half_l, half_w = shape_m[b, 4], shape_m[b, 5]
        gap = math.sqrt(x * x + y * y)
        radius = math.sqrt(half_l * half_l + half_w * half_w)
        first = 0
        count = azimuths
        if gap > radius * 1.001:
            half = math.asin(radius / gap)
            middle = math.atan2(y, x) - yaw_rad
            first = math.floor((middle - half) * per_rad) - 1
            count = min(math.ceil((middle + half) * per_rad) + 1 - first + 1, azimuths)
        from_along = -(x * cos + y * sin)  # the sensor, seen from the box
        from_across = x * sin - y * cos
        for n in range(count):
            a = (first + n) % azimuths
            along = dir_x[a] * cos + dir_y[a] * sin
            across = dir_y[a] * cos - dir_x[a] * sin
            for part in range(2):
                rear, front, hi = -half_l, half_l, heights_m[b, 1]
                if part == 1:  # the cabin
                    rear, front, hi = max(shape_m[b, 6], rear), min(shape_m[b, 7], front), heights_m[b, 2]
                    if hi <= heights_m[b, 1]:
                        break
                lo = heights_m[b, 0]
                near_l, far_l, near_w, far_w = -np.inf, np.inf, -np.inf, np.inf
                if along != 0:
                    one = (rear - from_along) / along
                    other = (front - from_along) / along
                    near_l, far_l = min(one, other), max(one, other)
                elif from_along < rear or from_along > front:
                    continue
                if across != 0:
                    one = (-half_w - from_across) / across
                    other = (half_w - from_across) / across
                    near_w, far_w = min(one, other), max(one, other)
                elif abs(from_across) > half_w:
                    continue
                near, far = max(near_l, near_w, 0.0), min(far_l, far_w)
                if near > far:
                    continue
                c, last = 0, channels
                while c < last:  # the lowest channel that may reach lo
                    middle_c = (c + last) // 2
                    if max(slope[middle_c] * near, slope[middle_c] * far) < lo:
                        c = middle_c + 1
                    else:
                        last = middle_c
                while c < channels:
                    start = slope[c] * near
                    end = slope[c] * far
                    if min(start, end) > hi:
                        break
                    if max(start, end) >= lo:
                        upright = start >= lo and start <= hi
                        if upright:
                            at = near
                        elif start > hi:
                            at = min(max(hi / slope[c], near), far)
                        else:
                            at = min(max(lo / slope[c], near), far)
                        if at < distance_m[a, c]:
                            distance_m[a, c] = at
                            class_id[a, c] = box_class[b]
                            box[a, c] = b
                            if not upright:
                                incidence[a, c] = abs(sine[c])
                            elif near_l >= near_w:
                                incidence[a, c] = abs(along) * cosine[c]
                            else:
                                incidence[a, c] = abs(across) * cosine[c]
                    c += 1
