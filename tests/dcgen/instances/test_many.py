"""Many at once are matched as the plain method matches them, and a crowd takes no longer than it has to."""

import time

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dcgen.instances.components import Piece
from dcgen.instances.footprints import REACH_VOXELS, SHARE, Ground
from dcgen.instances.kalman import begun, innovation
from dcgen.instances.tracker import CUT_SIGMA_VOXELS, GATE, Track, Tracker
from dcgen.types import GridSpec, Semantics

GRID = GridSpec((60, 50, 4), (0.4, 0.4, 0.5), (-12.0, -10.0, -1.0))


@pytest.mark.parametrize(("tracks", "pieces", "spread_m"), [(7, 9, 3.0), (40, 31, 25.0), (1, 5, 1.0)])
def test_matches_are_those_of_the_whole_table(tracks, pieces, spread_m):
    rng = np.random.default_rng(tracks)
    tracker = Tracker(GRID)
    places = rng.uniform(-spread_m, spread_m, (tracks, 2))
    tracker.tracks = [Track(int(Semantics.VEHICLE), begun(place, 0.3, 2.0)) for place in places]
    seen = [rng.uniform(-spread_m, spread_m, 2) + rng.normal(0, 0.3, (4, 2)) for _ in range(pieces)]
    found = tracker._matched(list(range(tracks)), seen)
    cost = np.full((tracks, pieces), 1e6)
    for k in range(tracks):
        weight = np.linalg.inv(innovation(tracker.tracks[k].belief, CUT_SIGMA_VOXELS * 0.4))
        for n, points in enumerate(seen):
            off = points.mean(axis=0) - places[k]
            cost[k, n] = off @ weight @ off if off @ weight @ off <= GATE else 1e6
    plain = {int(k): int(n) for k, n in zip(*linear_sum_assignment(cost), strict=True) if cost[k, n] < 1e6}
    assert found == plain and len(plain) > 0


def test_the_ground_knows_whose_it_is():
    rng = np.random.default_rng(3)
    footprints = {name: rng.uniform(-4, 4, (n, 2)) for name, n in ((5, 9), (2, 17), (11, 4))}
    ground = Ground(footprints, 0.4)
    answers = []
    for _ in range(60):
        points = rng.uniform(-4, 4, 2) + rng.uniform(-0.4, 0.4, (5, 2))
        shares = {}
        for name, each in footprints.items():
            away = np.linalg.norm(points[:, None] - each, axis=2).min(axis=1)
            shares[name] = float((away <= REACH_VOXELS * 0.4).mean())
        best = max(shares, key=lambda name: shares[name])
        answers.append(best if shares[best] > SHARE else None)
        assert ground.track_under(points) == answers[-1]
    assert len(set(answers)) > 2
    assert Ground({}, 0.4).track_under(np.zeros((1, 2))) is None


def test_a_crowd_of_specks_is_followed_in_seconds():
    rng = np.random.default_rng(0)
    tracker, began = Tracker(GRID), time.process_time()
    for frame in range(4):
        specks = np.stack(
            [rng.permutation(60 * 50)[:1200] // 50, rng.integers(0, 50, 1200), rng.integers(0, 4, 1200)], 1
        )
        pieces = [Piece(int(Semantics.PEDESTRIAN), speck[None]) for speck in specks]
        assert len(tracker.step(pieces, frame, 0.2 * frame, np.eye(4))) > 600
    assert time.process_time() - began < 40
