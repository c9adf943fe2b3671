"""Whether generated scenes look like real ones: pieces and class shares. T frame, X/Y/Z voxel axes, K classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dcgen.types import NUM_CLASSES, Doubles, Labels, Semantics

TOUCHING = np.ones((3, 3, 3), bool)  # 26-connected: voxels that share a corner are one piece


def pieces(labels: Labels, label: Semantics) -> int:
    """Connected pieces of a class, summed over the frames of [T, X, Y, Z]."""
    return int(sum(ndimage.label(frame == label, TOUCHING)[1] for frame in labels))


def class_counts(labels: Labels) -> NDArray[np.int64]:
    """[K] voxels by class; UNKNOWN and free are left out."""
    counts = np.bincount(labels.ravel(), minlength=256)[:NUM_CLASSES].astype(np.int64)
    counts[Semantics.FREE] = 0
    return counts


def jensen_shannon(first: NDArray[np.int64] | Doubles, second: NDArray[np.int64] | Doubles) -> float:
    """Square root of the Jensen-Shannon divergence in bits, 0 to 1, of two histograms; NaN if either is empty."""
    if first.sum() == 0 or second.sum() == 0:
        return float("nan")
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2

    def entropy_bits(shares: Doubles) -> float:
        some = shares[shares > 0]
        return float(-(some * np.log2(some)).sum())

    divergence = entropy_bits(middle) - (entropy_bits(p) + entropy_bits(q)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def class_floor(counts: Sequence[NDArray[np.int64]], seed: int, splits: int = 20) -> float:
    """Mean distance between two random halves of the same set of clips: what sampling alone costs."""
    if len(counts) < 2:
        return float("nan")
    rng, table = np.random.default_rng(seed), np.stack(counts)
    distances = []
    for _ in range(splits):
        order = rng.permutation(len(table))
        half = len(table) // 2
        distances.append(jensen_shannon(table[order[:half]].sum(axis=0), table[order[half:]].sum(axis=0)))
    return float(np.mean(distances))
