"""How well objects are told apart, kept by their ids, and how well their flow is known. T frame, X/Y/Z voxel.

Two objects of a frame correspond where their voxels overlap by IOU or more, as boxes do in the published definitions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

IOU = 0.5
Ids = NDArray[np.integer[Any]]  # [T, X, Y, Z] 0 where it is nobody's
Pair = tuple[int, int]  # a true object and a found one


@dataclass(frozen=True)
class Tracking:
    """Counts over frames; those of clips add up to those of all of them."""

    true: int = 0  # objects a frame
    found: int = 0
    id_hits: int = 0  # of them, those that correspond under the best one-to-one naming of whole tracks
    missed: int = 0
    wrong: int = 0
    switched: int = 0

    def __add__(self, other: Tracking) -> Tracking:
        return Tracking(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tracking)))

    @property
    def idf1(self) -> float:
        """2 IDTP / (2 IDTP + IDFP + IDFN) (Ristani et al. 2016, sec. 3); NaN where there is nothing."""
        total = self.true + self.found
        return 2 * self.id_hits / total if total else float("nan")

    @property
    def mota(self) -> float:
        """1 - (misses + false positives + mismatches) / objects (Bernardin and Stiefelhagen 2008, sec. 2.1.4)."""
        return 1 - (self.missed + self.wrong + self.switched) / self.true if self.true else float("nan")


def tracking(true: Ids, found: Ids, iou: float = IOU) -> Tracking:
    """Counts of one clip, of ids [T, X, Y, Z] that lie in the same grids. Raises ValueError for other shapes."""
    if true.shape != found.shape:
        raise ValueError(f"tracking needs ids of one shape, got {true.shape} and {found.shape}")
    frames = [_Frame.of(a, b) for a, b in zip(true, found, strict=True)]
    count_true, count_found = (sum(len(getattr(f, name)) for f in frames) for name in ("true", "found"))
    missed, wrong, switched = _events(frames, iou)
    return Tracking(count_true, count_found, _id_hits(frames, iou), missed, wrong, switched)


@dataclass(frozen=True)
class _Frame:
    """Voxels of each object of a frame, and how much two of them overlap."""

    true: dict[int, int]
    found: dict[int, int]
    iou: dict[Pair, float] = field(default_factory=dict)

    @staticmethod
    def of(true: Ids, found: Ids) -> _Frame:
        some = (true > 0) | (found > 0)
        pairs, counts = np.unique(np.stack([true[some], found[some]]).astype(np.int64), axis=1, return_counts=True)
        sizes: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for pair, count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            for side, name in zip(sizes, pair, strict=True):
                if name:
                    side[name] = side.get(name, 0) + count
        shared = {(a, b): n for (a, b), n in zip(pairs.T.tolist(), counts.tolist(), strict=True) if a and b}
        iou = {(a, b): n / (sizes[0][a] + sizes[1][b] - n) for (a, b), n in shared.items()}
        return _Frame(*sizes, iou)


def _id_hits(frames: list[_Frame], least: float) -> int:
    """IDTP: frames that agree under the one-to-one naming of tracks that makes most of them agree."""
    from scipy.optimize import linear_sum_assignment

    agree: dict[Pair, int] = {}
    for frame in frames:
        for pair, iou in frame.iou.items():
            if iou >= least:
                agree[pair] = agree.get(pair, 0) + 1
    rows, columns = ({name: n for n, name in enumerate(sorted({pair[k] for pair in agree}))} for k in (0, 1))
    table = np.zeros((len(rows), len(columns)), np.int64)
    for (a, b), n in agree.items():
        table[rows[a], columns[b]] = n
    return int(table[linear_sum_assignment(table, maximize=True)].sum())


def _events(frames: list[_Frame], least: float) -> tuple[int, int, int]:
    """Misses, false positives and mismatches: who corresponded goes on to, the rest is matched by overlap."""
    from scipy.optimize import linear_sum_assignment

    missed = wrong = switched = 0
    last: dict[int, int] = {}  # true -> found, as they corresponded last, the latest in front
    for frame in frames:
        kept = {b: a for a, b in reversed(last.items()) if frame.iou.get((a, b), 0) >= least}  # one each
        now = {a: b for b, a in kept.items()}
        free = {(a, b): v for (a, b), v in frame.iou.items() if v >= least and a not in now and b not in kept}
        rows, columns = (sorted({pair[k] for pair in free}) for k in (0, 1))
        gain = np.array([[free.get((a, b), 0.0) for b in columns] for a in rows]).reshape(len(rows), len(columns))
        for r, c in zip(*(side.tolist() for side in linear_sum_assignment(gain, maximize=True)), strict=True):
            if gain[r, c]:
                now[rows[r]] = columns[c]
                switched += rows[r] in last
        missed += len(frame.true) - len(now)
        wrong += len(frame.found) - len(now)
        last = now | {a: b for a, b in last.items() if a not in now}
    return missed, wrong, switched


@dataclass(frozen=True)
class FlowError:
    """End-point errors of flow at moving voxels, in m/s."""

    errors_mps: NDArray[np.float32]

    @staticmethod
    def joined(parts: Iterable[FlowError]) -> FlowError:
        return FlowError(np.concatenate([np.zeros(0, np.float32), *(part.errors_mps for part in parts)]))

    @property
    def mean_mps(self) -> float:
        return float(self.errors_mps.mean()) if len(self.errors_mps) else float("nan")

    @property
    def median_mps(self) -> float:
        return float(np.median(self.errors_mps)) if len(self.errors_mps) else float("nan")


def flow_error(true_mps: NDArray[Any], found_mps: NDArray[Any], moving: NDArray[np.bool_]) -> FlowError:
    """Lengths of the differences of two flows [T, X, Y, Z, 3] (Baker et al. 2011, sec. 4.1) where moving is true."""
    off = found_mps[moving].astype(np.float32) - true_mps[moving].astype(np.float32)
    return FlowError(np.linalg.norm(off, axis=-1))
