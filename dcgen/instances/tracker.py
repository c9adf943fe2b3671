"""Pieces of frames become tracks: each predicted by a Kalman filter, matched by the Hungarian method. V voxel.

A piece that covers where several tracks are expected is divided among them; a piece that lies where one track is
expected, beside what was matched with it, is a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dcgen.instances.components import Piece, View, Voxels, columns_of, seen_from_above
from dcgen.instances.footprints import Ground, divided, shared_by
from dcgen.instances.kalman import Belief, begun, corrected, predicted, surprises
from dcgen.types import MOVABLE, Doubles, GridSpec, Semantics

GATE = 13.8  # squared Mahalanobis distance: one measurement in a thousand is farther, of two numbers
MOST_MISSED_S = 0.65  # how long a track waits to be seen again
SETTLED = 2  # sightings before a track may claim a part of a piece
ACCEL_MPS2 = {Semantics.VEHICLE: 4.0, Semantics.BICYCLE: 3.0, Semantics.PEDESTRIAN: 2.0}
FIRST_MPS = {Semantics.VEHICLE: 12.0, Semantics.BICYCLE: 4.0, Semantics.PEDESTRIAN: 2.0}  # standard deviations
SIGMA_VOXELS, CUT_SIGMA_VOXELS = 0.5, 1.5
FAR = 1e6  # a cost that no match has


@dataclass
class Track:
    """One object as it was seen so far."""

    class_id: int
    belief: Belief  # at the time of the tracker
    seen_s: float = 0.0
    seen_m: Doubles = field(default_factory=lambda: np.zeros(2))  # where it was believed to be at that time
    frames: list[int] = field(default_factory=list)
    views: list[View] = field(default_factory=list)

    def footprint_m(self) -> Doubles:
        """[M, 2] the columns in which it is expected."""
        return self.views[-1].columns_m + (self.belief.mean[:2] - self.seen_m)


@dataclass(frozen=True)
class Sighting:
    """Voxels of a frame that belong to a track."""

    track: int
    voxels: Voxels


class Tracker:
    """Frames in order; numbers its tracks from 0 in the order in which they are first seen."""

    def __init__(self, grid: GridSpec) -> None:
        self.grid, self.voxel_m = grid, max(grid.voxel_m[:2])
        self.tracks: list[Track] = []
        self._live: list[int] = []
        self._time_s = 0.0

    def step(self, pieces: Sequence[Piece], frame: int, time_s: float, world_se3_grid: Doubles) -> list[Sighting]:
        """Whose the voxels of a frame's pieces are; each is somebody's, and who was not there before begins here."""
        dt_s, self._time_s = time_s - self._time_s, time_s
        self._live = [k for k in self._live if time_s - self.tracks[k].seen_s <= MOST_MISSED_S]
        for k in self._live:
            track = self.tracks[k]
            track.belief = predicted(track.belief, dt_s, ACCEL_MPS2[Semantics(track.class_id)])
        out = []
        for class_id in MOVABLE:
            mine = [piece.voxels for piece in pieces if piece.class_id == class_id]
            for known, voxels in self._told_apart(int(class_id), mine, world_se3_grid):
                view = seen_from_above(voxels, self.grid, world_se3_grid)
                out.append(Sighting(self._take(known, int(class_id), view, frame), voxels))
        return out

    def _told_apart(
        self, class_id: int, pieces: Sequence[Voxels], world_se3_grid: Doubles
    ) -> list[tuple[int | None, Voxels]]:
        """The pieces of a class with their tracks, None for a new one."""
        tracks = [k for k in self._live if self.tracks[k].class_id == class_id]
        footprints = {k: self.tracks[k].footprint_m() for k in tracks if len(self.tracks[k].frames) >= SETTLED}
        columns = [columns_of(voxels, self.grid, world_se3_grid) for voxels in pieces]
        shares = shared_by(footprints, columns, self.voxel_m)
        out: dict[int, list[Voxels]] = {}
        whole = []
        for voxels, points, names in zip(pieces, columns, shares, strict=True):
            if len(names) < 2:
                whole.append((voxels, points))
                continue
            nearest = divided(points, footprints, names)
            for n in np.unique(nearest).tolist():
                out[names[n]] = [voxels[nearest == n]]
        free = [k for k in tracks if k not in out]
        matched = self._matched(free, [points for _, points in whole])
        out |= {k: [whole[n][0]] for k, n in matched.items()}
        fresh: list[tuple[int | None, Voxels]] = []
        taken = Ground({k: each for k, each in footprints.items() if k in out}, self.voxel_m)
        found = set(matched.values())
        for n, (voxels, points) in enumerate(whole):
            if n in found:
                continue
            k = taken.track_under(points)
            if k is None:
                fresh.append((None, voxels))
            else:
                out[k].append(voxels)
        return [(k, np.concatenate(parts)) for k, parts in out.items()] + fresh

    def _matched(self, tracks: Sequence[int], pieces: Sequence[Doubles]) -> dict[int, int]:
        """Track -> piece, at the least sum of surprise."""
        from scipy.optimize import linear_sum_assignment
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not tracks or not pieces:
            return {}
        centres = np.stack([points.mean(axis=0) for points in pieces])
        cost = surprises([self.tracks[k].belief for k in tracks], centres, CUT_SIGMA_VOXELS * self.voxel_m)
        cost = np.where(cost <= GATE, cost, FAR)
        # Who may meet nobody else's pieces is matched apart: the method's cost grows with the cube of their number.
        row, column = np.nonzero(cost < FAR)
        size = len(pieces) + len(tracks)
        links = coo_array((np.ones(len(row)), (row, column + len(pieces))), shape=(size, size))
        _, cluster = connected_components(links, directed=False)
        out: dict[int, int] = {}
        for each in np.unique(cluster[row]):
            rows, columns = (
                np.flatnonzero(cluster[: len(pieces)] == each),
                np.flatnonzero(cluster[len(pieces) :] == each),
            )
            block = cost[np.ix_(rows, columns)]
            pairs = zip(*linear_sum_assignment(block), strict=True)
            out |= {tracks[columns[b]]: int(rows[a]) for a, b in pairs if block[a, b] < FAR}
        return out

    def _take(self, k: int | None, class_id: int, view: View, frame: int) -> int:
        sigma = sigma_m(view, self.voxel_m)
        if k is None:
            k = len(self.tracks)
            self.tracks.append(Track(class_id, begun(view.centre_m, sigma, FIRST_MPS[Semantics(class_id)])))
            self._live.append(k)
        else:
            self.tracks[k].belief = corrected(self.tracks[k].belief, view.centre_m, sigma)
        track = self.tracks[k]
        track.seen_s, track.seen_m = self._time_s, track.belief.mean[:2]
        track.frames.append(frame)
        track.views.append(view)
        return k


def sigma_m(view: View, voxel_m: float) -> float:
    """How far the middle of what is seen may be off, as a standard deviation: more where the grid cuts it."""
    return (CUT_SIGMA_VOXELS if view.outward.any() else SIGMA_VOXELS) * voxel_m
