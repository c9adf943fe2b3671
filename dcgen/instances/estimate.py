"""What a track says of its object: size, heading and a smooth way. K sighting, N object, T frame, M column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dcgen.instances.components import View
from dcgen.instances.kalman import smoothed
from dcgen.instances.tracker import ACCEL_MPS2, SIGMA_VOXELS, Track, sigma_m
from dcgen.types import AgentTracks, Doubles, GridSpec, Semantics

STILL_MPS = 0.3  # slower than this is standing
STILL_S, STILL_VOXELS = 1.0, 0.75  # who stays so near for so long to either side stands, however it flickers
HEADING_MPS = 1.0  # slower than this says nothing of the heading
REFINED_SIGMA_VOXELS = 1.0  # of a middle that is told by one end alone
USUAL_M = {Semantics.VEHICLE: (4.5, 1.9), Semantics.BICYCLE: (1.8, 0.7), Semantics.PEDESTRIAN: (0.6, 0.6)}


def tracks_of(found: Sequence[Track], time_s: Doubles, grid: GridSpec) -> AgentTracks:
    """Tracks over all frames of a scene; ids from 1 on."""
    n, t = len(found), len(time_s)
    out = AgentTracks(
        np.arange(1, n + 1),
        np.array([track.class_id for track in found], np.uint8),
        np.ones((n, 3), np.float32),
        np.zeros((n, t, 3)),
        np.zeros((n, t), np.float32),
        np.zeros((n, t), np.float32),
        np.zeros((n, t), bool),
    )
    for row, track in enumerate(found):
        _fill(out, row, track, time_s, grid)
    return out


def _fill(out: AgentTracks, row: int, track: Track, time_s: Doubles, grid: GridSpec) -> None:
    """One row: smoothed by the middles of what is seen, then by those of boxes along the heading that this gave."""
    voxel_m, accel = max(grid.voxel_m[:2]), ACCEL_MPS2[Semantics(track.class_id)]
    times = time_s[track.frames]
    sigmas = [sigma_m(view, voxel_m) for view in track.views]
    state = smoothed(times, [view.centre_m for view in track.views], sigmas, accel)
    for _ in range(2):
        heading = _headings(state, track.views)
        size, centres, sure = _boxes(track, heading, voxel_m)
        sigmas = (np.where(sure, SIGMA_VOXELS, REFINED_SIGMA_VOXELS) * voxel_m).tolist()
        state = smoothed(times, list(centres), sigmas, accel)
    heading = _headings(state, track.views)
    speed = np.hypot(*state[:, 2:].T)
    speed[(speed < STILL_MPS) | _stands(times, centres, STILL_VOXELS * voxel_m)] = 0.0
    bottom, top = (float(np.median([getattr(view, name) for view in track.views])) for name in ("bottom_m", "top_m"))
    out.pose[row, track.frames] = np.column_stack([_settled(state[:, :2], speed), heading])
    out.z_m[row, track.frames] = bottom
    out.speed_mps[row, track.frames] = speed
    out.valid[row, track.frames] = True
    out.size_m[row] = *size, top - bottom


def _headings(state: Doubles, views: Sequence[View]) -> Doubles:
    """[K] the way of moving where that is fast enough, else of the nearest time when it was, else along the shape."""
    fast = np.flatnonzero(np.hypot(*state[:, 2:].T) >= HEADING_MPS)
    if len(fast) == 0:
        largest = max(views, key=lambda view: len(view.columns_m)).columns_m
        return np.full(len(state), _long_axis(largest))
    way = np.unwrap(np.arctan2(state[fast, 3], state[fast, 2]))
    nearest = np.abs(np.arange(len(state))[:, None] - fast).argmin(axis=1)
    return np.asarray(way[nearest])


def _long_axis(columns_m: Doubles) -> float:
    """The direction of the narrowest strip that columns [M, 2] fit in."""
    angles = np.arange(0, np.pi, np.pi / 36)
    across = columns_m @ np.stack([-np.sin(angles), np.cos(angles)])
    return float(angles[np.ptp(across, axis=0).argmin()])


def _boxes(track: Track, heading: Doubles, voxel_m: float) -> tuple[Doubles, Doubles, NDArray[np.bool_]]:
    """Length and width [2], middles [K, 2] of the boxes, and whether both ends of each are seen [K].

    Where the grid cuts an end off, the other end and the length tell where the middle is.
    """
    axes = np.stack([np.cos(heading), np.sin(heading), -np.sin(heading), np.cos(heading)], axis=1).reshape(-1, 2, 2)
    local = [view.columns_m @ axis.T for view, axis in zip(track.views, axes, strict=True)]
    low, high = (np.stack([end(points, axis=0) for points in local]) for end in (np.min, np.max))
    out = np.einsum("kij,kj->ki", axes, np.stack([view.outward for view in track.views]))
    cut_low, cut_high = out < -0.5, out > 0.5
    sure = ~(cut_low | cut_high)
    seen = high - low + voxel_m
    usual = np.array(USUAL_M[Semantics(track.class_id)])
    size = np.array(
        [np.median(seen[sure[:, k], k]) if sure[:, k].any() else max(seen[:, k].max(), usual[k]) for k in (0, 1)]
    )
    half = np.maximum(size, seen) / 2 - voxel_m / 2
    middle = np.where(cut_low, high - half, np.where(cut_high, low + half, (low + high) / 2))
    return size, np.einsum("kij,ki->kj", axes, middle), sure.all(axis=1)


def _stands(times: Doubles, centres: Doubles, near_m: float) -> NDArray[np.bool_]:
    """[K] whether the middles around each time stay near their mean; nowhere in tracks too short to tell."""
    first, last = times[0], times[-1]
    out = np.zeros(len(times), bool)
    if last - first < STILL_S:
        return out
    middle = np.clip(times, min(first + STILL_S, (first + last) / 2), max(last - STILL_S, (first + last) / 2))
    for k, at in enumerate(middle):
        here = centres[np.abs(times - at) <= STILL_S + 1e-9]
        out[k] = np.linalg.norm(here - here.mean(axis=0), axis=1).max() <= near_m
    return out


def _settled(place: Doubles, speed: Doubles) -> Doubles:
    """Places [K, 2] that stand exactly still where the speed is 0, and move as before elsewhere."""
    steps = np.diff(place, axis=0)
    steps[(speed[1:] == 0) & (speed[:-1] == 0)] = 0
    still = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return np.asarray(still + (place - still).mean(axis=0))
