"""How well labels come back from the autoencoder. T frame, X/Y/Z voxel axes, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dcgen.eval.tally import Tally
from dcgen.types import CLASS_NAMES, MOVABLE, NUM_CLASSES, UNKNOWN, Labels, Semantics

NEAR_M = 4.0


@dataclass(frozen=True)
class Confusion:
    """counts[truth, predicted] of voxels."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def iou(self, label: int) -> Tally:
        hits = self.counts[label, label]
        return Tally(int(hits), int(self.counts[label].sum() + self.counts[:, label].sum() - hits))

    @property
    def occurring(self) -> tuple[int, ...]:
        """The occupied classes that the truth holds."""
        return tuple(k for k in range(NUM_CLASSES) if k != Semantics.FREE and self.counts[k].any())

    @property
    def miou(self) -> float:
        """Mean IoU over the occupied classes that the truth holds; NaN without any."""
        shares = [self.iou(k).share for k in self.occurring]
        return float(np.mean(shares)) if shares else float("nan")

    @property
    def occupancy(self) -> Tally:
        """IoU of occupied against free, whatever the class."""
        free = self.counts[Semantics.FREE, Semantics.FREE]
        wrong = self.counts[Semantics.FREE].sum() + self.counts[:, Semantics.FREE].sum() - 2 * free
        both = self.counts.sum() - free - wrong
        return Tally(int(both), int(both + wrong))

    def per_class(self) -> dict[str, float]:
        """IoU by class name, of the classes that the truth holds."""
        return {CLASS_NAMES[k]: self.iou(k).share for k in self.occurring}


def confusion(predicted: Labels, truth: Labels) -> Confusion:
    """Of two label arrays of any one shape; voxels that are UNKNOWN in either count nowhere."""
    known = (predicted != UNKNOWN) & (truth != UNKNOWN)
    pairs = truth[known].astype(np.int64) * NUM_CLASSES + predicted[known]
    return Confusion(np.bincount(pairs, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES))


def near(columns: NDArray[np.bool_], voxel_m: Sequence[float], reach_m: float) -> NDArray[np.bool_]:
    """[X, Y] columns whose centre is within reach_m of the centre of a true one."""
    if not columns.any():
        return np.zeros_like(columns)
    distance_m = ndimage.distance_transform_edt(~columns, sampling=voxel_m[:2])
    return np.asarray(distance_m <= reach_m + 1e-9)


def moving_iou(
    predicted: Labels, truth: Labels, moving: NDArray[np.bool_], voxel_m: Sequence[float]
) -> dict[str, Tally]:
    """IoU of what moves, by movable class name and together as "all". Arrays [T, X, Y, Z].

    Hits and misses are counted over the moving voxels. A voxel predicted as a movable class that it does not belong
    to is a false alarm where its column is within NEAR_M of a moving voxel: of that class, for "all" of any.
    """
    frames = [k for k in range(len(truth)) if moving[k].any()]
    out = {"all": Tally()} | {CLASS_NAMES[label]: Tally() for label in MOVABLE}
    for t in frames:
        guess, real, moves = predicted[t], truth[t], moving[t]
        around_any = near(moves.any(axis=2), voxel_m, NEAR_M)[..., None]
        for label in MOVABLE:
            name, mine = CLASS_NAMES[label], moves & (real == label)
            hits, count = int((guess[mine] == label).sum()), int(mine.sum())
            alarm = (guess == label) & (real != label) & (real != UNKNOWN)
            around = near(mine.any(axis=2), voxel_m, NEAR_M)[..., None]
            out[name] += Tally(hits, count + int((alarm & around).sum()))
            out["all"] += Tally(hits, count + int((alarm & around_any).sum()))
    return out


def compression(frames: int, shape: Sequence[int], latent_values: int) -> float:
    """Voxels per latent value."""
    return frames * int(np.prod(shape)) / latent_values
