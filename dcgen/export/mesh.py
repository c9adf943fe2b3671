"""Occupancy as a surface: only faces one can see, with light, shade and shadow baked into the vertices.

X/Y/Z voxel axes, V vertex, F triangle, Q square face. Vertices are metres in the ego frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.export.frame import EGO_SIZE_M, Frame, surface_top_m
from dcgen.types import PALETTE, Doubles, Floats, Semantics

EGO_COLOUR = (255, 96, 40)
PATH_COLOUR = (255, 170, 60)
_SUN_WORLD = np.array([-0.45, 0.62, 0.9])
_AMBIENT, _DIFFUSE = 0.60, 0.46
_CORNER_SHADE = np.array([0.66, 0.80, 0.91, 1.0])  # by how many of a vertex's three neighbours are free
_SKY = (0.06, 0.0, 0.12)  # what faces get from the sky by axis: x, y, z
_RING = ((-1, -1), (1, -1), (1, 1), (-1, 1))


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour a vertex."""

    vertices_m: Floats  # [V, 3]
    triangles: NDArray[np.int32]  # [F, 3]
    colours: NDArray[np.uint8]  # [V, 3]


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    offsets = np.cumsum([0, *(len(mesh.vertices_m) for mesh in meshes[:-1])])
    triangles = [mesh.triangles + offset for mesh, offset in zip(meshes, offsets, strict=True)]
    return Mesh(
        np.concatenate([mesh.vertices_m for mesh in meshes]),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate([mesh.colours for mesh in meshes]),
    )


def frame_mesh(frame: Frame) -> Mesh:
    """Everything one sees in a frame: voxels, the ego's path and the ego."""
    top = surface_top_m(frame)
    return join([voxel_mesh(frame), _path_mesh(frame, top), _ego_mesh(frame, top)])


def sun_direction(frame: Frame) -> Doubles:
    """Unit vector to the sun in the ego frame; it stands still in the world."""
    c, s = np.cos(frame.ego_yaw_rad), np.sin(frame.ego_yaw_rad)
    sun = np.array([c * _SUN_WORLD[0] + s * _SUN_WORLD[1], -s * _SUN_WORLD[0] + c * _SUN_WORLD[1], _SUN_WORLD[2]])
    return sun / np.linalg.norm(sun)


def top_colours(frame: Frame) -> NDArray[np.uint8]:
    """[X, Y, 3] what one sees of each column from above; white where there is nothing."""
    cell, mesh = _faces(frame, np.pad(frame.solid, 1), sun_direction(frame), 2, 1)
    seen = np.full((*frame.grid.shape[:2], 3), 255, np.uint8)
    seen[cell[:, 0], cell[:, 1]] = mesh.colours.reshape(-1, 4, 3).mean(axis=1)  # argwhere goes up: the highest stays
    return seen


def voxel_mesh(frame: Frame) -> Mesh:
    """The faces of the voxels that border on free, unknown or the outside, bottom faces left out."""
    solid = np.pad(frame.solid, 1)
    sun = sun_direction(frame)
    parts = [
        _faces(frame, solid, sun, axis, sign)[1] for axis in range(3) for sign in (-1, 1) if (axis, sign) != (2, -1)
    ]
    return join(parts)


