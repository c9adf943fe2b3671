"""Where poses lie along a line of way points.

T frame, R route point, S segment between two of them. World frame, metres, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridges.scoring.boxes import in_frame
from dcgen.types import Doubles

# Where a route comes by a place twice, the stretch that leads the ego's way is meant: a heading that is off by more
# than 45 degrees weighs as much as up to so many metres.
TURNED_M, ALIKE_COS = 8.0, np.cos(np.pi / 4)
NEAR_M = 60.0  # segments further from all poses than this are not looked at, unless none is nearer


@dataclass(frozen=True)
class Along:
    """Poses seen from a line."""

    arc_m: Doubles  # [T] from its first point along it, held to its ends
    lateral_m: Doubles  # [T] to its left, from the nearest segment as if it went on
    yaw_rad: Doubles  # [T] the line's heading there


def along(line: Doubles, poses: Doubles) -> Along | None:
    """Poses [T, 3] along a line [R, 2 or more]; None for a line of no length."""
    xy = np.asarray(line, np.float64)[:, :2]
    step = np.diff(xy, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    keep = length > 1e-6
    if not keep.any():
        return None
    start, step, length = xy[:-1][keep], step[keep], length[keep]
    before = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    yaw = np.arctan2(step[:, 1], step[:, 0])
    middle, spread = poses[:, :2].mean(axis=0), np.ptp(poses[:, :2], axis=0) / 2 + NEAR_M
    near = np.all(np.abs(start - middle) <= spread + length[:, None], axis=-1)
    if near.any():
        start, length, before, yaw = start[near], length[near], before[near], yaw[near]
    ahead, lateral = in_frame(poses[:, None, :2] - start, yaw)  # [T, S]
    inside = np.clip(ahead, 0.0, length)
    turned = np.maximum(ALIKE_COS - np.cos(poses[:, None, 2] - yaw), 0.0) / (1 + ALIKE_COS)
    cost = (ahead - inside) ** 2 + lateral**2 + TURNED_M**2 * turned
    best = np.argmin(cost, axis=1)
    rows = np.arange(len(poses))
    return Along(before[best] + inside[rows, best], lateral[rows, best], yaw[best])
