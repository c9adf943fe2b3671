"""Does spconv work on this machine? Both twins convolve a few sites. M sites, C and D channels, X/Y/Z voxel axes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import torch
from torch import Tensor

from dcgen.vae import spconv_conv, torch_conv
from dcgen.vae.sparse import SparseVolume

SHAPE = (2, 5, 4, 3)
TOLERANCE = 0.01  # coarse enough for TF32; what fails here is of another order


def trial_fault(device: torch.device) -> str | None:
    """What is wrong with spconv on a device, in a few words; None where its values and gradients are torch's.

    The trial has a thread of its own, which the caller's autocast, inference mode and checkpoints do not reach.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_compare, device).result()


def _compare(device: torch.device) -> str | None:
    try:
        pairs = list(zip(_convolve(spconv_conv, device), _convolve(torch_conv, device), strict=True))
    except Exception as error:  # an old card or driver, a build for another torch: torch's own kernels still run
        return f"fails on {device} ({(str(error).splitlines() or [type(error).__name__])[0]})"
    worst = max(float((ours - twin).norm() / twin.norm()) for ours, twin in pairs)
    return None if worst < TOLERANCE else f"is off by {worst:.0%} on {device}"


def _convolve(kernels: ModuleType, device: torch.device) -> list[Tensor]:
    """Values and gradients of a convolution of each kind. No generator is drawn from: a run stays what it is."""
    indices = torch.ones(SHAPE, device=device).nonzero()[::3]
    features = _wave(device, len(indices), 8)
    volume = SparseVolume(indices, features, SHAPE)
    books = {(3, 3, 3): kernels.find_neighbours(volume), (2, 1, 2): kernels.find_children(volume, (2, 1, 2))}
    results = []
    for size, rules in books.items():
        weight = _wave(device, *size, 8, 16)
        out = rules.convolve(features, weight)
        results += [out.detach(), *torch.autograd.grad(out.square().sum(), (features, weight))]
    return results


def _wave(device: torch.device, *shape: int) -> Tensor:
    count = int(torch.Size(shape).numel())
    return torch.arange(count, device=device).mul(0.7).sin().view(shape).requires_grad_()
