"""Resampling: the slow way round, voxel by voxel, says the same; what nobody knows stays unknown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bridges.formats.resample import EGO, Frame, Sampler, lidar, nuscenes_lidar, y_right
from dcgen.types import UNKNOWN, GridSpec

SCENE = GridSpec((9, 7, 5), (0.5, 0.6, 0.7), (-2.1, -1.9, -0.9))
FINE = GridSpec((14, 11, 8), (0.31, 0.37, 0.41), (-2.3, -2.05, -1.13))
COARSE = GridSpec((4, 5, 3), (1.13, 1.27, 0.83), (-2.17, -2.9, -1.21))
FRAMES = {"ego": EGO, "lidar": lidar(0.3), "nuscenes": nuscenes_lidar(0.2), "right": y_right(0.4)}


def slowly(labels: np.ndarray, target: GridSpec, frame: Frame) -> np.ndarray:
    """Every voxel by itself, from the words of the module."""
    turn = np.array(frame.axes, float)
    edge = np.abs(turn.T) @ np.array(SCENE.voxel_m)
    parts = np.maximum(np.ceil(np.array(target.voxel_m) / edge - 1e-6), 1).astype(int)
    out = np.empty(target.shape, np.uint8)
    for voxel in np.ndindex(*target.shape):
        votes: Counter[int] = Counter()
        for part in np.ndindex(*parts):
            point = np.array(target.origin_m) + (np.array(voxel) + (np.array(part) + 0.5) / parts) * target.voxel_m
            ego = turn @ point + (0, 0, frame.height_m)
            at = np.floor((ego - SCENE.origin_m) / SCENE.voxel_m).astype(int)
            inside = (at >= 0).all() and (at < SCENE.shape).all()
            votes[int(labels[tuple(at)]) if inside else UNKNOWN] += 1
        most = max(votes.values())
        best = [label for label, count in votes.items() if count == most]
        out[voxel] = min(best, key=lambda label: (label == UNKNOWN, label == 0, label))
    return out


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("target", [FINE, COARSE], ids=["fine", "coarse"])
def test_the_slow_way_says_the_same(name: str, target: GridSpec) -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice(np.array([0, 0, 1, 6, 10, UNKNOWN], np.uint8), SCENE.shape)
    sampler = Sampler(SCENE, target, FRAMES[name])
    sampled = sampler.sample(labels)
    assert np.array_equal(sampled.labels, slowly(labels, target, FRAMES[name]))
    assert np.array_equal(sampled.take(labels, UNKNOWN), sampled.labels)  # each comes from a voxel of its class
    assert len({*np.unique(sampled.labels)}) > 3 and not sampled.known.all()


def test_the_same_grid_is_the_same_scene() -> None:
    labels = np.random.default_rng(1).integers(0, 12, SCENE.shape).astype(np.uint8)
    sampled = Sampler(SCENE, SCENE).sample(labels)
    assert np.array_equal(sampled.labels, labels) and np.array_equal(sampled.source.ravel(), np.arange(labels.size))


def test_outside_of_the_scene_nothing_is_known() -> None:
    away = GridSpec((3, 4, 2), (0.5, 0.5, 0.5), (50.0, 60.0, 70.0))
    sampled = Sampler(SCENE, away).sample(np.ones(SCENE.shape, np.uint8))
    assert (sampled.labels == UNKNOWN).all() and not sampled.take(np.ones(SCENE.shape, np.uint16)).any()


@pytest.mark.parametrize("name", FRAMES)
def test_frames_are_rigid_and_poses_stay_rotations(name: str) -> None:
    frame = FRAMES[name]
    turn = np.array([[0.6, -0.8, 0, 3], [0.8, 0.6, 0, -2], [0, 0, 1, 0.5], [0, 0, 0, 1]])
    pose = frame.world_se3_target(turn)
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert frame.world_se3_target(np.stack([turn, turn]))[1] == pytest.approx(pose)
