"""Numpy twins of kernels.py: the same arguments, the same answer bit for bit, no loops over voxels."""

from __future__ import annotations

from typing import Any

import numpy as np


def _columns(values: Any, sub: int) -> Any:
    """[X * s, Y * s] values of sub-cells as [X, Y, s * s]."""
    x, y = values.shape[0] // sub, values.shape[1] // sub
    return values.reshape(x, sub, y, sub).transpose(0, 2, 1, 3).reshape(x, y, sub * sub)


def _covered(lo: Any, hi: Any, bottom: int, voxel_mm: int) -> Any:
    return (np.minimum(hi, bottom + voxel_mm) - np.maximum(lo, bottom)) * 4 >= voxel_mm


def static_columns(
    surface_class: Any,
    surface_cm: Any,
    span_class: Any,
    span_lo_cm: Any,
    span_hi_cm: Any,
    u_x: Any,
    u_y: Any,
    v_x: Any,
    v_y: Any,
    sub: int,
    anchor_mm: int,
    floor_mm: int,
    voxel_mm: int,
    weights: Any,
    free_weight: int,
    surface_order: Any,
    deck_mm: int,
    deck_class: int,
    labels: Any,
    surface_k: Any,
) -> None:
    """Label the voxel columns of a grid from the tile's columns."""
    nz, points = labels.shape[2], sub * sub
    x = np.clip(np.floor(u_x[:, None] + v_x[None, :]).astype(np.int64), 0, surface_class.shape[1] - 1)
    y = np.clip(np.floor(u_y[:, None] + v_y[None, :]).astype(np.int64), 0, surface_class.shape[2] - 1)
    x, y = _columns(x, sub), _columns(y, sub)
    height = surface_cm[0][x, y].astype(np.int64) * 10
    kind = surface_class[0][x, y]
    over = np.full(height.shape, -1, np.int64)
    top = floor_mm + nz * voxel_mm
    for level in range(1, surface_class.shape[0]):
        deck = surface_cm[level][x, y].astype(np.int64) * 10
        exists = surface_class[level][x, y] != 0
        inside, deck_inside = (floor_mm <= height) & (height < top), (floor_mm <= deck) & (deck < top)
        nearer = np.abs(deck - anchor_mm) < np.abs(height - anchor_mm)
        take = exists & ((deck_inside & ~inside) | ((deck_inside == inside) & nearer))
        over = np.where(take, -1, np.where(exists, deck, over))
        height, kind = np.where(take, deck, height), np.where(take, surface_class[level][x, y], kind)
    k = np.clip((height - floor_mm) // voxel_mm, -1, nz)
    at = np.arange(nz + 2)
    votes = np.stack([((kind == s)[..., None] & (k[..., None] + 1 == at)).sum(axis=2) for s in surface_order], axis=2)
    best = votes.sum(axis=3).argmax(axis=2)
    ground = np.take_along_axis(votes, best[..., None, None], axis=2)[:, :, 0].argmax(axis=2) - 1
    surface_k[...] = ground
    i, j = np.nonzero((ground >= 0) & (ground < nz))
    labels[i, j, ground[i, j]] = surface_order[best[i, j]]

    spans = [
        (span_class[s][x, y], span_lo_cm[s][x, y].astype(np.int64) * 10, span_hi_cm[s][x, y].astype(np.int64) * 10)
        for s in range(span_class.shape[0])
    ]
    spans.append((np.where(over >= 0, deck_class, 0), over - deck_mm, over))
    for layer in range(nz):
        bottom = floor_mm + layer * voxel_mm
        counts = np.zeros((*ground.shape, len(weights)), np.int64)
        for span, lo, hi in spans:
            hit = (span > 0) & _covered(lo, hi, bottom, voxel_mm)
            for c in np.unique(span[hit]):
                counts[..., c] += (hit & (span == c)).sum(axis=2)
        score = counts * weights
        wins = score.max(axis=2) > np.maximum(points - counts.sum(axis=2), 0) * free_weight
        wins &= layer > ground
        labels[..., layer] = np.where(wins, score.argmax(axis=2), labels[..., layer])


def agent_boxes(
    frame: Any,
    class_id: Any,
    is_moving: Any,
    shape_m: Any,
    heights_mm: Any,
    u_m: Any,
    v_m: Any,
    sub: int,
    voxel_mm: int,
    weights: Any,
    free_weight: int,
    surface_k: Any,
    labels: Any,
    moving: Any,
) -> None:
    """Stamp boxes, later ones over earlier ones; the column at a box's centre is always its own."""
    nz, points = labels.shape[3], sub * sub
    step_u = u_m[1] - u_m[0] if len(u_m) > 1 else 1.0
    step_v = v_m[1] - v_m[0] if len(v_m) > 1 else 1.0
    low_u, low_v = u_m[0] - 0.5 * step_u, v_m[0] - 0.5 * step_v
    for n in range(len(frame)):
        x, y, cos, sin, half_l, half_w, rear, front = shape_m[n]
        dx, dy = u_m[:, None] - x, v_m[None, :] - y
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        within = (np.abs(along) <= half_l) & (np.abs(across) <= half_w)
        hull = _columns(within, sub).sum(axis=2)
        cabin = _columns(within & (rear <= along) & (along <= front), sub).sum(axis=2)
        i = int(np.floor((x - low_u) / (step_u * sub)))
        j = int(np.floor((y - low_v) / (step_v * sub)))
        if 0 <= i < labels.shape[1] and 0 <= j < labels.shape[2]:
            hull[i, j] = cabin[i, j] = points
        bottom, hull_top, cabin_top = heights_mm[n]
        for layer in range(nz):
            taken = (hull - cabin) * _covered(bottom, hull_top, layer * voxel_mm, voxel_mm)
            taken = taken + cabin * _covered(bottom, cabin_top, layer * voxel_mm, voxel_mm)
            wins = (taken * weights[class_id[n]] > (points - taken) * free_weight) & (layer > surface_k)
            labels[frame[n], ..., layer][wins] = class_id[n]
            moving[frame[n], ..., layer][wins] = is_moving[n]
