"""How fast road users go, told by comparing patches of frames. B batch, P past, C movable class, N columns, X/Y."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dcgen.types import MOVABLE, Semantics

CAR = MOVABLE.index(Semantics.VEHICLE)
SEARCH = 7  # voxels a lag: the furthest that patches are compared for


@torch.no_grad()
def speeds(users: Tensor, lag: int) -> Tensor:
    """[B, C, 2, X, Y] voxels in `lag` frames at each column of the last frame that has a user, 0 elsewhere.

    users [B, P, C, X, Y], 0 or 1. Every step of at most SEARCH voxels is tried for the frame one lag before, and twice
    as far for two lags. Cars are told by 5x5 columns; walkers and cyclists, who look alike, together by 3x3 and with
    more trust in small steps.
    """
    cars = users[:, :, CAR]
    found = users.new_zeros(*users.shape[:1], users.shape[2], 2, *users.shape[3:])
    for k in range(users.shape[2]):
        who, window, trust, bias = (cars, 5, 100.0, 0.02) if k == CAR else (users.sum(dim=2) - cars, 3, 30.0, 0.3)
        n, i, j = users[:, -1, k].nonzero().T
        if not len(n):
            continue
        with torch.autocast(users.device.type, enabled=False):  # places to a hundredth of a voxel
            found[n, k, :, i, j] = _steps(who.clamp(max=1), (n, i, j), window, lag, trust, bias)
    return found


def _steps(who: Tensor, at: tuple[Tensor, Tensor, Tensor], window: int, lag: int, trust: float, bias: float) -> Tensor:
    """[N, 2] the likeliest step in a lag of each column `at` (batch, x, y). who [B, P, X, Y]."""
    n, i, j = at
    half = window // 2
    near = torch.arange(-half, half + 1, device=who.device)
    step = torch.arange(-SEARCH, SEARCH + 1, device=who.device)
    now = _patch(who[:, -1], n, i, j, near)
    gap = who.new_zeros(len(n), len(step), len(step))
    for lags in (1, 2):
        if lags * lag >= who.shape[1]:
            break
        before = who[:, -1 - lags * lag]
        reach = (step[:, None] * lags + near).flatten()  # every place a patch may have come from
        seen = _patch(before, n, i, j, reach).reshape(len(n), len(step), window, len(step), window)
        gap += (seen - now[:, None, :, None]).square().mean(dim=(2, 4)) / lags
    back = torch.stack(torch.meshgrid(step, step, indexing="ij")).to(who.dtype)
    fit = (-trust * gap - bias * back.square().sum(dim=0)).flatten(1).softmax(dim=1)
    return -fit @ back.flatten(1).T


def _patch(frame: Tensor, n: Tensor, i: Tensor, j: Tensor, reach: Tensor) -> Tensor:
    """[N, R, R] the values of a frame [B, X, Y] at offsets `reach` around columns, 0 outside."""
    edge = int(reach.abs().max())
    wide = functional.pad(frame, (edge, edge, edge, edge))
    return wide[n[:, None, None], (i[:, None] + reach + edge)[:, :, None], (j[:, None] + reach + edge)[:, None]]
