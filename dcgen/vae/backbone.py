"""Sparse 3D convolutions over occupied voxels. M sites, K taps, C channels, B volume (batch x frame), X/Y/Z voxel axes.

A layer costs what its occupied sites cost. Every convolution is a gather of neighbours and one matrix product,
in blocks that stay in the cache; the gather of the output's gradient serves both gradients of the layer.
Nothing here looks at the volume as a whole: a site's value depends on its neighbourhood alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Triple = tuple[int, int, int]
BLOCK_BYTES = {"cpu": 6 << 20}  # gathered rows at a time: what the last-level cache holds
DEFAULT_BLOCK_BYTES = 1 << 30


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
        return SparseVolume(indices, values.movedim(1, -1)[b, x, y, z], _four(active.shape))

    @staticmethod
    def from_labels(
        labels: Integer[Tensor, "B X Y Z"], table: Float[Tensor, "classes C"], active: Bool[Tensor, "B X Y Z"]
    ) -> SparseVolume:
        """The class embedding `table[label]` at every active site."""
        indices = active.nonzero()
        return SparseVolume(indices, functional.embedding(labels[active].long(), table), _four(active.shape))

    def dense(self) -> Float[Tensor, "B C X Y Z"]:
        """Zero where there is no site; channels last in memory."""
        b, x, y, z = self.shape
        channels = self.features.shape[1]
        flat = self.features.new_zeros(b * x * y * z, channels)
        flat = flat.index_copy(0, linear_index(self.indices, self.shape), self.features)
        return flat.view(b, x, y, z, channels).movedim(-1, 1)


@dataclass(frozen=True)
class Neighbours:
    """Rule book of a submanifold convolution: row `table[m, k]` is the site at `offsets[k]` from site m, M if none."""

    table: Int[Tensor, "M K"]
    offsets: tuple[Triple, ...]


@dataclass(frozen=True)
class Children:
    """Rule book of a strided convolution: `table[n, k]` is the fine site at tap k of coarse site n, M if none."""

    table: Int[Tensor, "N K"]
    slot: Int[Tensor, " M"]  # n * K + k of each fine site
    indices: Int[Tensor, "N 4"]
    shape: tuple[int, int, int, int]


def _four(shape: Sequence[int]) -> tuple[int, int, int, int]:
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


def find_neighbours(volume: SparseVolume) -> Neighbours:
    """Rule book of 3x3x3 taps in the order of x, y, z. An axis of one voxel has only its centre tap."""
    reach = [0 if n == 1 else 1 for n in volume.shape[1:]]
    ox, oy, oz = (range(-r, r + 1) for r in reach)
    offsets = tuple(product(ox, oy, oz))
    padded = (volume.shape[0], *(n + 2 * r for n, r in zip(volume.shape[1:], reach, strict=True)))
    device = volume.indices.device
    centre = volume.indices + torch.tensor([0, *reach], device=device)
    step = torch.tensor(offsets, device=device) @ torch.tensor([padded[2] * padded[3], padded[3], 1], device=device)
    places = linear_index(centre, padded)[:, None] + step
    table = site_table(centre, padded).index_select(0, places.view(-1)).view_as(places)
    return Neighbours(table, offsets)


def find_children(volume: SparseVolume, stride: Triple) -> Children:
    """Rule book of a convolution whose kernel is its stride; a coarse site is active where a fine one is."""
    b, *fine = volume.shape
    coarse = (b, *(-(-n // s) for n, s in zip(fine, stride, strict=True)))
    device = volume.indices.device
    steps = torch.tensor([1, *stride], device=device)
    parent = linear_index(torch.div(volume.indices, steps, rounding_mode="floor"), coarse)
    taps = stride[0] * stride[1] * stride[2]
    tap = linear_index(volume.indices % steps, (1, *stride))
    occupied = torch.zeros(int(torch.Size(coarse).numel()), dtype=torch.bool, device=device)
    occupied[parent] = True
    indices = occupied.view(coarse).nonzero()
    slot = site_table(indices, coarse)[parent].long() * taps + tap
    sites = volume.indices.shape[0]
    table = torch.full((indices.shape[0] * taps,), sites, dtype=torch.int32, device=device)
    table[slot] = torch.arange(sites, dtype=torch.int32, device=device)
    return Children(table.view(-1, taps), slot, indices, _four(coarse))


def _blocks(rows: int, row_bytes: int, device: torch.device) -> list[slice]:
    size = max(256, BLOCK_BYTES.get(device.type, DEFAULT_BLOCK_BYTES) // max(row_bytes, 1))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _with_empty_row(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_zeros(1, features.shape[1])])


def _gather(padded: Tensor, table: Tensor) -> Tensor:
    """[rows, K * C] features of the K taps of some rows of a rule book, side by side."""
    return padded.index_select(0, table.reshape(-1)).view(table.shape[0], -1)


def _gather_matmul(features: Tensor, table: Tensor, matrix: Tensor) -> Tensor:
    """[N, out] product of the gathered taps and `matrix` [K * C, out]."""
    padded = _with_empty_row(features)
    out = features.new_empty(table.shape[0], matrix.shape[1])
    for block in _blocks(table.shape[0], matrix.shape[0] * features.element_size(), features.device):
        torch.mm(_gather(padded, table[block]), matrix, out=out[block])
    return out


class _Submanifold(torch.autograd.Function):
    """out[m] = sum over k of features[table[m, k]] @ weight[k]; weight [K, C, out]. Tap -k undoes tap k."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight, table)
        return _gather_matmul(features, table, weight.flatten(0, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight, table = ctx.saved_tensors
        taps, channels, width = weight.shape
        # Site m is the neighbour at -k of its neighbour at k, so one gather of grad_out gives both gradients.
        turned = weight.flip(0).transpose(1, 2).reshape(taps * width, channels)
        padded = _with_empty_row(grad_out)
        grad_features = torch.empty_like(features) if ctx.needs_input_grad[0] else None
        grad_weight = weight.new_zeros(channels, taps * width, dtype=_accumulator(weight.dtype))
        for block in _blocks(table.shape[0], taps * width * grad_out.element_size(), grad_out.device):
            gathered = _gather(padded, table[block])
            if grad_features is not None:
                torch.mm(gathered, turned, out=grad_features[block])
            grad_weight += features[block].T @ gathered
        unturned = grad_weight.view(channels, taps, width).transpose(0, 1).flip(0)
        return grad_features, unturned.to(weight.dtype), None


class _Strided(torch.autograd.Function):
    """out[n] = sum over k of features[table[n, k]] @ weight[k]; every fine site has one place in the table."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, table: Tensor, slot: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight, table, slot)
        return _gather_matmul(features, table, weight.flatten(0, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight, table, slot = ctx.saved_tensors
        taps, channels, width = weight.shape
        padded = _with_empty_row(features)
        matrix = weight.flatten(0, 1)
        grad_weight = weight.new_zeros(taps * channels, width, dtype=_accumulator(weight.dtype))
        for block in _blocks(table.shape[0], taps * channels * features.element_size(), features.device):
            grad_weight += _gather(padded, table[block]).T @ grad_out[block]
        grad_features = None
        if ctx.needs_input_grad[0]:
            grad_features = (grad_out @ matrix.T).view(-1, channels).index_select(0, slot)
        return grad_features, grad_weight.view_as(weight).to(weight.dtype), None, None


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _for_matmul(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's type where autocast is on."""
    device = tensors[0].device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensors[0].dtype
    return tuple(tensor.to(dtype) for tensor in tensors)


class SubmanifoldConv(nn.Module):
    """3x3x3 convolution that neither adds nor removes sites. `weight` [3, 3, 3, in, out] by offset x, y, z."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = (27 * in_channels) ** -0.5
        self.weight = nn.Parameter(torch.empty(3, 3, 3, in_channels, out_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Float[Tensor, "M C"], rules: Neighbours) -> Float[Tensor, "M D"]:
        taps = self.weight.flatten(0, 2)
        if len(rules.offsets) < 27:
            x, y, z = (torch.tensor(rules.offsets, device=taps.device) + 1).unbind(1)
            taps = self.weight[x, y, z]
        features, taps = _for_matmul(features.contiguous(), taps)
        out: Tensor = _Submanifold.apply(features, taps, rules.table)
        return out + self.bias.to(out.dtype)


class StridedConv(nn.Module):
    """Convolution whose kernel is its stride. `weight` [sx, sy, sz, in, out]. Volumes are padded with nothing."""

    def __init__(self, in_channels: int, out_channels: int, stride: Triple = (2, 2, 2)) -> None:
        super().__init__()
        bound = (stride[0] * stride[1] * stride[2] * in_channels) ** -0.5
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(*stride, in_channels, out_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, volume: SparseVolume) -> SparseVolume:
        rules = find_children(volume, self.stride)
        features, weight = _for_matmul(volume.features.contiguous(), self.weight.flatten(0, 2))
        out: Tensor = _Strided.apply(features, weight, rules.table, rules.slot)
        return SparseVolume(rules.indices, out + self.bias.to(out.dtype), rules.shape)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(x))). The norm is over the channels of one site, never over the volume."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = SubmanifoldConv(channels, channels)

    def forward(self, features: Float[Tensor, "M C"], rules: Neighbours) -> Float[Tensor, "M C"]:
        return features + self.conv(functional.silu(self.norm(features)), rules)


class Stage(nn.Module):
    """Residual blocks at one resolution, which share one rule book."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))

    def forward(self, volume: SparseVolume) -> SparseVolume:
        if not self.blocks:
            return volume
        rules, features = find_neighbours(volume), volume.features
        for block in self.blocks:
            features = block(features, rules)
        return replace(volume, features=features)


class SparseBackbone(nn.Module):
    """Stages of `blocks` residual blocks, a strided convolution between one and the next."""

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = (16, 32),
        strides: Sequence[Triple] = ((2, 2, 2),),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        if len(widths) != len(strides) + 1:
            raise ValueError(f"widths needs one more entry than strides, got {len(widths)} and {len(strides)}")
        self.inlet = nn.Linear(in_channels, widths[0]) if in_channels != widths[0] else nn.Identity()
        layers: list[nn.Module] = [Stage(widths[0], blocks)]
        for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            layers += [StridedConv(before, after, stride), Stage(after, blocks)]
        self.layers = nn.Sequential(*layers)
        self.out_channels = widths[-1]

    def forward(self, volume: SparseVolume) -> SparseVolume:
        """Features [M, in_channels] at B, X, Y, Z to [N, widths[-1]] at B and the strided X, Y, Z (rounded up)."""
        out: SparseVolume = self.layers(replace(volume, features=self.inlet(volume.features)))
        return out
