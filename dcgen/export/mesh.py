"""Triangles with baked colours. V vertex, F triangle, Q quad, E edge. Vertices are metres in the ego frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Doubles, Floats

Colour = tuple[int, int, int]
_AROUND = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour a vertex."""

    vertices_m: Floats  # [V, 3]
    triangles: NDArray[np.int32]  # [F, 3]
    colours: NDArray[np.uint8]  # [V, 3]


def empty() -> Mesh:
    return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3), np.uint8))


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    offsets = np.cumsum([0, *(len(mesh.vertices_m) for mesh in meshes[:-1])])
    triangles = [mesh.triangles + np.int32(offset) for mesh, offset in zip(meshes, offsets, strict=True)]
    return Mesh(
        np.concatenate([mesh.vertices_m for mesh in meshes]),
        np.concatenate(triangles).astype(np.int32, copy=False),
        np.concatenate([mesh.colours for mesh in meshes]),
    )


def moved(mesh: Mesh, by_m: Doubles) -> Mesh:
    """The mesh, carried by [3] metres."""
    return Mesh((mesh.vertices_m + by_m).astype(np.float32), mesh.triangles, mesh.colours)


def quads(corners_m: Floats, colours: NDArray[np.uint8]) -> Mesh:
    """Quads [Q, 4, 3] with a colour a corner, each cut along the diagonal that keeps its shade even."""
    bright = colours.sum(axis=2, dtype=np.int32)
    flip = bright[:, 0] + bright[:, 2] < bright[:, 1] + bright[:, 3]
    first = 4 * np.arange(len(corners_m), dtype=np.int32)[:, None]
    along, across = np.array([0, 1, 2, 0, 2, 3], np.int32), np.array([1, 2, 3, 1, 3, 0], np.int32)
    triangles = (first + np.where(flip[:, None], across, along)).astype(np.int32, copy=False)
    vertices = np.asarray(corners_m, np.float32).reshape(-1, 3)
    return Mesh(vertices, triangles.reshape(-1, 3), np.asarray(colours, np.uint8).reshape(-1, 3))


def flat_quads(corners_m: Floats | Doubles, colours: NDArray[np.uint8]) -> Mesh:
    """Quads [Q, 4, 3], each in one colour [Q, 3]."""
    return quads(np.asarray(corners_m, np.float32), np.repeat(colours[:, None], 4, axis=1))


def box_mesh(low: Doubles, high: Doubles, colour: Colour, taper: float = 1.0) -> Mesh:
    """A box from corner to corner, its roof narrowed to `taper`, with plain face shades."""
    unit = np.array([[x, y, z] for z in (0, 1) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))], np.float64)
    middle = (low[:2] + high[:2]) / 2
    points = low + unit * (high - low)
    points[4:, :2] = middle + taper * (points[4:, :2] - middle)
    sides = [((4, 5, 6, 7), 1.0), ((1, 2, 6, 5), 0.86), ((3, 0, 4, 7), 0.78), ((2, 3, 7, 6), 0.92), ((0, 1, 5, 4), 0.7)]
    corners = np.stack([points[list(ring)] for ring, _ in sides])
    return flat_quads(corners, np.stack([(np.array(colour) * shade).astype(np.uint8) for _, shade in sides]))


def beams(start_m: Doubles, end_m: Doubles, width_m: float, colours: NDArray[np.uint8]) -> Mesh:
    """Square beams from [E, 3] to [E, 3] in colours [E, 3], as long again as they are wide, so that ends meet."""
    along = end_m - start_m
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    upright = np.abs(along[:, 2:]) > 0.9
    side = np.cross(along, np.where(upright, [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    half = width_m / 2
    rim = half * (_AROUND[:, 0, None, None] * side + _AROUND[:, 1, None, None] * up)  # [4, E, 3]
    near, far = start_m - half * along + rim, end_m + half * along + rim
    walls = [np.stack([near[k], near[(k + 1) % 4], far[(k + 1) % 4], far[k]], axis=1) for k in range(4)]
    shades = (1.0, 0.94, 0.8, 0.88)
    return flat_quads(np.concatenate(walls), np.concatenate([(colours * shade).astype(np.uint8) for shade in shades]))
