"""Occupancy as a surface: only faces one can see, with light, shade and shadow baked into the vertices.

X/Y/Z voxel axes, Q quad. Faces that look the same are one quad; bottom faces are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.compiled import compiled
from dcgen.export import surface_kernels
from dcgen.export.frame import Frame
from dcgen.export.look import Look, paint_of
from dcgen.export.mesh import Mesh, join, quads
from dcgen.types import Doubles, Floats

SIDES = ((0, -1), (0, 1), (1, -1), (1, 1), (2, 1))  # axis and sign; none looks down
_SUN_WORLD = np.array([-0.45, 0.62, 0.9])
_AMBIENT, _DIFFUSE, _SHADOW = 0.60, 0.46, 0.12
_CORNER_SHADE = (0.66, 0.80, 0.91, 1.0)  # by how many of a vertex's three neighbours are free
_SKY = (0.06, 0.0, 0.12)  # what faces get from the sky by axis: x, y, z
_RING = ((-1, -1), (1, -1), (1, 1), (-1, 1))
_LAP = 0.01  # voxels that a large quad reaches beyond its edge: no gap opens where it meets small ones


def sun_direction(frame: Frame) -> Doubles:
    """Unit vector to the sun in the ego frame; it stands still in the world."""
    c, s = np.cos(frame.ego_yaw_rad), np.sin(frame.ego_yaw_rad)
    sun = np.array([c * _SUN_WORLD[0] + s * _SUN_WORLD[1], -s * _SUN_WORLD[0] + c * _SUN_WORLD[1], _SUN_WORLD[2]])
    return np.asarray(sun / np.linalg.norm(sun))


def sun_step(frame: Frame) -> Doubles:
    """[3] voxels towards the sun, the longest of them 1."""
    step = sun_direction(frame) / np.asarray(frame.grid.voxel_m)
    return np.asarray(step / np.abs(step).max())


def light_of(axis: int, sign: int, sun: Doubles) -> Floats:
    """[2, 4] light on a corner of a face, in shadow or sun, by how many of its three neighbours are free."""
    facing = max(0.0, float(sign * sun[axis]))
    sky = _AMBIENT + _SKY[axis] * (1 if sign > 0 else 0.6)
    direct = (_DIFFUSE * facing * _SHADOW, _DIFFUSE * facing)
    return np.array([[(sky + ray) * shade for shade in _CORNER_SHADE] for ray in direct], np.float32)


def ring_of(axis: int, sign: int) -> NDArray[np.int64]:
    """[4, 2] corners of a face along its two axes, counter-clockwise from outside."""
    return np.array(_RING if (sign > 0) != (axis == 1) else _RING[::-1], np.int64)


def voxel_mesh(frame: Frame, look: Look | None = None) -> Mesh:
    """The voxels that a look shows, where they border on what it does not."""
    return _surface(frame, look or Look(), SIDES)[0]


def top_colours(frame: Frame, look: Look | None = None) -> NDArray[np.uint8]:
    """[X, Y, 3] what one sees of each column from above; white where there is nothing."""
    return _surface(frame, look or Look(), SIDES[-1:])[1]


def _surface(frame: Frame, look: Look, sides: tuple[tuple[int, int], ...]) -> tuple[Mesh, NDArray[np.uint8]]:
    paint, colours = paint_of(frame, look)
    sun, step = sun_direction(frame), sun_step(frame)
    padded = np.pad(paint, 1)
    top = np.full((*frame.grid.shape[:2], 3), 255, np.uint8)
    parts = []
    for axis, sign in sides:
        most = _exposed(padded, axis, sign)
        corners, colour = np.empty((most, 4, 3), np.int16), np.empty((most, 4, 3), np.uint8)
        found = compiled(surface_kernels.lit_faces)(
            padded.ravel(), np.array(frame.grid.shape, np.int64), colours, axis, sign, light_of(axis, sign, sun),
            bool(sign * sun[axis] > 0), step, ring_of(axis, sign), corners, colour, top,
        )  # fmt: skip
        parts.append(_metres(frame, axis, corners[:found], colour[:found]))
    return join(parts), top


def _exposed(padded: NDArray[np.uint16], axis: int, sign: int) -> int:
    """How many unit faces look to `sign` of `axis`: no more quads than that come of them."""
    solid = padded != 0
    before, after = (solid.take(range(*ends), axis) for ends in ((0, solid.shape[axis] - 1), (1, solid.shape[axis])))
    return int(np.count_nonzero(before & ~after if sign > 0 else after & ~before))


def _metres(frame: Frame, axis: int, corners: NDArray[np.int16], colour: NDArray[np.uint8]) -> Mesh:
    at = corners.astype(np.float32)
    large = (np.abs(at[:, 2] - at[:, 0]).max(axis=1) > 1)[:, None, None]
    lap = np.where(large, np.float32(_LAP), 0) * np.sign(at - at.mean(axis=1, keepdims=True))
    lap[..., axis] = 0
    metres = np.asarray(frame.grid.origin_m, np.float32) + (at + lap) * np.asarray(frame.grid.voxel_m, np.float32)
    return quads(metres, colour)
