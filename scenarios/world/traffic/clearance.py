"""Room for what moves: parked cars and solids in the way of the traffic are taken out. N agent, M point."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dcgen.types import AgentTracks, Doubles
from scenarios.world.town.tile import TownTile
from scenarios.world.traffic.log import TrafficLog

CLEAR_M = 0.3
HEADROOM_M = 2.4
TALL_HEADROOM_M = 4.2


def clear_of_traffic(parked: AgentTracks, traffic: TrafficLog, every: int = 2) -> AgentTracks:
    """The parked cars that nobody in the log comes near: boxes (with CLEAR_M to spare) never touch."""
    if len(parked.id) == 0:
        return parked
    from scipy.spatial import cKDTree

    n, t = np.nonzero(traffic.valid[:, ::every])
    pose = traffic.pose[n, t * every].astype(np.float64)
    tree = cKDTree(pose[:, :2])
    keep = np.ones(len(parked.id), bool)
    for index in range(len(parked.id)):
        near = np.asarray(tree.query_ball_point(parked.pose[index, 0, :2], 9.5), np.intp)
        if len(near):
            own = (parked.pose[index, 0], parked.size_m[index].astype(np.float64) + 2 * CLEAR_M)
            keep[index] = not boxes_touch(own[0], own[1], pose[near], traffic.size_m[n[near]].astype(np.float64)).any()
    return parked.select(keep)


def boxes_touch(pose: Doubles, size_m: Doubles, others: Doubles, other_sizes_m: Doubles) -> NDArray[np.bool_]:
    """[N] whether an oriented rectangle (x, y, yaw; length, width) meets each of others [N, 3] (separating axes).

    One rectangle against all, or [N, 3] and [N, 2 or 3] one against one.
    """
    offset = others[:, :2] - pose[..., :2]
    apart = np.zeros(len(others), bool)
    for first in (True, False):
        axis_yaw = np.broadcast_to(pose[..., 2], len(others)) if first else others[:, 2]
        for turn in (0.0, np.pi / 2):
            axis = np.stack([np.cos(axis_yaw + turn), np.sin(axis_yaw + turn)], axis=1)
            reach = _reach(pose[..., 2] - axis_yaw - turn, size_m) + _reach(
                others[:, 2] - axis_yaw - turn, other_sizes_m
            )
            apart |= np.abs((offset * axis).sum(axis=1)) > reach
    return ~apart


def _reach(angle: Doubles, size_m: Doubles) -> Doubles:
    reach: Doubles = (np.abs(np.cos(angle)) * size_m[..., 0] + np.abs(np.sin(angle)) * size_m[..., 1]) / 2
    return reach


def clear_paths(tile: TownTile, traffic: TrafficLog) -> TownTile:
    """The tile without the solids that stand where somebody in the log walks or drives (canopies above stay)."""
    spans = [getattr(tile, name).copy() for name in ("span_class", "span_lo_cm", "span_hi_cm")]
    for start in range(0, len(traffic.id), 64):
        rows = np.arange(start, min(start + 64, len(traffic.id)))
        n, t = np.nonzero(traffic.valid[rows, ::3])
        n, t = rows[n], t * 3
        pose, size = traffic.pose[n, t].astype(np.float64), traffic.size_m[n].astype(np.float64)
        ground = tile.ground_z_m(pose[:, :2], traffic.z_m[n, t])
        headroom = np.where(size[:, 2] > 2.0, TALL_HEADROOM_M, HEADROOM_M)
        for at in _swept(pose, size):
            _drop(tile, spans, at, ground, headroom)
    return dataclasses.replace(tile, span_class=spans[0], span_lo_cm=spans[1], span_hi_cm=spans[2])


def _swept(pose: Doubles, size: Doubles) -> Iterator[Doubles]:
    """Points [N, 2] of a lattice over every box and CLEAR_M / 2 around it, one lattice place after another."""
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    steps = np.ceil((size[:, :2].max(axis=0, initial=0.5) + CLEAR_M) / 0.3).astype(int)
    for a in np.linspace(-0.5, 0.5, steps[0] + 1):
        for b in np.linspace(-0.5, 0.5, steps[1] + 1):
            u, v = a * (size[:, 0] + CLEAR_M), b * (size[:, 1] + CLEAR_M)
            yield np.stack([pose[:, 0] + u * cos - v * sin, pose[:, 1] + u * sin + v * cos], axis=1)


def _drop(tile: TownTile, spans: list[NDArray], at: Doubles, z: Doubles, room: Doubles) -> None:
    """Take spans that reach into [z, z + room] out of the cells at the points, the rest moved to the first slots."""
    kind, low, high = spans
    x, y = tile.cell_of(at)
    busy = kind[0, x, y] > 0
    if not busy.any():
        return
    x, y, z, room = x[busy], y[busy], z[busy], room[busy]
    cell = np.unique(np.stack([x, y]), axis=1, return_index=True)[1]
    x, y, z, room = x[cell], y[cell], z[cell], room[cell]
    floor, top = (z - tile.z0_m + 0.2) * 100, (z - tile.z0_m + room) * 100
    hit = (low[:, x, y] < top) & (high[:, x, y] > floor) & (kind[:, x, y] > 0)
    if not hit.any():
        return
    left = np.where(hit, 0, kind[:, x, y])
    order = np.argsort(left == 0, axis=0, kind="stable")
    for array, values in ((kind, left), (low, low[:, x, y]), (high, high[:, x, y])):
        array[:, x, y] = np.take_along_axis(values, order, axis=0)
