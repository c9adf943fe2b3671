"""The way ahead as a line with distances along it and sideways. R route point; ego frame, metres, radians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.types import Doubles

BEYOND_M = 80.0  # straight on, past the last point that is known
LATERAL_MPS2 = 2.0  # in bends
BRAKE_MPS2 = 2.0  # before them
SMOOTH = np.array([1, 2, 3, 4, 3, 2, 1]) / 16


@dataclass(frozen=True)
class Course:
    """A line to follow. s_m is 0 at the point nearest to the ego."""

    s_m: Doubles  # [R] rising
    xy_m: Doubles  # [R, 2]
    yaw_rad: Doubles  # [R] unwrapped
    curvature_pm: Doubles  # [R] change of yaw per metre, left positive
    known_m: float  # where the route ends and the straight line begins

    def pose(self, s_m: Doubles, left_m: Doubles | float = 0.0) -> Doubles:
        """[..., 3] x, y and the line's yaw at distances s_m, left_m beside it."""
        x, y = (np.interp(s_m, self.s_m, self.xy_m[:, axis]) for axis in (0, 1))
        yaw = np.interp(s_m, self.s_m, self.yaw_rad)
        return np.stack([x - left_m * np.sin(yaw), y + left_m * np.cos(yaw), yaw], axis=-1)

    def place(self, xy_m: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """s_m, left_m and yaw of the line [...] at its points nearest to xy_m [..., 2]."""
        flat = np.asarray(xy_m, np.float64).reshape(-1, 2)
        square = (flat[:, None, 0] - self.xy_m[:, 0]) ** 2 + (flat[:, None, 1] - self.xy_m[:, 1]) ** 2
        near = square.argmin(axis=1)
        yaw = self.yaw_rad[near]
        dx, dy = (flat - self.xy_m[near]).T
        s = self.s_m[near] + dx * np.cos(yaw) + dy * np.sin(yaw)
        left = dy * np.cos(yaw) - dx * np.sin(yaw)
        shape = np.shape(xy_m)[:-1]
        return s.reshape(shape), left.reshape(shape), yaw.reshape(shape)

    def speed_cap(self, s_m: Doubles, limit_mps: float) -> Doubles:
        """[...] the highest speed at s_m from which every bend ahead is still taken gently."""
        bend = np.sqrt(LATERAL_MPS2 / np.maximum(np.abs(self.curvature_pm), 1e-4))
        cap = np.minimum(bend, limit_mps)
        room = np.maximum(self.s_m[None, :] - self.s_m[:, None], 0.0)
        ahead = np.where(self.s_m[None, :] >= self.s_m[:, None], cap[None, :] ** 2 + 2 * BRAKE_MPS2 * room, np.inf)
        return np.interp(s_m, self.s_m, np.sqrt(ahead.min(axis=1)))


def course_of(route: Doubles) -> Course:
    """The line along route [R, 3] (x, y, yaw in the ego frame) and straight on; straight ahead without a route."""
    points = np.asarray(route, np.float64)
    if not len(points):
        points = np.zeros((1, 3))
    step = np.hypot(*np.diff(points[:, :2], axis=0).T)
    points = points[np.concatenate([[True], step > 1e-3])]
    last, along = points[-1], np.arange(1.0, BEYOND_M + 1.0)
    beyond = last[:2] + along[:, None] * [np.cos(last[2]), np.sin(last[2])]
    xy = np.concatenate([points[:, :2], beyond])
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    yaw = np.unwrap(np.concatenate([points[:, 2], np.full(len(along), last[2])]))
    bend = np.gradient(yaw, s)
    bend = np.convolve(np.pad(bend, 3, mode="edge"), SMOOTH, mode="valid")
    here = Course(s, xy, yaw, bend, float(s[len(points) - 1]))
    zero = float(here.place(np.zeros(2))[0])
    return Course(s - zero, xy, yaw, bend, here.known_m - zero)
