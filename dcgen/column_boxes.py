"""Boxes of road users drawn into occupancy on any device. B grid, T frame, X/Y/Z voxel axes, M boxes in a list.

The law and its arithmetic: column_law.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dcgen.column_law import BOX_STEP_M, FREE_WEIGHT, WEIGHTS, covered, divided, millimetres, steps_m, sub_cells
from dcgen.types import GridSpec, Semantics


@runtime_checkable
class Boxes(Protocol):
    """Boxes of road users in the frame of one grid, in stamping order."""

    @property
    def frame(self) -> Any: ...  # int [M]
    @property
    def class_id(self) -> Any: ...  # uint8 [M]
    @property
    def moving(self) -> Any: ...  # bool [M]
    @property
    def shape_m(self) -> Any: ...  # float64 [M, 8] x, y, cos, sin, half length, half width, cabin's rear and front end
    @property
    def heights_mm(self) -> Any: ...  # int [M, 3] bottom, top of the hull, top of the cabin, from the grid's floor


@dataclass(frozen=True)
class StampedCut:
    """labels [B, T, X, Y, Z] and the voxels of moving boxes [B, T, X, Y, Z]."""

    labels: Tensor
    moving: Tensor


def stamp_boxes(
    grid: GridSpec, labels: Tensor, surface_k: Tensor, boxes: Sequence[Boxes], frames: int, chunk_bytes: int
) -> StampedCut:
    """Static labels [B, X, Y, Z] and surface layers [B, X, Y] with B lists of boxes on them, over T frames.

    Later boxes of a list cover earlier ones. chunk_bytes bounds the memory beside the result.
    """
    if len(boxes) != len(labels):
        raise ValueError(f"{len(labels)} grids need as many lists of boxes, got {len(boxes)}")
    stamped = labels[:, None].repeat(1, frames, 1, 1, 1)
    moving = torch.zeros_like(stamped, dtype=torch.bool)
    step = max(1, chunk_bytes // (8 * frames * labels[0].numel())) if len(labels) else 1
    for b in range(0, len(labels), step):
        part = slice(b, b + step)
        listed = _BoxList.of(boxes[part], labels.device)
        if len(listed.grid):
            _stamp(listed, grid, surface_k[part], stamped[part], moving[part])
    return StampedCut(stamped, moving)


def _stamp(boxes: _BoxList, grid: GridSpec, surface_k: Tensor, labels: Tensor, moving: Tensor) -> None:
    """In place: each voxel takes the last of the boxes that win it."""
    voxel, box = _won(boxes, grid, surface_k, labels.shape[1])
    last = torch.full((labels.numel(),), -1, dtype=torch.int32, device=labels.device)
    last.scatter_reduce_(0, voxel, box.to(torch.int32), "amax")
    voxel = torch.nonzero(last >= 0)[:, 0]
    box = last[voxel].long()
    labels.view(-1)[voxel] = boxes.class_id[box]
    moving.view(-1)[voxel] = boxes.moving[box]


@dataclass(frozen=True)
class _BoxList:
    """The boxes of all grids, one after the other."""

    grid: Tensor  # int64 [M] which grid
    frame: Tensor
    class_id: Tensor
    moving: Tensor
    shape_m: Tensor
    heights_mm: Tensor

    @staticmethod
    def of(boxes: Sequence[Boxes], device: torch.device) -> _BoxList:
        def joined(name: str) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(each, name) for each in boxes])).to(device)

        grid = np.repeat(np.arange(len(boxes)), [len(each.frame) for each in boxes])
        parts = (joined(name) for name in ("frame", "class_id", "moving", "shape_m", "heights_mm"))
        return _BoxList(torch.from_numpy(grid).to(device), *parts)


def _won(boxes: _BoxList, grid: GridSpec, surface_k: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Flat indices into [B, T, X, Y, Z] of the voxels that boxes take, and which box does."""
    nx, ny, nz = grid.shape
    sub, voxel_mm = sub_cells(grid, BOX_STEP_M), millimetres(grid.voxel_m[2])
    box, i, j, hull, cabin = _footprints(boxes, grid, sub)
    bottom, hull_top, cabin_top = boxes.heights_mm[:, :, None].unbind(dim=1)
    layer = torch.arange(nz, device=box.device)
    in_hull = covered(bottom, hull_top, layer * voxel_mm, voxel_mm)[box]
    in_cabin = covered(bottom, cabin_top, layer * voxel_mm, voxel_mm)[box]
    weights = torch.tensor([WEIGHTS.get(c, 0) for c in Semantics], device=box.device)
    taken = (hull - cabin)[:, None] * in_hull + cabin[:, None] * in_cabin
    wins = taken * weights[boxes.class_id.long()][box, None] > (sub * sub - taken) * FREE_WEIGHT
    of = boxes.grid[box]
    wins &= layer > surface_k[of, i, j][:, None]
    row, k = torch.nonzero(wins, as_tuple=True)
    column = ((of * frames + boxes.frame[box]) * nx + i) * ny + j
    return column[row] * nz + k, box[row]


def _footprints(boxes: _BoxList, grid: GridSpec, sub: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """For every column that a box may touch: box, i, j, and how many sub-cells lie in the hull and in the cabin."""
    u, v = steps_m(grid, sub, boxes.grid.device)
    x, y, cos, sin, half_l, half_w, rear, front = boxes.shape_m.unbind(dim=1)
    first, count, centre = [], [], []
    for at, steps, reach in (
        (x, u, (half_l * cos).abs() + (half_w * sin).abs() + 1e-6),
        (y, v, (half_l * sin).abs() + (half_w * cos).abs() + 1e-6),
    ):
        step = float(steps[1] - steps[0]) if len(steps) > 1 else 1.0
        low, size, most = float(steps[0]) - 0.5 * step, step * sub, len(steps) // sub - 1
        start = torch.floor(divided(at - reach - low, size)).clamp_(min=0).long()
        stop = torch.floor(divided(at + reach - low, size)).clamp_(max=most).long()
        first.append(start)
        count.append((stop - start + 1).clamp_(min=0))
        centre.append(torch.floor(divided(at - low, size)).long())
    box = torch.repeat_interleave(torch.arange(len(x), device=x.device), count[0] * count[1])
    place = torch.arange(len(box), device=x.device) - ((count[0] * count[1]).cumsum(0) - count[0] * count[1])[box]
    i = first[0][box] + torch.div(place, count[1][box], rounding_mode="floor")
    j = first[1][box] + place % count[1][box]
    each = torch.arange(sub, device=x.device)
    dx = (u[i[:, None] * sub + each] - x[box, None])[:, :, None]
    dy = (v[j[:, None] * sub + each] - y[box, None])[:, None, :]
    c, s = cos[box, None, None], sin[box, None, None]
    along, across = dx * c + dy * s, dy * c - dx * s
    within = (along.abs() <= half_l[box, None, None]) & (across.abs() <= half_w[box, None, None])
    in_cabin = within & (rear[box, None, None] <= along) & (along <= front[box, None, None])
    own = (i == centre[0][box]) & (j == centre[1][box])  # the column at a box's centre is always its own
    hull = torch.where(own, sub * sub, within.sum(dim=(1, 2)))
    cabin = torch.where(own, sub * sub, in_cabin.sum(dim=(1, 2)))
    return box, i, j, hull, cabin
