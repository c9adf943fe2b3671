"""Volumes of which only some voxels hold features. M sites, C channels, B volume (batch x frame), X/Y/Z voxel axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.nn import functional

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class SparseVolume:
    """Features at the active sites of B volumes. Sites are distinct; `indices` holds b, x, y, z."""

    indices: Int[Tensor, "M 4"]
    features: Float[Tensor, "M C"]
    shape: tuple[int, int, int, int]  # B, X, Y, Z

    def __post_init__(self) -> None:
        sites = self.indices.shape[0]
        if self.indices.shape != (sites, 4) or self.indices.dtype != torch.int64:
            raise ValueError(f"indices needs int64 [M, 4], got {self.indices.dtype} {tuple(self.indices.shape)}")
        if self.features.ndim != 2 or self.features.shape[0] != sites:
            raise ValueError(f"features needs shape [{sites}, C], got {tuple(self.features.shape)}")
        if len(self.shape) != 4:
            raise ValueError(f"shape needs B, X, Y, Z, got {self.shape}")

    @staticmethod
    def from_dense(values: Float[Tensor, "B C X Y Z"], active: Bool[Tensor, "B X Y Z"]) -> SparseVolume:
        """The sites where `active` is true, in the order of b, x, y, z."""
        indices = active.nonzero()
        b, x, y, z = indices.unbind(1)
        return SparseVolume(indices, values.movedim(1, -1)[b, x, y, z], four(active.shape))

    @staticmethod
    def from_labels(
        labels: Integer[Tensor, "B X Y Z"], table: Float[Tensor, "classes C"], active: Bool[Tensor, "B X Y Z"]
    ) -> SparseVolume:
        """The class embedding `table[label]` at every active site."""
        indices = active.nonzero()
        return SparseVolume(indices, functional.embedding(labels[active].long(), table), four(active.shape))

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        """Zero where there is no site; channels last in memory."""
        b, x, y, z = self.shape
        channels = self.features.shape[1]
        flat = self.features.new_zeros(b * x * y * z, channels)
        flat = flat.index_copy(0, linear_index(self.indices, self.shape), self.features)
        return flat.view(b, x, y, z, channels).movedim(-1, 1)


def four(shape: Sequence[int]) -> tuple[int, int, int, int]:
    b, x, y, z = shape
    return (b, x, y, z)


def linear_index(indices: Int[Tensor, "M 4"], shape: Sequence[int]) -> Int[Tensor, " M"]:
    """Row-major position of every site in a volume of `shape` B, X, Y, Z."""
    _, x, y, z = shape
    b, i, j, k = indices.unbind(1)
    return ((b * x + i) * y + j) * z + k


def site_table(indices: Int[Tensor, "M 4"], shape: Sequence[int]) -> Int[Tensor, " BXYZ"]:
    """Row of the site that sits at each place of the volume, M where there is none."""
    sites = indices.shape[0]
    table = torch.full((int(torch.Size(shape).numel()),), sites, dtype=torch.int32, device=indices.device)
    table[linear_index(indices, shape)] = torch.arange(sites, dtype=torch.int32, device=indices.device)
    return table
