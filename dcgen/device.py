"""Which device, and in which arithmetic."""

from __future__ import annotations

import torch


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it: CUDA, and CPUs that have the instructions. Else float32."""
    # torch 2.4 has no such question and then computes in float32.
    cpu_is_fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    fast = device.type == "cuda" or cpu_is_fast()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
