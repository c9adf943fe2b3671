"""Which device, and in which arithmetic."""

from __future__ import annotations

import torch


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it: CUDA, and CPUs with AMX. Else float32.

    AVX512-BF16 alone is no reason: a training step of `nano` took 1.45 times as long in it as in float32.
    """
    # torch 2.4 has no such question and then computes in float32.
    cpu_is_fast = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    fast = device.type == "cuda" or cpu_is_fast()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
