"""Conditions to what the transformer reads. B batch, T frame, C channel, X/Y layout cells, W width, N token."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dcgen.config import ModelConfig
from dcgen.hexplane import PLANES
from dcgen.rollout import rollout_of


@dataclass(frozen=True)
class ConditionBatch:
    """Conditions of B chunks as tensors. `known` are normalised latents of the known voxels; `present` is False
    where every condition is dropped at once: the joint null of classifier-free guidance."""

    trajectory: Float[Tensor, "B T 3"]
    command: Int[Tensor, " B"]
    layout_static: Float[Tensor, "B C X Y"]
    layout_agents: Float[Tensor, "B T A X Y"]
    known: Float[Tensor, "B D"]
    present: Bool[Tensor, " B"]

    def null(self) -> ConditionBatch:
        """The same chunks with all conditions dropped."""
        return ConditionBatch(
            self.trajectory,
            self.command,
            self.layout_static,
            self.layout_agents,
            self.known,
            torch.zeros_like(self.present),
        )

    def to(self, device: torch.device) -> ConditionBatch:
        return ConditionBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})

    def index(self, rows: Tensor | slice) -> ConditionBatch:
        return ConditionBatch(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def sinusoid(value: Float[Tensor, " B"], channels: int) -> Float[Tensor, "B C"]:
    """Codes of a number in 0..1."""
    frequency = torch.exp(torch.linspace(0, math.log(200.0), channels // 2, device=value.device))
    angle = value.float()[:, None] * frequency * 2
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class VectorCondition(nn.Module):
    """Noise time, and ego trajectory with command, as vectors that are added.

    With an interval also how long a step is, as shortcut models do (arXiv 2410.12557). It begins as nothing, so that a
    student begins as its teacher whatever the step.
    """

    def __init__(self, width: int, interval: bool = False) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.pose = nn.Sequential(nn.Linear(4 + 16, width), nn.SiLU(), nn.Linear(width, width))
        self.command = nn.Embedding(4, width)
        self.null = nn.Parameter(torch.zeros(width))
        self.length = None
        if interval:
            last = nn.Linear(width, width)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.length = nn.Sequential(nn.Linear(64, width), nn.SiLU(), last)

    def at(self, time: Float[Tensor, " B"], stop: Float[Tensor, " B"] | None = None) -> Float[Tensor, "B W"]:
        """Of a time, and of where the step ends; without an end the step has no length."""
        vector = self.time(sinusoid(time, 64))
        if self.length is None:
            return vector
        return vector + self.length(sinusoid(torch.zeros_like(time) if stop is None else stop - time, 64))

    def given(self, c: ConditionBatch) -> Float[Tensor, "B W"]:
        x_y, yaw = c.trajectory[..., :2] / 10.0, c.trajectory[..., 2:]
        frames = c.trajectory.shape[1]
        when = sinusoid((torch.arange(frames, device=yaw.device) + 0.5) / frames, 16)
        poses = torch.cat([x_y, yaw.sin(), yaw.cos(), when.expand(len(yaw), -1, -1)], dim=2)
        given = self.pose(poses).mean(dim=1) + self.command(c.command)
        return torch.where(c.present[:, None], given, self.null)


class LayoutCondition(nn.Module):
    """The road and the agents as an addition to every token, each read where the token lies.

    The bird's-eye features are brought to the tokens' resolution by strided convolutions; a plane's tokens get
    their mean along the axes that the plane drops.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dit, shape = config.dit, config.hex_shape
        width, inner = dit.width, dit.layout_width
        self.dit, self.shape, self.width = dit, shape, width
        self.rollout = rollout_of(dit.rollout, shape, dit.patch)
        # Halve until one cell is one token of the xy plane.
        halvings = int(math.log2(config.vae.stride * dit.patch // dit.layout_fold))
        self.static = self._pyramid(config.static_channels, inner, width, halvings, dit.layout_fold)
        self.agents = self._pyramid(config.agent_channels, inner // 2, inner, halvings, dit.layout_fold)
        self.to_plane = nn.ModuleDict({name: nn.Linear(width + inner, width) for name in PLANES})
        if shape.volume_channels:
            self.pool = nn.Conv2d(inner, inner, 3, stride=2, padding=1)
            self.static_pool = nn.Conv2d(width, inner, 3, stride=2, padding=1)
            self.to_volume = nn.Linear(inner * (dit.volume_patch[0] + 1), width)

    @staticmethod
    def _pyramid(inputs: int, inner: int, outputs: int, halvings: int, fold: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.PixelUnshuffle(fold)] if fold > 1 else []
        layers += [nn.Conv2d(inputs * fold**2, inner, 3, padding=1), nn.SiLU()]
        for step in range(halvings):
            layers += [nn.Conv2d(inner, outputs if step == halvings - 1 else inner, 3, stride=2, padding=1), nn.SiLU()]
        return nn.Sequential(*layers)

    def forward(self, c: ConditionBatch) -> Float[Tensor, "B N W"]:
        batch, frames = c.trajectory.shape[:2]
        patch = self.dit.patch
        static = self.static(c.layout_static)  # B W x y, one cell a token of the xy plane
        agents = self.agents(c.layout_agents.flatten(0, 1)).unflatten(0, (batch, frames))  # B T A x y
        in_time = agents.unflatten(1, (self.shape.t // patch, -1)).mean(2)  # B t A x y
        still = torch.cat([static, agents.mean(1)], dim=1).permute(0, 2, 3, 1)  # B x y C
        moving = torch.cat([static[:, None].expand(-1, in_time.shape[1], -1, -1, -1), in_time], dim=2)
        moving = moving.permute(0, 1, 3, 4, 2)  # B t x y C
        z = self.shape.z // patch
        parts = {
            "xy": still,
            "xz": repeat(still.mean(2), "b x c -> b x z c", z=z),
            "yz": repeat(still.mean(1), "b y c -> b y z c", z=z),
            "tx": moving.mean(3),
            "ty": moving.mean(2),
            "tz": repeat(moving.mean((2, 3)), "b t c -> b t z c", z=z),
        }
        planes = {name: self.to_plane[name](part) for name, part in parts.items()}
        tokens = [self._rolled(planes)]
        if self.shape.volume_channels:
            tokens.append(self._volume(static, agents))
        return torch.cat(tokens, dim=1) * c.present[:, None, None]

    def _rolled(self, planes: dict[str, Tensor]) -> Float[Tensor, "B N W"]:
        """Plane features, each token's where it lies."""
        return self.rollout.read(planes)

    def _volume(self, static: Tensor, agents: Tensor) -> Float[Tensor, "B N W"]:
        batch = len(agents)
        pooled = F.silu(self.pool(agents.flatten(0, 1)))
        ground = F.silu(self.static_pool(static))
        size = (self.shape.volume_x // self.dit.volume_patch[1], self.shape.volume_y // self.dit.volume_patch[2])
        if pooled.shape[-2:] != size:
            pooled, ground = F.adaptive_avg_pool2d(pooled, size), F.adaptive_avg_pool2d(ground, size)
        slices = self.shape.volume_t // self.dit.volume_patch[0]
        moving = rearrange(pooled, "(b s f) c x y -> b s x y (f c)", b=batch, s=slices)
        still = repeat(ground, "b c x y -> b s x y c", s=slices)
        return self.to_volume(torch.cat([moving, still], dim=-1)).flatten(1, 3)
