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


def carla_transform_to_world(
    x: float, y: float, z: float, pitch_deg: float, yaw_deg: float, roll_deg: float
) -> Doubles:
    """[4, 4] the pose of a body in the world frame, of a CARLA transform (pitch up, yaw and roll clockwise)."""
    pitch, yaw, roll = np.radians([pitch_deg, yaw_deg, roll_deg])
    (cp, cy, cr), (sp, sy, sr) = np.cos([pitch, yaw, roll]), np.sin([pitch, yaw, roll])
    about_z = np.array([[cy, sy, 0], [-sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pose = np.eye(4)
    pose[:3, :3] = about_z @ about_y @ about_x
    pose[:3, 3] = x, -y, z
    return pose


def _flip(points: ArrayLike) -> Doubles:
    width = np.shape(points)[-1]
    if width not in (2, 3):
        raise ValueError(f"points need 2 or 3 coordinates, got {width}")
    return np.array([1.0, -1.0, 1.0][:width])
