"""The network of train_forecaster.py: it moves the voxels of road users and mends the result.

B batch, P past, F future, C the three movable classes, X/Y/Z voxel axes, N columns with road users.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcgen.types import MOVABLE, NUM_CLASSES, UNKNOWN, Semantics

CLASSES = torch.tensor([int(kind) for kind in MOVABLE])
CAR = MOVABLE.index(Semantics.VEHICLE)
SEARCH = 7  # voxels a frame: the fastest that patches are compared for


def occupied(labels: Tensor) -> Tensor:
    """[..., X, Y, Z] labels -> [..., C, X, Y, Z] float, where the movable classes are."""
    kinds = CLASSES.to(labels.device).view(-1, 1, 1, 1)
    return (labels.unsqueeze(-4) == kinds).float()


def background(past: Tensor) -> Tensor:
    """[B, X, Y, Z] what stands still: the newest label of each voxel that is no road user's, free without any."""
    kinds = CLASSES.to(past.device)
    out = torch.full_like(past[:, 0], int(Semantics.FREE))
    for frame in past.unbind(1):
        out = torch.where(torch.isin(frame, kinds) | (frame == UNKNOWN), out, frame)
    return out


class Level(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.gelu(self.first(self.norm(x))))


class Forecaster(nn.Module):
    """Labels [B, P, X, Y, Z] to scores [B, F, C, X, Y, Z], over 0 where a class is likelier than none."""

    def __init__(self, past: int, future: int, height: int, widths: tuple[int, ...] = (56, 80, 96)) -> None:
        super().__init__()
        self.future = future
        slots, seen = len(CLASSES) * height, 12 * past + 2 * len(CLASSES)
        self.frame = nn.Conv2d(slots, 12, 1)
        self.kinds = nn.Embedding(NUM_CLASSES, 3)
        self.ground = nn.Conv2d(3 * height, 12, 1)
        self.stem = nn.Conv2d(seen + 12, widths[0], 2, stride=2)
        self.levels = nn.ModuleList(Level(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.ascent = nn.ModuleList(Level(width) for width in widths[:-1])
        self.finest = nn.Sequential(nn.Conv2d(widths[0], 4 * 24, 1), nn.PixelShuffle(2))
        self.near = nn.Conv2d(seen + 24, 32, 3, padding=1)
        self.way = nn.Conv2d(32, len(CLASSES) * (future + 1) * 2, 1)
        self.scene = nn.Conv2d(32 + slots, 16, 1)
        self.moved = nn.Conv2d(slots, 16, 3, padding=1)
        self.step = nn.Parameter(torch.zeros(future, 16, 1, 1))
        self.mend = nn.Sequential(nn.GELU(), nn.Conv2d(16, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, slots, 1))
        for last in (self.way, self.mend[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """(scores, way [B, F, C, 2, X, Y]): where the content of each column goes, by class."""
        b, p, x, y, z = past.shape
        seen = occupied(past).permute(0, 1, 2, 5, 3, 4).reshape(b * p, -1, x, y)
        frames = self.frame(seen).reshape(b, -1, x, y)
        users = seen.reshape(b, p, len(CLASSES), z, x, y).amax(dim=3)
        speed = speeds(users)
        frames = torch.cat([frames, speed.flatten(1, 2) / 4], dim=1)
        static = self.kinds(background(past).long()).permute(0, 4, 3, 1, 2).reshape(b, -1, x, y)
        wide = self._around(self.stem(torch.cat([frames, self.ground(static)], dim=1)))
        hidden = functional.gelu(self.near(torch.cat([frames, self.finest(wide)], dim=1)))
        raw = self.way(hidden).reshape(b, self.future + 1, len(CLASSES), 2, x, y)
        steps = torch.arange(1, self.future + 1, device=past.device).view(1, -1, 1, 1, 1, 1)
        last = seen.reshape(b, p, -1, x, y)[:, -1]
        way = (speed[:, None] + raw[:, :1] * 2) * steps + raw[:, 1:] * 4
        way = shared(way, users[:, -1:, :, None])
        moved = splat(last.reshape(b, len(CLASSES), z, x, y), way).flatten(2, 3)
        mix = self.scene(torch.cat([hidden, last], dim=1))[:, None] + self.step
        mended = self.mend(mix.flatten(0, 1) + self.moved(moved.flatten(0, 1))).reshape(moved.shape)
        scores = (8 * moved - 4 + mended).reshape(b, self.future, len(CLASSES), z, x, y).permute(0, 1, 2, 4, 5, 3)
        return scores, way

    def _around(self, x: Tensor) -> Tensor:
        kept = []
        for level, down in zip(self.levels, self.down, strict=False):
            kept.append(level(x))
            x = down(kept[-1])
        x = self.levels[-1](x)
        for up, level, skip in reversed(list(zip(self.up, self.ascent, kept, strict=True))):
            x = level(functional.interpolate(up(x), scale_factor=2, mode="bilinear") + skip)
        return x


@torch.no_grad()
def speeds(users: Tensor) -> Tensor:
    """[B, C, 2, X, Y] voxels a frame at each column, by comparing patches with the two frames before.

    users [B, P, C, X, Y]: every step of at most SEARCH voxels is tried, twice as far for the frame before that. Cars
    are told by 5x5 columns; walkers and cyclists, who look alike, together by 3x3 and with more trust in small steps.
    """
    b, p, _, x, y = users.shape
    cars = users[:, :, CAR : CAR + 1]
    step = torch.arange(-SEARCH, SEARCH + 1, dtype=users.dtype, device=users.device)
    back = torch.stack(torch.meshgrid(step, step, indexing="ij")).reshape(2, -1)
    found = []
    for kind, window, trust, bias in ((cars, 5, 100.0, 0.02), (users.sum(dim=2, keepdim=True) - cars, 3, 30.0, 0.3)):
        gap = users.new_zeros(b, len(back[0]), x, y)
        for n in range(1, min(p, 3)):
            side = 2 * SEARCH + 1
            around = functional.unfold(kind[:, -1 - n], side, padding=SEARCH * n, dilation=n).reshape(gap.shape)
            gap += (kind[:, -1] - around).square_() / n
        doubt = trust * functional.avg_pool2d(gap, window, 1, window // 2)
        fit = (-doubt - bias * back.square().sum(dim=0)[:, None, None]).softmax(dim=1)
        found.append(torch.einsum("bdxy,cd->bcxy", fit, -back))
    return torch.stack([found[0] if k == CAR else found[1] for k in range(len(CLASSES))], dim=1)


def shared(way: Tensor, users: Tensor) -> Tensor:
    """way [B, F, C, 2, X, Y] as the mean over the road users' columns [B, 1, C, 1, X, Y] around: bodies are rigid."""
    total, count = (functional.avg_pool2d(each.flatten(0, 2), 5, 1, 2) for each in (way * users, users))
    count = count.reshape(users.shape).clamp(min=0.01)
    return total.reshape(way.shape) / count


def splat(values: Tensor, way: Tensor) -> Tensor:
    """Move columns: values [B, C, Z, X, Y] by way [B, F, C, 2, X, Y] voxels, bilinear; [B, F, C, Z, X, Y] up to 1."""
    b, c, z, x, y = values.shape
    frames = way.shape[1]
    at = values.amax(dim=2).nonzero()  # [N, 4] batch, class, x, y
    n, k, i, j = at.T
    value = values[n, k, :, i, j]
    there = way[n, :, k, :, i, j] + at[:, None, 2:]  # [N, F, 2]
    low = there.detach().floor()
    part = there - low
    out = values.new_zeros(b * frames * c * x * y, z)
    frame = (n[:, None] * frames + torch.arange(frames, device=values.device)) * c + k[:, None]
    for di in (0, 1):
        for dj in (0, 1):
            u, v = (low[..., 0] + di).long(), (low[..., 1] + dj).long()
            weight = (part[..., 0] if di else 1 - part[..., 0]) * (part[..., 1] if dj else 1 - part[..., 1])
            inside = (u >= 0) & (u < x) & (v >= 0) & (v < y)
            spot = (frame * x + u) * y + v
            out = out.index_add(0, spot[inside], (weight[..., None] * value[:, None])[inside])
    return out.reshape(b, frames, c, x, y, z).permute(0, 1, 2, 5, 3, 4).clamp(max=1)


def forecast(model: Forecaster, past: Tensor) -> Tensor:
    """Labels [B, F, X, Y, Z]."""
    model.eval()
    with torch.inference_mode():
        score, best = model(past)[0].max(dim=2)
    still = background(past)[:, None].expand(best.shape)
    return torch.where(score > 0, CLASSES.to(past.device, torch.uint8)[best], still)
