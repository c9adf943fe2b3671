"""Crumbs of vegetation that no real street has, taken out of what was generated. T frame, X/Y/Z voxel axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from dcgen.types import UNKNOWN, GridSpec, Labels, Semantics

SPECK_M3 = 2.0  # of 691 whole pieces in clips of the training worlds, 24 are smaller


def pieces(solid: Bool[Tensor, "X Y Z"]) -> Int[Tensor, "X Y Z"]:
    """A number above 0 for each connected piece (voxels that share a corner are one piece), 0 where nothing is.

    Every voxel takes the highest number among its neighbours, then that of the voxel with this number: pieces of any
    length are done in a few rounds.
    """
    number = torch.arange(1, solid.numel() + 1).view(solid.shape) * solid
    while True:
        # float64 holds every number exactly, whatever the grid.
        spread = F.max_pool3d(number[None, None].double(), 3, stride=1, padding=1)[0, 0].long() * solid
        spread = torch.where(solid, spread.flatten()[(spread - 1).clamp_min(0)], 0)
        if torch.equal(spread, number):
            return number
        number = spread


def without_specks(labels: Labels, known: Labels, grid: GridSpec) -> Labels:
    """Labels [T, X, Y, Z] whose vegetation stands in pieces of SPECK_M3 and more; the rest of it becomes free.

    A piece is what is connected in any frame, since vegetation stands still. Known voxels stay, and so does what
    touches them or a side of the grid: it may go on there.
    """
    green = torch.from_numpy(labels == Semantics.VEGETATION)
    number = pieces(green.any(0))
    size = torch.bincount(number.flatten(), minlength=number.numel() + 1)
    small = size * float(torch.tensor(grid.voxel_m).prod()) < SPECK_M3
    small[0] = False
    given = (torch.from_numpy(known != UNKNOWN) & green).any(0)
    for part in (number[given], number[0], number[-1], number[:, 0], number[:, -1]):
        small[part.flatten()] = False
    gone = small[number].numpy() & (labels == Semantics.VEGETATION)
    labels = labels.copy()
    labels[gone] = Semantics.FREE
    return labels
