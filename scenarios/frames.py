"""CARLA's left-handed frame (x, y right, degrees) and dcgen's right-handed world frame, and nothing else converts.

OpenDRIVE shares dcgen's axes: a point of an `.xodr` file needs no conversion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dcgen.types import Doubles, wrap_angle


def carla_to_world(x: float, y: float, z: float, yaw_deg: float) -> tuple[float, float, float, float]:
    """A CARLA pose as x, y, z in metres and yaw in radians, in [-pi, pi), of the world frame."""
    return float(x), -float(y), float(z), float(wrap_angle(-np.radians(yaw_deg)))


def world_to_carla(x: float, y: float, z: float, yaw_rad: float) -> tuple[float, float, float, float]:
    """The inverse of carla_to_world: x, y, z in metres and yaw in degrees, in (-180, 180]."""
    return float(x), -float(y), float(z), float(-np.degrees(wrap_angle(yaw_rad)))


def carla_points_to_world(points: ArrayLike) -> Doubles:
    """CARLA points [..., 2 or 3] in the world frame. Its own inverse."""
    return np.asarray(points, dtype=np.float64) * _flip(points)


def carla_yaw_to_world(yaw_deg: ArrayLike) -> Doubles:
    """CARLA yaws [...] in degrees as radians in [-pi, pi)."""
    return wrap_angle(-np.radians(np.asarray(yaw_deg, dtype=np.float64)))


def _flip(points: ArrayLike) -> Doubles:
    width = np.shape(points)[-1]
    if width not in (2, 3):
        raise ValueError(f"points need 2 or 3 coordinates, got {width}")
    return np.array([1.0, -1.0, 1.0][:width])
