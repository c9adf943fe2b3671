"""How fast a device multiplies matrices, how much of that a model needs, and what memory a process takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Result = TypeVar("Result")

SIDE = {"cpu": 2048}  # rows and columns; a product must be long against the time it takes to ask for it
DEFAULT_SIDE = 8192
BUDGET_S = 0.5  # of repeated products; the best counts, since others may use the device too


def _attention(query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# torch counts the fused attention of GPUs alone.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


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


class ModelFlops:
    """Operations of the matrix products, convolutions and attentions made while it is open, each counted once.

    `total` is what a model needs: what is only computed again to spare memory (see `recomputed`) does not count.
    """

    _open: ModelFlops | None = None

    def __init__(self) -> None:
        self._counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
        self._again = 0

    def __enter__(self) -> ModelFlops:
        self._counter.__enter__()
        ModelFlops._open = self
        return self

    def __exit__(self, *fault: Any) -> None:
        ModelFlops._open = None
        self._counter.__exit__(*fault)

    @property
    def total(self) -> int:
        return self._counter.get_total_flops() - self._again

    @staticmethod
    @contextmanager
    def uncounted() -> Iterator[None]:
        """What is computed inside was counted before."""
        flops = ModelFlops._open
        before = flops.total if flops else 0
        try:
            yield
        finally:
            if flops:
                flops._again += flops.total - before


def recomputed(function: Callable[..., Result], *inputs: Any) -> Result:
    """function(*inputs), of which nothing is kept for the backward pass: there it is computed once more.

    For functions that draw no random numbers. The gradients are the same.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    made: Result = checkpoint(
        function, *inputs, use_reentrant=False, preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), ModelFlops.uncounted()),
    )  # fmt: skip
    return made


def resident_bytes(name: str) -> int:
    """Resident memory of this process: VmRSS now, VmHWM at most. Where no /proc says so, the most in either case.

    ru_maxrss alone would do nowhere on Linux: a child begins with its parent's.
    """
    listed = Path("/proc/self/status")
    if listed.is_file():
        for line in listed.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    import resource  # of POSIX alone

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
