"""The page of a scene, in a browser that has no network."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgen.errors import DcgenError, SceneError
from dcgen.report import page as pages
from dcgen.report.page import write_report
from dcgen.report.three import SCRIPT
from dcgen.scene_file import save_scene
from dcgen.types import LAYOUT_CHANNELS, AgentTracks, Scene, Semantics
from tests.dcgen.report.browser import Browser, browser, chromium
from tests.dcgen.small import GRID, path, street

EVIL = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'><!-- {{nonce}}"
MOST_OF_A_PAGE = 1_000_000  # three.js and the page itself take two thirds of it

needs_three = pytest.mark.skipif(not SCRIPT.is_file(), reason="three.js was not fetched: make three")
needs_browser = pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium")


def scene(frames: int = 7, text: str = EVIL) -> Scene:
    """A car drives along x beside the ego, over a street."""
    time_s = 0.2 * np.arange(frames)
    pose = np.zeros((1, frames, 3))
    pose[0, :, :2] = np.stack([path(t)[:2, 3] for t in range(frames)]) + [3.0, 2.0]
    ones = np.ones((1, frames), np.float32)
    agents = AgentTracks(
        np.array([41]), np.array([Semantics.VEHICLE], np.uint8), np.array([[4.4, 1.8, 1.5]], np.float32), pose,
        0 * ones, 5 * ones, ones > 0,
    )  # fmt: skip
    layout = np.zeros((frames, len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float16)
    layout[:, 0, :, 8:15] = 1
    labels = street(4)[np.arange(frames) % 4]
    return Scene(
        labels, GRID, time_s, np.stack([path(t) for t in range(frames)]), agents, np.zeros((frames, 3), np.float32),
        np.arange(frames).astype(np.int8) % 4, layout, labels == 1, 12, "tiny", "ab" * 32, text, {"name": text},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    save_scene(scene(), made / "a.h5")
    save_scene(scene(3, "the second"), made / "b.h5")
    (made / "a.scores.json").write_text('{"epdms": 0.875, "failure": "", "comfort": {"<b>jerk": 2.5}}')
    return made


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Browser]:
    """The page of both scenes, in one browser for all tests."""
    with browser() as made:
        made.open(write_report(folder, folder / "all.html"))
        yield made


@pytest.fixture
def opened(shared: Browser) -> Browser:
    """That page as it is at first: tests may come in any order."""
    shared.size(1280, 720)
    shared.run("dcgen.number === 0 ? 0 : dcgen.open(0)")
    shared.wait("dcgen.scene.frames === 7 && dcgen.shown && dcgen.shown.geometry")
    shared.run("document.documentElement.dataset.theme === 'light' || dcgen.theme()")
    shared.press("1")
    return shared


def seen(opened: Browser) -> np.ndarray:
    """[H, W, 3] what the stage shows, when it has come to rest."""
    opened.wait("!dcgen.dirty && !dcgen.resting && dcgen.shown.index === dcgen.index")
    image = Image.open(io.BytesIO(opened.screenshot())).convert("RGB")
    box = opened.run(
        "(r => [r.left, r.top, r.right, r.bottom])(document.getElementById('view').getBoundingClientRect())"
    )
    return np.asarray(image.crop(tuple(map(round, box))), np.int16)


def changed(a: np.ndarray, b: np.ndarray) -> float:
    """The share of pixels that differ."""
    return float((np.abs(a - b).max(axis=2) > 24).mean())


@needs_three
def test_one_file_holds_all_and_is_small(folder: Path, tmp_path: Path) -> None:
    text = write_report(folder / "a.h5", tmp_path / "one.html").read_text()
    assert len(text) < MOST_OF_A_PAGE
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", text)
    assert text == write_report(folder / "a.h5", tmp_path / "two.html").read_text()
    assert "<script>window.owned" not in text and "<img src=x" not in text
    assert not list(tmp_path.glob("*.part"))


@needs_three
@needs_browser
def test_it_opens_with_no_network_and_no_complaint(opened: Browser) -> None:
    assert {url.partition(":")[0] for url in opened.fetched} <= {"file", "blob", "data"}
    assert not opened.complaints
    assert len(np.unique(seen(opened).reshape(-1, 3), axis=0)) > 50  # no blank stage
    assert opened.run("document.getElementById('curve').width > 100")


@needs_three
@needs_browser
def test_texts_of_a_scene_are_texts(opened: Browser) -> None:
    assert opened.run("window.owned") is None
    assert opened.run("document.getElementById('scenario').textContent") == EVIL
    assert opened.run("document.getElementById('scores').innerText").split()[:3] == ["Scores", "epdms", "0.875"]
    assert opened.run("document.querySelectorAll('img[onerror], .table b b').length") == 0


@needs_three
@needs_browser
def test_counts_are_those_of_the_labels(opened: Browser) -> None:
    opened.run("dcgen.step(2 - dcgen.index)")
    opened.wait("dcgen.shown.index === 2")
    told = opened.run("Array.from(dcgen.shown.counts)")
    assert told == np.bincount(scene().labels[2].ravel(), minlength=len(Semantics)).tolist()
    assert opened.run("dcgen.legend.counts[10].textContent") == str(told[10])


@needs_three
@needs_browser
def test_it_steps_plays_and_scrubs(opened: Browser) -> None:
    opened.run("dcgen.step(-dcgen.index)")
    first = seen(opened)
    opened.press("ArrowRight")
    opened.wait("dcgen.shown.index === 1")
    assert changed(first, seen(opened)) > 0.002
    opened.press("ArrowLeft")
    opened.wait("dcgen.shown.index === 0")
    assert changed(first, seen(opened)) < 0.001
    opened.press(" ")
    opened.wait("dcgen.playing && dcgen.index >= 2")
    opened.wait("!dcgen.playing && dcgen.index === 6")  # it ends with the scene
    opened.run("(e => {e.value = 4; e.dispatchEvent(new Event('input'))})(document.getElementById('scrub'))")
    opened.wait("dcgen.shown.index === 4")


@needs_three
@needs_browser
def test_classes_instances_and_cameras_change_what_is_seen(opened: Browser) -> None:
    opened.run("dcgen.step(1 - dcgen.index)")
    opened.press("1")
    before = seen(opened)
    opened.run("dcgen.legend.boxes[6].click()")
    assert changed(before, seen(opened)) > 0.02  # no road
    opened.run("dcgen.legend.boxes[6].click()")
    assert changed(before, seen(opened)) < 0.001
    opened.press("i")
    assert changed(before, seen(opened)) > 0.02
    opened.press("i")
    for key in "234":
        opened.press(key)
        time.sleep(0.6)  # the camera glides
        assert changed(before, seen(opened)) > 0.02, key


@needs_three
@needs_browser
def test_a_second_scene_a_phone_and_the_dark(opened: Browser) -> None:
    before = seen(opened)
    opened.press("d")
    assert seen(opened).mean() < before.mean() - 20
    opened.run("document.querySelector('#chooser [data-number=\"1\"]').click()")
    opened.wait("dcgen.scene.frames === 3 && dcgen.shown")
    assert opened.run("document.getElementById('scores').hidden && document.title === 'the second'")
    opened.size(390, 800)
    assert opened.run("document.documentElement.scrollWidth <= 390")
    assert not opened.complaints


@needs_three
@needs_browser
def test_it_draws_fast_enough_without_a_gpu(opened: Browser) -> None:
    opened.size(1280, 720)
    count = "new Promise(r => {const n = dcgen.drawn, e = performance.now() + 1500; (function f() {"
    count += "dcgen.stage.rig.orbit(2, 0);"
    count += "dcgen.refresh(false); performance.now() < e ? requestAnimationFrame(f) : r((dcgen.drawn - n) / 1.5)})()})"
    assert opened.run(count) > 3  # some thirty and more on a quiet machine: benchmarks/report.md


@needs_three
@needs_browser
def test_scenes_of_one_title_and_scores_of_two_planners_are_told_apart(tmp_path: Path) -> None:
    for name, title in (("a", "twice"), ("b", "once"), ("c", "twice")):
        save_scene(scene(2, title), tmp_path / f"{name}.h5")
    tables = [{"scene": "c", "planner": planner, "epdms": 0.5} for planner in ("9", "<i>idm")]
    (tmp_path / "scores.json").write_text(json.dumps(tables))
    with browser() as opened:
        opened.open(write_report(tmp_path, tmp_path / "all.html"))
        cards = opened.run("Array.from(document.querySelectorAll('#chooser b'), b => b.textContent)")
        assert cards == ["twice (a.h5)", "once", "twice (c.h5)"]
        opened.run("dcgen.open(2)")
        assert opened.run("[document.title, document.getElementById('title').textContent]") == ["twice (c.h5)"] * 2
        told = opened.run("Array.from(document.querySelectorAll('#scores .table > *'), e => e.textContent)")
        assert told == ["9", "epdms", "0.5", "<i>idm", "epdms", "0.5"] and not opened.complaints


def test_bad_input_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cut.h5").write_bytes((folder / "a.h5").read_bytes()[:9000])
    (tmp_path / "bad.json").write_text("[1, 2")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setattr(pages, "three_script", lambda: "const THREE = {};")
    monkeypatch.setattr(pages, "LICENCE", tmp_path / "bad.json")
    for source, output, scores, said in (
        (folder / "a.h5", "x.pdf", None, "ends in .html"),
        (tmp_path / "none.h5", "x.html", None, "no such file"),
        (tmp_path / "cut.h5", "x.html", None, "damaged"),
        (empty, "x.html", None, "holds no scene"),
        (folder / "a.h5", "x.html", tmp_path / "bad.json", "not JSON"),
        (folder / "a.h5", "x.html", tmp_path / "no.json", "cannot be read"),
    ):
        with pytest.raises(SceneError, match=said) as fault:
            write_report(source, tmp_path / output, scores)
        assert "\n" not in str(fault.value)
    monkeypatch.setattr(pages, "MOST_BYTES", 1000)
    with pytest.raises(SceneError, match="fewer frames"):
        write_report(folder, tmp_path / "x.html")
    assert not list(tmp_path.glob("*x.*"))


def test_without_three_the_remedy_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcgen.report.three.SCRIPT", tmp_path / "gone.js")
    with pytest.raises(DcgenError, match=r"python -m dcgen\.report\.three"):
        write_report(folder / "a.h5", tmp_path / "x.html")
