"""The forecaster: road users are moved on, the ground is carried into the ego's later grids, and both are mended.

B batch, P past, S steps ahead, C movable classes, K all classes, X/Y/Z voxel axes. Past frames stand in the grid of
now; what comes out stands in the grids at the ego's later poses, which are given, or foretold by the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcgen.forecast.config import ForecastConfig
from dcgen.forecast.patches import speeds
from dcgen.forecast.warp import carried, lifted, shared, splat, voxel_map, warp
from dcgen.types import MOVABLE, NUM_CLASSES, UNKNOWN, Semantics

CLASSES = torch.tensor([int(kind) for kind in MOVABLE])
STILL, MOVED, DOUBT = 4.0, 12.0, 2.0  # scores of what was seen to stand, of what was moved there, and against it


@dataclass(frozen=True)
class Forecast:
    """scores [B, S, K, X, Y, Z]; places [B, S, C, 2, X, Y] where the columns of road users are put, in voxels."""

    scores: Tensor
    places: Tensor

    @property
    def labels(self) -> Tensor:
        """uint8 [B, S, X, Y, Z]."""
        return self.scores.argmax(dim=2).to(torch.uint8)


def occupied(labels: Tensor) -> Tensor:
    """[..., X, Y, Z] labels -> [..., C, X, Y, Z] float, where the movable classes are."""
    kinds = CLASSES.to(labels.device).view(-1, 1, 1, 1)
    return (labels.unsqueeze(-4) == kinds).float()


def background(past: Tensor) -> Tensor:
    """[B, X, Y, Z] what stands still: the newest known label of each voxel that is no road user's.

    Free where road users alone were seen, UNKNOWN where nothing was.
    """
    kinds = CLASSES.to(past.device)
    out = torch.full_like(past[:, 0], UNKNOWN)
    for frame in past.unbind(1):
        mover = torch.isin(frame, kinds)
        out = torch.where(mover | (frame == UNKNOWN), out, frame)
        out = torch.where(mover & (out == UNKNOWN), int(Semantics.FREE), out)
    return out


def silence(layer: nn.Module) -> None:
    """A layer that says nothing until it has learned to."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class Level(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.gelu(self.first(self.norm(x))))


