"""The loops that numba compiles: plain functions over arrays, integers where a decision is made.

Their numpy twins with the same arguments stand in kernels_numpy.py; voxelize.py calls either.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def static_columns(
    surface_class: Any,  # uint8 [L, X, Y] of the tile
    surface_cm: Any,  # int16 [L, X, Y]
    span_class: Any,  # uint8 [S, X, Y]
    span_lo_cm: Any,  # int16 [S, X, Y]
    span_hi_cm: Any,  # int16 [S, X, Y]
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
    levels, cells_x, cells_y = surface_class.shape
    spans = span_class.shape[0]
    nx, ny, nz = labels.shape
    points = sub * sub
    classes = weights.shape[0]
    at_x = np.empty(points, np.int64)
    at_y = np.empty(points, np.int64)
    over = np.empty(points, np.int64)
    at_kind = np.empty(points, np.int64)
    at_k = np.empty(points, np.int64)
    row = np.arange(points) // sub
    column = np.arange(points) % sub
    # Neighbours share heights: a division is done only where a height is new.
    old_height = 1 << 40
    old_k = 0
    old_lo = 1 << 40
    old_hi = 1 << 40
    bottom_k = 0
    top_k = 0
    counts = np.zeros((nz, classes), np.int64)
    for i in range(nx):
        for j in range(ny):
            uniform = True
            solid = False
            first_kind = 0
            first_k = 0
            for p in range(points):
                a = i * sub + row[p]
                b = j * sub + column[p]
                x = min(int(max(u_x[a] + v_x[b], 0.0)), cells_x - 1)
                y = min(int(max(u_y[a] + v_y[b], 0.0)), cells_y - 1)
                at_x[p] = x
                at_y[p] = y
                over[p] = -1
                kind = int(surface_class[0, x, y])
                height = int(surface_cm[0, x, y]) * 10
                if levels > 1:
                    inside = floor_mm <= height < floor_mm + nz * voxel_mm
                    for other in range(1, levels):
                        if surface_class[other, x, y] == 0:
                            continue
                        deck = int(surface_cm[other, x, y]) * 10
                        deck_inside = floor_mm <= deck < floor_mm + nz * voxel_mm
                        nearer = abs(deck - anchor_mm) < abs(height - anchor_mm)
                        if (deck_inside and not inside) or (deck_inside == inside and nearer):
                            kind = int(surface_class[other, x, y])
                            height = deck
                            inside = deck_inside
                            over[p] = -1
                        else:
                            over[p] = deck
                if height != old_height:
                    old_height = height
                    old_k = min(max((height - floor_mm) // voxel_mm, -1), nz)
                k = old_k
                if p == 0:
                    first_kind = kind
                    first_k = k
                uniform = uniform and kind == first_kind and k == first_k
                solid = solid or over[p] >= 0 or span_class[0, x, y] > 0
                at_kind[p] = kind
                at_k[p] = k
            best = first_kind
            ground = first_k
            if not uniform:
                most = -1
                for rank in range(3):
                    n = 0
                    for p in range(points):
                        n += at_kind[p] == surface_order[rank]
                    if n > most:
                        most = n
                        best = int(surface_order[rank])
                most = -1
                for p in range(points):
                    n = 0
                    for q in range(points):
                        n += at_kind[q] == best and at_k[q] == at_k[p]
                    if at_kind[p] == best and (n > most or (n == most and at_k[p] < ground)):
                        most = n
                        ground = at_k[p]
            surface_k[i, j] = ground
            if 0 <= ground < nz:
                labels[i, j, ground] = best
            if not solid:
                continue
            alike = True  # one span, the same in every cell: count it once
            for p in range(points):
                x = at_x[p]
                y = at_y[p]
                alike = alike and over[p] < 0 and span_class[1, x, y] == 0
                alike = alike and span_class[0, x, y] == span_class[0, at_x[0], at_y[0]]
                alike = alike and span_lo_cm[0, x, y] == span_lo_cm[0, at_x[0], at_y[0]]
                alike = alike and span_hi_cm[0, x, y] == span_hi_cm[0, at_x[0], at_y[0]]
                if not alike:
                    break
            share = points if alike else 1
            low_kind = classes  # the range of classes seen in this column
            high_kind = 0
            for p in range(points // share):
                x = at_x[p]
                y = at_y[p]
                for s in range(spans + 1):
                    if s < spans:
                        kind = int(span_class[s, x, y])
                        if kind == 0:
                            if over[p] < 0:
                                break
                            continue
                        lo = int(span_lo_cm[s, x, y]) * 10
                        hi = int(span_hi_cm[s, x, y]) * 10
                    else:
                        if over[p] < 0:
                            break
                        kind = deck_class
                        hi = over[p]
                        lo = hi - deck_mm
                    if lo != old_lo or hi != old_hi:
                        old_lo = lo
                        old_hi = hi
                        bottom_k = max((lo - floor_mm) // voxel_mm, 0)
                        top_k = min((hi - 1 - floor_mm) // voxel_mm, nz - 1)
                        while bottom_k <= top_k:  # a quarter of the end voxels must be covered
                            bottom = floor_mm + bottom_k * voxel_mm
                            if (min(hi, bottom + voxel_mm) - max(lo, bottom)) * 4 >= voxel_mm:
                                break
                            bottom_k += 1
                        while bottom_k <= top_k:
                            bottom = floor_mm + top_k * voxel_mm
                            if (min(hi, bottom + voxel_mm) - max(lo, bottom)) * 4 >= voxel_mm:
                                break
                            top_k -= 1
                    for k in range(max(bottom_k, ground + 1), top_k + 1):
                        counts[k, kind] += share
                        low_kind = min(low_kind, kind)
                        high_kind = max(high_kind, kind)
            if high_kind > 0:
                for k in range(ground + 1, nz):
                    taken = 0
                    winner = 0
                    score = 0
                    for c in range(low_kind, high_kind + 1):
                        n = counts[k, c]
                        counts[k, c] = 0
                        taken += n
                        if n * weights[c] > score:
                            score = n * weights[c]
                            winner = c
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
    for n in range(frame.shape[0]):
        t = frame[n]
        x, y, cos, sin = shape_m[n, 0], shape_m[n, 1], shape_m[n, 2], shape_m[n, 3]
        half_l, half_w, rear, front = shape_m[n, 4], shape_m[n, 5], shape_m[n, 6], shape_m[n, 7]
        reach_x = abs(half_l * cos) + abs(half_w * sin) + 1e-6
        reach_y = abs(half_l * sin) + abs(half_w * cos) + 1e-6
        size_x, size_y = step_u * sub, step_v * sub
        i0 = max(math.floor((x - reach_x - low_u) / size_x), 0)
        i1 = min(math.floor((x + reach_x - low_u) / size_x), nx - 1)
        j0 = max(math.floor((y - reach_y - low_v) / size_y), 0)
        j1 = min(math.floor((y + reach_y - low_v) / size_y), ny - 1)
        centre_i = math.floor((x - low_u) / size_x)
        centre_j = math.floor((y - low_v) / size_y)
        weight = weights[class_id[n]]
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                hull = 0
                cabin = 0
                for p in range(points):
                    dx = u_m[i * sub + p // sub] - x
                    dy = v_m[j * sub + p % sub] - y
                    along = dx * cos + dy * sin
                    across = dy * cos - dx * sin
                    if abs(along) <= half_l and abs(across) <= half_w:
                        hull += 1
                        if rear <= along <= front:
                            cabin += 1
                if i == centre_i and j == centre_j:
                    hull = points
                    cabin = points
                if hull == 0:
                    continue
                for k in range(max(int(surface_k[i, j]) + 1, 0), nz):
                    bottom = k * voxel_mm
                    taken = 0
                    low = max(heights_mm[n, 0], bottom)
                    if (min(heights_mm[n, 1], bottom + voxel_mm) - low) * 4 >= voxel_mm:
                        taken += hull - cabin
                    if (min(heights_mm[n, 2], bottom + voxel_mm) - low) * 4 >= voxel_mm:
                        taken += cabin
                    if taken * weight > (points - taken) * free_weight:
                        labels[t, i, j, k] = class_id[n]
                        moving[t, i, j, k] = is_moving[n]
