"""Pictures show what the labels say, on the side where it is, with Open3D and without it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgen.errors import SceneError
from dcgen.export.birdseye import birdseye
from dcgen.export.camera import Camera, page_camera
from dcgen.export.film import write_pictures
from dcgen.export.frame import Frame, corners_m, frame_of
from dcgen.export.mesh import Mesh
from dcgen.export.painter import paint
from dcgen.export.picture import LEGEND
from dcgen.export.props import COMMAND_COLOURS, resample
from dcgen.export.render import render_file, render_scene
from dcgen.export.scenery import frame_mesh
from dcgen.export.surface import top_colours, voxel_mesh
from dcgen.export.worker import Open3DWorker, WorkerFailed
from dcgen.scene_file import save_scene
from dcgen.types import PALETTE, UNKNOWN, Scene, Semantics


def one_voxel(scene: Scene, label: int, *cells: tuple[int, int, int]) -> Frame:
    frame = frame_of(scene, 0)
    labels = np.zeros_like(frame.labels)
    for cell in cells:
        labels[cell] = label
    return replace(frame, labels=labels)


def area_m2(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices_m[mesh.triangles[:, k]].astype(float) for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_only_faces_that_can_be_seen_are_drawn(scene: Scene) -> None:
    x, y, z = scene.grid.voxel_m
    single = voxel_mesh(one_voxel(scene, Semantics.POLE, (4, 5, 3)))
    assert len(single.triangles) == 10  # five faces: none looks down
    assert area_m2(single) == pytest.approx(x * y + 2 * x * z + 2 * y * z, rel=1e-5)
    pair = voxel_mesh(one_voxel(scene, Semantics.POLE, (4, 5, 3), (5, 5, 3)))
    assert area_m2(pair) == pytest.approx(2 * x * y + 4 * x * z + 2 * y * z, rel=0.03)  # none between them
    assert len(pair.triangles) == 10  # and one face along both
    border = voxel_mesh(one_voxel(scene, Semantics.POLE, (0, 0, 6)))
    assert len(border.triangles) == 10
    assert len(voxel_mesh(one_voxel(scene, UNKNOWN, (4, 5, 3))).triangles) == 0


def test_vertices_stand_where_the_voxel_is_and_faces_look_outwards(scene: Scene) -> None:
    cell = np.array([4, 5, 3])
    mesh = voxel_mesh(one_voxel(scene, Semantics.POLE, tuple(cell)))
    low = np.asarray(scene.grid.origin_m) + cell * scene.grid.voxel_m
    assert np.allclose(mesh.vertices_m.min(0), low, atol=1e-5)
    assert np.allclose(mesh.vertices_m.max(0), low + scene.grid.voxel_m, atol=1e-5)
    a, b, c = (mesh.vertices_m[mesh.triangles[:, k]].astype(float) for k in range(3))
    outward = np.cross(b - a, c - a)
    assert (((a + b + c) / 3 - (low + np.asarray(scene.grid.voxel_m) / 2)) * outward).sum(1).min() > 0


def test_colours_keep_the_hue_of_their_class(scene: Scene) -> None:
    for kind in Semantics:
        if kind is Semantics.FREE:
            continue
        colours = voxel_mesh(one_voxel(scene, kind, (4, 5, 3))).colours.astype(float)
        brightest = colours[colours.sum(1).argmax()]
        nearest = np.linalg.norm(PALETTE[1:].astype(float) - brightest, axis=1).argmin() + 1
        assert nearest == kind


def test_a_roof_shades_the_ground_beside_it(scene: Scene) -> None:
    frame = frame_of(scene, 0)
    flat = np.zeros_like(frame.labels)
    flat[:, :, 0] = Semantics.GROUND
    wall = flat.copy()
    wall[5, 6, 1:5] = Semantics.BUILDING
    lit, shaded = (top_colours(replace(frame, labels=labels)).astype(int).sum(-1) for labels in (flat, wall))
    darker = np.argwhere(shaded < 0.8 * lit)
    assert len(darker) and (darker[:, 0] >= 5).all() and (darker[:, 1] <= 6).all()  # the sun is behind, on the left


def test_from_above_ahead_is_up_and_left_is_left(scene: Scene) -> None:
    x, y, _ = scene.grid.shape
    frame = one_voxel(scene, Semantics.VEHICLE, (x - 1, y - 1, 1))
    frame = replace(
        frame,
        agents=replace(
            frame.agents, class_id=frame.agents.class_id[:0], size_m=frame.agents.size_m[:0], pose=frame.agents.pose[:0]
        ),
    )
    seen = np.asarray(birdseye(frame, 200)).astype(int)
    corners = {
        "front left": seen[5, 5],
        "front right": seen[5, -5],
        "back left": seen[-5, 5],
        "back right": seen[-5, -5],
    }
    blue = {name for name, (r, _, b) in corners.items() if b > r + 60}
    assert blue == {"front left"}


@pytest.mark.parametrize("draw", ["pillow", "open3d"])
def test_the_camera_sees_left_on_the_left(draw: str, scene: Scene) -> None:
    camera = page_camera(scene.grid, (320, 200))
    frame = one_voxel(scene, Semantics.VEHICLE, (5, 9, 2))
    mesh = voxel_mesh(frame)
    centre = np.append(mesh.vertices_m.mean(axis=0), 1.0)
    x, y, depth = (camera.camera_se3_ego() @ centre)[:3]
    expected = np.array([x, y]) / depth * camera.focal_px + [160, 100]
    if draw == "pillow":
        image = paint(mesh, camera)
    else:
        pytest.importorskip("open3d")
        with Open3DWorker() as worker:
            image = worker.draw(mesh, camera)
    pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero(pixels[..., 2] > pixels[..., 0] + 60)
    assert abs(columns.mean() - expected[0]) < 4 and abs(rows.mean() - expected[1]) < 4
    left = camera.camera_se3_ego() @ [5.0, 3.0, 0.0, 1.0]
    right = camera.camera_se3_ego() @ [5.0, -3.0, 0.0, 1.0]
    assert left[0] < right[0]


def test_both_painters_agree(scene: Scene) -> None:
    pytest.importorskip("open3d")
    camera = page_camera(scene.grid, (320, 200))
    mesh = frame_mesh(frame_of(scene, 1))
    with Open3DWorker() as worker:
        fine = np.asarray(worker.draw(mesh, camera)).astype(int)
    plain = np.asarray(paint(mesh, camera)).astype(int)
    assert (np.abs(fine - plain).max(axis=-1) > 60).mean() < 0.04


@pytest.mark.parametrize("suffix", [".png", ".gif", ".mp4"])
def test_pictures_and_films(suffix: str, scene: Scene, tmp_path: Path) -> None:
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    path = save_scene(scene, tmp_path / "scene.h5")
    output = render_file(path, tmp_path / "new" / f"out{suffix}", width_px=480)
    assert output.stat().st_size > 2000 and [p.name for p in output.parent.iterdir()] == [output.name]
    if suffix == ".mp4":
        import imageio_ffmpeg

        reader = imageio_ffmpeg.read_frames(str(output))
        head = next(reader)
        assert head["fps"] == pytest.approx(5.0, abs=0.1) and sum(1 for _ in reader) == 3
    else:
        image = Image.open(output)
        assert image.width == 480 and getattr(image, "n_frames", 1) == (3 if suffix == ".gif" else 1)
    if suffix == ".gif":
        assert image.info["duration"] == 200


def test_a_gif_keeps_the_colours_of_what_is_little_and_late(tmp_path: Path) -> None:
    keep = [*LEGEND.values(), *COMMAND_COLOURS.values()]
    ramp = np.random.default_rng(0).integers(60, 150, (7, 90, 110, 3)).astype(np.uint8)  # more colours than a GIF has
    late = (255, 0, 255)
    for n, page in enumerate(ramp):
        page[3, 2 : 2 + len(keep)] = keep
        page[40:50, 20:60] = late if n > 2 else 100
    write_pictures(tmp_path / "x.gif", (Image.fromarray(page) for page in ramp), 0.2, keep)
    film = Image.open(tmp_path / "x.gif")
    assert film.n_frames == len(ramp)
    for n, page in enumerate(ramp):
        film.seek(n)
        away = np.abs(np.asarray(film.convert("RGB"), int) - page).max(axis=2)
        assert away[3, 2 : 2 + len(keep)].max() <= 5 and away[40:50, 20:60].max() <= 12, n
        assert away.mean() < 25


def test_without_open3d_pillow_draws_and_says_so(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open3d.py").write_text("import os; os.abort()\n")  # as a driver does that is not there
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    notes: list[str] = []
    output = render_scene(scene, tmp_path / "x.png", width_px=320, tell=notes.append)
    assert Image.open(output).width == 320 and len(notes) == 1 and "Pillow" in notes[0]
    with Open3DWorker() as worker, pytest.raises(WorkerFailed):
        worker.draw(frame_mesh(frame_of(scene, 0)), page_camera(scene.grid, (64, 64)))


def test_a_picture_that_cannot_be(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, frame in ((tmp_path / "x.bmp", None), (tmp_path / "x.png", 3), (tmp_path / "file" / "x.png", None)):
        with pytest.raises(SceneError) as error:
            render_scene(scene, output, frame)
        assert "\n" not in str(error.value) and output.name in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ValueError, match="straight along"):
        Camera((0, 0, 9), (0, 0, 0), 50, (64, 64))


def test_a_window_without_a_display_is_one_line(scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "scene.h5")
    code = "from dcgen.export.viewer import view, DisplayMissing\n"
    code += f"try: view({str(path)!r})\nexcept DisplayMissing as fault: print(fault)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={}, timeout=60)
    assert "no display" in result.stdout and result.stdout.count("\n") == 1, result.stderr


def test_a_path_is_resampled_by_length_and_a_box_turns_left() -> None:
    points = resample(np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 3.0]]), 0.5)
    assert np.allclose(np.linalg.norm(np.diff(points, axis=0), axis=1), 0.5) and len(points) == 15
    assert np.allclose(corners_m((4.0, 2.0, 1.0), np.array([1.0, 2.0, np.pi / 2]))[0], [0.0, 4.0])  # front left
