"""The canvas is a dictionary of cells, each written once."""

import numpy as np
import pytest

from dcgen.canvas import TILE, Canvas, grid_index, sample_grid, world_points
from dcgen.types import UNKNOWN, GridSpec, pose_matrix
from tests.reference import CellDict

CELL_M = 0.4
GRID = GridSpec((5, 7, 3), (0.8, 0.6, 0.5), (-1.0, 2.0, -0.7))
POSE = pose_matrix(20.3, -31.7, 1.2, 2.1)


def one_point_a_cell(rng, count=400):
    """[P, 3] points on both sides of the origin and across tiles, no two in one cell."""
    cells = np.unique(rng.integers(-TILE - 5, TILE + 5, size=(count, 3)), axis=0)
    return (cells + rng.uniform(0.05, 0.95, size=cells.shape)) * CELL_M


def test_canvas_equals_a_dictionary_of_cells():
    rng = np.random.default_rng(0)
    canvas, slow = Canvas(CELL_M), CellDict(CELL_M)
    for _ in range(4):
        points = one_point_a_cell(rng)
        labels = rng.choice(np.array([0, 1, 6, UNKNOWN], np.uint8), size=len(points))
        canvas.write(points, labels)
        slow.write(points, labels)
        probe = np.concatenate([points, rng.uniform(-20, 20, size=(200, 3))])
        assert np.array_equal(canvas.read(probe), slow.read(probe))
    assert canvas.cells == len(slow.cells)


def test_a_cell_is_written_once_and_unknown_writes_nothing():
    canvas = Canvas(CELL_M)
    points = np.array([[0.1, 0.1, 0.1], [-0.1, 0.1, 0.1]])
    canvas.write(points, np.array([UNKNOWN, 6], np.uint8))
    assert canvas.read(points).tolist() == [UNKNOWN, 6]
    canvas.write(points, np.array([1, 2], np.uint8))
    assert canvas.read(points).tolist() == [1, 6]
    canvas.write(points, np.array([0, 0], np.uint8))
    assert canvas.read(points + 0.05).tolist() == [1, 6] and canvas.cells == 2


def test_reading_keeps_the_shape_and_leaves_no_trace():
    canvas = Canvas(CELL_M)
    assert (canvas.read(np.zeros((2, 3, 4, 3))) == np.full((2, 3, 4), UNKNOWN)).all()
    assert canvas.cells == 0 and not canvas._tiles


@pytest.mark.parametrize("far", [0.0, 9_000.0, -250_000.0])
def test_places_far_apart_do_not_meet(far):
    canvas = Canvas(CELL_M)
    here = np.array([[far + 0.1, -far, 3.0]])
    canvas.write(here, np.array([9], np.uint8))
    away = np.concatenate([here + step * TILE * CELL_M for step in np.concatenate([np.eye(3), -np.eye(3)])])
    assert canvas.read(here).tolist() == [9] and set(canvas.read(away).tolist()) == {UNKNOWN}


def test_centres_hit_every_cell_of_a_box_once():
    canvas = Canvas(CELL_M)
    points = canvas.centres(np.array([-0.5, 0.1, 0.0]), np.array([0.5, 1.0, 0.3])).reshape(-1, 3)
    cells = {tuple(c) for c in np.floor(points / CELL_M).astype(int).tolist()}
    assert len(cells) == len(points)
    assert cells == {(x, y, 0) for x in (-2, -1, 0, 1) for y in (0, 1, 2)}


def test_world_points_and_grid_index_are_inverse():
    points = world_points(GRID, POSE)
    index, inside = grid_index(GRID, POSE, points)
    assert inside.all()
    assert np.array_equal(index, np.stack(np.indices(GRID.shape), axis=-1))
    fine = world_points(GRID, POSE, parts=2)
    assert fine.shape == (10, 14, 6, 3)
    index, _ = grid_index(GRID, POSE, fine)
    assert np.array_equal(index, np.stack(np.indices((10, 14, 6)), axis=-1) // 2)


def test_points_outside_are_unknown():
    labels = np.arange(GRID.shape[0] * GRID.shape[1] * GRID.shape[2], dtype=np.uint8).reshape(GRID.shape) % 12
    assert np.array_equal(sample_grid(labels, GRID, POSE, world_points(GRID, POSE)), labels)
    low, high = np.array(GRID.origin_m), np.array(GRID.origin_m) + GRID.extent_m
    for axis in range(3):
        for edge, step in ((low, -0.01), (high, 0.01)):
            local = (low + high) / 2
            local[axis] = edge[axis] + step
            point = (POSE[:3, :3] @ local + POSE[:3, 3])[None]
            assert sample_grid(labels, GRID, POSE, point).tolist() == [UNKNOWN]
            index, inside = grid_index(GRID, POSE, point)
            assert not inside.any() and (index >= 0).all() and (index < np.array(GRID.shape)).all()
