"""The filter and its smoother: laws of constant velocity."""

import numpy as np
import pytest

from dcgen.instances.kalman import begun, corrected, predicted, smoothed, surprises

TIMES = np.array([0.0, 0.2, 0.5, 0.6, 1.1, 1.3])
LINE = np.array([3.0, -2.0]) + TIMES[:, None] * [4.0, 1.5]


def test_a_measurement_makes_surer_and_waiting_less_so():
    start = begun(np.array([1.0, 2.0]), 0.5)
    later = predicted(start, 0.3, 2.0)
    after = corrected(later, np.array([2.0, 2.5]), 0.5)
    assert np.array_equal(start.mean, [1, 2, 0, 0]) and np.allclose(later.mean, start.mean)
    for wide, narrow in ((later, start), (later, after)):
        assert np.linalg.eigvalsh(wide.covariance - narrow.covariance)[-1] > 0
    assert np.allclose(after.covariance, after.covariance.T) and np.linalg.eigvalsh(after.covariance)[0] > 0
    assert 1 < after.mean[0] < 2 and after.mean[2] > 0 and surprises([after], after.mean[None, :2], 0.5) == 0
    far, near = surprises([later], np.array([[1.0, 5.0], [1.0, 3.0]]), 0.5)[:, 0]
    assert far > near > 0


def test_two_half_waits_are_one_whole():
    start = corrected(predicted(begun(np.array([1.0, 2.0]), 0.4), 0.2, 3.0), np.array([1.5, 2.0]), 0.4)
    once, twice = predicted(start, 0.8, 3.0), predicted(predicted(start, 0.3, 3.0), 0.5, 3.0)
    assert np.allclose(once.mean, twice.mean) and np.allclose(once.covariance, twice.covariance)


def test_a_straight_way_is_found_and_the_past_learns_from_the_future():
    state = smoothed(TIMES, list(LINE), [0.01] * 6, 0.01)
    assert np.allclose(state[:, 2:], [4.0, 1.5], atol=0.02) and np.allclose(state[:, :2], LINE, atol=0.01)
    assert np.array_equal(smoothed(TIMES[:1], list(LINE[:1]), [0.3], 2.0), [[3, -2, 0, 0]])


@pytest.mark.parametrize("angle", [0.7, 2.9])
def test_turning_the_world_turns_the_way(angle):
    noisy = LINE + np.random.default_rng(0).normal(0, 0.3, LINE.shape)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    plain, turned = (smoothed(TIMES, list(points), [0.3] * 6, 2.0) for points in (noisy, noisy @ turn.T))
    assert np.allclose(turned, plain @ np.kron(np.eye(2), turn).T)
