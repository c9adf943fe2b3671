"""Occupancy cut from a town's columns on any device, many grids at once. B grid, L level, S span, P sub-cell.

T frame, X/Y/Z voxel axes, N cell of the tile, M columns in a list. The law and its arithmetic: column_law.py.

    columns = Columns.from_tile(tile).to("cuda")
    clips = columns.cut(world_se3_anchor, grid).stamp(boxes, frames=16)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dcgen.column_boxes import Boxes, StampedCut, stamp_boxes
from dcgen.column_law import (
    DECK_MM,
    FREE_WEIGHT,
    SURFACE_ORDER,
    WEIGHTS,
    covered,
    divided,
    millimetres,
    steps_m,
    sub_cells,
)
from dcgen.types import Doubles, GridSpec, Semantics

CHUNK_BYTES = 1 << 28
_FAR_MM = 400_000_000  # four times that is an int32 still


@runtime_checkable
class Tile(Protocol):
    """A town as plain arrays: surfaces [L, X, Y], spans [S, X, Y], heights in cm above z0_m."""

    @property
    def origin_m(self) -> tuple[float, float]: ...
    @property
    def cell_m(self) -> float: ...
    @property
    def z0_m(self) -> float: ...
    @property
    def surface_class(self) -> Any: ...
    @property
    def surface_cm(self) -> Any: ...
    @property
    def span_class(self) -> Any: ...
    @property
    def span_lo_cm(self) -> Any: ...
    @property
    def span_hi_cm(self) -> Any: ...


@dataclass(frozen=True)
class ColumnCut:
    """The static world: labels [B, X, Y, Z] and the surface voxel's layer [B, X, Y] (-1 below, Z above the grid)."""

    grid: GridSpec
    labels: Tensor
    surface_k: Tensor

    def stamp(self, boxes: Sequence[Boxes], frames: int, chunk_bytes: int = CHUNK_BYTES) -> StampedCut:
        """The static world with B lists of boxes on it, over T frames; later boxes of a list cover earlier ones."""
        return stamp_boxes(self.grid, self.labels, self.surface_k, boxes, frames, chunk_bytes)


