"""Which device, in which arithmetic, and whose sparse convolutions."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def arithmetic(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it fast: CUDA, CPUs with AMX, AMD's with AVX512-BF16. Else float32."""
    return torch.bfloat16 if device.type == "cuda" or _cpu_multiplies_bfloat16() else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """AVX512-BF16 alone is no reason on an Intel CPU, where a training step of `nano` took 1.45 times as long as in
    float32; on an AMD EPYC of 2024 one of `base` takes .4 to .55 of the time, and products alone a quarter.
    """
    # Older releases of torch have no such question and then compute in float32.
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("amx_bf16") or (able.get("avx512_bf16") and str(able.get("cpu_name")).startswith("AMD")))


def autocast(device: torch.device) -> torch.autocast:
    """Products in the device's arithmetic."""
    return torch.autocast(device.type, torch.bfloat16, enabled=arithmetic(device) == torch.bfloat16)


def sparse_kernels(device: torch.device) -> str:
    """Who convolves sparse volumes on a device: "spconv" on CUDA, "torch" where that is missing and elsewhere.

    On a CPU spconv is never asked: with two threads its results are wrong.
    """
    return "spconv" if device.type == "cuda" and _spconv_serves() else "torch"


def describe(device: torch.device | str) -> str:
    """One line for a log: "cuda:0 NVIDIA H100, bfloat16, spconv in float32" or "cpu, float32, torch"."""
    device = torch.device(device)
    name = f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
    kernels = {"spconv": "spconv in float32", "torch": "torch"}[sparse_kernels(device)]
    return f"{name}, {str(arithmetic(device)).removeprefix('torch.')}, {kernels}"


@cache
def _spconv_serves() -> bool:
    """Asked once a process; where the answer is no, stderr says why."""
    fault = spconv_fault()
    if fault is not None and sys.stderr is not None:
        print(f"spconv {fault}; sparse convolutions run in plain torch", file=sys.stderr, flush=True)
    return fault is None


def spconv_fault() -> str | None:
    """Why spconv's CUDA kernels cannot be used; None where they can. Loads spconv and tries it on the current GPU."""
    if find_spec("spconv") is None:
        return "is not installed (pip install 'dcgen[spconv]')"
    try:
        with warnings.catch_warnings():  # 2.3.6 uses names that torch calls old, and is told so eight times
            warnings.simplefilter("ignore", FutureWarning)
            import_module("spconv.pytorch")
        cpu_only = import_module("spconv.cppconstants").CPU_ONLY_BUILD
    except Exception as error:  # built for another Python, torch, numpy or driver
        return f"does not load ({(str(error).splitlines() or [type(error).__name__])[0]})"
    if cpu_only:
        return "has no CUDA kernels (pip uninstall spconv cumm, then pip install 'dcgen[spconv]')"
    from dcgen.vae.trial import trial_fault

    return trial_fault(torch.device("cuda", torch.cuda.current_device()))
