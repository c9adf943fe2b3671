"""Labels and columns carried from one grid to another. N grids, B batch, C class, S steps ahead, X/Y/Z voxel axes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dcgen.types import UNKNOWN, GridSpec


def voxel_map(a_se3_b: Tensor, grid: GridSpec) -> Tensor:
    """[..., 3, 4] what takes a voxel's index in grid b to its place in grid a, as numbers: whole ones are centres."""
    voxel, low = (
        torch.tensor(values, dtype=a_se3_b.dtype, device=a_se3_b.device) for values in (grid.voxel_m, grid.origin_m)
    )
    turn = a_se3_b[..., :3, :3] * voxel / voxel[:, None]
    first = low + voxel / 2
    shift = ((a_se3_b[..., :3, :3] @ first) + a_se3_b[..., :3, 3] - first) / voxel
    return torch.cat([turn, shift[..., None]], dim=-1)


def warp(labels: Tensor, a_se3_b: Tensor, grid: GridSpec) -> Tensor:
    """Labels [N, X, Y, Z] of grids a as grids b show them, poses [N, 4, 4]: the nearest voxel's, UNKNOWN outside."""
    n, *shape = labels.shape
    at = voxel_map(a_se3_b.double(), grid)
    steps = [torch.arange(size, dtype=torch.float64, device=labels.device) for size in shape]
    index, inside = [], torch.ones((), dtype=torch.bool, device=labels.device)
    for axis, size in enumerate(shape):
        row = at[:, axis]
        x, y, z = (row[:, k, None] * steps[k] for k in range(3))
        place = x[:, :, None, None] + y[:, None, :, None] + (z + row[:, 3:])[:, None, None]
        place = (place + 0.5).floor_().long()
        inside = inside & (place >= 0) & (place < size)
        index.append(place.clamp_(0, size - 1))
    flat = (index[0] * shape[1] + index[1]) * shape[2] + index[2]
    found = labels.reshape(n, -1).gather(1, flat.reshape(n, -1)).reshape(labels.shape)
    return torch.where(inside, found, found.new_tensor(UNKNOWN))


def carried(way: Tensor, columns: Tensor) -> Tensor:
    """way [B, S, C, 2, X, Y] voxels over the ground of grid a -> places [B, S, C, 2, X, Y] in grids b.

    columns [B, S, 3, 4] are voxel maps from a to b. Height is left out: roads are flat enough for it.
    """
    x, y = way.shape[-2:]
    here = torch.stack(
        torch.meshgrid(torch.arange(x, device=way.device), torch.arange(y, device=way.device), indexing="ij")
    ).to(way.dtype)
    flat = columns[:, :, :2, :2].to(way.dtype)
    shift = columns[:, :, :2, 3].to(way.dtype)[:, :, None, :, None, None]
    return torch.einsum("bsij,bscjxy->bscixy", flat, way + here) + shift


def lifted(values: Tensor, columns: Tensor) -> Tensor:
    """values [B, S, C, Z, X, Y] moved up or down by the whole voxels between grids a and b."""
    up = columns[:, :, 2, 3].round().long()
    z = values.shape[3]
    source = torch.arange(z, device=values.device) - up[..., None]
    inside = (source >= 0) & (source < z)
    index = source.clamp(0, z - 1)[:, :, None, :, None, None].expand(values.shape)
    return values.gather(3, index) * inside[:, :, None, :, None, None]


def splat(values: Tensor, places: Tensor) -> Tensor:
    """Columns of values [B, C, Z, X, Y] put at places [B, S, C, 2, X, Y], bilinear; [B, S, C, Z, X, Y] up to 1."""
    b, c, z, x, y = values.shape
    steps = places.shape[1]
    n, k, i, j = values.amax(dim=2).nonzero().T
    value = values[n, k, :, i, j]
    there = places[n, :, k, :, i, j]  # [columns, S, 2]
    low = there.detach().floor()
    part = there - low
    out = values.new_zeros(b * steps * c * x * y, z)
    frame = (n[:, None] * steps + torch.arange(steps, device=values.device)) * c + k[:, None]
    for di in (0, 1):
        for dj in (0, 1):
            u, v = (low[..., 0] + di).long(), (low[..., 1] + dj).long()
            weight = (part[..., 0] if di else 1 - part[..., 0]) * (part[..., 1] if dj else 1 - part[..., 1])
            inside = (u >= 0) & (u < x) & (v >= 0) & (v < y)
            spot = (frame * x + u) * y + v
            out = out.index_add(0, spot[inside], (weight[..., None] * value[:, None])[inside])
    return out.reshape(b, steps, c, x, y, z).permute(0, 1, 2, 5, 3, 4).clamp(max=1)


def shared(way: Tensor, users: Tensor) -> Tensor:
    """way [B, S, C, 2, X, Y] as the mean over the road users' columns [B, 1, C, 1, X, Y] around: bodies are rigid."""
    total, count = (functional.avg_pool2d(each.flatten(0, 2), 5, 1, 2) for each in (way * users, users))
    count = count.reshape(users.shape).clamp(min=0.01)
    return total.reshape(way.shape) / count
