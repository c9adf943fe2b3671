"""Where tracks are expected, and what that says of pieces that hang together or fell apart. M column, V voxel, K track.

A footprint is the columns in which a track was seen last, moved as its filter says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Doubles

REACH_VOXELS = 1.0  # how far a column may be from where it is expected
SHARE = 0.5  # of a footprint that has to lie in a piece, for the track to be a part of it


def shared_by(footprints: Mapping[int, Doubles], pieces: Sequence[Doubles], voxel_m: float) -> list[list[int]]:
    """The tracks that each piece is made of: those whose footprint [M, 2] lies in it, and in no other, for the most.

    pieces: columns [M, 2] of each.
    """
    from scipy.spatial import cKDTree

    out: list[list[int]] = [[] for _ in pieces]
    if not footprints or not pieces:
        return out
    whose = np.repeat(np.arange(len(pieces)), [len(columns) for columns in pieces])
    tree = cKDTree(np.concatenate(list(pieces)))
    for k, footprint in footprints.items():
        _, nearest = tree.query(footprint, distance_upper_bound=REACH_VOXELS * voxel_m)
        held = np.bincount(whose[nearest[nearest < len(whose)]], minlength=len(pieces))
        if held.max() >= SHARE * len(footprint):
            out[int(held.argmax())].append(k)
    return out


def divided(points_m: Doubles, footprints: Mapping[int, Doubles], names: Sequence[int]) -> NDArray[np.intp]:
    """[V] index into names: whose footprint is nearest to each point [V, 2], the first of equally near ones."""
    from scipy.spatial import cKDTree

    away = np.stack([cKDTree(footprints[name]).query(points_m)[0] for name in names])
    return np.asarray(away.argmin(axis=0))


class Ground:
    """The footprints of some tracks, asked together."""

    def __init__(self, footprints: Mapping[int, Doubles], voxel_m: float) -> None:
        from scipy.spatial import cKDTree

        self._names = list(footprints)
        self._reach_m = REACH_VOXELS * voxel_m
        self._whose = np.repeat(np.arange(len(self._names)), [len(each) for each in footprints.values()])
        self._tree = cKDTree(np.concatenate(list(footprints.values()))) if footprints else None

    def track_under(self, points_m: Doubles) -> int | None:
        """The track in whose footprint most of the points [V, 2] lie, and more than SHARE; None where there is none."""
        if self._tree is None:
            return None
        near = self._tree.query_ball_point(points_m, self._reach_m)
        held = np.zeros(len(self._names), np.int64)
        for columns in near:
            held[np.unique(self._whose[columns])] += 1
        best = int(held.argmax())
        return self._names[best] if held[best] > SHARE * len(points_m) else None
