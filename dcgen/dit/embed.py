"""Latents to tokens and back: the rollout of the planes, then the volume. B batch, N token, D values a token."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.hexplane import PLANES, HexPlane, flatten, unflatten, volume_tokens
from dcgen.rollout import rollout_of


class Tokens(nn.Module):
    """Cuts latents into tokens, embeds them, and puts predicted tokens back. No learned size of T, X, Y or Z."""

    position: Tensor
    plane: Tensor

    def __init__(self, config: ModelConfig, inputs: int) -> None:
        """inputs: how many latents are stacked along channels on the way in (noise, known)."""
        super().__init__()
        dit, shape = config.dit, config.hex_shape
        self.shape, self.volume_patch = shape, dit.volume_patch
        self.rollout = rollout_of(dit.rollout, shape, dit.patch)
        planes = self.rollout.places
        self.plane_count = len(planes.plane)
        positions, identities = [planes.position], [planes.plane]
        values = shape.channels * dit.patch**2
        self.enter_plane = nn.Linear(inputs * values, dit.width)
        self.leave_plane = nn.Linear(dit.width, values)
        outputs = [self.leave_plane]
        if shape.volume_channels:
            cells = volume_tokens(shape, dit.volume_patch)
            positions.append(cells.position)
            identities.append(cells.plane)
            values = shape.volume_channels * math.prod(dit.volume_patch)
            self.enter_volume = nn.Linear(inputs * values, dit.width)
            self.leave_volume = nn.Linear(dit.width, values)
            outputs.append(self.leave_volume)
        for layer in outputs:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.identity = nn.Embedding(len(PLANES) + 1, dit.width)
        self.register_buffer("position", torch.cat(positions), persistent=False)
        self.register_buffer("plane", torch.cat(identities), persistent=False)

    def split(self, latents: Float[Tensor, "B D"]) -> list[Tensor]:
        """[plane tokens, volume tokens if any], raw values."""
        planes = unflatten(latents, self.shape)
        parts = [self.rollout.split(planes)]
        if planes.volume is not None:
            t, x, y = self.volume_patch
            parts.append(rearrange(planes.volume, "b c (t p) (x q) (y r) -> b (t x y) (c p q r)", p=t, q=x, r=y))
        return parts

    def join(self, parts: list[Tensor]) -> Float[Tensor, "B D"]:
        """The inverse of split."""
        s = self.shape
        planes = self.rollout.join(parts[0])
        volume = None
        if len(parts) > 1:
            t, x, y = self.volume_patch
            volume = rearrange(
                parts[1],
                "b (t x y) (c p q r) -> b c (t p) (x q) (y r)",
                t=s.volume_t // t,
                x=s.volume_x // x,
                p=t,
                q=x,
                r=y,
            )
        return flatten(HexPlane(planes.xy, planes.xz, planes.yz, planes.tx, planes.ty, planes.tz, volume))

    def embed(self, *latents: Float[Tensor, "B D"]) -> Float[Tensor, "B N W"]:
        """Tokens of latents stacked along channels, with the identity of their plane."""
        stacks = [torch.cat(same, dim=2) for same in zip(*map(self.split, latents), strict=True)]
        tokens = [self.enter_plane(stacks[0])]
        if len(stacks) > 1:
            tokens.append(self.enter_volume(stacks[1]))
        return torch.cat(tokens, dim=1) + self.identity(self.plane)

    def leave(self, tokens: Float[Tensor, "B N W"]) -> Float[Tensor, "B D"]:
        parts = [self.leave_plane(tokens[:, : self.plane_count])]
        if tokens.shape[1] > self.plane_count:
            parts.append(self.leave_volume(tokens[:, self.plane_count :]))
        return self.join(parts)


def rotary_table(position: Float[Tensor, "N 4"], head: int) -> tuple[Tensor, Tensor]:
    """[N, head/2] cosines and sines. The head's pairs are shared out over t, x, y, z; an absent axis does not turn."""
    pairs = head // 2
    each = pairs // 4
    frequency = 1.0 / 100 ** (torch.arange(each, device=position.device) / each)
    angle = (position[:, :, None] * frequency).flatten(1)
    angle = torch.nn.functional.pad(angle, (0, pairs - angle.shape[1]))
    return angle.cos(), angle.sin()


def rotate(x: Float[Tensor, "B H N E"], cos: Tensor, sin: Tensor) -> Float[Tensor, "B H N E"]:
    """Axis-wise rotary positions (RoFormer, arXiv 2104.09864) on queries or keys."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
