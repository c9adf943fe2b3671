"""The labelling law as torch speaks it: weights of the vote, and the sub-cells of a grid. X/Y voxel axes, s sub-cells.

The law is that of the CPU kernels of the world engine, bit for bit: integers where a decision is made, float64
positions in the same order of operations, each an operation of its own (a compiler that fuses multiply and add would
break that, and so does CUDA's division by a number, which multiplies by the inverse: divide by a tensor).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dcgen.types import GridSpec, Semantics

# What a sub-cell of a class counts for against FREE_WEIGHT for a free one.
WEIGHTS = {
    Semantics.BUILDING: 3,
    Semantics.BARRIER: 10,
    Semantics.OTHER: 8,
    Semantics.PEDESTRIAN: 8,
    Semantics.POLE: 64,
    Semantics.VEGETATION: 7,
    Semantics.VEHICLE: 6,
    Semantics.BICYCLE: 8,
}
FREE_WEIGHT = 2
SURFACE_ORDER = (Semantics.ROAD, Semantics.SIDEWALK, Semantics.GROUND)  # in which ties are settled
DECK_MM = 800
BOX_STEP_M = 0.2  # sub-cells that road users are drawn with


def sub_cells(grid: GridSpec, cell_m: float) -> int:
    return max(1, round(min(grid.voxel_m[0], grid.voxel_m[1]) / cell_m))


def steps_m(grid: GridSpec, sub: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of sub-cells along the grid's own axes: [X * s] and [Y * s], made where the CPU kernel's are."""
    u, v = (
        grid.origin_m[axis] + (np.arange(grid.shape[axis] * sub) + 0.5) * (grid.voxel_m[axis] / sub) for axis in (0, 1)
    )
    return torch.from_numpy(u).to(device), torch.from_numpy(v).to(device)


def millimetres(metres: float) -> int:
    return round(metres * 1000)


def covered(lo: Tensor, hi: Tensor, bottom: Tensor, voxel_mm: int) -> Tensor:
    """Whether a quarter or more of the voxels from bottom on is covered."""
    return (torch.minimum(hi, bottom + voxel_mm) - torch.maximum(lo, bottom)) * 4 >= voxel_mm


def divided(metres: Tensor, by_m: float) -> Tensor:
    """The quotient, correctly rounded on every device."""
    return metres / torch.tensor(by_m, dtype=metres.dtype, device=metres.device)
