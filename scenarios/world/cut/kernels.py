"""The loops that numba compiles: plain functions over arrays, integers where a decision is made.

Their numpy twins stand in kernels_numpy.py; voxelize.py calls either. static_columns reads a packed tile (packing.py),
its twin the plain one. Both loops run along a row of columns with one sub-cell of each column after the other, which
vectorises; what is alike in all sub-cells of a column, and most is, is decided once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def static_columns(
    word: Any,  # uint64 [N] of the packed tile
    level_class: Any,  # uint8 [L, N]
    level_cm: Any,  # int16 [L, N]
    stack_class: Any,  # uint8 [P, S]
    stack_lo_mm: Any,  # int64 [P, S]
    stack_hi_mm: Any,  # int64 [P, S]
    cells_x: int,
    cells_y: int,
    u_x: Any,  # float64 [X * s] what a step along the grid's x adds to the cell's x
    u_y: Any,  # float64 [X * s]
    v_x: Any,  # float64 [Y * s]
    v_y: Any,  # float64 [Y * s]
    sub: int,
    anchor_mm: int,
    floor_mm: int,
    voxel_mm: int,
    weights: Any,  # int64 [12]
    free_weight: int,
    surface_order: Any,  # uint8 [3]
    deck_mm: int,
    deck_class: int,
    labels: Any,  # out, uint8 [X, Y, Z], zero on entry
    surface_k: Any,  # out, int16 [X, Y]
) -> None:
    """Label the voxel columns of a grid from the tile's columns."""
    levels = level_class.shape[0]
    spans = stack_class.shape[1]
    nx, ny, nz = labels.shape
    points = sub * sub
    top_mm = floor_mm + nz * voxel_mm
    # The layer of a height in cm, from just below the grid to just above it.
    low_cm = -(-floor_mm // 10) - 1
    layer = np.empty(-(-top_mm // 10) - low_cm + 1, np.int64)
    for n in range(layer.shape[0]):
        layer[n] = min(max(((low_cm + n) * 10 - floor_mm) // voxel_mm, -1), nz)
    low_cm += 32768
    last_cm = layer.shape[0] - 1
    step_x = np.empty((sub, ny))
    step_y = np.empty((sub, ny))
    for j in range(ny):
        for c in range(sub):
            step_x[c, j] = v_x[j * sub + c]
            step_y[c, j] = v_y[j * sub + c]
    last_x = float(cells_x - 1)
    last_y = float(cells_y - 1)
    at = np.empty((points, ny), np.uint64)
    line = np.empty((points, ny), np.uint64)
    differ = np.empty(ny, np.uint64)
    over = np.full(points, -1, np.int64)  # a deck above the surface, mm
    at_kind = np.empty(points, np.int64)
    at_k = np.empty(points, np.int64)
    # The layers that the spans of a stack fill, for the stacks met last.
    known_stack = np.full(1024, -1, np.int32)
    known_low = np.empty((1024, spans), np.int16)
    known_high = np.empty((1024, spans), np.int16)
    counts = np.zeros((nz, weights.shape[0]), np.int64)
    seen = np.empty(weights.shape[0], np.int64)  # classes in a column
    for i in range(nx):
        for p in range(points):
            from_x = u_x[i * sub + p // sub]
            from_y = u_y[i * sub + p // sub]
            c = p % sub
            for j in range(ny):
                x = from_x + step_x[c, j]
                y = from_y + step_y[c, j]
                x = x if x > 0.0 else 0.0
                y = y if y > 0.0 else 0.0
                x = x if x < last_x else last_x
                y = y if y < last_y else last_y
                at[p, j] = np.uint64(np.int32(x)) * np.uint64(cells_y) + np.uint64(np.int32(y))
            for j in range(ny):
                line[p, j] = word[at[p, j]]
        differ[:] = 0
        for p in range(1, points):
            for j in range(ny):
                differ[j] |= line[p, j] ^ line[0, j]
        for j in range(ny):
            first: Any = np.int64(line[0, j])
            change = np.int64(differ[j])
            deck = ((first | change) >> 24) & 1
            kind = (first >> 16) & 0xFF
            ground = layer[min(max((first & 0xFFFF) - low_cm, 0), last_cm)]
            uniform = change & 0xFF0000 == 0 and deck == 0
            if uniform and change & 0xFFFF != 0:
                for p in range(1, points):
                    k = layer[min(max((np.int64(line[p, j]) & 0xFFFF) - low_cm, 0), last_cm)]
                    uniform = uniform and k == ground
            if not uniform:
                for p in range(points):
                    cell: Any = np.int64(line[p, j])
                    at_kind[p] = (cell >> 16) & 0xFF
                    at_k[p] = layer[min(max((cell & 0xFFFF) - low_cm, 0), last_cm)]
                    over[p] = -1
                    if (cell >> 24) & 1:
                        height = ((cell & 0xFFFF) - 32768) * 10
                        inside = floor_mm <= height < top_mm
                        for other in range(1, levels):
                            if level_class[other, at[p, j]] == 0:
                                continue
                            upper = int(level_cm[other, at[p, j]]) * 10
                            upper_inside = floor_mm <= upper < top_mm
                            nearer = abs(upper - anchor_mm) < abs(height - anchor_mm)
                            if (upper_inside and not inside) or (upper_inside == inside and nearer):
                                at_kind[p] = level_class[other, at[p, j]]
                                height = upper
                                inside = upper_inside
                                over[p] = -1
                            else:
                                over[p] = upper
                        at_k[p] = min(max((height - floor_mm) // voxel_mm, -1), nz)
                most = -1
                for rank in range(3):
                    n = 0
                    for p in range(points):
                        n += at_kind[p] == surface_order[rank]
                    if n > most:
                        most = n
                        kind = int(surface_order[rank])
                most = -1
                for p in range(points):
                    if at_kind[p] != kind:
                        continue
                    n = 0
                    for q in range(points):
                        n += at_kind[q] == kind and at_k[q] == at_k[p]
                    if n > most or (n == most and at_k[p] < ground):
                        most = n
                        ground = at_k[p]
            surface_k[i, j] = ground
            if 0 <= ground < nz:
                labels[i, j, ground] = kind
            if deck == 0 and (first | change) >> 32 == 0:
                continue
            alike = deck == 0 and change >> 32 == 0  # one stack in every cell counts once
            share = points if alike else 1
            classes = 0
            low_k = nz
            high_k = -1
            for p in range(points // share):
                stack: Any = np.int64(line[p, j]) >> 32
                slot = stack & 1023
                if stack > 0 and known_stack[slot] != stack:
                    known_stack[slot] = stack
                    for s in range(spans):
                        if stack_class[stack, s] == 0:
                            break
                        lo = stack_lo_mm[stack, s]
                        hi = stack_hi_mm[stack, s]
                        low = min(max((lo - floor_mm) // voxel_mm, 0), nz)
                        high = min(max((hi - 1 - floor_mm) // voxel_mm, -1), nz - 1)
                        bottom = floor_mm + low * voxel_mm  # a quarter of the end voxels must be covered
                        low += (min(hi, bottom + voxel_mm) - max(lo, bottom)) * 4 < voxel_mm
                        bottom = floor_mm + high * voxel_mm
                        high -= (min(hi, bottom + voxel_mm) - max(lo, bottom)) * 4 < voxel_mm
                        known_low[slot, s] = low
                        known_high[slot, s] = high
                if alike and (spans == 1 or stack_class[stack, 1] == 0):  # a wall, a crown: no vote
                    kind = stack_class[stack, 0]
                    if weights[kind] > 0:
                        for k in range(max(known_low[slot, 0], ground + 1), known_high[slot, 0] + 1):
                            labels[i, j, k] = kind
                    break
                for s in range(spans + deck):
                    if s < spans:
                        kind = stack_class[stack, s]
                        if kind == 0:
                            continue
                        low = known_low[slot, s]
                        high = known_high[slot, s]
                    else:
                        if over[p] < 0:
                            break
                        kind = deck_class
                        hi = over[p]
                        lo = hi - deck_mm
                        low = max((lo - floor_mm) // voxel_mm, 0)
                        high = min((hi - 1 - floor_mm) // voxel_mm, nz - 1)
                        bottom = floor_mm + low * voxel_mm
                        low += (min(hi, bottom + voxel_mm) - max(lo, bottom)) * 4 < voxel_mm
                        bottom = floor_mm + high * voxel_mm
                        high -= (min(hi, bottom + voxel_mm) - max(lo, bottom)) * 4 < voxel_mm
                    low = max(low, ground + 1)
                    if low > high:
                        continue
                    low_k = min(low, low_k)
                    high_k = max(high, high_k)
                    for k in range(low, high + 1):
                        counts[k, kind] += share
                    fresh = True
                    for n in range(classes):
                        fresh = fresh and seen[n] != kind
                    if fresh:
                        seen[classes] = kind
                        classes += 1
            for k in range(low_k, high_k + 1):
                taken = 0
                winner = 0
                score = 0
                for n in range(classes):
                    kind = seen[n]
                    count = counts[k, kind]
                    counts[k, kind] = 0
                    taken += count
                    count *= weights[kind]
                    if count > score or (count == score and kind < winner):
                        score = count
                        winner = kind
                if score > max(points - taken, 0) * free_weight:
                    labels[i, j, k] = winner


def agent_boxes(
    frame: Any,  # int64 [B]
    class_id: Any,  # uint8 [B]
    is_moving: Any,  # bool [B]
    shape_m: Any,  # float64 [B, 8]
    heights_mm: Any,  # int64 [B, 3]
    u_m: Any,  # float64 [X * s]
    v_m: Any,  # float64 [Y * s]
    sub: int,
    voxel_mm: int,
    weights: Any,  # int64 [12]
    free_weight: int,
    surface_k: Any,  # int16 [X, Y]
    labels: Any,  # in and out, uint8 [T, X, Y, Z]
    moving: Any,  # in and out, bool [T, X, Y, Z]
) -> None:
    """Stamp boxes, later ones over earlier ones; the column at a box's centre is always its own."""
    nx, ny, nz = labels.shape[1], labels.shape[2], labels.shape[3]
    points = sub * sub
    step_u = u_m[1] - u_m[0] if u_m.shape[0] > 1 else 1.0
    step_v = v_m[1] - v_m[0] if v_m.shape[0] > 1 else 1.0
    low_u = u_m[0] - 0.5 * step_u
    low_v = v_m[0] - 0.5 * step_v
    size_x, size_y = step_u * sub, step_v * sub
    v_sin = np.empty(v_m.shape[0])
    v_cos = np.empty(v_m.shape[0])
    in_hull = np.empty(v_m.shape[0], np.int32)  # sub-cells of a row of columns
    in_cabin = np.empty(v_m.shape[0], np.int32)
    covers = np.empty(nz, np.int64)  # layers that hull (1) and cabin (2) cover to a quarter
    for n in range(frame.shape[0]):
        t = frame[n]
        x, y, cos, sin = shape_m[n, 0], shape_m[n, 1], shape_m[n, 2], shape_m[n, 3]
        half_l, half_w, rear, front = shape_m[n, 4], shape_m[n, 5], shape_m[n, 6], shape_m[n, 7]
        reach_x = abs(half_l * cos) + abs(half_w * sin) + 1e-6
        reach_y = abs(half_l * sin) + abs(half_w * cos) + 1e-6
        i0 = max(math.floor((x - reach_x - low_u) / size_x), 0)
        i1 = min(math.floor((x + reach_x - low_u) / size_x), nx - 1)
        j0 = max(math.floor((y - reach_y - low_v) / size_y), 0)
        j1 = min(math.floor((y + reach_y - low_v) / size_y), ny - 1)
        centre_i = math.floor((x - low_u) / size_x)
        centre_j = math.floor((y - low_v) / size_y)
        weight = weights[class_id[n]]
        low_k = nz
        high_k = -1
        for k in range(nz):
            low = max(heights_mm[n, 0], k * voxel_mm)
            covers[k] = (min(heights_mm[n, 1], (k + 1) * voxel_mm) - low) * 4 >= voxel_mm
            covers[k] += 2 * ((min(heights_mm[n, 2], (k + 1) * voxel_mm) - low) * 4 >= voxel_mm)
            if covers[k] > 0:
                low_k = min(low_k, k)
                high_k = k
        for b in range(j0 * sub, (j1 + 1) * sub):
            v_sin[b] = (v_m[b] - y) * sin
            v_cos[b] = (v_m[b] - y) * cos
        for i in range(i0, i1 + 1):
            for b in range(j0 * sub, (j1 + 1) * sub):
                in_hull[b] = 0
                in_cabin[b] = 0
            for r in range(sub):
                u_cos = (u_m[i * sub + r] - x) * cos
                u_sin = (u_m[i * sub + r] - x) * sin
                for b in range(j0 * sub, (j1 + 1) * sub):
                    along = u_cos + v_sin[b]
                    within = (abs(along) <= half_l) & (abs(v_cos[b] - u_sin) <= half_w)
                    in_hull[b] += within
                    in_cabin[b] += within & (rear <= along) & (along <= front)
            for j in range(j0, j1 + 1):
                hull = 0
                cabin = 0
                for b in range(j * sub, (j + 1) * sub):
                    hull += in_hull[b]
                    cabin += in_cabin[b]
                if i == centre_i and j == centre_j:
                    hull = points
                    cabin = points
                if hull == 0:
                    continue
                for k in range(max(int(surface_k[i, j]) + 1, low_k), high_k + 1):
                    taken = (hull - cabin) * (covers[k] & 1) + cabin * (covers[k] >> 1)
                    if taken * weight > (points - taken) * free_weight:
                        labels[t, i, j, k] = class_id[n]
                        moving[t, i, j, k] = is_moving[n]
