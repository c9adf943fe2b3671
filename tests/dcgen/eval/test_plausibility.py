"""Pieces and class shares with known answers."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from dcgen.eval.plausibility import class_counts, class_floor, jensen_shannon, pieces
from dcgen.types import UNKNOWN, Semantics
from tests.reference import pieces_by_flooding


def test_pieces_touch_at_corners_and_never_across_frames():
    labels = np.zeros((2, 5, 6, 4), np.uint8)
    labels[0, 0, 0, 0] = labels[0, 1, 1, 1] = labels[0, 4, 4, 3] = Semantics.BUILDING
    labels[1, 0, 0, 0] = Semantics.BUILDING
    labels[1, 1, 0, 0] = Semantics.VEGETATION
    assert pieces(labels, Semantics.BUILDING) == 3
    assert pieces(labels, Semantics.VEGETATION) == 1 and pieces(labels, Semantics.POLE) == 0


def test_pieces_equal_flooding():
    labels = (np.random.default_rng(3).random((2, 9, 8, 7)) < 0.06).astype(np.uint8)
    assert pieces(labels, Semantics.BUILDING) == sum(pieces_by_flooding(frame == 1) for frame in labels)


def test_class_counts_leave_out_free_and_unknown():
    counts = class_counts(np.array([0, 0, 1, 11, 11, UNKNOWN], np.uint8))
    assert counts.sum() == 3 and counts[1] == 1 and counts[11] == 2


def test_jensen_shannon():
    p, q = np.array([5, 3, 0, 2]), np.array([1, 0, 4, 5])
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2))
    assert jensen_shannon(p, q) == jensen_shannon(q, p) == jensen_shannon(7 * p, q)
    assert jensen_shannon(p, 3 * p) == 0
    assert jensen_shannon(np.array([1, 0]), np.array([0, 9])) == 1
    assert np.isnan(jensen_shannon(p, 0 * q))


def test_the_floor_falls_with_more_clips_and_repeats_with_the_seed():
    rng = np.random.default_rng(0)
    counts = [rng.multinomial(50, [0.4, 0.3, 0.2, 0.1]) for _ in range(256)]
    few, many = class_floor(counts[:8], 1), class_floor(counts, 1)
    assert 0 < many < few / 2
    assert class_floor(counts, 1) == many and np.isnan(class_floor(counts[:1], 1))
