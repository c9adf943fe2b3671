"""Where things stand, to the voxel: convolutions beside the transformer, at the latents' own resolution.

B batch, T frame, C channel, W width, X/Y cells. A token covers several metres; a pedestrian's place within it comes
from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.dit.conditioning import ConditionBatch
from dcgen.hexplane import HexPlane, flatten, unflatten

TIME_PLANES = ("tx", "ty", "tz")


class LayoutReader(nn.Module):
    """A layout at voxel resolution to features of the latents' cells: folded and read at once, and by strided steps."""

    def __init__(self, layout: int, fold: int, width: int, first_fold: int = 1) -> None:
        """first_fold: of the strided steps; they begin with so many voxels a side in one cell."""
        super().__init__()
        self.folded = nn.Sequential(nn.PixelUnshuffle(fold), nn.Conv2d(layout * fold**2, width, 3, padding=1))
        halvings = int(math.log2(fold // first_fold))
        first = nn.Conv2d(layout * first_fold**2, width // 2 if halvings else width, 3, padding=1)
        layers: list[nn.Module] = [nn.PixelUnshuffle(first_fold), first] if first_fold > 1 else [first]
        for step in range(halvings):
            layers += [nn.SiLU(), nn.Conv2d(width if step else width // 2, width, 3, stride=2, padding=1)]
        self.deep = nn.Sequential(*layers, nn.SiLU(), zero(nn.Conv2d(width, width, 1)))

    def forward(self, layout: Float[Tensor, "BT L fX fY"]) -> Float[Tensor, "BT W X Y"]:
        return self.folded(layout) + self.deep(layout)


class Level(nn.Module):
    """Residual convolutions, and half way through them the same at half the resolution, `levels` deep."""

    def __init__(self, dims: int, width: int, depth: int, vector: int, levels: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.film = zero(nn.Linear(vector, 2 * width * depth))
        self.blocks = nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(depth))
        self.inner = None
        if levels:
            wide = width * 3 // 2
            self.down = conv(width, wide, 3, stride=2, padding=1)
            self.up = zero(conv(wide, width, 3, padding=1))
            self.inner = Level(dims, wide, depth, vector, levels - 1)

    def forward(self, x: Float[Tensor, "B W ..."], vector: Float[Tensor, "B V"]) -> Float[Tensor, "B W ..."]:
        films = self.film(vector).chunk(len(self.blocks), dim=1)
        for index, (block, film) in enumerate(zip(self.blocks, films, strict=True)):
            if self.inner is not None and index == len(self.blocks) // 2:
                coarse = self.inner(F.silu(self.down(x)), vector)
                x = x + self.up(F.interpolate(coarse, size=x.shape[2:]))
            x = x + F.silu(_modulated(convolved(block, x), film))
        return x


def convolved(layer: Any, x: Float[Tensor, "B W ..."]) -> Float[Tensor, "B V ..."]:
    """A Conv2d or Conv3d of x; the latter, for one chunk on a CPU, as a Conv2d of each frame with its neighbours.

    torch leaves a small volume of batch 1 to a kernel a third as fast as the one it has for images.
    """
    if x.ndim == 4 or len(x) > 1 or x.device.type != "cpu":
        return layer(x)
    frames = x.shape[2]
    late = F.pad(x[0].transpose(0, 1), (0, 0, 0, 0, 0, 0, 1, 1))  # T + 2, W X Y
    stacked = torch.cat([late[start : start + frames] for start in range(3)], dim=1)
    weight = layer.weight.transpose(1, 2).flatten(1, 2)  # W, three frames' W, three X, three Y
    return F.conv2d(stacked, weight, layer.bias, padding=1).transpose(0, 1)[None]


class LocalBranch(nn.Module):
    """Latents and layout features, cell by cell with their neighbours, to a velocity. It begins as zero."""

    def __init__(self, channels: int, vector: int, dims: int, width: int, depth: int, levels: int = 0) -> None:
        super().__init__()
        self.dims = dims
        self.enter = nn.Conv2d(2 * channels, width, 3, padding=1, bias=False)
        self.film = zero(nn.Linear(vector, 2 * width))
        self.level = Level(dims, width, depth, vector, levels)
        self.leave = zero(nn.Conv2d(width, channels, 3, padding=1))

    def forward(
        self,
        latents: Float[Tensor, "BT C X Y"],
        known: Float[Tensor, "BT C X Y"],
        near: Float[Tensor, "BT W X #Y"],
        vector: Float[Tensor, "B V"],
    ) -> Float[Tensor, "BT C X Y"]:
        frames, vector = len(latents) // len(vector), F.silu(vector)
        film = self.film(vector).repeat_interleave(frames, dim=0)
        x = F.silu(_modulated(self.enter(torch.cat([latents, known], dim=1)) + near, film))
        if self.dims == 2:
            return self.leave(self.level(x, vector))
        x = self.level(rearrange(x, "(b t) c x y -> b c t x y", t=frames), vector)
        return self.leave(rearrange(x, "b c t x y -> (b t) c x y"))


def zero(layer: nn.Conv2d | nn.Conv3d | nn.Linear) -> nn.Module:
    """The layer, beginning as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _modulated(x: Float[Tensor, "B W ..."], film: Float[Tensor, "B W2"]) -> Float[Tensor, "B W ..."]:
    scale, shift = film.view(*film.shape, *[1] * (x.ndim - 2)).chunk(2, dim=1)
    return x * (1 + scale) + shift


class TimeReader(nn.Module):
    """Agents to features of the planes with time: who is where along an axis, by mean and maximum over the others."""

    def __init__(self, agents: int, config: ModelConfig) -> None:
        super().__init__()
        self.frames, width = config.vae.time_stride, config.dit.local_width
        self.read = LayoutReader(agents, config.vae.stride, width, config.dit.layout_fold)
        self.leave = nn.ModuleDict({name: nn.Conv2d(2 * self.frames * width, width, 1) for name in TIME_PLANES})

    def forward(self, agents: Float[Tensor, "B T A fX fY"]) -> dict[str, Float[Tensor, "B W t n"]]:
        seen = F.silu(self.read(agents.flatten(0, 1)))
        along_x, along_y = (torch.stack([seen.mean(d), seen.max(d).values], dim=1) for d in (3, 2))
        at_once = torch.stack([along_x[:, 0].mean(2), along_x[:, 1].max(2).values], dim=1)
        pooled = {"tx": along_x, "ty": along_y, "tz": at_once[..., None]}
        return {name: self.leave[name](self._stacked(part, len(agents))) for name, part in pooled.items()}

    def _stacked(self, pooled: Float[Tensor, "BT two W n"], batch: int) -> Float[Tensor, "B C t n"]:
        """The frames of a plane's cell as its channels."""
        return rearrange(pooled, "(b t s) two w n -> b (two s w) t n", b=batch, s=self.frames)


@dataclass(frozen=True)
class Near:
    """The layout beside each cell of the planes [B, W, rows, columns] and of the volume [B * T, W, X, Y]."""

    planes: dict[str, Tensor]
    volume: Tensor | None

    def repeated(self, times: int) -> Near:
        """Each chunk's, so many times in succession."""
        planes = {name: plane.repeat_interleave(times, dim=0) for name, plane in self.planes.items()}
        if self.volume is None:
            return Near(planes, None)
        chunks = len(self.planes["xy"])
        volume = self.volume.unflatten(0, (chunks, -1)).repeat_interleave(times, dim=0)
        return Near(planes, volume.flatten(0, 1))


class LocalHead(nn.Module):
    """A velocity for the xy plane, the planes with time and the X-Y-T volume, from what is near each cell."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape, vae, dit = config.hex_shape, config.vae, config.dit
        width, depth, agents = dit.local_width, dit.local_depth, config.agent_channels
        self.read_plane = LayoutReader(config.static_channels + agents, vae.stride, width, dit.layout_fold)
        self.read_time = TimeReader(agents, config)
        depths = {"xy": depth} | dict.fromkeys(TIME_PLANES, (depth + 1) // 2)
        levels = {"xy": dit.local_levels}
        self.planes = nn.ModuleDict(
            {n: LocalBranch(vae.channels, dit.width, 2, width, d, levels.get(n, 0)) for n, d in depths.items()}
        )
        if vae.volume_channels:
            self.read_volume = LayoutReader(agents, vae.volume_stride, width, dit.layout_fold)
            self.volume = LocalBranch(vae.volume_channels, dit.width, 3, width, depth)

    def prepare(self, c: ConditionBatch) -> Near:
        """What does not depend on the latents."""
        agents = c.layout_agents * c.present[:, None, None, None, None]
        static = c.layout_static * c.present[:, None, None, None]
        planes = {"xy": self.read_plane(torch.cat([static, agents.mean(1)], dim=1)), **self.read_time(agents)}
        return Near(planes, self.read_volume(agents.flatten(0, 1)) if self.shape.volume_channels else None)

    def forward(
        self,
        latents: Float[Tensor, "B D"],
        known: Float[Tensor, "B D"],
        vector: Float[Tensor, "B V"],
        near: Near,
    ) -> Float[Tensor, "B D"]:
        planes, given = unflatten(latents, self.shape), unflatten(known, self.shape)
        parts = {name: torch.zeros_like(part) for name, part in planes.items()}
        for name, branch in self.planes.items():
            parts[name] = branch(getattr(planes, name), getattr(given, name), near.planes[name], vector)
        if planes.volume is not None and given.volume is not None:
            frames, kept = (volume.transpose(1, 2).flatten(0, 1) for volume in (planes.volume, given.volume))
            made = self.volume(frames, kept, near.volume, vector)
            parts["volume"] = made.unflatten(0, (len(latents), -1)).transpose(1, 2)
        return flatten(HexPlane(**parts))
