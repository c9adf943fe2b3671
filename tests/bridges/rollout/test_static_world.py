"""The world collected from a scene and cut again. T frame, X/Y/Z voxel axes."""

from __future__ import annotations

import numpy as np

from bridges.rollout.kernels import MOVER
from bridges.rollout.static_world import at_points, rows, static_world
from dcgen.instances import with_motion
from dcgen.types import MOVABLE, UNKNOWN, Labels, Scene, Semantics, pose_matrix
from tests.bridges.rollout.small_worlds import CELL_M, GRID, scene_of, world_label


def collected(scene: Scene):
    scene = with_motion(scene)
    return scene, static_world(scene, scene.instances)


def test_a_recorded_pose_reads_back_what_was_recorded_there() -> None:
    scene, world = collected(scene_of())
    assert (scene.instances > 0).any() and (scene.labels == UNKNOWN).any()
    for labels, pose, nobody in zip(scene.labels, scene.world_se3_ego, scene.instances == 0, strict=True):
        seen = world.occupancy(GRID, pose)
        known = nobody & (labels != UNKNOWN)
        assert np.array_equal(seen[known], labels[known])
        assert not np.isin(seen, MOVABLE).any()


def test_between_recorded_poses_lies_the_same_world_and_far_away_nothing() -> None:
    _, world = collected(scene_of(car=False))
    pose = pose_matrix(2.9, 0.37, 0.05, 0.4)
    seen = world.occupancy(GRID, pose)
    truth = world_label(at_points(rows(pose), GRID.centres_m()))
    both = (seen != UNKNOWN) & (truth != UNKNOWN)
    assert both.mean() > 0.6 and (seen[both] == truth[both]).mean() > 0.8  # a voxel holds eight cells of noise
    assert (world.occupancy(GRID, pose_matrix(500, 0, 0, 0)) == UNKNOWN).all()
    assert (world.layout(GRID, pose_matrix(500, 0, 0, 0)) == 0).all()


def test_what_moved_leaves_free_road_behind() -> None:
    scene, world = collected(scene_of())
    under = [(scene.instances[t] > 0, world.occupancy(GRID, scene.world_se3_ego[t])) for t in range(len(scene.labels))]
    assert all((seen[mover] == Semantics.FREE).all() for mover, seen in under)


def slow_world(labels: Labels, scene: Scene) -> dict[tuple[int, int, int], int]:
    """Labels by cell, with whole frames at once: a majority vote of centres, then the cells between."""
    out: dict[tuple[int, int, int], int] = {}
    votes: dict[tuple[int, int, int], int] = {}
    centres = GRID.centres_m()
    cells = [np.floor(at_points(rows(pose), centres) / CELL_M).astype(int) for pose in scene.world_se3_ego]
    for t, frame in enumerate(labels):
        for cell, label in zip(map(tuple, cells[t][frame != UNKNOWN]), frame[frame != UNKNOWN].tolist(), strict=True):
            if label == MOVER:
                out.setdefault(cell, MOVER)
            elif votes.get(cell, 0) == 0:
                out[cell], votes[cell] = label, 1
            else:
                votes[cell] += 1 if out[cell] == label else -1
    tiles = {tuple(n >> 5 for n in cell) for cell in out}
    span = np.arange(32)
    inner = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
    for t, frame in enumerate(labels):
        inverse = rows(np.linalg.inv(scene.world_se3_ego[t]))
        for tile in tiles:
            cell = inner + np.array(tile) * 32
            index = np.floor((at_points(inverse, (cell + 0.5) * CELL_M) - GRID.origin_m) / GRID.voxel_m).astype(int)
            inside = ((index >= 0) & (index < GRID.shape)).all(axis=1)
            found = frame[tuple(index[inside].T)]
            for key, label in zip(
                map(tuple, cell[inside][found != UNKNOWN]), found[found != UNKNOWN].tolist(), strict=True
            ):
                if out.get(key, UNKNOWN) >= MOVER:
                    out[key] = label if label < MOVER else MOVER
    return {cell: 0 if label == MOVER else label for cell, label in out.items()}


def test_the_loops_are_their_slow_twins() -> None:
    scene = with_motion(scene_of(frames=3, yaw=0.4))
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(scene.labels.shape) < 0.2, rng.integers(0, 10, scene.labels.shape), scene.labels)
    scene = Scene(**{**vars(scene), "labels": noisy.astype(np.uint8)})
    labels = np.where((scene.instances > 0) & (scene.labels != UNKNOWN), np.uint8(MOVER), scene.labels)
    slow, world = slow_world(labels, scene), static_world(scene, scene.instances)
    pose = pose_matrix(1.7, 0.9, 0.2, -0.6)
    cells = np.floor(at_points(rows(pose), GRID.centres_m()) / CELL_M).astype(int)
    want = np.array([slow.get(tuple(cell), UNKNOWN) for cell in cells.reshape(-1, 3)], np.uint8).reshape(GRID.shape)
    assert np.array_equal(world.occupancy(GRID, pose), want) and len(np.unique(want)) > 8


def test_a_layout_reads_back_at_its_own_pose() -> None:
    scene, world = collected(scene_of())
    first = world.layout(GRID, scene.world_se3_ego[0])
    drawn = scene.layout[0, 0] > 0  # beside the road another frame may know more
    assert np.array_equal(first[:, drawn], scene.layout[0, :7, drawn].T.astype(np.float32))
    assert drawn.any() and not first[0].all() and (first[5] > 0).any()
