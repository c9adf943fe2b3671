"""Numpy twins of lidar_kernels.py and sight_kernels.py. A azimuth, C channel, N column of a walk, S solid, L level.

The same arguments and the same answers, found another way: all crossings of an azimuth's plane with the grid are
sorted, every channel meets every column, and the nearest of all meetings counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class _Walk:
    """Columns [N] that a plane crosses one after the other, and where."""

    i: Any
    j: Any
    near: Any
    far: Any
    through_x: Any  # entered through a face across x


def _walk(first: list[int], at: tuple[float, float], metres: tuple[float, float], near: float, most: int) -> _Walk:
    """From the column `first` on; at: the sensor in cells, metres: a cell's length along the plane, by axis."""
    times, axes = [np.full(1, np.inf)], [np.full(1, -1)]
    move = [1 if metres[axis] > 0 and np.isfinite(metres[axis]) else -1 for axis in (0, 1)]
    for axis in (0, 1):
        if np.isfinite(metres[axis]):
            faces = first[axis] + max(move[axis], 0) + move[axis] * np.arange(most)
            times.append((faces - at[axis]) * metres[axis])
            axes.append(np.full(most, axis))
    time, axis_of = np.concatenate(times), np.concatenate(axes)
    order = np.argsort(time, kind="stable")
    time, axis_of = time[order], axis_of[order]
    i, j = (first[axis] + move[axis] * np.append(0, np.cumsum(axis_of == axis))[:-1] for axis in (0, 1))
    return _Walk(i, j, np.append(near, time)[:-1], time, np.append(True, axis_of == 0)[:-1])


def _inverse(value: float, scale: float = 1.0) -> float:
    return float(scale / value) if value != 0 else np.inf


def cast_columns(
    surface_class: Any,
    surface_cm: Any,
    span_class: Any,
    span_lo_cm: Any,
    span_hi_cm: Any,
    deck_m: float,
    step_m: float,
    deck_class: int,
    cell_m: float,
    at_x: float,
    at_y: float,
    at_z: float,
    dir_x: Any,
    dir_y: Any,
    slope: Any,
    cosine: Any,
    sine: Any,
    distance_m: Any,
    class_id: Any,
    incidence: Any,
) -> None:
    """Cast a turn of rays against the columns of a tile; a sensor inside a solid gets hits at distance 0."""
    size = surface_class.shape[1:]
    reach = distance_m.max()
    for a in range(len(dir_x)):
        metres = (_inverse(dir_x[a], cell_m), _inverse(dir_y[a], cell_m))
        start = [int(np.floor(at_x)), int(np.floor(at_y))]
        walk = _walk(start, (at_x, at_y), metres, 0.0, int(reach / cell_m) + 4)
        ahead = walk.near <= reach
        x, y = np.clip(walk.i, 0, size[0] - 1)[ahead], np.clip(walk.j, 0, size[1] - 1)[ahead]
        near, far, through_x = walk.near[ahead], walk.far[ahead], walk.through_x[ahead]
        solids = _solids((surface_class, surface_cm), (span_class, span_lo_cm, span_hi_cm), deck_m, x, y)
        for c in range(len(slope)):
            at, upright, over = _meet(solids, at_z, slope[c], near[:, None], far[:, None])
            n, s = np.unravel_index(np.argmin(at), at.shape)  # of equals the first column, in it the first solid
            if not at[n, s] < distance_m[a, c]:
                continue
            level = s if s < len(surface_class) else -1
            skin = level == 0 or (level > 0 and over[n, s])
            side = upright[n, s]
            if level > 0 and side:
                skin = at_z + slope[c] * near[n] > solids.high[n, s] - step_m
            distance_m[a, c] = at[n, s]
            class_id[a, c] = solids.kind[n, s] if skin or level < 0 else deck_class
            if skin:
                tilt_x, tilt_y = _tilt(surface_class[level], surface_cm[level], int(x[n]), int(y[n]), cell_m)
                along = tilt_x * dir_x[a] + tilt_y * dir_y[a]
                scale = 1.0 / np.sqrt(1.0 + tilt_x * tilt_x + tilt_y * tilt_y)
                incidence[a, c] = abs(sine[c] - along * cosine[c]) * scale
            elif not side:
                incidence[a, c] = abs(sine[c])
            else:
                incidence[a, c] = abs(dir_x[a] if through_x[n] else dir_y[a]) * cosine[c]


