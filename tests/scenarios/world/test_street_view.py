"""Views along streets: rays meet what a slow walk meets, and the picture shows it the right way round."""

import numpy as np

from dcgen.types import PALETTE, Doubles, GridSpec, Labels, Semantics
from scenarios.world.street_view import cast_rays, street_view

GRID = GridSpec((13, 11, 7), (0.5, 0.4, 0.3), (-1.0, -2.2, -0.6))


def _slow(labels: Labels, grid: GridSpec, eye_m: Doubles, ray: Doubles) -> tuple[int, float]:
    """The first class along a ray by small steps, the eye's own voxel left out, and about how far it is."""
    own = np.floor((eye_m - grid.origin_m) / grid.voxel_m).astype(int)
    for far in np.arange(0.0, 12.0, 0.004):
        cell = np.floor((eye_m + far * ray - grid.origin_m) / grid.voxel_m).astype(int)
        if (cell < 0).any() or (cell >= labels.shape).any():
            return 0, 0.0
        if labels[tuple(cell)] and not np.array_equal(cell, own):
            return int(labels[tuple(cell)]), float(far)
    return 0, 0.0


def test_rays_meet_what_small_steps_meet() -> None:
    rng = np.random.default_rng(2)
    labels = np.where(rng.random(GRID.shape) < 0.06, rng.integers(1, 12, GRID.shape), 0).astype(np.uint8)
    labels[4, 3, 2] = 255  # unknown is looked through
    eye = np.array([1.13, 0.07, 0.31])
    rays = rng.normal(size=(300, 3))
    rays[:3] = np.eye(3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    kind, axis, far_m = cast_rays(labels, GRID, eye, rays)
    slow = [_slow(np.where(labels == 255, 0, labels).astype(np.uint8), GRID, eye, ray) for ray in rays]
    same = np.array([k == s[0] and abs(f - s[1]) < 0.02 for k, f, s in zip(kind, far_m, slow, strict=True)])
    assert same.mean() > 0.99  # a step may jump over a corner
    hit = kind > 0
    wall = (eye + far_m[:, None] * rays - GRID.origin_m) / GRID.voxel_m
    off = wall[np.arange(len(rays)), axis]
    assert 30 < hit.sum() < 300 and np.allclose(off[hit], np.round(off[hit]), atol=1e-9)


def test_left_is_left_and_the_sky_is_above() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:, :, 0] = Semantics.ROAD
    labels[9:, 8:, 1:] = Semantics.BUILDING  # ahead, to the left
    picture = street_view(labels, GRID, np.array([0.0, 0.0, 0.4]), 0.0, (60, 90)).astype(float)

    def share(part: np.ndarray, kind: Semantics) -> float:
        hue = PALETTE[kind] / np.linalg.norm(PALETTE[kind])
        return float((part @ hue / np.linalg.norm(part, axis=-1) > 0.997).mean())

    left, right = picture[:, :40], picture[:, 50:]
    assert share(left, Semantics.BUILDING) > 0.1 and share(right, Semantics.BUILDING) == 0
    assert picture[0, -1, 2] > picture[0, -1, 0] and picture[-1].mean() < picture[0, -1].mean()
