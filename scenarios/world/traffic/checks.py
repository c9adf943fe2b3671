"""How plausible a traffic log is, in figures: who overlaps, who leaves the road, who leaps. N agent, T frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import MOVING_MPS, Doubles, Semantics, wrap_angle
from scenarios.layout import CROSSWALK, JUNCTION, ROAD, SIDEWALK, RoadRaster
from scenarios.world.traffic.clearance import boxes_touch
from scenarios.world.traffic.log import KINDS, TrafficLog

SHRINK_M = 0.05  # boxes this much smaller all round still meet: an overlap
LEVEL_M = 2.5  # further apart in height: one above the other
CROSSING_REACH_M = 12.0  # maps seldom draw crossings and corners: who walks so near to a junction is at one
SEEN = 0.8  # part of a vehicle's length and width that has to stand on its surface
LEAP_SLACK_M = 0.5
LEAP_RAD = 0.35
TURNING_RADPS = 0.15

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Overlaps:
    """Pairs of boxes that meet: rows into the log a < b [P] and the frame [P], in order of frame, a, b."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    frame: NDArray[np.int64]

    def agent_frames(self) -> int:
        """How many agents at how many frames meet at least one other."""
        both = np.stack([np.concatenate([self.a, self.b]), np.tile(self.frame, 2)])
        return int(np.unique(both, axis=1).shape[1])


def find_overlaps(log: TrafficLog, every: int = 1, shrink_m: float = SHRINK_M) -> Overlaps:
    """All pairs whose boxes, shrink_m smaller all round, meet at the same height, in every `every`-th frame."""
    from scipy.spatial import cKDTree

    size = log.size_m.astype(np.float64) - 2 * shrink_m
    reach = np.hypot(size[:, 0], size[:, 1]) / 2
    found = [np.zeros((3, 0), np.int64)]
    for t in range(0, log.frames, every):
        rows = np.flatnonzero(log.valid[:, t])
        if len(rows) < 2:
            continue
        pose, z = log.pose[rows, t].astype(np.float64), log.z_m[rows, t]
        pairs = cKDTree(pose[:, :2]).query_pairs(2 * reach[rows].max(), output_type="ndarray")
        a, b = np.sort(pairs, axis=1).T
        gap = np.hypot(*(pose[a, :2] - pose[b, :2]).T)
        near = (gap < reach[rows[a]] + reach[rows[b]]) & (np.abs(z[a] - z[b]) < LEVEL_M)
        a, b = a[near], b[near]
        meet = boxes_touch(pose[a], size[rows[a]], pose[b], size[rows[b]])
        a, b = rows[a[meet]], rows[b[meet]]
        order = np.lexsort((b, a))
        found.append(np.stack([a[order], b[order], np.full(len(a), t)]))
    return Overlaps(*np.concatenate(found, axis=1))


def off_surface(log: TrafficLog, raster: RoadRaster, every: int = 1) -> Flags:
    """[N, T'] who is not where its kind belongs, in every `every`-th frame.

    Vehicles: most of the box (SEEN of its length and width) on asphalt. Bicycles: their centre on asphalt. Pedestrians:
    their centre on a sidewalk or crosswalk, or within CROSSING_REACH_M of a junction: maps leave its corners blank.
    """
    road, walk = _surfaces(raster)
    off = np.zeros(log.valid[:, ::every].shape, np.bool_)
    for members, allowed, span in (
        (log.class_id == Semantics.VEHICLE, road, SEEN),
        (log.class_id == Semantics.BICYCLE, road, 0.0),
        (log.class_id == Semantics.PEDESTRIAN, walk, 0.0),
    ):
        n, t = np.nonzero(log.valid[:, ::every] & members[:, None])
        pose, z = log.pose[n, t * every].astype(np.float64), log.z_m[n, t * every]
        steps = np.linspace(-span / 2, span / 2, 3) if span else np.zeros(1)
        hits = np.zeros(len(n))
        cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        for along in steps:
            for across in steps:
                u, v = along * log.size_m[n, 0], across * log.size_m[n, 1]
                x, y = pose[:, 0] + u * cos - v * sin, pose[:, 1] + u * sin + v * cos
                hits += _on(raster, allowed, x, y, z)
        off[n, t] = hits < 0.5 * len(steps) ** 2
    return off


def _surfaces(raster: RoadRaster) -> tuple[Flags, Flags]:
    """([L, X, Y] asphalt, [L, X, Y] where people walk)."""
    from scipy.ndimage import distance_transform_edt

    flags = raster.flags
    road = flags & ROAD > 0
    walk = flags & (SIDEWALK | CROSSWALK | JUNCTION) > 0
    junction = np.asarray((flags & JUNCTION > 0).any(axis=0))
    rows, columns = junction.shape[0] // 4, junction.shape[1] // 4  # a quarter of the resolution is fine enough
    coarse = np.asarray(junction[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4).any(axis=(1, 3)))
    if coarse.any():
        near = distance_transform_edt(~coarse) * raster.cell_m * 4 <= CROSSING_REACH_M
        walk[:, : rows * 4, : columns * 4] |= near.repeat(4, axis=0).repeat(4, axis=1)
    return road, walk


