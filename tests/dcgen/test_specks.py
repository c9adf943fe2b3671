"""Crumbs of plants and houses go, everything else stays."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dcgen.specks import SPECK_M3, pieces, without_specks
from dcgen.types import UNKNOWN, GridSpec, Semantics

GRID = GridSpec((15, 13, 9), (0.8, 0.6, 0.5), (-6.0, -3.9, -1.0))  # a voxel of 0.24 m3: eight of them are a speck
VEGETATION, BUILDING, POLE = int(Semantics.VEGETATION), int(Semantics.BUILDING), int(Semantics.POLE)


@pytest.mark.parametrize("share", [0.02, 0.08, 0.2, 0.6, 1.0, 0.0])
def test_pieces_are_those_of_a_slow_twin(share):
    rng = np.random.default_rng(int(share * 100))
    for _ in range(5):
        solid = rng.random((11, 7, 5)) < share
        ours = pieces(torch.from_numpy(solid)).numpy()
        theirs, count = ndimage.label(solid, np.ones((3, 3, 3)))
        assert ((ours > 0) == solid).all()
        assert len({*zip(ours[solid].tolist(), theirs[solid].tolist(), strict=True)}) == count
        assert len(np.unique(ours[solid])) == count


def test_a_long_winding_piece_is_one():
    solid = np.zeros((21, 20, 3), bool)
    solid[::2, :, 1] = True
    solid[1::4, -1, 1] = solid[3::4, 0, 1] = True
    assert len(np.unique(pieces(torch.from_numpy(solid)))) == 2


@pytest.fixture
def scene():
    labels = np.zeros((3, *GRID.shape), np.uint8)
    labels[:, 2:4, 2:4, 4:6] = VEGETATION  # eight voxels
    labels[:, 4:13, 7, 4] = VEGETATION  # nine
    labels[:, 5, 10, 2] = POLE
    return labels, np.full_like(labels, UNKNOWN)


def test_a_speck_goes_and_a_bush_stays(scene):
    labels, known = scene
    assert 8 * np.prod(GRID.voxel_m) < SPECK_M3[Semantics.VEGETATION] <= 9 * np.prod(GRID.voxel_m)
    want = labels.copy()
    want[:, 2:4, 2:4, 4:6] = 0
    before = labels.copy()
    assert np.array_equal(without_specks(labels, known, GRID), want)
    assert np.array_equal(labels, before)


def test_a_crumb_of_a_house_goes_and_a_hut_stays(scene):
    labels, known = scene
    assert 33 * np.prod(GRID.voxel_m) < SPECK_M3[Semantics.BUILDING] <= 34 * np.prod(GRID.voxel_m)
    labels[:] = 0
    labels[:, 2:5, 2:4, 2:7] = labels[:, 2:5, 4, 2] = BUILDING  # 33 voxels
    labels[:, 8:11, 2:4, 2:7] = labels[:, 8:11, 4, 2] = BUILDING
    labels[:, 11, 4, 2] = BUILDING  # the 34th
    labels[:, 6, 6, 2] = POLE
    want = labels.copy()
    want[:, 2:5] = 0
    assert np.array_equal(without_specks(labels, known, GRID), want)


def test_pieces_are_counted_over_all_frames(scene):
    labels, known = scene
    labels[:2, 9, 7, 4] = Semantics.VEHICLE  # parts the bush in two of three frames
    assert (without_specks(labels, known, GRID)[:, 4:13, 7, 4] == labels[:, 4:13, 7, 4]).all()


@pytest.mark.parametrize("where", [(0, 5, 5), (14, 5, 5), (7, 0, 5), (7, 12, 5)])
def test_what_a_side_cuts_stays(scene, where):
    labels, known = scene
    labels[(slice(None), *where)] = VEGETATION
    assert (without_specks(labels, known, GRID)[(slice(None), *where)] == VEGETATION).all()


def test_what_is_known_stays_and_keeps_its_neighbours(scene):
    labels, known = scene
    known[1, 2, 2, 4] = VEGETATION
    assert np.array_equal(without_specks(labels, known, GRID), labels)