@dataclass(frozen=True)
class _Solids:
    """Intervals of height [N, S] that are solid: levels first, then spans; empty ones are not a number."""

    low: Any
    high: Any
    kind: Any


def _solids(surfaces: tuple[Any, Any], spans: tuple[Any, Any, Any], deck_m: float, x: Any, y: Any) -> _Solids:
    (surface_class, surface_cm), (span_class, span_lo, span_hi) = surfaces, spans
    top = surface_cm[:, x, y].T * 0.01
    low = top - deck_m
    low[:, 0] = -np.inf
    kind = surface_class[:, x, y].T
    exists = kind > 0
    exists[:, 0] = True
    used = np.cumprod(span_class[:, x, y] > 0, axis=0).T > 0
    high = np.concatenate([np.where(exists, top, np.nan), np.where(used, span_hi[:, x, y].T * 0.01, np.nan)], axis=1)
    low = np.concatenate([low, span_lo[:, x, y].T * 0.01], axis=1)
    return _Solids(low, high, np.concatenate([kind, span_class[:, x, y].T], axis=1))


def _meet(solids: Any, at_z: Any, slope: float, near: Any, far: Any) -> tuple[Any, Any, Any]:
    """Where a channel meets solids, inf where it does not; whether at a side, and whether it came from above."""
    start, end = at_z + slope * near, at_z + slope * far
    meets = (np.minimum(start, end) <= solids.high) & (np.maximum(start, end) >= solids.low)
    upright = (start >= solids.low) & (start <= solids.high)
    over = start > solids.high
    face = (np.where(over, solids.high, solids.low) - at_z) / (slope or 1.0)  # a level ray meets sides alone
    at = np.where(upright, near, np.minimum(np.maximum(face, near), far))
    return np.where(meets, at, np.inf), upright, over


def _tilt(kind: Any, height_cm: Any, x: int, y: int, cell_m: float) -> tuple[float, float]:
    """How a surface rises along x and y over the cells next to one, those without that surface counted as level."""

    def height(i: int, j: int) -> int:
        i, j = min(max(i, 0), kind.shape[0] - 1), min(max(j, 0), kind.shape[1] - 1)
        return int(height_cm[i, j]) if kind[i, j] > 0 else int(height_cm[x, y])

    scale = 0.005 / cell_m
    return (height(x + 1, y) - height(x - 1, y)) * scale, (height(x, y + 1) - height(x, y - 1)) * scale


def cast_boxes(
    shape_m: Any,
    heights_m: Any,
    box_class: Any,
    yaw_rad: float,
    dir_x: Any,
    dir_y: Any,
    slope: Any,
    cosine: Any,
    sine: Any,
    distance_m: Any,
    class_id: Any,
    incidence: Any,
    box: Any,
) -> None:
    """Shorten rays at boxes: every box is held against every ray."""
    for b in range(len(shape_m)):
        x, y, cos, sin, half_l, half_w, rear, front = shape_m[b]
        along, across = dir_x * cos + dir_y * sin, dir_y * cos - dir_x * sin
        bottom, hull, cabin = heights_m[b]
        parts = [(-half_l, half_l, hull)]
        if cabin > hull:
            parts.append((max(rear, -half_l), min(front, half_l), cabin))
        for back, ahead, top in parts:
            near_l, far_l = _slab(-(x * cos + y * sin), along, back, ahead)
            near_w, far_w = _slab(x * sin - y * cos, across, -half_w, half_w)
            near, far = np.maximum(np.maximum(near_l, near_w), 0.0), np.minimum(far_l, far_w)
            crossed = np.flatnonzero(near <= far)
            for c in range(len(slope)):
                solid = _Solids(bottom, top, None)
                at, upright, _ = _meet(solid, 0.0, slope[c], near[crossed], far[crossed])
                nearer = at < distance_m[crossed, c]
                a = crossed[nearer]
                distance_m[a, c], class_id[a, c], box[a, c] = at[nearer], box_class[b], b
                side = np.abs(np.where(near_l >= near_w, along, across)[a]) * cosine[c]
                incidence[a, c] = np.where(upright[nearer], side, abs(sine[c]))


