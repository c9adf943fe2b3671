"""Pieces of frames become tracks: each predicted by a Kalman filter, matched by the Hungarian method. V voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dcgen.instances.components import Piece, View, seen_from_above
from dcgen.instances.kalman import Belief, begun, corrected, predicted, surprise
from dcgen.types import Doubles, GridSpec, Semantics

GATE = 13.8  # squared Mahalanobis distance: one measurement in a thousand is farther, of two numbers
MOST_MISSED_S = 0.65  # how long a track waits to be seen again
ACCEL_MPS2 = {Semantics.VEHICLE: 4.0, Semantics.BICYCLE: 3.0, Semantics.PEDESTRIAN: 2.0}
MOST_MPS = {Semantics.VEHICLE: 35.0, Semantics.BICYCLE: 12.0, Semantics.PEDESTRIAN: 6.0}
SIGMA_VOXELS, CUT_SIGMA_VOXELS = 0.5, 1.5


@dataclass
class Track:
    """One object as it was seen so far."""

    class_id: int
    belief: Belief
    frames: list[int] = field(default_factory=list)
    views: list[View] = field(default_factory=list)


class Tracker:
    """Frames in order; numbers its tracks from 0 in the order in which they are first seen."""

    def __init__(self, grid: GridSpec) -> None:
        self.grid = grid
        self.tracks: list[Track] = []
        self._live: list[int] = []
        self._time_s = 0.0
        self._seen_s: dict[int, float] = {}

    def step(self, pieces: Sequence[Piece], frame: int, time_s: float, world_se3_grid: Doubles) -> list[int]:
        """The track of each piece of a frame."""
        dt_s, self._time_s = time_s - self._time_s, time_s
        self._live = [k for k in self._live if time_s - self._seen_s[k] <= MOST_MISSED_S]
        for k in self._live:
            track = self.tracks[k]
            track.belief = predicted(track.belief, dt_s, ACCEL_MPS2[Semantics(track.class_id)])
        views = [seen_from_above(piece.voxels, self.grid, world_se3_grid) for piece in pieces]
        matched = self._matched(pieces, views)
        return [self._take(matched.get(n), piece, views[n], frame) for n, piece in enumerate(pieces)]

    def _sigma_m(self, view: View) -> float:
        voxels = CUT_SIGMA_VOXELS if view.outward.any() else SIGMA_VOXELS
        return voxels * max(self.grid.voxel_m[:2])

    def _matched(self, pieces: Sequence[Piece], views: Sequence[View]) -> dict[int, int]:
        from scipy.optimize import linear_sum_assignment

        cost = np.full((len(pieces), len(self._live)), 1e6)
        for n, (piece, view) in enumerate(zip(pieces, views, strict=True)):
            for column, k in enumerate(self._live):
                track = self.tracks[k]
                if track.class_id == piece.class_id:
                    off = surprise(track.belief, view.centre_m, self._sigma_m(view))
                    cost[n, column] = off if off <= GATE else 1e6
        rows, columns = linear_sum_assignment(cost)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return {n: self._live[c] for n, c in pairs if cost[n, c] <= GATE}

    def _take(self, k: int | None, piece: Piece, view: View, frame: int) -> int:
        sigma = self._sigma_m(view)
        if k is None:
            k = len(self.tracks)
            speed = MOST_MPS[Semantics(piece.class_id)] / 3
            self.tracks.append(Track(piece.class_id, begun(view.centre_m, sigma, speed)))
            self._live.append(k)
        else:
            self.tracks[k].belief = corrected(self.tracks[k].belief, view.centre_m, sigma)
        track = self.tracks[k]
        track.frames.append(frame)
        track.views.append(view)
        self._seen_s[k] = self._time_s
        return k
