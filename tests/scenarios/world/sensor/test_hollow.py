"""Shells: what can be seen stays, what cannot goes."""

import numpy as np
import pytest

from dcgen.types import SURFACES, UNKNOWN, Semantics
from scenarios.world.sensor.hollow import hollow


def blobs(seed: int, shape: tuple[int, ...] = (2, 3, 13, 11, 7)) -> np.ndarray:
    """Labels [..., X, Y, Z] with large solid pieces of few classes."""
    rng = np.random.default_rng(seed)
    noise = rng.random(shape)
    for axis in range(-3, 0):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    kinds = rng.choice([*SURFACES, Semantics.BUILDING, Semantics.VEGETATION, Semantics.VEHICLE, UNKNOWN], shape)
    return np.where(noise > np.quantile(noise, 0.25), kinds, Semantics.FREE).astype(np.uint8)


def touches_free(labels: np.ndarray) -> np.ndarray:
    """Voxels with a free one among their six neighbours inside the grid."""
    found = np.zeros(labels.shape, bool)
    for axis in range(-3, 0):
        free = np.moveaxis(labels == Semantics.FREE, axis, -1)
        near = np.moveaxis(found, axis, -1)
        near[..., 1:] |= free[..., :-1]
        near[..., :-1] |= free[..., 1:]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_equals_its_twin_and_keeps_what_can_be_seen(seed: int) -> None:
    labels = blobs(seed)
    given = labels.copy()
    shells = hollow(labels)
    assert np.array_equal(shells, hollow(labels, fast=False)) and np.array_equal(labels, given)
    changed = shells != labels
    assert changed.any() and (shells[changed] == Semantics.FREE).all()
    stays = touches_free(labels) | np.isin(labels, [Semantics.FREE, UNKNOWN, *SURFACES])
    assert np.array_equal(changed, ~stays)
    assert np.array_equal(hollow(shells), shells)


def test_a_block_becomes_a_shell() -> None:
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[:, :, 0] = Semantics.GROUND
    labels[2:7, 1:7, 1:6] = Semantics.BUILDING
    shell = hollow(labels)
    assert (shell == Semantics.BUILDING).sum() == 5 * 6 * 5 - 3 * 4 * 4  # its bottom stands on the ground
    assert (shell[:, :, 0] == Semantics.GROUND).all() and not shell[3:6, 2:6, 1:5].any()


def test_things_go_on_beyond_the_sides_and_the_top() -> None:
    labels = np.full((5, 6, 4), Semantics.BUILDING, np.uint8)
    assert not hollow(labels).any()
    labels[:, 3] = Semantics.FREE
    assert np.array_equal(np.flatnonzero(hollow(labels).any(axis=(0, 2))), [2, 4])


def test_only_labels_are_taken() -> None:
    for wrong in (np.zeros((4, 5), np.uint8), np.zeros((4, 5, 6), np.int64)):
        with pytest.raises(ValueError, match="uint8"):
            hollow(wrong)
