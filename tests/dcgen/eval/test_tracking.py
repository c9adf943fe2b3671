"""Figures of tracking, on cases small enough to count by hand."""

import numpy as np
import pytest

from dcgen.eval.tracking import FlowError, Tracking, flow_error, tracking


def ids(*frames: str) -> np.ndarray:
    """[T, X, 1, 1] one digit a voxel."""
    return np.array([[int(c) for c in frame] for frame in frames], np.uint16)[..., None, None]


def test_names_do_not_matter():
    true = ids("11002200", "01102200", "00112200")
    found = ids("55003300", "05503300", "00553300")
    counts = tracking(true, found)
    assert counts == Tracking(6, 6, 6, 0, 0, 0) and counts.idf1 == 1.0 and counts.mota == 1.0


def test_a_track_that_changes_its_name_half_way():
    true = ids(*["11"] * 4)
    counts = tracking(true, ids("11", "11", "22", "22"))
    assert counts == Tracking(4, 4, 2, 0, 0, 1)
    assert counts.idf1 == pytest.approx(0.5) and counts.mota == pytest.approx(0.75)


def test_two_tracks_that_swap_their_names():
    counts = tracking(ids(*["1122"] * 5), ids("1122", "1122", "1122", "2211", "2211"))
    assert counts == Tracking(10, 10, 6, 0, 0, 2)
    assert counts.idf1 == pytest.approx(0.6) and counts.mota == pytest.approx(0.8)


def test_what_is_missed_and_what_is_invented():
    counts = tracking(ids("1100", "1100", "1122"), ids("1100", "0000", "1103"))
    assert counts == Tracking(4, 3, 3, 1, 0, 0)  # half of the second object is found: as much as it takes
    counts = tracking(ids("1100", "1100"), ids("1103", "0003"))
    assert counts == Tracking(2, 3, 1, 1, 2, 0) and counts.mota == pytest.approx(-0.5)
    assert counts.idf1 == pytest.approx(2 / 5)


def test_a_blob_over_two_objects_is_one_of_them_at_most():
    counts = tracking(ids("111222", "111222"), ids("777777", "777777"))
    assert counts == Tracking(4, 2, 2, 2, 0, 0)
    counts = tracking(ids("112222"), ids("777777"))
    assert counts.missed == 1 and tracking(ids("112233"), ids("777777")).missed == 3


def test_who_corresponded_goes_on_to_though_another_overlaps_more():
    """With the old partner at exactly the threshold and nobody better free, there is no mismatch."""
    counts = tracking(ids("1111", "1111"), ids("2222", "2233"))
    assert counts.switched == 0 and counts.wrong == 1


def test_a_name_that_goes_to_another_and_back():
    """Objects 1 and 2 both corresponded with 5 before; a merged frame counts for the latest alone."""
    counts = tracking(ids("1100", "0022", "1122"), ids("5500", "0055", "5555"))
    assert counts == Tracking(4, 3, 2, 1, 0, 0)


def test_clips_add_up_and_nothing_is_no_number():
    one, two = tracking(ids("11", "11"), ids("11", "22")), tracking(ids("11"), ids("00"))
    assert one + two == Tracking(3, 2, 1, 1, 0, 1)
    assert np.isnan(Tracking().idf1) and np.isnan(Tracking().mota)
    with pytest.raises(ValueError, match="one shape"):
        tracking(ids("11"), ids("111"))


def test_end_point_errors_are_of_moving_voxels_alone():
    true, found = np.zeros((2, 3, 1, 1, 3), np.float16), np.zeros((2, 3, 1, 1, 3), np.float16)
    true[0, 0, 0, 0], found[0, 0, 0, 0] = (3, 0, 0), (0, 4, 0)  # 5 m/s off
    true[1, 1, 0, 0], found[1, 1, 0, 0] = (1, 2, 2), (1, 2, 3)
    found[0, 2] = 100  # does not move
    moving = (true != 0).any(axis=-1)
    moving[1, 2] = True  # and is hit exactly
    error = flow_error(true, found, moving)
    assert sorted(error.errors_mps.tolist()) == [0, 1, 5] and error.median_mps == 1 and error.mean_mps == 2
    both = FlowError.joined([error, error])
    assert len(both.errors_mps) == 6 and both.mean_mps == 2 and np.isnan(FlowError.joined([]).mean_mps)