def _on(raster: RoadRaster, allowed: Flags, x: Doubles, y: Doubles, z: NDArray[np.float32]) -> Flags:
    """[M] whether the mapped level nearest to z is allowed below each point; a cell of slack at every border."""
    hit = np.zeros(len(x), np.bool_)
    for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
        i = np.floor((x - raster.origin_m[0]) / raster.cell_m).astype(np.intp) + dx
        j = np.floor((y - raster.origin_m[1]) / raster.cell_m).astype(np.intp) + dy
        inside = (i >= 0) & (j >= 0) & (i < allowed.shape[1]) & (j < allowed.shape[2])
        i, j = np.where(inside, i, 0), np.where(inside, j, 0)
        height = raster.height_cm[:, i, j] / 100.0 + raster.z0_m
        gap = np.where(raster.flags[:, i, j] > 0, np.abs(height - z), np.inf)
        level = gap.argmin(axis=0)
        hit |= inside & allowed[level, i, j] & ((gap.min(axis=0) < LEVEL_M) | np.isinf(gap).all(axis=0))
    return hit


def find_leaps(log: TrafficLog) -> Flags:
    """[N, T - 1] steps farther than the faster of both speeds allows, or turns of a mover by more than LEAP_RAD."""
    both = log.valid[:, 1:] & log.valid[:, :-1]
    step = np.hypot(*np.moveaxis(np.diff(log.pose[..., :2].astype(np.float64), axis=1), 2, 0))
    speed = np.maximum(log.speed_mps[:, 1:], log.speed_mps[:, :-1])
    turn = np.abs(wrap_angle(np.diff(log.pose[..., 2].astype(np.float64), axis=1)))
    vehicle = (log.class_id != Semantics.PEDESTRIAN)[:, None]
    leap: Flags = both & ((step > speed * log.dt_s + LEAP_SLACK_M) | (vehicle & (turn > LEAP_RAD)))
    return leap


def check_traffic(log: TrafficLog, raster: RoadRaster | None = None, every: int = 1) -> dict[str, Any]:
    """Figures of a log, ready for JSON; shares are of agent-frames. Without a raster nothing is said of surfaces."""
    seen = log.valid[:, ::every]
    total = max(int(seen.sum()), 1)
    vehicle = log.class_id == Semantics.VEHICLE
    moving = log.valid & (log.speed_mps > MOVING_MPS)
    figures: dict[str, Any] = {
        "seconds": round(log.frames * log.dt_s, 3),
        "tracks": len(log.id),
        "agents_a_frame": round(float(log.valid.sum(axis=0).mean()), 2),
        "kinds_a_frame": {
            name: round(float(log.valid[log.kind == code].sum() / log.frames), 2) for code, name in enumerate(KINDS)
        },
        "overlap_share": round(find_overlaps(log, every).agent_frames() / total, 5),
        "teleports": int(find_leaps(log).sum()),
        "standing_share": _share(log.valid & ~moving, log.valid, vehicle),
        "turning_share": _turning_share(log, vehicle),
        "speed_mps": {
            name: _percentiles(log.speed_mps[log.kind == code][moving[log.kind == code]])
            for code, name in enumerate(KINDS)
        },
        **_motion(log, vehicle),
    }
    if raster is not None:
        off = off_surface(log, raster, every)
        figures["off_surface_share"] = round(float(off.sum()) / total, 5)
        figures["off_surface"] = {
            kind.name.lower(): _share(off, seen, log.class_id == kind)
            for kind in (Semantics.VEHICLE, Semantics.BICYCLE, Semantics.PEDESTRIAN)
        }
    return figures


def _share(part: Flags, whole: Flags, members: Flags) -> float:
    return round(float(part[members].sum()) / max(int(whole[members].sum()), 1), 5)


def _percentiles(values: NDArray[np.floating[Any]]) -> dict[str, float]:
    """p5, p50, p95, p99 and the largest; zeros where there is nothing."""
    marks = np.percentile(values, (5, 50, 95, 99, 100)) if len(values) else np.zeros(5)
    return {name: round(float(v), 3) for name, v in zip(("p5", "p50", "p95", "p99", "max"), marks, strict=True)}


def _yaw_rate(log: TrafficLog) -> tuple[Doubles, Flags]:
    """([N, T - 1] rad/s, where both frames are there)."""
    both = log.valid[:, 1:] & log.valid[:, :-1]
    rate = wrap_angle(np.diff(log.pose[..., 2].astype(np.float64), axis=1)) / log.dt_s
    return np.where(both, rate, 0.0), both


def _turning_share(log: TrafficLog, vehicle: Flags) -> float:
    """Of the moving vehicles, those that turn faster than TURNING_RADPS."""
    rate, both = _yaw_rate(log)
    moving = both & (log.speed_mps[:, 1:] > MOVING_MPS)
    return _share(moving & (np.abs(rate) > TURNING_RADPS), moving, vehicle)


def _motion(log: TrafficLog, vehicle: Flags) -> dict[str, Any]:
    """Percentiles of the vehicles' acceleration along and across their heading, and of their turning."""
    rate, both = _yaw_rate(log)
    rate, both = rate[vehicle], both[vehicle]
    gain = np.diff(log.speed_mps[vehicle].astype(np.float64), axis=1) / log.dt_s
    across = np.abs(rate * log.speed_mps[vehicle, 1:])
    driving = both & (log.speed_mps[vehicle, 1:] > MOVING_MPS)
    heading = log.pose[vehicle, :-1, 2].astype(np.float64)
    step = np.diff(log.pose[vehicle, :, :2].astype(np.float64), axis=1) / log.dt_s
    slip = np.abs(step[..., 1] * np.cos(heading) - step[..., 0] * np.sin(heading))
    return {
        "acceleration_mps2": _percentiles(gain[both]),
        "braking_mps2": _percentiles(-gain[both]),
        "lateral_mps2": _percentiles(across[driving]),
        "yaw_rate_radps": _percentiles(np.abs(rate[driving])),
        "sideways_mps": _percentiles(slip[driving]),
    }
