"""Rectified flow: a straight path from noise (t = 0) to data (t = 1). B batch, D latent values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # v(x, t)
FlowMap = Callable[[Tensor, Tensor, Tensor], Tensor]  # u(x, t, s): the average velocity of the way from t to s
NOISY = 0.7  # how far the logit of a training time lies on the noise's side


def interpolate(
    data: Float[Tensor, "B D"], noise: Float[Tensor, "B D"], time: Float[Tensor, " B"]
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """A point on the path and the velocity there (Liu et al., arXiv 2209.03003)."""
    t = time[:, None]
    return (1 - t) * noise + t * data, data - noise


def sample_time(batch: int, generator: torch.Generator, device: torch.device) -> Float[Tensor, " B"]:
    """Logit-normal times (Esser et al., arXiv 2403.03206), more of them in the noise than in the data.

    Latents of large, plain shapes survive much noise: what stands where is settled early on the path, and its end
    only holds detail that the decoder forgives.
    """
    return torch.sigmoid(torch.randn(batch, generator=generator) - NOISY).to(device)


def flow_loss(
    field: Velocity,
    data: Float[Tensor, "B D"],
    noise: Float[Tensor, "B D"],
    time: Float[Tensor, " B"],
    weights: Float[Tensor, "B D"] | None = None,
) -> Float[Tensor, " B"]:
    """Mean squared error of the velocity, chunk by chunk; latents count by their weights where these are given."""
    point, velocity = interpolate(data, noise, time)
    error = (field(point, time).float() - velocity).square()
    return error.mean(dim=1) if weights is None else (error * weights).mean(dim=1)
