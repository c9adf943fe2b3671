"""Matrices in 8 bits: a weight file of half the size of bfloat16, from which float32 is made when it is read.

Each row (an output of a linear layer or a convolution) has a scale of its own, its largest weight over 127; vectors
stay as they are. A weight is off by at most half a scale.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dcgen.errors import CheckpointError

SCALE = ":scale"  # after a matrix's name; no module's name holds a colon
LEVELS = 127


def quantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of two or more axes as int8, and beside it `name:scale`, float32 [rows]; the others as they are."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            packed[name] = tensor
            continue
        rows = tensor.detach().float().flatten(1)
        scale = (rows.abs().amax(dim=1) / LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
        packed[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
        packed[name + SCALE] = scale
    return packed


def dequantised(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse, to rounding. Tensors that are not int8 pass as they are. Raises CheckpointError."""
    scales = {name.removesuffix(SCALE): tensor for name, tensor in tensors.items() if name.endswith(SCALE)}
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        if tensor.dtype != torch.int8:
            if name in scales:
                raise CheckpointError(f"{path}: field {name}{SCALE} belongs to no 8-bit weights; copy the model again")
            whole[name] = tensor
            continue
        scale = scales.get(name)
        if scale is None or scale.shape != tensor.shape[:1] or not bool((torch.isfinite(scale) & (scale > 0)).all()):
            rows = len(tensor) if tensor.ndim else 0
            raise CheckpointError(f"{path}: field {name}{SCALE} needs {rows} positive numbers; copy the model again")
        whole[name] = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
    for name in scales.keys() - tensors.keys():
        raise CheckpointError(f"{path}: field {name} is missing beside its scale; copy the model again")
    return whole
