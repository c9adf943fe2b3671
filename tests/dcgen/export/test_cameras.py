"""Left is left in every camera, a left turn goes left, and nothing of the grid is missing where all of it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgen.export.camera import CAMERAS, camera_of
from dcgen.export.frame import Frame, frame_of
from dcgen.export.look import Look
from dcgen.export.painter import paint
from dcgen.export.props import PATH_COLOUR, boxes_mesh
from dcgen.export.render import Shot, draw_shot, render_scene
from dcgen.export.scenery import frame_mesh, ground_m, scenery
from dcgen.export.worker import Open3DWorker
from dcgen.types import PALETTE, GridSpec, Scene, Semantics

SIZE = (320, 180)
GRID = GridSpec((60, 50, 6), (0.8, 0.8, 0.8), (-24.0, -20.0, -1.6))


def street(scene: Scene, side: int) -> Frame:
    """A road with a car 12 m ahead on one side (1 left, -1 right), and a path that turns to that side."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[..., 1] = Semantics.ROAD
    row = 25 + side * 6
    labels[43:48, row - 1 : row + 2, 2:4] = Semantics.VEHICLE
    s = np.linspace(0, np.pi / 2, 20)
    path = np.column_stack([12 * np.sin(s), side * 12 * (1 - np.cos(s))])
    frame = frame_of(scene, 0)
    nobody = replace(
        frame.agents,
        class_id=frame.agents.class_id[:0], size_m=frame.agents.size_m[:0], pose=frame.agents.pose[:0],
        base_m=frame.agents.base_m[:0], id=frame.agents.id[:0],
    )  # fmt: skip
    return replace(frame, labels=labels, grid=GRID, path_m=path, ahead=np.ones(20, bool), agents=nobody, layout=None)


def columns_of(image: Image.Image, colour: tuple[int, ...], far: bool = False) -> float:
    """Mean column of the pixels of a colour; with far, of those in the uppermost rows alone."""
    pixels = np.asarray(image).astype(float)
    close = np.abs(pixels - np.array(colour[:3], float)).max(axis=-1) < 75
    rows, columns = np.nonzero(close)
    assert len(rows) > 5
    return float(columns[rows <= rows.min() + 3].mean() if far else columns.mean())


@pytest.fixture(scope="module")
def worker() -> Iterator[Open3DWorker]:
    pytest.importorskip("open3d")
    with Open3DWorker() as started:
        yield started


@pytest.mark.parametrize("draw", ["pillow", "open3d"])
@pytest.mark.parametrize("name", CAMERAS)
def test_left_is_on_the_left_and_a_left_turn_goes_there(
    name: str, draw: str, scene: Scene, request: pytest.FixtureRequest
) -> None:
    draw_3d = paint if draw == "pillow" else request.getfixturevalue("worker").draw
    middle = SIZE[0] / 2
    seen = []
    for side in (1, -1):
        frame = street(scene, side)
        camera = camera_of(name, GRID, ground_m(frame), SIZE)
        image = draw_3d(scenery(frame, Look(), camera, ego=False), camera)
        car = columns_of(image, tuple(PALETTE[Semantics.VEHICLE]))
        seen.append((car, columns_of(image, PATH_COLOUR, far=True)))
    (car_left, turn_left), (car_right, turn_right) = seen
    assert car_left < car_right - 20 and turn_left < turn_right - 20
    if name != "orbit":  # which looks from one side
        assert car_left < middle < car_right and turn_left < middle < turn_right


def test_from_above_ahead_is_up_and_a_metre_is_the_same_everywhere() -> None:
    camera = camera_of("birdseye", GRID, 0.4, (640, 360))

    def pixel(x: float, y: float, z: float) -> np.ndarray:
        right, down, depth, _ = camera.camera_se3_ego() @ [x, y, z, 1.0]
        return np.array([right, down]) / depth * camera.focal_px

    ahead, left = pixel(10, 0, 0.4) - pixel(0, 0, 0.4), pixel(0, 10, 0.4) - pixel(0, 0, 0.4)
    assert abs(ahead[0]) < 1e-6 and ahead[1] < 0 and abs(left[1]) < 1e-6 and left[0] < 0
    assert -ahead[1] == pytest.approx(-left[0])
    assert np.abs(pixel(20, 15, 6.0) - pixel(20, 15, 0.4)).max() < 0.5  # a roof hides nothing beside it


