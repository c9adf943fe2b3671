"""The quick surface shows what the slow one does, face by face, and colours tell what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dcgen.export import surface
from dcgen.export.frame import Frame, frame_of
from dcgen.export.look import ALL_CLASSES, Look, grey_palette, id_colour, paint_of
from dcgen.export.surface import SIDES, light_of, ring_of, sun_direction, sun_step, voxel_mesh
from dcgen.export.surface_kernels import MOST_EDGE, lit_faces
from dcgen.types import NUM_CLASSES, GridSpec, Scene, Semantics
from tests.dcgen.export.plain_faces import unit_faces


def crowded(scene: Scene, shape: tuple[int, int, int], seed: int, density: float, yaw_rad: float) -> Frame:
    """A floor and random voxels over it."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < density, rng.integers(1, NUM_CLASSES, shape), 0).astype(np.uint8)
    labels[..., 0] = Semantics.ROAD
    return replace(
        frame_of(scene, 0),
        labels=labels,
        grid=GridSpec(shape, (0.4, 0.5, 0.3), (-2.0, -3.0, -1.0)),
        ego_yaw_rad=yaw_rad,
    )


def unfolded(frame: Frame, axis: int, sign: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Colours of unit faces out of the kernel's quads, those of the slow twin, and how many quads there were."""
    paint, colours = paint_of(frame, Look())
    sun, step = sun_direction(frame), sun_step(frame)
    sunny = bool(sign * sun[axis] > 0)
    corners, colour = np.empty((paint.size, 4, 3), np.int16), np.empty((paint.size, 4, 3), np.uint8)
    found = surface.compiled(lit_faces)(
        np.pad(paint, 1).ravel(), np.array(paint.shape), colours, axis, sign, light_of(axis, sign, sun), sunny, step,
        ring_of(axis, sign), corners, colour, np.zeros((*paint.shape[:2], 3), np.uint8),
    )  # fmt: skip
    one, two = (i for i in range(3) if i != axis)
    seen = np.full((*paint.shape, 2, 2, 3), -1, int)
    for at, shade in zip(corners[:found].astype(int), colour[:found].astype(int), strict=True):
        low, high = at.min(axis=0), at.max(axis=0)
        assert high[one] - low[one] <= MOST_EDGE and high[two] - low[two] <= MOST_EDGE
        cells = [slice(low[i], high[i]) for i in range(3)]
        layer = low[axis] - (1 if sign > 0 else 0)
        cells[axis] = slice(layer, layer + 1)
        assert (seen[tuple(cells)] == -1).all()  # no face twice
        if (high - low).max() > 1:
            assert (shade == shade[0]).all()  # only what looks the same is one
            seen[tuple(cells)] = shade[0]
        else:
            for n in range(4):
                seen[(*(c.start for c in cells), at[n, one] - low[one], at[n, two] - low[two])] = shade[n]
    slow = unit_faces(paint, colours, axis, sign, light_of(axis, sign, sun), sunny, step)
    return seen, slow, found


@pytest.mark.parametrize("density", [0.08, 0.4])
@pytest.mark.parametrize(("axis", "sign"), SIDES)
def test_every_face_is_that_of_the_slow_twin(axis: int, sign: int, density: float, scene: Scene) -> None:
    for seed, yaw in ((1, 0.3), (2, 2.6)):
        quick, slow, _ = unfolded(crowded(scene, (11, 13, 7), seed, density, yaw), axis, sign)
        assert np.array_equal(quick, slow) and (slow >= 0).any()


def test_a_plain_floor_is_few_quads(scene: Scene) -> None:
    _, slow, found = unfolded(crowded(scene, (24, 17, 3), 0, 0.0, 0.0), 2, 1)
    assert found == 9 and (slow[..., 0, 0, 0] >= 0).sum() == 24 * 17


def test_hidden_classes_neither_stand_nor_cast_a_shadow(scene: Scene) -> None:
    frame = frame_of(scene, 0)
    bare = replace(frame, labels=np.where(frame.labels == Semantics.BUILDING, 0, frame.labels).astype(np.uint8))
    hidden = voxel_mesh(frame, Look(classes=ALL_CLASSES - {int(Semantics.BUILDING)}))
    expected = voxel_mesh(bare)
    assert np.array_equal(hidden.vertices_m, expected.vertices_m) and np.array_equal(hidden.colours, expected.colours)
    assert len(voxel_mesh(frame).vertices_m) != len(hidden.vertices_m)


def test_an_object_keeps_its_colour_and_the_rest_is_grey(scene: Scene) -> None:
    instances = np.zeros(scene.labels.shape, np.uint16)
    instances[scene.labels == Semantics.VEHICLE] = 2
    marked = replace(scene, instances=instances, objects=scene.agents, flow_mps=np.zeros((*instances.shape, 3), "f2"))
    own = np.array(id_colour(int(scene.agents.id[1])), float)
    for t in range(len(scene.time_s)):
        paint, colours = paint_of(frame_of(marked, t), Look(colour="instance"))
        car = np.unique(paint[scene.labels[t] == Semantics.VEHICLE])
        assert len(car) == 1 and np.allclose(colours[car[0]], own)
        rest = paint[(instances[t] == 0) & (paint > 0)]
        chroma = np.ptp(colours[np.unique(rest)], axis=-1)
        assert chroma.max() < 40 < np.ptp(own)
    assert np.ptp(grey_palette(), axis=1).max() < 40


def test_neighbouring_ids_look_different() -> None:
    colours = np.array([id_colour(n) for n in range(1, 200)], float)
    assert np.linalg.norm(np.diff(colours, axis=0), axis=1).min() > 60
    assert id_colour(17) == id_colour(17)


def test_a_look_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="colour"):
        Look(colour="flow")
    with pytest.raises(ValueError, match="classes"):
        Look(classes=frozenset({0}))
