"""Confusion and moving IoU against counts by hand and plain loops."""

import numpy as np
import pytest

from dcgen.eval.reconstruction import compression, confusion, moving_iou
from dcgen.types import MOVABLE, UNKNOWN, Semantics
from tests.reference import moving_iou_by_loops

VOXEL_M = (0.8, 0.7, 0.6)


def noise(shape=(2, 11, 9, 3), classes=12, seed=0):
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def test_confusion_by_hand():
    truth = np.array([0, 0, 1, 1, 1, 6, UNKNOWN, 6], np.uint8)
    guess = np.array([0, 1, 1, 1, 6, 6, 3, UNKNOWN], np.uint8)
    found = confusion(guess, truth)
    assert found.iou(1).share == 2 / 4 and found.iou(6).share == 1 / 2
    assert found.occurring == (1, 6)  # class 3 was only guessed where nothing is known
    assert found.miou == pytest.approx(0.5)
    assert found.occupancy.share == 4 / 5


def test_a_class_that_the_truth_lacks_is_not_averaged_but_still_harms_others():
    truth, guess = np.array([1, 1], np.uint8), np.array([1, 9], np.uint8)
    assert confusion(guess, truth).miou == 0.5 and list(confusion(guess, truth).per_class()) == ["building"]


def test_confusion_of_clips_adds_up():
    truth, guess = noise(), noise(seed=1)
    parts = confusion(guess[:1], truth[:1]) + confusion(guess[1:], truth[1:])
    assert np.array_equal(parts.counts, confusion(guess, truth).counts)
    assert parts.counts.sum() == truth.size


def test_nothing_known_is_no_figure():
    empty = confusion(noise(), np.full((2, 11, 9, 3), UNKNOWN, np.uint8))
    assert np.isnan(empty.miou) and np.isnan(empty.occupancy.share)


def test_moving_iou_equals_plain_loops():
    rng = np.random.default_rng(5)
    truth, guess = noise(), noise(seed=1)
    truth[0, 3, 3, 0] = UNKNOWN
    moving = np.isin(truth, MOVABLE) & (rng.random(truth.shape) < 0.04)
    got = moving_iou(guess, truth, moving, VOXEL_M)
    want = moving_iou_by_loops(guess, truth, moving, VOXEL_M)
    assert {name: (tally.hits, tally.total) for name, tally in got.items()} == want
    assert 0 < got["all"].hits < got["all"].total


def test_false_alarms_count_near_a_mover_only():
    truth = np.zeros((1, 30, 7, 2), np.uint8)
    truth[0, 2, 3, 1] = Semantics.VEHICLE
    guess, moving = truth.copy(), truth > 0
    assert moving_iou(guess, truth, moving, VOXEL_M)["vehicle"].share == 1
    guess[0, 7, 3, 1] = Semantics.VEHICLE  # 5 voxels of 0.8 m: 4 m away
    guess[0, 8, 3, 1] = Semantics.VEHICLE
    guess[0, 6, 3, 1] = Semantics.PEDESTRIAN
    found = moving_iou(guess, truth, moving, VOXEL_M)
    assert found["vehicle"].share == 1 / 2  # no pedestrian moves, so the phantom one counts for "all" alone
    assert found["all"].share == 1 / 3 and np.isnan(found["pedestrian"].share)


def test_standing_vehicles_do_not_flatter():
    truth = np.zeros((1, 9, 7, 2), np.uint8)
    truth[0, 2:5, 3, 1] = Semantics.VEHICLE
    moving = np.zeros(truth.shape, bool)
    moving[0, 2, 3, 1] = True
    guess = truth.copy()
    guess[0, 2, 3, 1] = 0  # the parked ones are right, the moving one is missed
    assert moving_iou(guess, truth, moving, VOXEL_M)["all"].share == 0


def test_compression():
    assert compression(8, (64, 64, 8), 32768) == 8.0
