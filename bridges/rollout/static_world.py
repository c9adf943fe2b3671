"""The static world of a scene, collected once and cut again at any pose. T frame, X/Y/Z voxel axes, A/B world cell.

Cells are half a voxel and stand still in the world. Each voxel's centre votes for the label of its cell, so that a
grid at a recorded pose reads back what was recorded there; cells between the centres take what a voxel around them
held. What moved is left out: such a cell is free unless another frame saw something there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.rollout import kernels
from bridges.rollout.kernels import MOVER, TILE
from dcgen.compiled import compiled
from dcgen.errors import SceneError
from dcgen.types import (
    HEIGHT_SCALE_M,
    STATIC_CHANNELS,
    UNKNOWN,
    Doubles,
    Floats,
    GridSpec,
    Labels,
    Scene,
    Semantics,
)

MOST_TILES, MOST_COLUMNS = 20_000_000, 80_000_000
HEIGHT = STATIC_CHANNELS.index("height")
ON_MAP = slice(0, STATIC_CHANNELS.index("route"))


@dataclass(frozen=True)
class StaticWorld:
    """Labels in sparse tiles, and the road's channels in columns."""

    cell_m: float
    first_tile: NDArray[np.int64]  # [3] index of directory [0, 0, 0]
    directory: NDArray[np.int32]  # [*, *, *] slot of each tile, -1 where nobody has looked
    tiles: Labels  # [S, TILE, TILE, TILE]
    first_column: NDArray[np.int64]  # [2] index of columns [0, 0]
    column_m: float
    columns: Floats  # [A, B, len(STATIC_CHANNELS)]; height in metres of the world, 0 off the map

    def occupancy(self, grid: GridSpec, world_se3_grid: Doubles) -> Labels:
        """[X, Y, Z] the static world in a grid that stands anywhere, UNKNOWN where nobody has looked."""
        out = np.empty(grid.shape, np.uint8)
        compiled(kernels.cut_kernel)(
            rows(world_se3_grid), *_box(grid), self.cell_m, self.first_tile, self.directory, self.tiles, out
        )
        return out

    def layout(self, grid: GridSpec, world_se3_grid: Doubles) -> Floats:
        """[len(STATIC_CHANNELS), X, Y] the road in a grid, heights relative to it."""
        out = np.empty((len(STATIC_CHANNELS), *grid.shape[:2]), np.float32)
        low, voxel = _box(grid)
        compiled(kernels.cut_columns_kernel)(
            turns(world_se3_grid[None])[0], low, voxel, self.column_m, self.first_column, self.columns, out
        )
        mapped = (out[ON_MAP] > 0).any(axis=0) | (out[HEIGHT] != 0)
        out[HEIGHT] = np.where(mapped, (out[HEIGHT] - np.float32(world_se3_grid[2, 3])) / HEIGHT_SCALE_M, 0.0)
        return out

    def column_classes(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Index of the first column, which columns [A, B] hold a known cell, and which a cell of road."""
        size = np.array(self.directory.shape[:2]) * TILE
        known, road = np.zeros(size, bool), np.zeros(size, bool)
        for place in np.argwhere(self.directory >= 0):
            a, b = place[:2] * TILE
            tile = self.tiles[self.directory[tuple(place)]]
            known[a : a + TILE, b : b + TILE] |= (tile != UNKNOWN).any(axis=2)
            road[a : a + TILE, b : b + TILE] |= (tile == Semantics.ROAD).any(axis=2)
        return self.first_tile[:2] * TILE, known, road


def static_world(scene: Scene, instances: NDArray[np.uint16]) -> StaticWorld:
    """Collect the static world of a scene, whose movers are the voxels with an instance [T, X, Y, Z] above 0.

    Raises SceneError where its frames lie too far apart.
    """
    labels = np.where((instances > 0) & (scene.labels != UNKNOWN), np.uint8(MOVER), scene.labels)
    cell = min(scene.grid.voxel_m) / 2
    first, directory, boxes = _directory(scene, labels, cell)
    tiles = np.full((int(directory.max()) + 1, TILE, TILE, TILE), UNKNOWN, np.uint8)
    low, voxel = _box(scene.grid)
    poses = np.stack([rows(pose) for pose in scene.world_se3_ego])
    inverse = np.stack([rows(np.linalg.inv(pose)) for pose in scene.world_se3_ego])
    votes = np.zeros(tiles.shape, np.uint16)
    compiled(kernels.vote_kernel)(labels, poses, low, voxel, cell, first, directory, tiles, votes)
    del votes
    compiled(kernels.fill_kernel)(labels, inverse, boxes, low, voxel, cell, first, directory, tiles)
    tiles[tiles == MOVER] = Semantics.FREE
    return StaticWorld(cell, first, directory, tiles, *_columns(scene))


def _directory(
    scene: Scene, labels: Labels, cell_m: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """First tile, slots of the tiles that hold a known voxel's centre, and each frame's box [T, 6] of tiles."""
    low, high = np.array(scene.grid.origin_m), np.array(scene.grid.origin_m) + scene.grid.extent_m
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(8, 3)
    world = np.stack([corners @ pose[:3, :3].T + pose[:3, 3] for pose in scene.world_se3_ego])
    around = [np.floor(edge / cell_m / TILE).astype(np.int64) for edge in (world.min(axis=1), world.max(axis=1))]
    first, last = around[0].min(axis=0), around[1].max(axis=0)
    size = last - first + 1
    if size.prod() > MOST_TILES:
        raise SceneError(
            f"the scene's frames lie up to {np.ptp(world, axis=(0, 1)).max():.0f} m apart; make a shorter one"
        )
    directory = np.full(tuple(size), -1, np.int32)
    centres = scene.grid.centres_m()
    for frame, pose in zip(labels, scene.world_se3_ego, strict=True):
        cells = np.floor(at_points(rows(pose), centres[frame != UNKNOWN]) / cell_m).astype(np.int64)
        directory[tuple((cells // TILE - first).T)] = 0
    there = np.argwhere(directory == 0)
    directory[tuple(there.T)] = np.arange(len(there))
    return first, directory, np.concatenate([around[0] - first, around[1] - first + 1], axis=1)


def _columns(scene: Scene) -> tuple[NDArray[np.int64], float, Floats]:
    """First column, its size in metres, and the channels of all columns [A, B, C]."""
    low, voxel = _box(scene.grid)
    cell = min(scene.grid.voxel_m[:2]) / 2
    turn = turns(scene.world_se3_ego)
    reach = float(np.hypot(*(np.abs(low[:2]) + np.array(scene.grid.extent_m[:2]))))
    first = np.floor((turn[:, 2:].min(axis=0) - reach) / cell).astype(np.int64)
    size = np.ceil((turn[:, 2:].max(axis=0) + reach) / cell).astype(np.int64) - first
    if size.prod() > MOST_COLUMNS:
        raise SceneError(
            f"its ground takes {size[0]} x {size[1]} cells of {cell:g} m, more than {MOST_COLUMNS}; take a shorter "
            "scene, or one whose grid has coarser voxels and lies around the ego"
        )
    layout = scene.layout[:, : len(STATIC_CHANNELS)].astype(np.float32)
    mapped = (layout[:, ON_MAP] > 0).any(axis=1) | (layout[:, HEIGHT] != 0)
    z_m = scene.world_se3_ego[:, 2, 3, None, None]
    layout[:, HEIGHT] = np.where(mapped, layout[:, HEIGHT] * HEIGHT_SCALE_M + z_m, 0.0)
    out, seen = np.zeros((*size, len(STATIC_CHANNELS)), np.float32), np.zeros(tuple(size), bool)
    for between in (False, True):
        compiled(kernels.columns_kernel)(layout, mapped, turn, low, voxel, cell, first, between, out, seen)
    return first, cell, out


def _box(grid: GridSpec) -> tuple[Doubles, Doubles]:
    """Lower corner and edge lengths of a grid's voxels."""
    return np.array(grid.origin_m, np.float64), np.array(grid.voxel_m, np.float64)


def rows(a_se3_b: Doubles) -> Doubles:
    """[12] the upper three rows of a pose."""
    return np.ascontiguousarray(a_se3_b[:3], dtype=np.float64).reshape(12)


def at_points(m: Doubles, points: Doubles) -> Doubles:
    """[..., 3] points moved by a pose [12], term by term as the loops do it."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    parts = [m[n] * x + m[n + 1] * y + m[n + 2] * z + m[n + 3] for n in (0, 4, 8)]
    return np.stack(parts, axis=-1)


def turns(world_se3_ego: Doubles) -> Doubles:
    """[T, 4] cos and sin of the yaw, x, y of poses that are taken to stand upright."""
    norm = np.hypot(world_se3_ego[:, 0, 0], world_se3_ego[:, 1, 0])
    cos, sin = world_se3_ego[:, 0, 0] / norm, world_se3_ego[:, 1, 0] / norm
    return np.ascontiguousarray(np.stack([cos, sin, world_se3_ego[:, 0, 3], world_se3_ego[:, 1, 3]], axis=1))
