"""Oriented boxes seen from above: whether they meet, and when they will.

T frame, N box, A separating axis: along and across the first box, along and across the second. World frame, metres,
seconds, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.types import AgentTracks, Doubles

Mask = NDArray[np.bool_]
STILL_MPS = 1e-9  # slower than this along an axis, a gap neither opens nor closes


@dataclass(frozen=True)
class Gaps:
    """How the ego's box lies to each of N others, on the four axes that decide (separating axis theorem)."""

    offset_m: Doubles  # [A, N, T] from the ego's centre to the other's, along each axis
    reach_m: Doubles  # [A, N, T] half of both boxes along it: the boxes meet where no offset is greater
    rate_mps: Doubles  # [A, N, T] how fast the offset grows when both drive on as they do
    valid: Mask  # [N, T] the other is there

    def within(self, margin_m: float = 0.0) -> Mask:
        """[N, T] the boxes touch or overlap, after the reach grows by a margin."""
        return self.valid & np.all(np.abs(self.offset_m) <= self.reach_m + margin_m, axis=0)

    def contact_s(self) -> Doubles:
        """[N, T] seconds until the boxes meet at constant velocity and heading; 0 where they do, inf where never.

        Exact, not sampled: on each axis they overlap over one interval of time, and they meet where all four agree.
        """
        still = np.abs(self.rate_mps) < STILL_MPS
        apart = np.abs(self.offset_m) > self.reach_m
        rate = np.where(still, 1.0, self.rate_mps)
        ends = (np.stack([-self.reach_m, self.reach_m]) - self.offset_m) / rate
        begin = np.where(still, np.where(apart, np.inf, -np.inf), ends.min(axis=0)).max(axis=0)
        end = np.where(still, np.inf, ends.max(axis=0)).min(axis=0)
        begin = np.maximum(begin, 0.0)
        return np.where(self.valid & (begin <= end), begin, np.inf)


def gaps(ego: Doubles, size_m: tuple[float, float], speed_mps: Doubles, agents: AgentTracks) -> Gaps:
    """Between the ego's box [T, 3] of a length and width, and all agents'."""
    valid = agents.valid
    pose = np.where(valid[..., None], agents.pose, 0.0)
    speed = np.where(valid, agents.speed_mps, 0.0).astype(np.float64)
    turn = pose[..., 2] - ego[:, 2]
    cos, sin = np.cos(turn), np.sin(turn)
    ahead, aside = in_frame(pose[..., :2] - ego[:, :2], ego[:, 2])
    rate_ahead, rate_aside = speed * cos - speed_mps, speed * sin
    half = np.asarray(agents.size_m[:, :2], np.float64)[:, None, :] / 2
    long, wide = np.broadcast_to(half[..., 0], turn.shape), np.broadcast_to(half[..., 1], turn.shape)
    ego_long, ego_wide = size_m[0] / 2, size_m[1] / 2
    c, s = np.abs(cos), np.abs(sin)
    offset = [ahead, aside, cos * ahead + sin * aside, cos * aside - sin * ahead]
    rate = [rate_ahead, rate_aside, cos * rate_ahead + sin * rate_aside, cos * rate_aside - sin * rate_ahead]
    reach = [
        ego_long + c * long + s * wide,
        ego_wide + s * long + c * wide,
        long + c * ego_long + s * ego_wide,
        wide + s * ego_long + c * ego_wide,
    ]
    return Gaps(np.stack(offset), np.stack(reach), np.stack(rate), valid)


def in_frame(vector_m: Doubles, yaw_rad: Doubles) -> tuple[Doubles, Doubles]:
    """Vectors [..., 2] of the world as seen under a heading: their parts ahead and to the left."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    x, y = vector_m[..., 0], vector_m[..., 1]
    return cos * x + sin * y, cos * y - sin * x


def corners(ego: Doubles, size_m: tuple[float, float]) -> Doubles:
    """[T, 4, 2] corners of a box with its centre at [T, 3]: front left, rear left, rear right, front right."""
    cos, sin = np.cos(ego[:, 2, None]), np.sin(ego[:, 2, None])
    ahead = np.array([1, -1, -1, 1]) * size_m[0] / 2
    aside = np.array([1, 1, -1, -1]) * size_m[1] / 2
    turned = np.stack([cos * ahead - sin * aside, sin * ahead + cos * aside], axis=-1)
    return ego[:, None, :2] + turned