def _faces(
    frame: Frame, solid: NDArray[np.bool_], sun: Doubles, axis: int, sign: int
) -> tuple[NDArray[np.int64], Mesh]:
    """Voxels [Q, 3] that one sees from `sign` of `axis`, and their squares: four vertices each, one after the other."""
    normal = np.zeros(3, np.int64)
    normal[axis] = sign
    inner = tuple(slice(1, -1) for _ in range(3))
    beyond = tuple(slice(1 + n, solid.shape[i] - 1 + n) for i, n in enumerate(normal))
    cell = np.argwhere(solid[inner] & ~solid[beyond])  # [Q, 3]
    one, two = [i for i in range(3) if i != axis]
    ring = _RING if (sign > 0) != (axis == 1) else _RING[::-1]  # counter-clockwise from outside
    corner, shade = [], []
    for u, v in ring:
        side = np.zeros((2, 3), np.int64)
        side[0, one], side[1, two] = u, v
        corner.append(cell + 0.5 + 0.5 * (normal + side[0] + side[1]))
        shade.append(_corner_shade(solid, cell + 1 + normal, side))
    corners = np.stack(corner, axis=1)  # [Q, 4, 3] in voxels
    open_to_sun = _sunlight(solid, cell, corners, normal, sun, frame.grid.voxel_m)
    facing = max(0.0, float(normal @ sun))
    light = (_AMBIENT + _SKY[axis] * (1 if sign > 0 else 0.6) + _DIFFUSE * facing * open_to_sun) * np.stack(shade, 1)
    vertices = np.asarray(frame.grid.origin_m) + corners * np.asarray(frame.grid.voxel_m)
    colours = _base_colour(frame, cell)[:, None] * light[..., None]
    mesh = Mesh(
        vertices.reshape(-1, 3).astype(np.float32),
        _two_triangles(np.stack(shade, 1)),
        np.clip(colours, 0, 255).astype(np.uint8).reshape(-1, 3),
    )
    return cell, mesh


def _corner_shade(solid: NDArray[np.bool_], beyond: NDArray[np.int64], side: NDArray[np.int64]) -> Floats:
    """[Q] how open a vertex is: three voxels touch it on the free side of its face."""
    first, second = (solid[tuple((beyond + s).T)] for s in side)
    third = solid[tuple((beyond + side.sum(axis=0)).T)]
    free = np.where(first & second, 0, 3 - first.astype(np.int64) - second - third)
    return np.asarray(_CORNER_SHADE[free], dtype=np.float32)


def _sunlight(
    solid: NDArray[np.bool_],
    cell: NDArray[np.int64],
    corners: Doubles,
    normal: NDArray[np.int64],
    sun: Doubles,
    voxel_m: tuple[float, float, float],
) -> Floats:
    """[Q, 4] 1 where a face's corner sees the sun, less in a shadow. A corner looks from 40 % inside its face."""
    centre = (cell + 0.5)[:, None] + 0.5 * normal
    start = centre + 0.4 * (corners - centre) + 0.02 * normal
    step = sun / np.asarray(voxel_m)
    step = step / np.abs(step).max()
    shadow = np.zeros(corners.shape[:2], bool)
    limit = np.array(solid.shape) - 1
    for k in range(1, int(3 * solid.shape[2] / max(step[2], 0.1))):
        at = np.floor(start + 0.5 * k * step).astype(np.int64) + 1
        if (at[..., 2] >= limit[2]).all():
            break
        at = np.clip(at, 0, limit)
        shadow |= solid[at[..., 0], at[..., 1], at[..., 2]]
    return np.asarray(np.where(shadow, 0.12, 1.0), dtype=np.float32)


def _base_colour(frame: Frame, cell: NDArray[np.int64]) -> Floats:
    """[Q, 3] the palette, lighter with height on buildings and trees, and every other voxel a little darker."""
    label = frame.labels[tuple(cell.T)]
    colour = PALETTE[np.minimum(label, len(PALETTE) - 1)].astype(np.float32)
    tall = np.isin(label, [int(Semantics.BUILDING), int(Semantics.VEGETATION)])
    height = cell[:, 2] / max(frame.grid.shape[2] - 1, 1)
    light = np.where(tall, 0.86 + 0.2 * height, 1.0) * np.where(cell.sum(axis=1) % 2, 0.985, 1.0)
    return np.asarray(colour * light[:, None], dtype=np.float32)


def _two_triangles(shade: Floats) -> NDArray[np.int32]:
    """[F, 3] two triangles a square, cut along the diagonal that keeps the shade even."""
    first = 4 * np.arange(len(shade), dtype=np.int32)[:, None]
    along = np.array([0, 1, 2, 0, 2, 3], np.int32)
    across = np.array([1, 2, 3, 1, 3, 0], np.int32)
    flip = shade[:, 0] + shade[:, 2] < shade[:, 1] + shade[:, 3]
    return np.asarray(first + np.where(flip[:, None], across, along), dtype=np.int32).reshape(-1, 3)


