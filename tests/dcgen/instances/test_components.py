"""Pieces of one frame, and what is seen of them from above."""

import numpy as np

from dcgen.instances.components import Piece, columns_of, pieces_of, seen_from_above, touched_by
from dcgen.types import GridSpec, Semantics, pose_matrix

GRID = GridSpec((9, 8, 5), (0.5, 0.4, 0.6), (-2.0, -1.0, -0.6))


def test_pieces_share_corners_and_a_class():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[1:3, 1:3, 1:3] = labels[3, 3, 3] = Semantics.VEHICLE  # a corner
    labels[4, 4, 4] = Semantics.BICYCLE  # touches it, and is of another class
    labels[6, 1, 1] = labels[8, 7, 4] = Semantics.VEHICLE
    labels[0] = Semantics.BUILDING
    free = np.ones(GRID.shape, bool)
    pieces = pieces_of(labels, free)
    assert sorted((p.class_id, len(p.voxels)) for p in pieces) == [(10, 1), (10, 1), (10, 9), (11, 1)]
    free[2] = False  # taken by somebody: what is left hangs together no more
    assert sorted(len(p.voxels) for p in pieces_of(labels, free)) == [1, 1, 1, 1, 4]
    assert pieces_of(labels, labels == 0) == []
    for piece in pieces:
        assert (labels[tuple(piece.voxels.T)] == piece.class_id).all()


def test_what_is_seen_from_above_lies_in_the_world():
    voxels = np.array([[3, 2, 1], [3, 2, 2], [4, 2, 1]])
    pose = pose_matrix(10.0, 20.0, 3.0, np.pi / 2)
    view = seen_from_above(voxels, GRID, pose)
    assert np.allclose(view.columns_m, [[10.0, 19.75], [10.0, 20.25]])  # y = 2.5 * 0.4 - 1 = 0 becomes x
    assert np.allclose(view.columns_m, columns_of(voxels[[0, 2]], GRID, pose))
    assert np.allclose([view.bottom_m, view.top_m], [3.0, 4.2]) and not view.outward.any()
    cut = seen_from_above(np.array([[8, 2, 1], [7, 2, 1]]), GRID, pose)
    assert np.allclose(cut.outward, [0, 1])  # the grid's x is the world's y
    assert np.allclose(seen_from_above(np.array([[3, 0, 1]]), GRID, pose).outward, [1, 0])


def test_whom_a_piece_touches():
    labels, owner = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.int32)
    labels[2:6, 3, 1] = Semantics.VEHICLE
    owner[2:4, 3, 1] = 5
    piece = Piece(int(Semantics.VEHICLE), np.array([[4, 3, 1], [5, 3, 1]]))
    assert touched_by(piece, owner, labels) == 5
    assert touched_by(Piece(int(Semantics.VEHICLE), np.array([[5, 3, 1]])), owner, labels) == 0
    assert touched_by(Piece(int(Semantics.BICYCLE), piece.voxels), owner, labels) == 0
    owner[2, 3, 1] = 0
    owner[5, 2:5, 2] = labels[5, 2:5, 2] = 0
    owner[4, 4, 1], labels[4, 4, 1] = 7, Semantics.VEHICLE
    owner[5, 4, 1], labels[5, 4, 1] = 7, Semantics.VEHICLE
    assert touched_by(piece, owner, labels) == 7  # the most of it
