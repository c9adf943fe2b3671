"""Crumbs of plants and houses that no real street has, taken out of what was generated. T frame, X/Y/Z voxel axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from dcgen.types import UNKNOWN, GridSpec, Labels, Semantics

# Of 691 whole pieces of vegetation in clips of the training worlds, 24 are smaller; of 210 whole buildings none, the
# smallest has 13 m3.
SPECK_M3 = {Semantics.VEGETATION: 2.0, Semantics.BUILDING: 8.0}


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
    """Labels [T, X, Y, Z] whose plants and houses stand in pieces of SPECK_M3 and more; the rest of them becomes free.

    A piece is what is connected in any frame, since both stand still. Known voxels stay, and so does what touches
    them or a side of the grid: it may go on there.
    """
    labels = labels.copy()
    given = torch.from_numpy(known != UNKNOWN)
    for label, least_m3 in SPECK_M3.items():
        mine = torch.from_numpy(labels == label)
        small = _small(mine.any(0), (mine & given).any(0), least_m3 / float(torch.tensor(grid.voxel_m).prod()))
        labels[(mine & small).numpy()] = Semantics.FREE
    return labels


def _small(solid: Bool[Tensor, "X Y Z"], given: Bool[Tensor, "X Y Z"], least: float) -> Bool[Tensor, "X Y Z"]:
    """Where pieces of fewer voxels than `least` are, unless a voxel of theirs is given or at a side."""
    number = pieces(solid)
    small = torch.bincount(number.flatten(), minlength=number.numel() + 1) < least
    small[0] = False
    for part in (number[given], number[0], number[-1], number[:, 0], number[:, -1]):
        small[part.flatten()] = False
    return small[number]
