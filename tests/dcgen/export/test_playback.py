"""What the keys of the viewer do, without a window; and the window itself, where there is a screen to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageGrab

from dcgen.export.camera import CAMERAS, camera_of
from dcgen.export.card import WIDTH_PX, draw_card, hang_card
from dcgen.export.look import ALL_CLASSES
from dcgen.export.playback import CLASS_KEYS, KEYS, SPEEDS, Playback
from dcgen.export.viewer import _KEY_CODES, Row
from dcgen.scene_file import save_scene
from dcgen.types import GridSpec, Scene
from tests.conftest import small_scene


def test_it_plays_in_its_own_time_pauses_and_steps() -> None:
    playback = Playback((3,), step_s=0.5)
    for now, index in ((10.0, 0), (10.4, 0), (10.6, 1), (11.1, 2), (11.6, 0)):  # late once, and in time again
        playback.advance(now)
        assert playback.index == index
    playback.press("SPACE")
    playback.advance(99.0)
    assert playback.index == 0 and not playback.playing
    for key, index in (("LEFT", 2), ("RIGHT", 0), ("END", 2), ("HOME", 0)):
        playback.press(key)
        assert playback.index == index and not playback.playing


def test_speed_is_bounded_and_makes_it_faster() -> None:
    playback = Playback((100,), step_s=1.0)
    for _ in range(9):
        playback.press("UP")
    assert playback.speed == SPEEDS[-1]
    playback.advance(0.0)
    playback.advance(1.0 / SPEEDS[-1] + 0.01)
    assert playback.index == 1
    for _ in range(20):
        playback.press("DOWN")
    assert playback.speed == SPEEDS[0]


def test_scenes_play_in_step_and_the_shorter_waits() -> None:
    playback = Playback((2, 5), step_s=0.1)
    playback.press("END")
    assert (playback.frame_of(0), playback.frame_of(1)) == (1, 4)
    playback.press("TAB")
    assert playback.focus == 1 and playback.unaimed
    playback.press("TAB")
    assert playback.focus == 0


def test_every_key_on_the_list_does_something_and_is_bound() -> None:
    for key in [word for keys, _ in KEYS for word in keys.split()] + list(CLASS_KEYS):
        playback = Playback((4, 4), step_s=0.1, index=1, camera="ego")
        if key == "Q":
            continue  # the window's own
        assert playback.press(key) and playback.stale and key in _KEY_CODES, key
    assert not Playback((4,), 0.1).press("X")


def test_toggles_turn_on_and_off_again() -> None:
    playback = Playback((4,), step_s=0.1)
    start = playback.look
    for key in ("I", "E", "B", "L", *CLASS_KEYS):
        playback.press(key)
        assert playback.look != start
        playback.press(key)
        assert playback.look == start
    playback.press("1")
    playback.press("0")
    assert playback.look.classes == ALL_CLASSES - {1, 10}
    assert [what for key, what, on in playback.listed() if not on and key in CLASS_KEYS] == ["building", "vehicle"]
    playback.press("=")
    assert playback.look.classes == ALL_CLASSES
    cameras = []
    for _ in CAMERAS:
        playback.press("C")
        cameras.append(playback.camera)
    assert sorted(cameras) == sorted(CAMERAS) and cameras[-1] == CAMERAS[0]


def test_a_playback_that_cannot_be() -> None:
    for frames, step_s in (((), 0.1), ((0,), 0.1), ((3,), 0.0)):
        with pytest.raises(ValueError, match="playback needs"):
            Playback(frames, step_s)


def test_the_card_lists_the_keys_and_shrinks_without_them() -> None:
    playback = Playback((4,), step_s=0.1)
    full = draw_card(playback, ["left.h5"])
    assert full.shape[1] == WIDTH_PX and 300 < full.shape[0] < 640
    playback.press("H")
    assert draw_card(playback, ["left.h5"]).shape[0] < 140
    playback.press("H")
    playback.press("1")
    assert (draw_card(playback, ["left.h5"]) != full).any()


@pytest.mark.parametrize("name", CAMERAS)
def test_the_card_hangs_in_the_upper_left_pixel_for_pixel(name: str) -> None:
    grid = GridSpec((20, 16, 5), (0.8, 0.8, 0.8), (-8.0, -6.0, -1.0))
    camera = camera_of(name, grid, 0.0, (640, 480), 0.3)
    corners = hang_card((250, 400), camera.size_px, camera.focal_px, camera.camera_se3_ego(), camera.clip_m[0] + 0.15)
    seen = np.column_stack([corners, np.ones(4)]) @ camera.camera_se3_ego().T
    pixels = seen[:, :2] / seen[:, 2:3] * camera.focal_px + [320, 240]
    assert np.allclose(pixels, [[12, 412], [262, 412], [262, 12], [12, 12]], atol=0.01)


def test_the_first_scene_stands_on_the_left_and_none_overlap(scene: Scene) -> None:
    other = small_scene(frames=2, shape=(9, 17, 5), seed=3)
    row = Row([Path("a.h5"), Path("b.h5")], [scene, other])
    ends = [
        (s.grid.origin_m[1] + away[1], s.grid.origin_m[1] + s.grid.extent_m[1] + away[1])
        for s, away in zip((scene, other), row._away, strict=True)
    ]
    assert ends[0][0] > ends[1][1] + 5
    assert row.grid.origin_m[1] == pytest.approx(ends[1][0])
    assert row.grid.extent_m[1] == pytest.approx(ends[0][1] - ends[1][0])
    playback = Playback((3, 2), 0.2, camera="chase")
    there = row.camera(playback, (320, 200)).eye_m
    playback.press("TAB")
    assert row.camera(playback, (320, 200)).eye_m[1] - there[1] == pytest.approx(row._away[1][1])


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[str]:
    """A display that nobody sees."""
    pytest.importorskip("open3d")
    if not sys.platform.startswith("linux") or shutil.which("Xvfb") is None or shutil.which("xdotool") is None:
        pytest.skip("no Xvfb and xdotool to open a window on: apt-get install xvfb xdotool")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1500x960x24"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        try:
            yield f":{number}"
        finally:
            server.terminate()


def grab_until(screen: str, good: Callable[[np.ndarray], bool], seconds: float = 45.0) -> np.ndarray:
    deadline = time.monotonic() + seconds
    while True:
        seen = np.asarray(ImageGrab.grab(xdisplay=screen)).astype(int)
        if good(seen):
            return seen
        assert time.monotonic() < deadline, "what was waited for is not to be seen"
        time.sleep(0.3)


def orange(seen: np.ndarray) -> int:
    """Pixels of the ego's path."""
    return int((np.abs(seen - [255, 170, 60]).max(axis=-1) < 6).sum())


