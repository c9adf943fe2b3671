"""Sparse convolutions in plain torch, on every device. M sites, K taps, C and D channels, N coarse sites.

A layer costs what its occupied sites cost: a gather of neighbours and one matrix product, in blocks that stay in
the cache; the gather of the output's gradient serves both gradients of the layer. Its twin is spconv_conv.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from dcgen.vae.sparse import SparseVolume, Triple, four, linear_index, site_table

BLOCK_BYTES = {"cpu": 6 << 20}  # gathered rows at a time: what the last-level cache holds
DEFAULT_BLOCK_BYTES = 1 << 30


@dataclass(frozen=True)
class Neighbours:
    """Rule book of a submanifold convolution: row `table[m, k]` is the site at `offsets[k]` from site m, M if none."""

    table: Int[Tensor, "M K"]
    offsets: tuple[Triple, ...]

    def convolve(self, features: Float[Tensor, "M C"], weight: Float[Tensor, "3 3 3 C D"]) -> Float[Tensor, "M D"]:
        """Sums over the taps of every site, in autocast's type where autocast is on."""
        taps = weight.flatten(0, 2)
        if len(self.offsets) < 27:
            x, y, z = (torch.tensor(self.offsets, device=weight.device) + 1).unbind(1)
            taps = weight[x, y, z]
        dtype = product_dtype(features)
        out: Tensor = _Submanifold.apply(features.contiguous().to(dtype), taps.to(dtype), self.table)
        return out


@dataclass(frozen=True)
class Children:
    """Rule book of a strided convolution: `table[n, k]` is the fine site at tap k of coarse site n, M if none."""

    table: Int[Tensor, "N K"]
    slot: Int[Tensor, " M"]  # n * K + k of each fine site
    indices: Int[Tensor, "N 4"]
    shape: tuple[int, int, int, int]

    def convolve(self, features: Float[Tensor, "M C"], weight: Float[Tensor, "sx sy sz C D"]) -> Float[Tensor, "N D"]:
        """Sums over the fine sites of every coarse one, in autocast's type where autocast is on."""
        dtype = product_dtype(features)
        taps = weight.flatten(0, 2).to(dtype)
        out: Tensor = _Strided.apply(features.contiguous().to(dtype), taps, self.table, self.slot)
        return out


def product_dtype(features: Tensor) -> torch.dtype:
    """The type in which a convolution gives its values: autocast's where that is on."""
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


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
    return Children(table.view(-1, taps), slot, indices, four(coarse))


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