def box_mesh(low: Doubles, high: Doubles, colour: tuple[int, int, int], taper: float = 1.0) -> Mesh:
    """A box from corner to corner, its roof narrowed to `taper`, with plain face shades."""
    unit = np.array([[x, y, z] for z in (0, 1) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))], np.float64)
    middle = (low[:2] + high[:2]) / 2
    points = low + unit * (high - low)
    points[4:, :2] = middle + taper * (points[4:, :2] - middle)
    sides = [((4, 5, 6, 7), 1.0), ((1, 2, 6, 5), 0.86), ((3, 0, 4, 7), 0.78), ((2, 3, 7, 6), 0.92), ((0, 1, 5, 4), 0.7)]
    vertices = np.concatenate([points[list(ring)] for ring, _ in sides]).astype(np.float32)
    shades = np.repeat([shade for _, shade in sides], 4)[:, None]
    return Mesh(vertices, _two_triangles(np.ones((5, 4), np.float32)), (np.array(colour) * shades).astype(np.uint8))


def _height_at(frame: Frame, top: Floats, xy_m: Doubles) -> Floats:
    """[P] surface height below points; points outside take the border's."""
    cell = np.floor((xy_m - frame.grid.origin_m[:2]) / np.asarray(frame.grid.voxel_m[:2])).astype(np.int64)
    cell = np.clip(cell, 0, np.array(frame.grid.shape[:2]) - 1)
    return np.asarray(top[cell[:, 0], cell[:, 1]])


def _ego_mesh(frame: Frame, top: Floats) -> Mesh:
    length, width, height = EGO_SIZE_M
    ground = float(_height_at(frame, top, np.zeros((1, 2)))[0])
    hull = box_mesh(
        np.array([-length / 2, -width / 2, ground + 0.2]),
        np.array([length / 2, width / 2, ground + 0.55 * height]),
        EGO_COLOUR,
        taper=0.97,
    )
    cabin = box_mesh(
        np.array([-length * 0.4, -width * 0.46, ground + 0.55 * height]),
        np.array([length * 0.22, width * 0.46, ground + height]),
        (255, 226, 205),
        taper=0.8,
    )
    return join([hull, cabin])


def _path_mesh(frame: Frame, top: Floats) -> Mesh:
    """A ribbon over the ground along the path to come, cut at the grid's border."""
    low = np.asarray(frame.grid.origin_m[:2])
    high = low + np.asarray(frame.grid.extent_m[:2])
    points = resample(frame.path_m[frame.ahead], 0.4)
    points = points[((points > low + 0.3) & (points < high - 0.3)).all(axis=1)]
    if len(points) < 2:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3), np.uint8))
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = 0.35 * np.column_stack([-along[:, 1], along[:, 0]])
    z = _height_at(frame, top, points) + 0.06
    rim = np.stack([np.column_stack([points + across, z]), np.column_stack([points - across, z])], axis=1)
    k = 2 * np.arange(len(points) - 1, dtype=np.int32)[:, None]
    triangles = np.concatenate([k + [0, 1, 2], k + [1, 3, 2]]).astype(np.int32)
    colours = np.tile(np.array(PATH_COLOUR, np.uint8), (2 * len(points), 1))
    return Mesh(rim.reshape(-1, 3).astype(np.float32), triangles, colours)


def resample(points_m: Doubles, step_m: float) -> Doubles:
    """[P, 2] points of a polyline every `step_m`; a standing path stays one point."""
    if len(points_m) < 2:
        return points_m
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_m, axis=0), axis=1))])
    at = np.arange(0.0, s[-1] + 1e-9, step_m)
    return np.column_stack([np.interp(at, s, points_m[:, 0]), np.interp(at, s, points_m[:, 1])])