def _slab(start: float, step: Any, low: float, high: float) -> tuple[Any, Any]:
    """[A] from where to where start + s * step lies in low..high."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (low - start) / step, (high - start) / step
    near, far = np.minimum(one, other), np.maximum(one, other)
    inside = low <= start <= high
    return (
        np.where(step == 0, -np.inf if inside else np.inf, near),
        np.where(step == 0, np.inf if inside else -np.inf, far),
    )


def pass_voxels(
    at_x: float,
    at_y: float,
    at_z: float,
    step_x: Any,
    step_y: Any,
    step_z: Any,
    distance_m: Any,
    azimuth_from_m: Any,
    channel_from_m: Any,
    passed: Any,
) -> None:
    """Mark every voxel that a ray passes through."""
    at, size = (at_x, at_y), passed.shape
    layer = np.arange(size[2])
    for a in range(len(distance_m)):
        step = (step_x[a], step_y[a])
        metres = (_inverse(step_x[a]), _inverse(step_y[a]))
        near, far = azimuth_from_m[a], distance_m[a].max()
        for axis in (0, 1):
            if step[axis] != 0:
                ends = sorted([-at[axis] * metres[axis], (size[axis] - at[axis]) * metres[axis]])
                near, far = max(near, ends[0]), min(far, ends[1])
            elif not 0 <= at[axis] < size[axis]:
                far = -np.inf
        if near >= far:
            continue
        first = [min(max(int(np.floor(at[axis] + step[axis] * near)), 0), size[axis] - 1) for axis in (0, 1)]
        walk = _walk(first, at, metres, near, size[0] + size[1])
        over = (walk.i >= 0) & (walk.i < size[0]) & (walk.j >= 0) & (walk.j < size[1]) & (walk.near < far)
        over = np.cumprod(over) > 0
        for c in range(len(step_z)):
            end = distance_m[a, c]
            on = over & (walk.far > channel_from_m[c]) & (walk.near < end)
            i, j = walk.i[on], walk.j[on]
            enter = np.floor(at_z + step_z[c] * walk.near[on])
            leave = np.floor(at_z + step_z[c] * np.minimum(walk.far[on], end))
            low, high = np.minimum(enter, leave)[:, None], np.maximum(enter, leave)[:, None]
            passed[i, j] |= (low <= layer) & (layer <= high)


def end_voxels(
    at_x: float,
    at_y: float,
    at_z: float,
    step_x: Any,
    step_y: Any,
    step_z: Any,
    distance_m: Any,
    class_id: Any,
    place_m: Any,
    labels: Any,
    observed: Any,
) -> None:
    """Mark, for every hit, the voxel it lies in and the first one behind it, each where it is not free."""
    a, c = np.nonzero(class_id)
    place = distance_m[a, c][:, None] + place_m[c]  # [hits, P]
    i = np.floor(at_x + step_x[a][:, None] * place).astype(np.int64)
    j = np.floor(at_y + step_y[a][:, None] * place).astype(np.int64)
    k = np.floor(at_z + step_z[c][:, None] * place).astype(np.int64)
    within = np.ones(place.shape, bool)
    for index, cells in zip((i, j, k), labels.shape, strict=True):
        within &= (index >= 0) & (index < cells)
    solid = within & (labels[np.where(within, i, 0), np.where(within, j, 0), np.where(within, k, 0)] != 0)
    solid[:, 1:] &= np.cumsum(solid[:, 1:], axis=1) == 1
    observed[i[solid], j[solid], k[solid]] = True