class Around(nn.Module):
    """What lies around each column, far and near: [B, channels, X, Y] to [B, out, X, Y]."""

    def __init__(self, channels: int, widths: tuple[int, ...], out: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 2, stride=2)
        self.levels = nn.ModuleList(Level(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.ascent = nn.ModuleList(Level(width) for width in widths[:-1])
        self.finest = nn.Sequential(nn.Conv2d(widths[0], 4 * out, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        x, kept = self.stem(x), []
        for level, down in zip(self.levels, self.down, strict=False):
            kept.append(level(x))
            x = down(kept[-1])
        x = self.levels[-1](x)
        for up, level, skip in reversed(list(zip(self.up, self.ascent, kept, strict=True))):
            x = level(functional.interpolate(up(x), scale_factor=2, mode="bilinear") + skip)
        return self.finest(x)


class Columns(nn.Module):
    """Labels [B, X, Y, Z], UNKNOWN among them, to [B, out, X, Y]: the classes of each column from bottom to top."""

    def __init__(self, height: int, out: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d((NUM_CLASSES + 1) * height, out, 1)

    def forward(self, labels: Tensor) -> Tensor:
        kinds = torch.tensor([*range(NUM_CLASSES), UNKNOWN], device=labels.device).view(-1, 1, 1, 1)
        there = labels.permute(0, 3, 1, 2)[:, None] == kinds
        return self.mix(there.flatten(1, 2).to(self.mix.weight.dtype))


class EgoMotion(nn.Module):
    """Where the ego goes on to, from where it came: as it turned and drove in the last frame, corrected."""

    def __init__(self, past: int) -> None:
        super().__init__()
        self.correct = nn.Sequential(nn.Linear(3 * past + 1, 48), nn.GELU(), nn.Linear(48, 3))
        silence(self.correct[-1])

    def forward(self, now_se3_past: Tensor, ahead: Tensor) -> Tensor:
        """now_se3_past [B, P, 4, 4], ahead [B, S] frames -> now_se3_ego [B, S, 4, 4]."""
        on = steady(now_se3_past, ahead)
        where = flat_pose(now_se3_past).flatten(1)[:, None].expand(-1, ahead.shape[1], -1)
        time = ahead.to(on.dtype)[..., None] / 10
        dx, dy, turn = (self.correct(torch.cat([where / 5, time], dim=-1)) * time).unbind(-1)
        more = torch.eye(4, dtype=on.dtype, device=on.device).expand(on.shape).clone()
        more[..., 0, 0], more[..., 0, 1] = turn.cos(), -turn.sin()
        more[..., 1, 0], more[..., 1, 1] = turn.sin(), turn.cos()
        more[..., 0, 3], more[..., 1, 3] = dx, dy
        return on @ more


def steady(now_se3_past: Tensor, ahead: Tensor) -> Tensor:
    """now_se3_ego [B, S, 4, 4] of an ego that repeats its last step, ahead [B, S] times."""
    last = torch.linalg.inv(now_se3_past[:, -2])
    steps = [torch.linalg.matrix_power(last, k) for k in range(int(ahead.max()) + 1)]
    return torch.stack(steps, dim=1)[torch.arange(len(last), device=last.device)[:, None], ahead]


def flat_pose(poses: Tensor) -> Tensor:
    """[..., 4, 4] -> [..., 3] x, y, yaw."""
    return torch.stack([poses[..., 0, 3], poses[..., 1, 3], torch.atan2(poses[..., 1, 0], poses[..., 0, 0])], dim=-1)


class Forecaster(nn.Module):
    """See the head of this file; about 0.4 million weights. Untrained, everything goes on as it went."""

    def __init__(self, config: ForecastConfig) -> None:
        super().__init__()
        self.config = config
        height, slots = config.grid.shape[2], len(CLASSES) * config.grid.shape[2]
        seen = 12 * config.past + 2 * len(CLASSES) + 12
        self.frame = nn.Conv2d(slots, 12, 1)
        self.ground = Columns(height, 12)
        self.around = Around(seen, config.widths, 24)
        self.near = nn.Conv2d(seen + 24, 32, 1)
        self.way = nn.Conv2d(32, len(CLASSES) * 4, 1)
        self.ego = EgoMotion(config.past)
        self.carried = Columns(height, 16)
        self.moved = nn.Conv2d(slots, 16, 1)
        self.later = Around(33, config.widths, 24)
        self.mend = nn.Sequential(nn.Conv2d(57, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, NUM_CLASSES * height, 1))
        silence(self.way)
        silence(self.mend[-1])

    @property
    def lag(self) -> int:
        """Frames that patches are compared over."""
        return max((self.config.past - 1) // 2, 1)

    def forward(self, past: Tensor, ahead: Tensor, now_se3_ego: Tensor) -> Forecast:
        """past [B, P, X, Y, Z] in the grid of now; what comes `ahead` [B, S] frames later, in the grids at now_se3_ego.

        now_se3_ego [B, S, 4, 4]: given poses, or those of self.ego.
        """
        b, s = ahead.shape
        still = background(past)
        columns = voxel_map(torch.linalg.inv(now_se3_ego.double()), self.config.grid).float()
        places, last = self._places(past, still, ahead, columns)
        moved = lifted(splat(last, places), columns)
        poses = now_se3_ego.flatten(0, 1)
        ground = warp(still.repeat_interleave(s, dim=0), poses, self.config.grid)
        time = (ahead.flatten().to(moved.dtype) / self.config.ahead[-1])[:, None, None, None]
        flat = moved.flatten(0, 1).flatten(1, 2)
        known = [self.carried(ground), self.moved(flat), time.expand(-1, 1, *flat.shape[2:])]
        wide = torch.cat(known, dim=1)
        mended = self.mend(torch.cat([wide, self.later(wide)], dim=1))
        mended = mended.reshape(b * s, NUM_CLASSES, -1, *flat.shape[2:]).permute(0, 1, 3, 4, 2)
        scores = mended + prior(ground, moved.flatten(0, 1).permute(0, 1, 3, 4, 2))
        return Forecast(scores.reshape(b, s, *scores.shape[1:]), places)

    def _places(self, past: Tensor, still: Tensor, ahead: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Where columns of road users go [B, S, C, 2, X, Y], and those of now [B, C, Z, X, Y]."""
        b, _, x, y, _ = past.shape
        seen = occupied(past).permute(0, 1, 2, 5, 3, 4)  # B P C Z X Y
        frames = self.frame(seen.flatten(0, 1).flatten(1, 2)).reshape(b, -1, x, y)
        users = seen.amax(dim=3)
        speed = speeds(users, self.lag)
        frames = torch.cat([frames, speed.flatten(1, 2) / 4, self.ground(still)], dim=1)
        hidden = functional.gelu(self.near(torch.cat([frames, self.around(frames)], dim=1)))
        faster, bend = self.way(hidden).reshape(b, 2, len(CLASSES), 2, x, y).unbind(1)
        time = (ahead.to(speed.dtype) / self.lag)[:, :, None, None, None, None]
        way = (speed + faster)[:, None] * time + bend[:, None] * time.square() / 8
        return carried(shared(way, users[:, -1:, :, None]), columns), seen[:, -1]


def prior(ground: Tensor, moved: Tensor) -> Tensor:
    """Scores [N, K, X, Y, Z] before mending: of carried labels [N, X, Y, Z] and moved users [N, C, X, Y, Z]."""
    kinds = torch.arange(NUM_CLASSES, device=ground.device).view(-1, 1, 1, 1)
    scores = STILL * (ground[:, None] == kinds).to(moved.dtype)
    rows = CLASSES.to(ground.device)
    return scores.index_add(1, rows, MOVED * moved - DOUBT)
