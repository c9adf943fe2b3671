"""A picture of voxels through a camera at eye height: rays walk from voxel to voxel. R ray, X/Y/Z voxel axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.types import PALETTE, Doubles, GridSpec, Labels
from scenarios.paint import compiled

Pixels = NDArray[np.uint8]
SKY_LOW, SKY_HIGH = np.array([232.0, 238.0, 244.0]), np.array([168.0, 198.0, 230.0])
FACE_LIGHT = np.array([0.78, 0.9, 1.08])  # of faces across x, y and z
HAZE_M = 110.0


def street_view(
    labels: Labels,
    grid: GridSpec,
    eye_m: Doubles,
    yaw_rad: float,
    size: tuple[int, int] = (200, 360),
    fov_rad: float = 1.4,
) -> Pixels:
    """[rows, columns, 3] the frame [X, Y, Z] seen from a point inside the grid, in its frame, looking along yaw, level.

    fov_rad is the angle from the left to the right edge.
    """
    rows, columns = size
    focus = columns / 2 / np.tan(fov_rad / 2)
    across, up = np.meshgrid(np.arange(columns) + 0.5 - columns / 2, rows * 0.42 - np.arange(rows) - 0.5)
    ahead = np.full(across.shape, focus)
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    rays = np.stack([ahead * cos + across * sin, ahead * sin - across * cos, up], axis=-1).reshape(-1, 3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    kind, axis, far_m = cast_rays(labels, grid, eye_m, rays)
    colour = PALETTE[kind] * FACE_LIGHT[axis][:, None]
    sky = SKY_LOW + (SKY_HIGH - SKY_LOW) * np.clip(rays[:, 2:] * 2.2, 0, 1)
    haze = 1.0 - np.exp(-far_m / HAZE_M)[:, None]
    colour = np.where(kind[:, None] > 0, colour * (1 - haze) + SKY_LOW * haze, sky)
    return np.clip(colour, 0, 255).astype(np.uint8).reshape(rows, columns, 3)


def cast_rays(
    labels: Labels, grid: GridSpec, eye_m: Doubles, rays: Doubles
) -> tuple[NDArray[np.uint8], NDArray[np.int64], Doubles]:
    """Of each ray [R, 3]: the class it meets first (0: none), the axis its face lies across, the distance in metres."""
    kind, face, far_m = np.zeros(len(rays), np.uint8), np.zeros(len(rays), np.int64), np.zeros(len(rays))
    start = (np.asarray(eye_m, np.float64) - np.array(grid.origin_m)) / np.array(grid.voxel_m)
    solid = np.where(labels < len(PALETTE), labels, 0).astype(np.uint8)
    compiled(walk_rays)(solid, np.array(grid.voxel_m), start, np.ascontiguousarray(rays), kind, face, far_m)
    return kind, face, far_m


def walk_rays(
    labels: Labels,
    voxel_m: Doubles,
    start: Doubles,
    rays: Doubles,
    kind: NDArray[np.uint8],
    face: NDArray[np.int64],
    far_m: Doubles,
) -> None:
    """Kernel: from start, in voxels, along rays in metres, wall by wall (Amanatides and Woo 1987)."""
    for r in range(len(rays)):
        cell = np.floor(start).astype(np.int64)
        ahead, between = np.empty(3), np.empty(3)  # distance to the next wall of each axis, and from wall to wall
        for a in range(3):
            speed = abs(rays[r, a]) / voxel_m[a]
            part = start[a] - np.floor(start[a])
            between[a] = 1.0 / speed if speed > 0.0 else np.inf
            ahead[a] = (1.0 - part if rays[r, a] >= 0.0 else part) / speed if speed > 0.0 else np.inf
        while True:
            a = int(np.argmin(ahead))
            distance = ahead[a]
            cell[a] += 1 if rays[r, a] >= 0.0 else -1
            ahead[a] += between[a]
            if cell[a] < 0 or cell[a] >= labels.shape[a]:
                break
            if labels[cell[0], cell[1], cell[2]] > 0:
                kind[r], face[r], far_m[r] = labels[cell[0], cell[1], cell[2]], a, distance
                break
