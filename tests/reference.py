"""Slow twins: the plainest way to compute what a fast path computes. Tests compare the two."""

from __future__ import annotations

from torch.nn import functional

# --- sparse convolution (dcgen/vae/backbone.py) ---


def dense_submanifold(values, active, weight, bias):  # type: ignore[no-untyped-def]
    """3x3x3 convolution of the masked volume [B, C, X, Y, Z], masked again. weight [3, 3, 3, in, out]."""
    mask = active[:, None].to(values.dtype)
    kernel = weight.permute(4, 3, 0, 1, 2)
    return functional.conv3d(values * mask, kernel, bias, padding=1) * mask


def dense_strided(values, active, weight, bias):  # type: ignore[no-untyped-def]
    """Convolution whose kernel is its stride, zeros beyond the far edges; returns values and the coarse mask."""
    stride = weight.shape[:3]
    pad = [(-n) % s for n, s in zip(active.shape[1:], stride, strict=True)]
    sides = (0, pad[2], 0, pad[1], 0, pad[0])
    mask = functional.pad(active[:, None].to(values.dtype), sides)
    coarse = functional.max_pool3d(mask, stride)
    out = functional.conv3d(functional.pad(values, sides) * mask, weight.permute(4, 3, 0, 1, 2), bias, stride)
    return out * coarse, coarse[:, 0].bool()