@pytest.mark.parametrize("size", [(1280, 720), (500, 900), (640, 640)])
@pytest.mark.parametrize("name", ["birdseye", "orbit"])
def test_the_whole_grid_is_in_view(name: str, size: tuple[int, int]) -> None:
    low, high = np.asarray(GRID.origin_m), np.asarray(GRID.origin_m) + GRID.extent_m
    for turn in np.linspace(0, 1, 9):
        camera = camera_of(name, GRID, 0.0, size, float(turn))
        for corner in np.ndindex(2, 2):
            point = np.append(np.where(corner, high[:2], low[:2]), [0.0, 1.0])
            right, down, depth = (camera.camera_se3_ego() @ point)[:3]
            assert abs(right / depth * camera.focal_px) < 0.53 * size[0]
            assert abs(down / depth * camera.focal_px) < 0.53 * size[1]


def test_the_orbit_turns_to_the_left_and_closes() -> None:
    eyes = np.array([camera_of("orbit", GRID, 0.0, SIZE, turn).eye_m for turn in np.linspace(0, 1, 13)])
    middle = np.asarray(GRID.origin_m[:2]) + np.asarray(GRID.extent_m[:2]) / 2
    angle = np.unwrap(np.arctan2(*(eyes[:, :2] - middle).T[::-1]))
    assert (np.diff(angle) > 0).all() and angle[-1] - angle[0] == pytest.approx(2 * np.pi)
    assert np.allclose(eyes[0], eyes[-1])


def test_the_ego_is_seen_from_behind_and_not_from_within(scene: Scene) -> None:
    for name, there in (("chase", True), ("ego", False)):
        image = draw_shot(street(scene, 1), Shot(name, look=Look(path=False)), SIZE, paint)
        r, g, b = np.moveaxis(np.asarray(image).astype(float), -1, 0)
        orange = ((r > 2 * g) & (r > 3 * b) & (r > 120)).sum()  # as EGO_COLOUR is, in any light
        assert (orange > 20) == there


def test_a_box_stands_around_its_agent(scene: Scene) -> None:
    frame = street(scene, 1)
    size = np.array([[4.0, 2.0, 1.5]], np.float32)
    agents = replace(
        frame.agents, class_id=np.array([10], np.uint8), size_m=size, pose=np.array([[5.0, 3.0, np.pi / 2]]),
        base_m=np.array([0.2]), id=np.array([4]),
    )  # fmt: skip
    mesh = boxes_mesh(replace(frame, agents=agents), Look(boxes=True))
    low, high = mesh.vertices_m.min(axis=0), mesh.vertices_m.max(axis=0)
    assert np.allclose((low + high)[:2] / 2, [5.0, 3.0], atol=0.02)
    assert np.allclose(high - low, [2.0, 4.0, 1.5], atol=0.6) and (high - low > [2.0, 4.0, 1.5]).all()
    assert not len(boxes_mesh(replace(frame, agents=agents), Look(classes=frozenset({6}))).triangles)


def test_a_layout_takes_the_place_of_the_ground(scene: Scene) -> None:
    frame = frame_of(scene, 1)
    mesh = frame_mesh(frame, Look(layout=True, path=False), ego=False)
    x, y, _ = scene.grid.shape
    flat = mesh.vertices_m[np.abs(mesh.vertices_m[:, 2] - (scene.grid.origin_m[2] + scene.grid.voxel_m[2])) < 1e-4]
    assert len(flat) >= 4 * x * y
    pole = frame_mesh(frame, Look(path=False), ego=False).vertices_m[:, 2].max()
    assert mesh.vertices_m[:, 2].max() == pytest.approx(pole)


def test_a_film_of_every_second_frame_at_its_own_pace(scene: Scene, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    shot = Shot("birdseye", (128, 96), every=2, fps=4.0)
    output = render_scene(scene, tmp_path / "x.gif", shot=shot, bar=lambda done, total: told.append((done, total)))
    image = Image.open(output)
    assert image.size == (128, 96) and image.n_frames == 2 and image.info["duration"] == 250
    assert told == [(0, 2), (1, 2)]


def test_a_shot_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="camera"):
        Shot("side")
    with pytest.raises(ValueError, match="every"):
        Shot(every=0)
    with pytest.raises(ValueError, match="camera"):
        camera_of("side", GRID, 0.0, SIZE)
