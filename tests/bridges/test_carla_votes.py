"""Votes of hits and rays: the machine code against plain Python, and laws that labels of any scene obey."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.carla.votes import NO_VOTE, Sweep, count_rays, inside_boxes, moving_agents, vote
from dcgen.types import NUM_CLASSES, UNKNOWN, AgentTracks, GridSpec, Semantics, pose_matrix
from scenarios.paint import compiled

GRID = GridSpec((15, 11, 7), (0.8, 0.7, 0.6), (-3.0, -4.0, -1.0))
EYE = np.array([0.1, 0.2, 1.5])


def sweep_of(points: np.ndarray, class_id: int | np.ndarray, actor: int | np.ndarray = 0) -> Sweep:
    n = len(points)
    kinds, actors = np.broadcast_to(np.uint8(class_id), n), np.broadcast_to(np.int64(actor), n)
    return Sweep(EYE, points.astype(np.float32), kinds.copy(), actors.copy(), np.ones(n, np.float32))


def agent(x_m: list[float], y_m: float = 1.0, class_id: int = Semantics.VEHICLE, number: int = 9) -> AgentTracks:
    """A car 2 m long that is at x_m[t]."""
    t = len(x_m)
    pose = np.array([[[x, y_m, 0.0] for x in x_m]])
    speed = np.full((1, t), 4.0 if np.ptp(x_m) else 0.0, np.float32)
    return AgentTracks(
        np.array([number]), np.array([class_id], np.uint8), np.array([[2.0, 1.6, 1.4]], np.float32), pose,
        np.zeros((1, t), np.float32), speed, np.ones((1, t), bool),
    )  # fmt: skip


def cells(points: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.floor((points - GRID.origin_m) / GRID.voxel_m).astype(int).T)


def still(frames: int) -> np.ndarray:
    return np.stack([np.eye(4)] * frames)


def test_the_machine_code_counts_as_plain_python_does() -> None:
    rng = np.random.default_rng(4)
    start, ends = rng.normal(5, 4, 3), rng.normal(5, 9, (700, 3))
    length = np.linalg.norm(ends - start, axis=1) * 0.7
    class_id = rng.choice([1, 6, 10, NO_VOTE], 700).astype(np.uint8)
    fast, slow = (rng.integers(0, 2, (15, 11, 7, NUM_CLASSES)).astype(np.int32) * 0 for _ in range(2))
    compiled(count_rays)(start, ends, length, class_id, 0.9, 0.4, fast)
    count_rays(start, ends, length, class_id, 0.9, 0.4, slow)
    assert np.array_equal(fast, slow) and fast[..., 0].sum() > 500 and fast[..., 1:].sum() > 20


def test_counts_are_those_of_a_slow_look_along_each_ray() -> None:
    """Written anew, with arrays of samples a ray: where they lie, that they keep their distance, who votes."""
    rng = np.random.default_rng(5)
    start, ends = np.array([2.5, 3.5, 4.5]), rng.uniform(-4, 18, (90, 3))
    length = np.linalg.norm(ends - start, axis=1)
    class_id = rng.choice([2, 7, NO_VOTE], 90).astype(np.uint8)
    counts = np.zeros((15, 11, 7, NUM_CLASSES), np.int32)
    compiled(count_rays)(start, ends, length, class_id, 1.5, 0.6, counts)
    want = np.zeros_like(counts)
    for i, (end, far) in enumerate(zip(ends, length, strict=True)):
        first = (i * 2654435769 % 2**32) / 2**32 * 1.5
        along = [first]
        while along[-1] < far - 0.6:
            along.append(along[-1] + 1.5)
        samples = start + np.array(along[:-1])[:, None] / far * (end - start)
        for x, y, z in np.floor(samples).astype(int):
            if 0 <= x < 15 and 0 <= y < 11 and 0 <= z < 7:
                want[x, y, z, 0] += 1
        x, y, z = np.floor(end).astype(int)
        if class_id[i] != NO_VOTE and 0 <= x < 15 and 0 <= y < 11 and 0 <= z < 7:
            want[x, y, z, class_id[i]] += 1
    assert np.array_equal(counts, want)


def test_a_voxel_takes_the_commonest_class_of_all_frames() -> None:
    at = np.array([[3.05, 1.1, 0.1]])
    frames = [[sweep_of(at, Semantics.POLE)], [sweep_of(at, Semantics.BARRIER)], [sweep_of(at, Semantics.BARRIER)]]
    labels = vote(frames, still(3), np.eye(4), AgentTracks.empty(3), GRID).labels
    assert (labels[(slice(None), *cells(at))] == Semantics.BARRIER).all()


def test_rays_carve_free_space_and_the_rest_is_unknown() -> None:
    at = np.array([[8.0, 0.3, 1.5]] * 40)
    voted = vote([[sweep_of(at, Semantics.BUILDING)]], still(1), np.eye(4), AgentTracks.empty(1), GRID)
    labels = voted.labels[0]
    assert labels[cells(at[:1])] == Semantics.BUILDING
    assert labels[cells(np.array([[4.0, 0.25, 1.45]]))] == Semantics.FREE
    assert labels[cells(np.array([[8.9, 0.3, 1.5]]))] == UNKNOWN
    assert np.array_equal(voted.observed[0], labels != UNKNOWN) and (labels == UNKNOWN).mean() > 0.9
    assert not voted.moving.any()


def test_a_hit_without_a_label_only_carves() -> None:
    at = np.array([[8.0, 0.3, 1.5]] * 40)
    labels = vote([[sweep_of(at, UNKNOWN)]], still(1), np.eye(4), AgentTracks.empty(1), GRID).labels[0]
    assert labels[cells(at[:1])] == UNKNOWN and (labels == Semantics.FREE).any() and set(np.unique(labels)) == {0, 255}


def test_what_moves_is_where_it_is_now_and_nowhere_else() -> None:
    """Its hits of one frame leave no trail in the others; what stands votes over all."""
    x_m = [2.0, 4.0, 6.0]
    hits = [np.array([[x - 1.0, 1.0, 0.7]] * 3) for x in x_m]
    wall = np.array([[8.5, -2.0, 0.7]] * 3)
    frames = [[sweep_of(np.concatenate([h, wall]), np.repeat([10, 2], 3), np.repeat([9, 0], 3))] for h in hits]
    voted = vote(frames, still(3), np.eye(4), agent(x_m), GRID)
    for t in range(3):
        car = np.argwhere(voted.labels[t] == Semantics.VEHICLE)
        assert [tuple(row) for row in car] == [tuple(int(c[0]) for c in cells(hits[t][:1]))]
        assert np.array_equal(voted.moving[t], voted.labels[t] == Semantics.VEHICLE)
        assert voted.labels[t][cells(wall[:1])] == Semantics.BARRIER


def test_a_parked_car_gathers_the_hits_of_all_frames_and_does_not_move() -> None:
    hits = [np.array([[3.1 + 0.8 * t, 1.0, 0.7]]) for t in range(3)]
    frames = [[sweep_of(h, Semantics.VEHICLE, 9)] for h in hits]
    parked = agent([4.0] * 3)
    voted = vote(frames, still(3), np.eye(4), parked, GRID)
    assert not moving_agents(parked).any() and moving_agents(agent([4.0, 4.0, 5.0])).all()
    assert all((voted.labels[t] == Semantics.VEHICLE).sum() == 3 for t in range(3)) and not voted.moving.any()


def test_inside_a_moving_car_only_its_own_frame_counts() -> None:
    """Frame 0 looks through the place where the car stands in frame 1."""
    through = np.array([[8.5, 1.0, 0.2]] * 60)
    rear = np.array([[3.95, 1.0, 0.7]] * 4)
    frames = [[sweep_of(through, Semantics.BUILDING)], [sweep_of(rear, Semantics.VEHICLE, 9)]]
    cars = agent([-50.0, 5.0])
    labels = vote(frames, still(2), np.eye(4), cars, GRID).labels
    box = inside_boxes(cars, 1, np.eye(4), GRID)
    assert box.sum() >= 8
    assert (labels[0][box] == Semantics.FREE).any()
    assert set(np.unique(labels[1][box])) <= {UNKNOWN, Semantics.VEHICLE}


def test_the_wheels_do_not_win_the_road() -> None:
    """Where static hits of the same frame are more, a moving agent does not get the voxel."""
    at = np.array([[3.0, 1.0, 0.01]] * 5)
    kinds, actors = np.array([6, 6, 6, 10, 10]), np.array([0, 0, 0, 9, 9])
    voted = vote([[sweep_of(at, kinds, actors)]] * 2, still(2), np.eye(4), agent([3.0, 3.5]), GRID)
    assert (voted.labels[(slice(None), *cells(at[:1]))] == Semantics.ROAD).all() and not voted.moving.any()


@pytest.mark.parametrize("turn", [0.0, 1.1, -2.3])
def test_labels_do_not_depend_on_where_in_the_world_it_happens(turn: float) -> None:
    rng = np.random.default_rng(8)
    points = rng.uniform(-3, 8, (400, 3)) * [1, 0.6, 0.3]
    kinds = rng.choice([1, 6, 9], 400)
    poses = np.stack([pose_matrix(0.3 * t, 0.05 * t, 0, 0.1 * t) for t in range(3)])
    world = pose_matrix(812.0, -95.0, 4.0, turn)
    there, here = (
        vote([[sweep_of(points, kinds)]] * 3, move @ poses, move @ poses[1], AgentTracks.empty(3), GRID)
        for move in (world, np.eye(4))
    )
    assert (there.labels == here.labels).mean() > 0.998  # what lies on a voxel's face may fall to either side
