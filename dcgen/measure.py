"""How fast a device multiplies matrices: what the arithmetic of a model is held against."""

from __future__ import annotations

import time

import torch

SIDE = {"cpu": 2048}  # rows and columns; a product must be long against the time it takes to ask for it
DEFAULT_SIDE = 8192
BUDGET_S = 0.5  # of repeated products; the best counts, since others may use the device too


def matrix_rate(device: str | torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a product of two square matrices of `dtype`, measured in a second or so.

    2048^3 on a CPU, with as many threads as torch uses in this process; 8192^3 on an accelerator.
    """
    device = torch.device(device)
    side = SIDE.get(device.type, DEFAULT_SIDE)
    # Random numbers: a GPU takes less power for constant ones, and runs faster. Their own generator: no run notices.
    draw = torch.Generator(device).manual_seed(0)
    square = torch.randn(side, side, generator=draw, device=device).to(dtype)
    out = torch.empty_like(square)
    small = square[:128, :128].contiguous()
    torch.mm(small, small)  # libraries are loaded, and handles made, by the first product
    began, best = time.perf_counter(), float("inf")
    while time.perf_counter() - began < BUDGET_S:
        best = min(best, _seconds(square, out))
    return 2 * side**3 / best


def _seconds(square: torch.Tensor, out: torch.Tensor) -> float:
    synchronise(square.device)
    began = time.perf_counter()
    torch.mm(square, square, out=out)
    synchronise(square.device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Waits until an accelerator has done what it was asked for: clocks read before that are wrong."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
