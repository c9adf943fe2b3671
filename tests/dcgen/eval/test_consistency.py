"""Static voxels seen twice: a still world agrees, a changed one does not."""

import numpy as np
import pytest

from dcgen.eval.consistency import EgoFrames, seen_again, static_consistency
from dcgen.types import UNKNOWN, GridSpec, Semantics, pose_matrix
from tests.reference import seen_again_by_loops

GRID = GridSpec((20, 14, 5), (0.8, 0.8, 0.8), (-8.0, -5.6, -1.6))


def town(x_m, y_m, z_m):
    """A class for any place in the world: ground below, blocks of different classes above."""
    block = (np.floor(x_m / 3.0) * 2 + np.floor(y_m / 2.5)) % 5
    above = np.choose(block.astype(int), [0, Semantics.BUILDING, 0, Semantics.VEGETATION, 0])
    return np.where(z_m < 0, Semantics.GROUND, above).astype(np.uint8)


def drive(frames=9, step_m=0.9, yaw_step=0.05, town=town):
    poses = np.stack([pose_matrix(step_m * t, 0.2 * t, 0.0, yaw_step * t) for t in range(frames)])
    points = GRID.centres_m()
    seen = [points @ pose[:3, :3].T + pose[:3, 3] for pose in poses]
    return EgoFrames(np.stack([town(*np.moveaxis(p, -1, 0)) for p in seen]), poses, GRID)


def test_a_still_world_agrees_within_a_voxel():
    found = static_consistency(drive(), gaps=(1, 4))
    assert found.tolerant.share > 0.995
    assert 0.75 < found.exact.share < found.tolerant.share and found.exact.total == found.tolerant.total


def test_whole_voxel_steps_agree_exactly():
    found = static_consistency(drive(step_m=0.8, yaw_step=0.0, town=lambda x, y, z: town(x, 0 * y, z)), gaps=(1, 3))
    assert found.exact.share == 1


def test_a_world_drawn_anew_each_frame_does_not_agree():
    scene = drive()
    rng = np.random.default_rng(0)
    fresh = np.where(rng.random(scene.labels.shape) < 0.1, Semantics.BUILDING, 0).astype(np.uint8)
    found = static_consistency(EgoFrames(fresh, scene.world_se3_ego, GRID), gaps=(1,))
    assert found.exact.share < 0.2


def test_a_thing_that_vanishes_is_missed_in_both_orders():
    still = np.stack([pose_matrix(0.8 * t, 0, 0, 0) for t in range(2)])
    labels = np.zeros((2, *GRID.shape), np.uint8)
    labels[0, 10, 7, 2] = Semantics.POLE
    for order in (labels, labels[::-1]):
        found = static_consistency(EgoFrames(order.copy(), still, GRID), gaps=(1,))
        assert (found.tolerant.hits, found.tolerant.total) == (0, 1)


def test_movers_and_unknown_hide_what_is_behind_them():
    scene = drive(step_m=0.8, yaw_step=0.0, town=lambda x, y, z: town(x, 0 * y, z))
    labels = scene.labels.copy()
    labels[3, 4:9, 3:9, 1:4] = Semantics.VEHICLE
    labels[5, :6] = UNKNOWN
    found = static_consistency(EgoFrames(labels, scene.world_se3_ego, GRID), gaps=(1,))
    assert found.exact.share == 1
    assert found.exact.total < static_consistency(scene, gaps=(1,)).exact.total


def test_a_standing_ego_gives_no_figure():
    scene = drive(step_m=0.0, yaw_step=0.0)
    still = EgoFrames(scene.labels, np.stack([np.eye(4)] * 9), GRID)
    assert np.isnan(static_consistency(still).exact.share)


def test_lookups_equal_plain_loops():
    rng = np.random.default_rng(2)
    first, second = (rng.choice([0, 0, 1, 7, 10, UNKNOWN], GRID.shape).astype(np.uint8) for _ in range(2))
    move = pose_matrix(2.1, -1.3, 0.5, 0.7)
    found = seen_again(first, second, move, GRID)
    exact, tolerant, total = seen_again_by_loops(first, second, move, GRID)
    assert (found.exact.hits, found.tolerant.hits, found.exact.total) == (exact, tolerant, total)
    assert 0 < exact < tolerant < total


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="shape"):
        EgoFrames(np.zeros((3, 20, 14, 4), np.uint8), np.zeros((3, 4, 4)), GRID)
