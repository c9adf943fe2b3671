"""dcgen render and view: what they make, and the one line where they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Run, refused


@pytest.mark.parametrize("camera", ["page", "ego"])
def test_a_page_and_a_camera(camera: str, run: Run, scene_path: Path) -> None:
    output = scene_path.with_name("x.png")
    result = run(
        "render", scene_path, "-o", output, "--camera", camera, "--size", "400x226", "--boxes", "--layout", "--no-path"
    )
    assert result.code == 0 and result.out.split() == [str(output)], result
    image = Image.open(output)
    assert image.width == 400 and (camera == "page" or image.height == 226)
    assert len(image.getcolors(400 * 600) or []) > 20


def test_instances_are_found_where_the_file_has_none(run: Run, scene_path: Path) -> None:
    output = scene_path.with_name("x.png")
    assert run("render", scene_path, "-o", output, "--size", "320x172", "--colour", "instance").code == 0
    assert Image.open(output).width == 320


def test_what_cannot_be_drawn_is_one_line(run: Run, scene_path: Path) -> None:
    folder = scene_path.parent
    for size in ("12", "0x0", "12x900", "90000x900", "x", "1280x720x3"):
        fault = refused(run, folder, "render", scene_path, "-o", folder / "x.png", "--camera", "ego", "--size", size)
        assert f"--size {size}" in fault
    whole = scene_path.read_bytes()
    cut = folder / "cut.h5"
    cut.write_bytes(whole[: len(whole) // 2])
    (folder / "text.h5").write_text("not a scene")
    for wrong in ("cut.h5", "text.h5", "none.h5"):
        for words in (
            ("render", folder / wrong, "-o", folder / "x.gif", "--camera", "orbit"),
            ("view", folder / wrong),
        ):
            assert wrong in refused(run, folder, *words)
    for words in (("--camera", "side"), ("--every", "0"), ("--fps", "nan"), ("--fps", "0"), ("--colour", "flow")):
        assert run("render", scene_path, "-o", folder / "x.gif", *words).fault
    assert "x.bmp" in refused(run, folder, "render", scene_path, "-o", folder / "x.bmp", "--camera", "ego")
    assert "frames 0 to 2" in refused(run, folder, "render", scene_path, "-o", folder / "x.png", "--frame", 3)


def test_a_film_that_is_interrupted_leaves_nothing(run: Run, scene_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dcgen.export import render

    drawn: list[int] = []

    def tire(*arguments: object) -> Image.Image:
        drawn.append(1)
        if len(drawn) > 2:
            raise KeyboardInterrupt
        return Image.new("RGB", (64, 64))

    monkeypatch.setattr(render, "draw_shot", tire)
    pytest.importorskip("imageio_ffmpeg")
    for name in ("x.gif", "x.mp4"):
        drawn.clear()
        before = sorted(scene_path.parent.iterdir())
        result = run("render", scene_path, "-o", scene_path.with_name(name), "--camera", "ego")
        assert result.code == 130 and "half written" in result.err
        assert sorted(scene_path.parent.iterdir()) == before


def test_no_window_without_a_display(run: Run, scene_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    fault = refused(run, scene_path.parent, "view", scene_path, scene_path)
    assert "no display" in fault and "dcgen render" in fault
