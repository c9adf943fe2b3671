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


# --- Lovasz-softmax (dcgen/vae/loss.py) ---


def lovasz_by_sets(probabilities, labels):  # type: ignore[no-untyped-def]
    """Lovasz extension from its definition: voxels join the set of errors worst first. [N, K], [N] -> scalar."""
    losses = []
    for k in sorted(set(labels.tolist())):
        truth = {i for i, label in enumerate(labels.tolist()) if label == k}
        errors = [1 - p[k] if i in truth else p[k] for i, p in enumerate(probabilities)]
        wrong: set[int] = set()
        loss, before = 0.0, 0.0
        for i in sorted(range(len(errors)), key=lambda i: -errors[i].item()):
            wrong.add(i)
            after = 1 - len(truth - wrong) / len(truth | wrong)
            loss, before = loss + errors[i] * (after - before), after
        losses.append(loss)
    return sum(losses) / len(losses)
