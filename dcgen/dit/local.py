"""Where things stand, to the voxel: convolutions beside the transformer, at the latents' own resolution.

B batch, T frame, C channel, X/Y cells. A token covers several metres; a pedestrian's place within it comes from here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.dit.conditioning import ConditionBatch
from dcgen.hexplane import HexPlane, flatten, unflatten

WIDTH = 64


class LocalBranch(nn.Module):
    """Latents and folded layout, cell by cell with their neighbours, to a velocity. It begins as zero."""

    def __init__(self, channels: int, layout: int, vector: int, dims: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2 * channels + layout, WIDTH, 3, padding=1)
        self.film = nn.Linear(vector, 2 * WIDTH)
        self.mix = (nn.Conv2d if dims == 2 else nn.Conv3d)(WIDTH, WIDTH, 3, padding=1)
        self.leave = nn.Conv2d(WIDTH, channels, 3, padding=1)
        for layer in (self.film, self.leave):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        latents: Float[Tensor, "BT C X Y"],
        known: Float[Tensor, "BT C X Y"],
        layout: Float[Tensor, "BT L X Y"],
        vector: Float[Tensor, "B W"],
    ) -> Float[Tensor, "BT C X Y"]:
        frames = len(latents) // len(vector)
        scale, shift = self.film(F.silu(vector)).repeat_interleave(frames, dim=0)[:, :, None, None].chunk(2, dim=1)
        x = F.silu(self.enter(torch.cat([latents, known, layout], dim=1)) * (1 + scale) + shift)
        if isinstance(self.mix, nn.Conv3d):
            mixed = self.mix(rearrange(x, "(b t) c x y -> b c t x y", t=frames))
            x = x + F.silu(rearrange(mixed, "b c t x y -> (b t) c x y"))
        else:
            x = x + F.silu(self.mix(x))
        return self.leave(x)


class LocalHead(nn.Module):
    """A velocity for the xy plane and for the X-Y-T volume, from what is near each cell."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape, vae = config.hex_shape, config.vae
        self.plane_fold, self.volume_fold = vae.stride, vae.volume_stride
        channels = config.static_channels + config.agent_channels
        self.plane = LocalBranch(vae.channels, channels * vae.stride**2, config.dit.width, 2)
        if vae.volume_channels:
            folded = config.agent_channels * vae.volume_stride**2
            self.volume = LocalBranch(vae.volume_channels, folded, config.dit.width, 3)

    def prepare(self, c: ConditionBatch) -> tuple[Tensor, Tensor]:
        """The layout folded into the planes' cells [B, L, X, Y] and the volume's [B * T, L, X, Y]."""
        agents = c.layout_agents * c.present[:, None, None, None, None]
        static = c.layout_static * c.present[:, None, None, None]
        flat = torch.cat([static, agents.mean(1)], dim=1)
        return F.pixel_unshuffle(flat, self.plane_fold), F.pixel_unshuffle(agents.flatten(0, 1), self.volume_fold)

    def forward(
        self,
        latents: Float[Tensor, "B D"],
        known: Float[Tensor, "B D"],
        vector: Float[Tensor, "B W"],
        layout: tuple[Tensor, Tensor],
    ) -> Float[Tensor, "B D"]:
        planes, given = unflatten(latents, self.shape), unflatten(known, self.shape)
        parts = {name: torch.zeros_like(part) for name, part in planes.items()}
        parts["xy"] = self.plane(planes.xy, given.xy, layout[0], vector)
        if planes.volume is not None and given.volume is not None:
            frames, kept = (volume.transpose(1, 2).flatten(0, 1) for volume in (planes.volume, given.volume))
            made = self.volume(frames, kept, layout[1], vector)
            parts["volume"] = made.unflatten(0, (len(latents), -1)).transpose(1, 2)
        return flatten(HexPlane(**parts))
