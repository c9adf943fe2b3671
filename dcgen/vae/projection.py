"""Projection Module: a plane's cell reads the sites it stands for. M sites, N cells, H heads, C channels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def axis_code(position: Float[Tensor, " M"], size: int, frequencies: int) -> Float[Tensor, "M F"]:
    """[M, 2 * frequencies] sines and cosines of a position along an axis of `size` cells.

    Wavelengths run from twice the axis down to two cells and never below: no aliasing, whatever the size.
    """
    span = torch.arange(frequencies, device=position.device) / max(frequencies - 1, 1)
    wavelength = 2.0 * max(size, 1) ** (1 - span)
    angle = 2 * math.pi * position[:, None] / wavelength
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class SummaryAttention(nn.Module):
    """Attention pooling: every cell owns one learned query and a learned empty token; sites are keys and values.

    The paper's module runs full self-attention over a cell's tokens and reads one of them; only that one's row
    is ever used, so only that row is computed here. Cost is linear in the sites, and empty space costs nothing.
    """

    def __init__(self, channels: int, code: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(channels + code, heads)  # the query is fixed, so q.k is one linear map a head
        self.value = nn.Sequential(nn.Linear(channels + code, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.empty_key = nn.Parameter(torch.zeros(heads))
        self.empty_value = nn.Parameter(torch.zeros(channels))
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, channels))

    def forward(
        self, sites: Float[Tensor, "M C"], code: Float[Tensor, "M K"], cell: Int[Tensor, " M"], cells: int
    ) -> Float[Tensor, "N C"]:
        inputs = torch.cat([sites, code.to(sites.dtype)], dim=1)
        score = self.key(inputs).float()
        value = self.value(inputs).float().unflatten(1, (self.heads, -1))
        # Softmax over the sites of a cell and its empty token; the maximum is subtracted for safety only.
        top = self.empty_key.detach().float().expand(cells, -1)
        top = top.scatter_reduce(0, cell[:, None].expand_as(score), score.detach(), "amax", include_self=True)
        weight = (score - top[cell]).exp()
        empty = (self.empty_key.float() - top).exp()
        total = empty.index_add(0, cell, weight)
        summary = empty[:, :, None] * self.empty_value.float().unflatten(0, (self.heads, -1))
        summary = summary.index_add(0, cell, weight[:, :, None] * value)
        summary = (summary / total[:, :, None]).flatten(1)
        return summary + self.mlp(self.norm(summary)).float()


class AverageProjection(nn.Module):
    """The paper's alternative: the mean of a cell's sites, and one linear map. It sees nothing of where a site lies."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.empty = nn.Parameter(torch.zeros(channels))

    def forward(
        self, sites: Float[Tensor, "M C"], code: Float[Tensor, "M K"], cell: Int[Tensor, " M"], cells: int
    ) -> Float[Tensor, "N C"]:
        total = sites.new_zeros(cells, sites.shape[1], dtype=torch.float32).index_add(0, cell, sites.float())
        count = torch.bincount(cell, minlength=cells)[:, None]
        mean = self.linear(total / count.clamp_min(1)).float()
        return torch.where(count > 0, mean, self.empty.float())


class Refine(nn.Module):
    """A residual convolution over a plane (2D) or a volume (3D), so that cells see their neighbours."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.norm = ChannelNorm(channels)
        self.first = conv(channels, channels, 3, padding=1)
        self.second = conv(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        if self.second.bias is not None:
            nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(self.norm(x))))


class ChannelNorm(nn.Module):
    """RMS norm over channels, cell by cell: no statistics over space, so an edit here changes nothing far away."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        power = x.square().mean(dim=1, keepdim=True, dtype=torch.float32)
        gain = self.scale.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))
        return x * torch.rsqrt(power + 1e-6).to(x.dtype) * gain
