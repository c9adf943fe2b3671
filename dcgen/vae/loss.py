"""What the autoencoder is trained on. B batch, T frame, X/Y/Z voxel axes, K classes, N voxels.

Voxels labelled UNKNOWN count nowhere. Everything is computed in float32, whatever type the logits have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from dcgen.hexplane import HexPlane
from dcgen.types import UNKNOWN

HARD_VOXELS = 1 << 16


@dataclass(frozen=True)
class ReconstructionLoss:
    """`total` is what to minimise; the others are its terms. `moving` is the plain cross-entropy of moving voxels,
    a report without gradient, NaN where nothing moves."""

    total: Tensor
    cross_entropy: Tensor
    lovasz: Tensor
    moving: Tensor


def class_weights(counts: Int[Tensor, " K"]) -> Float[Tensor, " K"]:
    """(max f / f)^(1/3) of the class frequencies (DynamicCity, sec. 4.1); 0 for a class that never occurs."""
    frequency = counts.double()
    weights = (frequency.max() / frequency.clamp_min(1)) ** (1 / 3)
    return torch.where(counts > 0, weights, 0.0).float()


def lovasz_softmax(
    logits: Float[Tensor, "N K"], labels: Int[Tensor, " N"], counts: Int[Tensor, " K"] | None = None
) -> Float[Tensor, ""]:
    """Mean over the classes that occur of the Lovasz extension of the Jaccard loss (Berman et al., 2018).

    `counts` are the class counts of a larger set of which these voxels are the ones with the largest errors:
    the loss is then that of the whole set, less what the easy voxels add (at most the largest of their errors).
    """
    classes = logits.shape[1]
    counts = torch.bincount(labels, minlength=classes) if counts is None else counts
    present = counts.nonzero().squeeze(1)
    if len(present) == 0 or len(labels) == 0:
        return logits.sum() * 0.0
    truth = labels == present[:, None]
    errors = (truth.float() - logits.float().T.softmax(0)[present]).abs()
    errors, order = errors.sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    # The Jaccard loss of the i worst voxels is 1 - missing / union; its steps in closed form lose no digits.
    total = counts[present, None]
    missing = total - truth.cumsum(1)
    union = (total + (~truth).cumsum(1)).double()
    step = torch.where(truth, 1 / union, missing / (union * (union - 1)).clamp_min(1))
    return (errors * step.float()).sum(1).mean()


def hardest(surprise: Float[Tensor, " N"], voxels: int) -> Int[Tensor, " n"]:
    """The voxels with the largest -log p(label): their errors bound those of all the others, in every class."""
    if surprise.shape[0] <= voxels:
        return torch.arange(surprise.shape[0], device=surprise.device)
    return surprise.topk(voxels, sorted=False).indices


def reconstruction_loss(
    logits: Float[Tensor, "B T X Y Z K"],
    labels: UInt8[Tensor, "B T X Y Z"],
    moving: Bool[Tensor, "B T X Y Z"],
    weights: Float[Tensor, " K"],
    *,
    moving_weight: float = 2.0,
    lovasz_weight: float = 1.0,
    hard_voxels: int | None = HARD_VOXELS,
) -> ReconstructionLoss:
    """Class-weighted cross-entropy, in which moving voxels count `moving_weight` times, plus Lovasz-softmax.

    `hard_voxels` bounds the voxels that Lovasz-softmax sorts; None sorts them all.
    """
    classes = logits.shape[-1]
    scores, known = logits.reshape(-1, classes).float(), labels.reshape(-1) != UNKNOWN
    target = torch.where(known, labels.reshape(-1).long(), 0)
    # Five times faster on a CPU than log_softmax over so short an axis.
    surprise = scores.logsumexp(1) - scores.gather(1, target[:, None]).squeeze(1)
    share = weights.to(scores)[target] * known
    moves = moving.reshape(-1) & known
    share = torch.where(moves, share * moving_weight, share)
    cross_entropy = (surprise * share).sum() / share.sum().clamp_min(1e-6)
    lovasz = scores.new_zeros(())
    if lovasz_weight:
        counts = torch.bincount(target[known], minlength=classes)
        chosen = known.nonzero().squeeze(1)
        if hard_voxels is not None and len(chosen) > hard_voxels:
            chosen = hardest(torch.where(known, surprise.detach(), -1.0), hard_voxels)
        lovasz = lovasz_softmax(scores[chosen], target[chosen], counts)
    with torch.no_grad():
        apart = surprise[moves].mean()
    return ReconstructionLoss(cross_entropy + lovasz_weight * lovasz, cross_entropy, lovasz, apart)


def kl_to_standard_normal(mean: HexPlane, log_variance: HexPlane) -> Float[Tensor, ""]:
    """KL(N(mean, variance) || N(0, 1)) in nats, averaged over all values of all parts."""
    total, values = torch.zeros(()), 0
    for (_, m), (_, v) in zip(mean.items(), log_variance.items(), strict=True):
        m, v = m.float(), v.float()
        total = total.to(m.device) + 0.5 * (m.square() + v.exp() - 1 - v).sum()
        values += m.numel()
    return total / max(values, 1)