def test_the_window_shows_two_scenes_and_hears_its_keys(screen: str, tmp_path: Path) -> None:
    paths = [save_scene(small_scene(12, seed=seed), tmp_path / f"{seed}.h5") for seed in (1, 2)]
    environment = {**os.environ, "DISPLAY": screen}
    code = "import sys; from dcgen.export.viewer import view; view(*sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", code, *map(str, paths)], env=environment) as viewer:
        try:
            grab_until(screen, lambda seen: orange(seen) > 60)
            press(screen, "space", "e")
            seen = grab_until(screen, lambda seen: orange(seen) == 0)
            window = np.argwhere(seen.sum(axis=-1) > 0).min(axis=0)
            y, x = window + 12  # of the card's corner
            card = Image.fromarray(seen[y : y + 400, x : x + WIDTH_PX].astype(np.uint8)).convert("L")
            assert (np.asarray(card) > 240).mean() > 0.7  # white, with letters on it
            press(screen, "h")
            grab_until(screen, lambda seen: (seen[y + 380, x : x + 200] < 250).any())
            press(screen, "q")
            assert viewer.wait(20) == 0
        finally:
            viewer.kill()


def press(screen: str, *keys: str) -> None:
    environment = {**os.environ, "DISPLAY": screen}
    found = subprocess.run(["xdotool", "search", "--name", "dcgen"], env=environment, capture_output=True, text=True)
    subprocess.run(["xdotool", "windowfocus", found.stdout.split()[0]], env=environment, check=True)
    for key in keys:
        subprocess.run(["xdotool", "key", key], env=environment, check=True)
        time.sleep(0.2)
