"""The sparse backbone: residual blocks over occupied voxels. M and N sites, C and D channels, B volume, X/Y/Z axes.

Nothing here looks at the volume as a whole: a site's value depends on its neighbourhood alone. The convolutions are
spconv's on CUDA and torch's elsewhere, on the same weights, sites and order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dcgen.device import sparse_kernels
from dcgen.vae import spconv_conv, torch_conv
from dcgen.vae.sparse import SparseVolume, Triple


@runtime_checkable
class RuleBook(Protocol):
    """Which sites a convolution joins: torch_conv.Neighbours or spconv_conv.Pairs."""

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor: ...


def kernels_for(features: Float[Tensor, "M C"]) -> ModuleType:
    """spconv_conv or torch_conv: spconv knows neither float64 nor an empty volume."""
    serves = len(features) > 0 and features.dtype != torch.float64
    return spconv_conv if serves and sparse_kernels(features.device) == "spconv" else torch_conv


class SubmanifoldConv(nn.Module):
    """3x3x3 convolution that neither adds nor removes sites. `weight` [3, 3, 3, in, out] by offset x, y, z."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = (27 * in_channels) ** -0.5
        self.weight = nn.Parameter(torch.empty(3, 3, 3, in_channels, out_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Float[Tensor, "M C"], rules: RuleBook) -> Float[Tensor, "M D"]:
        out = rules.convolve(features, self.weight)
        return out + self.bias.to(out.dtype)


class StridedConv(nn.Module):
    """Convolution whose kernel is its stride. `weight` [sx, sy, sz, in, out]. Volumes are padded with nothing.

    A coarse site is active where a fine one is; the coarse sites are in the order of b, x, y, z.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Triple = (2, 2, 2)) -> None:
        super().__init__()
        bound = (stride[0] * stride[1] * stride[2] * in_channels) ** -0.5
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(*stride, in_channels, out_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, volume: SparseVolume) -> SparseVolume:
        # One tap is a matrix product, which needs no rule book of spconv's.
        kernels = torch_conv if self.stride == (1, 1, 1) else kernels_for(volume.features)
        rules = kernels.find_children(volume, self.stride)
        out = rules.convolve(volume.features, self.weight)
        return SparseVolume(rules.indices, out + self.bias.to(out.dtype), rules.shape)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(x))). The norm is over the channels of one site, never over the volume."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = SubmanifoldConv(channels, channels)

    def forward(self, features: Float[Tensor, "M C"], rules: RuleBook) -> Float[Tensor, "M C"]:
        return features + self.conv(functional.silu(self.norm(features)), rules)


class Stage(nn.Module):
    """Residual blocks at one resolution, which share one rule book."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))

    def forward(self, volume: SparseVolume) -> SparseVolume:
        if not self.blocks:
            return volume
        features = volume.features
        rules = kernels_for(features).find_neighbours(volume)
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
