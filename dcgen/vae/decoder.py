"""Expansion & Squeeze: planes are broadcast to the volume, multiplied, and squeezed to class logits.

B batch, T frame, X/Y/Z latent cells, U/V/W sub-cells of one cell, K classes, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.hexplane import HexPlane
from dcgen.types import NUM_CLASSES
from dcgen.vae.projection import ChannelNorm, Refine, axis_code


class HeightCode(nn.Module):
    """[Z, C] learned function of height: a bird's-eye feature times it is a column. No size of Z is in the weights."""

    def __init__(self, channels: int, frequencies: int = 8) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.net = nn.Sequential(nn.Linear(2 * frequencies, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, z: int, device: torch.device) -> Float[Tensor, "Z C"]:
        return self.net(axis_code(torch.arange(z, device=device) + 0.5, z, self.frequencies))


FRAMES_AT_ONCE = {"cpu": 1}  # what is in hand of a frame stays in a CPU's caches
DEFAULT_FRAMES_AT_ONCE = 4


def spread(cells: Float[Tensor, "B X Y Z UVWK"], stride: int) -> Float[Tensor, "B XU YV ZW K"]:
    """Logits of a cell's sub-cells, put in their places."""
    return rearrange(cells, "b x y z (u v w k) -> b (x u) (y v) (z w) k", u=stride, v=stride, w=stride, k=NUM_CLASSES)


def likeliest(cells: Float[Tensor, "B T X Y Z UVWK"], stride: int) -> UInt8[Tensor, "B T XU YV ZW"]:
    """The class with the largest logit in each sub-cell, put in its place: labels move, not logits."""
    labels = cells.unflatten(-1, (-1, NUM_CLASSES)).argmax(-1).to(torch.uint8)
    return rearrange(labels, "b t x y z (u v w) -> b t (x u) (y v) (z w)", u=stride, v=stride, w=stride)


def in_blocks(frames: Int[Tensor, " T"]) -> tuple[Int[Tensor, " t"], ...]:
    """As many frames at a time as are decoded together where no logits are asked."""
    return frames.split(FRAMES_AT_ONCE.get(frames.device.type, DEFAULT_FRAMES_AT_ONCE))


class StaticDecoder(nn.Module):
    """The spatial planes, decoded once for all frames of an anchored chunk."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vae = config.vae
        width, squeeze = vae.decoder_width, vae.squeeze_width
        self.stride = vae.stride
        self.enter = nn.Conv2d(vae.channels, width, 3, padding=1)
        self.blocks = nn.Sequential(Refine(width, 2), Refine(width, 2))
        self.height = HeightCode(width)
        self.along_x = nn.Linear(vae.channels, width)
        self.along_y = nn.Linear(vae.channels, width)
        self.squeeze = nn.Linear(width, squeeze)
        self.volume = Refine(squeeze, 3)
        self.head = nn.Linear(squeeze, vae.stride**3 * NUM_CLASSES)

    def features(self, planes: HexPlane) -> Float[Tensor, "B C X Y"]:
        return self.blocks(self.enter(planes.xy.contiguous(memory_format=torch.channels_last)))

    def forward(self, planes: HexPlane, bev: Float[Tensor, "B C X Y"]) -> Float[Tensor, "B X Y Z UVWK"]:
        code = self.height(planes.xz.shape[3], bev.device)  # Z C
        x_z = (1 + self.along_x(planes.xz.permute(0, 2, 3, 1))) * code  # B X Z C
        y_z = 1 + self.along_y(planes.yz.permute(0, 2, 3, 1))  # B Y Z C
        columns = bev.permute(0, 2, 3, 1)[:, :, :, None]
        expanded = columns * x_z.to(bev.dtype)[:, :, None] * y_z.to(bev.dtype)[:, None]
        volume = self.volume(self.squeeze(expanded).permute(0, 4, 1, 2, 3))
        return self.head(F.silu(volume.permute(0, 2, 3, 4, 1)))


class ResidualDecoder(nn.Module):
    """What moves: the X-Y-T volume and the temporal planes, as logits added to the static ones, frame by frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vae = config.vae
        width, static_width = vae.residual_width, vae.decoder_width
        self.stride, self.time_stride, self.volume_stride = vae.stride, vae.time_stride, vae.volume_stride
        up = vae.volume_stride // vae.stride
        if vae.volume_channels:
            self.enter_volume = nn.Conv2d(vae.volume_channels, width * up * up, 3, padding=1)
        self.up = up
        self.enter_static = nn.Conv2d(static_width, width, 1)
        self.along_x = nn.Linear(vae.channels, width)
        self.along_y = nn.Linear(vae.channels, width)
        self.along_z = nn.Linear(vae.channels, width)
        self.blocks = Refine(width, 2)
        self.norm = ChannelNorm(width)
        self.height = HeightCode(width)
        self.head = nn.Linear(width, vae.stride**3 * NUM_CLASSES)

    def forward(
        self, planes: HexPlane, static: Float[Tensor, "B C X Y"], frames: Int[Tensor, " T"]
    ) -> Float[Tensor, "B T X Y Z UVWK"]:
        def per_frame(plane: Tensor) -> Tensor:  # B C T' A -> B T A C
            return plane[:, :, frames // self.time_stride].permute(0, 2, 3, 1)

        # Expansion of the temporal planes (DynamicCity, sec. 4.1), as a gain on the bird's-eye features.
        gain = (1 + self.along_x(per_frame(planes.tx)))[:, :, :, None] * (1 + self.along_y(per_frame(planes.ty)))[
            :, :, None
        ]
        base = self.enter_static(static)[:, None]
        if planes.volume is not None:
            moving = self.enter_volume(rearrange(planes.volume[:, :, frames], "b c t x y -> (b t) c x y"))
            moving = rearrange(moving, "(b t) (c u v) x y -> b t c (x u) (y v)", t=len(frames), u=self.up, v=self.up)
            base = base + moving
        bev = (base * gain.to(base.dtype).permute(0, 1, 4, 2, 3)).flatten(0, 1)
        bev = self.norm(self.blocks(bev.contiguous(memory_format=torch.channels_last))).permute(0, 2, 3, 1)
        code = self.height(planes.tz.shape[3], bev.device) * (1 + self.along_z(per_frame(planes.tz)))
        code = rearrange(code, "b t z c -> (b t) z c").to(bev.dtype)
        columns = F.silu(bev[:, :, :, None] * code[:, None, None])
        return self.head(columns).unflatten(0, (len(static), len(frames)))


class AnchoredDecoder(nn.Module):
    """Logits of every frame: the static volume, decoded once, plus a residual a frame."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.static = StaticDecoder(config)
        self.residual = ResidualDecoder(config)
        self.stride = config.vae.stride

    def forward(self, planes: HexPlane, frames: Int[Tensor, " T"]) -> Float[Tensor, "B T X Y Z K"]:
        bev = self.static.features(planes)
        residual = self.residual(planes, bev, frames)
        cells = (self.static(planes, bev)[:, None] + residual).flatten(0, 1)
        return spread(cells, self.stride).unflatten(0, residual.shape[:2])

    def labels(self, planes: HexPlane, frames: Int[Tensor, " T"]) -> UInt8[Tensor, "B T X Y Z"]:
        """The likeliest class of each voxel, without the logits of more than a few frames at once."""
        bev = self.static.features(planes)
        static = self.static(planes, bev)[:, None]
        blocks = in_blocks(frames)
        return torch.cat([likeliest(static + self.residual(planes, bev, some), self.stride) for some in blocks], dim=1)


class HadamardDecoder(nn.Module):
    """The paper's plain form: six planes expanded, multiplied and squeezed by one 3D head, all frames alike."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        vae = config.vae
        self.stride, self.time_stride = vae.stride, vae.time_stride
        self.squeeze = nn.Conv3d(vae.channels, vae.squeeze_width, 3, padding=1)
        self.volume = nn.Sequential(Refine(vae.squeeze_width, 3), Refine(vae.squeeze_width, 3))
        self.head = nn.Linear(vae.squeeze_width, vae.stride**3 * NUM_CLASSES)

    def forward(self, planes: HexPlane, frames: Int[Tensor, " T"]) -> Float[Tensor, "B T X Y Z K"]:
        cells = self.cells(planes, frames)
        return spread(cells.flatten(0, 1), self.stride).unflatten(0, cells.shape[:2])

    def labels(self, planes: HexPlane, frames: Int[Tensor, " T"]) -> UInt8[Tensor, "B T X Y Z"]:
        """The likeliest class of each voxel, a few frames at once."""
        return torch.cat([likeliest(self.cells(planes, some), self.stride) for some in in_blocks(frames)], dim=1)

    def cells(self, planes: HexPlane, frames: Int[Tensor, " T"]) -> Float[Tensor, "B T X Y Z UVWK"]:
        """Logits of each cell's sub-cells."""
        # One is added to each plane: a product of six that start near zero is nothing, and so is its gradient.
        xy, xz, yz = 1 + planes.xy, 1 + planes.xz, 1 + planes.yz
        tx, ty, tz = (1 + part[:, :, frames // self.time_stride] for part in (planes.tx, planes.ty, planes.tz))
        space = xy[:, :, :, :, None] * xz[:, :, :, None] * yz[:, :, None]
        time = tx[:, :, :, :, None, None] * ty[:, :, :, None, :, None] * tz[:, :, :, None, None]
        expanded = rearrange(space[:, :, None] * time, "b c t x y z -> (b t) c x y z")
        volume = self.volume(self.squeeze(expanded))
        return self.head(F.silu(volume.permute(0, 2, 3, 4, 1))).unflatten(0, (-1, len(frames)))