@dataclass(frozen=True)
class Columns:
    """A tile as tensors of one device, its cells in one row."""

    origin_m: tuple[float, float]
    cell_m: float
    z0_m: float
    cells: tuple[int, int]
    surface_class: Tensor  # uint8 [L, N]
    surface_cm: Tensor  # int16 [L, N]
    span_class: Tensor  # uint8 [S, N]
    span_lo_cm: Tensor  # int16 [S, N]
    span_hi_cm: Tensor  # int16 [S, N]
    solid: Tensor  # bool [N] whether there is a span at all

    @staticmethod
    def from_tile(tile: Tile) -> Columns:
        layers = {
            name: torch.tensor(np.asarray(getattr(tile, name))).flatten(1)
            for name in ("surface_class", "surface_cm", "span_class", "span_lo_cm", "span_hi_cm")
        }
        _, x, y = tile.surface_class.shape
        solid = (layers["span_class"] > 0).any(dim=0)
        return Columns((tile.origin_m[0], tile.origin_m[1]), tile.cell_m, tile.z0_m, (x, y), **layers, solid=solid)

    def to(self, device: torch.device | str) -> Columns:
        parts: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        parts |= {name: part.to(device) for name, part in parts.items() if isinstance(part, Tensor)}
        return Columns(**parts)

    def cut(
        self, world_se3_anchor: Float[Tensor, "B 4 4"] | Doubles, grid: GridSpec, chunk_bytes: int = CHUNK_BYTES
    ) -> ColumnCut:
        """The static world in grids at upright poses; chunk_bytes bounds the memory beside the result."""
        device = self.solid.device
        poses = torch.as_tensor(world_se3_anchor, dtype=torch.float64).to(device)
        labels = torch.empty((len(poses), *grid.shape), dtype=torch.uint8, device=device)
        surface_k = torch.empty((len(poses), *grid.shape[:2]), dtype=torch.int16, device=device)
        points = sub_cells(grid, self.cell_m) ** 2
        per_grid = grid.shape[0] * grid.shape[1] * points * (64 + 8 * grid.shape[2] * (len(self.span_class) + 1))
        step = max(1, chunk_bytes // per_grid)
        for b in range(0, len(poses), step):
            labels[b : b + step], surface_k[b : b + step] = _cut(self, poses[b : b + step], grid)
        return ColumnCut(grid, labels, surface_k)


def _cells(columns: Columns, poses: Tensor, grid: GridSpec) -> Tensor:
    """[B, X, Y, P] the tile's cell under every sub-cell; outside the tile, the nearest."""
    sub = sub_cells(grid, columns.cell_m)
    u, v = steps_m(grid, sub, poses.device)
    per_m = 1.0 / columns.cell_m
    cos, sin = poses[:, 0, 0, None], poses[:, 1, 0, None]
    at = [divided(poses[:, axis, 3, None] - columns.origin_m[axis], columns.cell_m) for axis in (0, 1)]
    x = (u * (cos * per_m) + at[0])[:, :, None] + (v * (-sin * per_m))[:, None, :]
    y = (u * (sin * per_m) + at[1])[:, :, None] + (v * (cos * per_m))[:, None, :]
    x = x.floor_().clamp_(0, columns.cells[0] - 1).long()
    y = y.floor_().clamp_(0, columns.cells[1] - 1).long()
    cell = x.mul_(columns.cells[1]).add_(y)
    parts = cell.view(len(poses), grid.shape[0], sub, grid.shape[1], sub)
    return parts.transpose(2, 3).reshape(len(poses), *grid.shape[:2], sub * sub)


def _cut(columns: Columns, poses: Tensor, grid: GridSpec) -> tuple[Tensor, Tensor]:
    nz, voxel_mm = grid.shape[2], millimetres(grid.voxel_m[2])
    anchor_mm = torch.round((poses[:, 2, 3] - columns.z0_m) * 1000).clamp_(-_FAR_MM, _FAR_MM).int()
    floor_mm = anchor_mm + millimetres(grid.origin_m[2])
    cell = _cells(columns, poses, grid)
    anchor, floor = anchor_mm[:, None, None, None], floor_mm[:, None, None, None]
    kind, height, over = _surfaces(columns, cell, anchor, floor, floor + nz * voxel_mm)
    k = torch.div(height - floor, voxel_mm, rounding_mode="floor").clamp_(-1, nz)
    best, ground = _surface_votes(kind, k, nz)
    layer = torch.arange(nz, device=cell.device)
    labels = torch.where(layer == ground[..., None], best[..., None], 0).to(torch.uint8)
    solid = torch.nonzero((columns.solid[cell] | (over >= 0)).any(dim=3), as_tuple=True)
    if len(solid[0]):
        taken = _obstacles(columns, cell[solid], over[solid], floor_mm[solid[0]], nz, voxel_mm, ground[solid])
        labels[solid] = torch.where(taken > 0, taken, labels[solid])
    return labels, ground.to(torch.int16)


def _surfaces(
    columns: Columns, cell: Tensor, anchor: Tensor, floor: Tensor, top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """[B, X, Y, P] class and height of the level nearest to the anchor, and a deck above it (-1: none); mm."""
    kind, height = columns.surface_class[0][cell], columns.surface_cm[0][cell].int() * 10
    over = torch.full_like(height, -1)
    for surface_class, surface_cm in zip(columns.surface_class[1:], columns.surface_cm[1:], strict=True):
        deck, deck_class = surface_cm[cell].int() * 10, surface_class[cell]
        inside, deck_inside = (floor <= height) & (height < top), (floor <= deck) & (deck < top)
        nearer = (deck - anchor).abs() < (height - anchor).abs()
        take = (deck_class > 0) & ((deck_inside & ~inside) | ((deck_inside == inside) & nearer))
        over = torch.where(take, -1, torch.where(deck_class > 0, deck, over))
        height, kind = torch.where(take, deck, height), torch.where(take, deck_class, kind)
    return kind, height, over


def _surface_votes(kind: Tensor, k: Tensor, nz: int) -> tuple[Tensor, Tensor]:
    """[B, X, Y] the commonest class, and the commonest layer of that class: the lowest where two are."""
    votes = torch.stack([(kind == s).sum(dim=3) * 4 - rank for rank, s in enumerate(SURFACE_ORDER)])
    order = torch.tensor(SURFACE_ORDER, device=kind.device)
    best = order[votes.argmax(dim=0)]  # no two votes are equal
    chosen = kind == best[..., None]
    most, ground = torch.full_like(best, -1), torch.full_like(best, -1)
    for p in range(k.shape[3]):
        count = (chosen & (k == k[..., p : p + 1])).sum(dim=3)
        vote = torch.where(chosen[..., p], count * (nz + 2) - k[..., p], -1)
        ground = torch.where(vote > most, k[..., p], ground)
        most = torch.maximum(vote, most)
    return best, ground


def _obstacles(
    columns: Columns, cell: Tensor, over: Tensor, floor_mm: Tensor, nz: int, voxel_mm: int, ground: Tensor
) -> Tensor:
    """[M, Z] the class that takes each voxel of a column from cells [M, P], 0 where free or not above the surface."""
    kind = torch.cat([*columns.span_class[:, cell], torch.where(over >= 0, int(Semantics.OTHER), 0)], dim=1)
    lo = torch.cat([*(columns.span_lo_cm[:, cell].int() * 10), over - DECK_MM], dim=1) - floor_mm[:, None]
    hi = torch.cat([*(columns.span_hi_cm[:, cell].int() * 10), over], dim=1) - floor_mm[:, None]
    layer = torch.arange(nz, device=cell.device, dtype=torch.int32)
    hit = covered(lo[:, None], hi[:, None], layer[:, None] * voxel_mm, voxel_mm)  # [M, Z, (S + 1) * P]
    taken = torch.zeros((len(cell), nz), dtype=torch.int64, device=cell.device)
    score, winner = torch.zeros_like(taken), torch.zeros_like(taken)
    for c in torch.unique(kind).tolist():
        if c == 0:
            continue
        count = (hit & (kind == c)[:, None]).sum(dim=2)
        weighted = count * WEIGHTS.get(c, 0)
        winner = torch.where(weighted > score, c, winner)
        score = torch.maximum(weighted, score)
        taken += count
    free = (cell.shape[1] - taken).clamp_(min=0) * FREE_WEIGHT
    return torch.where((score > free) & (layer > ground[:, None]), winner, 0).to(torch.uint8)
