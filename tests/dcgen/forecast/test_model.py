"""Carrying labels and columns, finding motion, and what the network forecasts before it has learned."""

import numpy as np
import pytest
import torch

from dcgen.canvas import sample_grid, world_points
from dcgen.dataset.forecast import collate
from dcgen.forecast.model import Forecaster, background, flat_pose, steady
from dcgen.forecast.patches import speeds
from dcgen.forecast.warp import carried, lifted, splat, voxel_map, warp
from dcgen.types import UNKNOWN, Semantics, pose_matrix
from tests.dcgen.forecast.drives import CONFIG, GRID, turned, windows


def test_labels_are_carried_as_the_slow_twin_does():
    labels = np.random.default_rng(0).integers(0, 12, (3, *GRID.shape)).astype(np.uint8)
    poses = turned([0.0, 0.7, -2.0], [(0, 0, 0), (3.3, -1.7, 0.9), (-6.1, 2.2, -0.5)])
    fast = warp(torch.from_numpy(labels), poses, GRID).numpy()
    for one, pose, made in zip(labels, poses.numpy(), fast, strict=True):
        assert np.array_equal(made, sample_grid(one, GRID, np.eye(4), world_points(GRID, pose)))
    assert np.array_equal(fast[0], labels[0]) and (fast[1] == UNKNOWN).any()


def test_columns_move_by_whole_and_by_half_voxels():
    values = torch.zeros(2, 3, 4, 9, 11)  # B C Z X Y
    values[1, 2, 1:3, 4, 5] = 1
    places = torch.zeros(2, 2, 3, 2, 9, 11)
    places[1, 0, 2, :, 4, 5] = torch.tensor([6.0, 2.0])
    places[1, 1, 2, :, 4, 5] = torch.tensor([4.5, 25.0])
    moved = splat(values, places)
    assert moved.shape == (2, 2, 3, 4, 9, 11)
    assert (moved[1, 0, 2, 1:3, 6, 2] == 1).all() and moved.sum() == 2  # the second leaves the grid
    places[1, 1, 2, 1] = 5
    assert splat(values, places)[1, 1, 2, 1, 4:6, 5].tolist() == [0.5, 0.5]


def test_a_column_goes_where_its_voxels_are_carried():
    poses = turned([0.4], [(2.0, -1.0, 1.6)])
    columns = voxel_map(torch.linalg.inv(poses), GRID).float()[None]
    place = carried(torch.zeros(1, 1, 3, 2, *GRID.shape[:2]), columns)[0, 0, 0, :, 20, 9]
    centre = np.append(GRID.centres_m()[20, 9, 3], 1)
    there = (np.linalg.inv(poses[0].numpy()) @ centre)[:3]
    index = (there - np.array(GRID.origin_m)) / np.array(GRID.voxel_m) - 0.5
    assert np.allclose(place, index[:2], atol=1e-4) and index[2] == pytest.approx(1)
    tall = torch.arange(5.0).view(1, 1, 1, 5, 1, 1)
    assert lifted(tall, columns).flatten().tolist() == [2, 3, 4, 0, 0]


def test_patches_tell_how_far_a_body_went():
    users = torch.zeros(1, 5, 3, 32, 40)  # B P C X Y
    for t in range(5):
        users[0, t, 1, 8 + 2 * t : 14 + 2 * t, 26 - 3 * t : 30 - 3 * t] = 1  # 2 along x, 3 back along y a frame
        users[0, t, 1, 24:28, 33:37] = 1
        users[0, t, 0, 4, 3 + t] = 1
    speed = speeds(users, 2)
    assert torch.allclose(speed[0, 1, :, 19, 16], torch.tensor([4.0, -6.0]), atol=0.2)
    assert speed[0, 1, :, 26, 35].abs().max() < 0.1
    assert torch.allclose(speed[0, 0, :, 4, 7], torch.tensor([0.0, 2.0]), atol=0.4)  # walkers are trusted to be slow
    assert speed[0, 2].abs().sum() == 0


def test_what_stands_still_is_the_newest_that_was_seen():
    past = torch.tensor([Semantics.ROAD, Semantics.VEHICLE, UNKNOWN], dtype=torch.uint8).view(1, 3, 1, 1, 1)
    assert background(past).item() == Semantics.ROAD
    assert background(past[:, 1:]).item() == Semantics.FREE
    assert background(past[:, 2:]).item() == UNKNOWN


def test_a_steady_ego_goes_on_in_its_circle():
    poses = np.stack([pose_matrix(0, 0, 0, 0)])
    step = pose_matrix(1.2, 0.1, 0.0, 0.2)
    for _ in range(9):
        poses = np.concatenate([poses, (poses[-1] @ step)[None]])
    now = np.linalg.inv(poses[2]) @ poses
    found = steady(torch.from_numpy(now[None, :3]), torch.tensor([[1, 4, 7]]))
    assert np.allclose(found[0], now[[3, 6, 9]])
    model = Forecaster(CONFIG)
    ahead = torch.tensor([[1, 4, 7]])
    assert torch.allclose(model.ego(torch.from_numpy(now[None, :3]).float(), ahead), found.float(), atol=1e-5)
    assert flat_pose(found)[0, 0].tolist() == pytest.approx([1.2, 0.1, 0.2])


def test_untrained_a_world_that_goes_on_evenly_is_forecast():
    model = Forecaster(CONFIG).eval()
    found = collate([windows(1)[n] for n in (0, 2)])
    ahead = torch.tensor(CONFIG.ahead).expand(2, -1)
    with torch.no_grad():
        made = model(found.past, ahead, found.now_se3_ego[:, CONFIG.past :])
    assert made.scores.shape == (2, 2, 12, *GRID.shape)
    truth = found.future
    poses = found.now_se3_ego[:, CONFIG.past :].flatten(0, 1)
    seen = (warp(background(found.past).repeat_interleave(2, dim=0), poses, GRID) != UNKNOWN).unflatten(0, (2, 2))
    assert 0.7 < seen.float().mean() < 0.99  # a strip ahead was never seen
    right = made.labels == truth
    assert right[seen].float().mean() > 0.97
    users = torch.isin(truth, torch.tensor([int(Semantics.VEHICLE), int(Semantics.PEDESTRIAN)], dtype=torch.uint8))
    assert right[users].float().mean() > 0.6 and not right[~seen & (truth == Semantics.ROAD)].any()
