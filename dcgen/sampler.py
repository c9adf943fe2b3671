"""Integrators of a velocity field from noise (t = 0) to data (t = 1), and steps of a flow map. B batch, D values.

They know a field, not a model.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from dcgen.flow import FlowMap, Velocity

Progress = Callable[[int, int], None]


def guided(conditional: Velocity, unconditional: Velocity, scale: float) -> Velocity:
    """Classifier-free guidance (Ho and Salimans, arXiv 2207.12598): itself a field. Scale 1 is the plain condition."""
    if scale == 1.0:
        return conditional

    def field(x: Tensor, t: Tensor) -> Tensor:
        base = unconditional(x, t)
        return base + scale * (conditional(x, t) - base)

    return field


def times(steps: int, shift: float = 1.0) -> Float[Tensor, " S"]:
    """steps + 1 times from 0 to 1; shift > 1 spends more of them near the noise (arXiv 2403.03206, eq. 23)."""
    t = torch.linspace(0, 1, steps + 1)
    return t / (t + shift * (1 - t))


def jump(flow: FlowMap, noise: Float[Tensor, "B D"], at: Float[Tensor, " S"]) -> Float[Tensor, "B D"]:
    """Along the average velocity of each step: exact, whatever the steps, where the map is (arXiv 2505.13447)."""
    x = noise
    for start, stop in pairwise(at):
        x = x + (stop - start) * flow(x, start.expand(len(x)).to(x.device), stop.expand(len(x)).to(x.device))
    return x


def euler(field: Velocity, noise: Float[Tensor, "B D"], at: Float[Tensor, " S"]) -> Float[Tensor, "B D"]:
    """First order, one evaluation a step: the velocity at its start stands for its average."""
    return jump(lambda x, start, _: field(x, start), noise, at)


def heun(field: Velocity, noise: Float[Tensor, "B D"], at: Float[Tensor, " S"]) -> Float[Tensor, "B D"]:
    """Second order, two evaluations a step."""
    x = noise
    for start, stop in pairwise(at):
        first = field(x, start.expand(len(x)).to(x.device))
        guess = x + (stop - start) * first
        second = field(guess, stop.expand(len(x)).to(x.device))
        x = x + (stop - start) * 0.5 * (first + second)
    return x


SAMPLERS = {"euler": euler, "heun": heun}
