"""Which device, and in which arithmetic."""

from __future__ import annotations

import torch


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it: CUDA, and CPUs that have the instructions. Else float32."""
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
