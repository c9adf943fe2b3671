"""What a page holds of a scene: packed, escaped, and read again."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcgen.errors import DcgenError, SceneError
from dcgen.export.frame import frame_of
from dcgen.export.picture import Caption, PageSize, compose
from dcgen.instances import with_motion
from dcgen.report import data
from dcgen.report.data import LAYOUT_CODES, as_json, layout_codes, pack_scene
from dcgen.report.scores import Scores
from dcgen.report.three import classic, unpack
from dcgen.scene_file import save_scene
from dcgen.types import LAYOUT_CHANNELS, MOVABLE, AgentTracks, Command, Scene
from tests.dcgen.small import GRID, path, street


def scene(frames: int = 5) -> Scene:
    labels = street(frames)
    layout = np.zeros((frames, len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float16)
    return Scene(
        labels, GRID, 0.2 * np.arange(frames), np.stack([path(t) for t in range(frames)]), AgentTracks.empty(frames),
        np.zeros((frames, 3), np.float32), np.zeros(frames, np.int8), layout, labels == 1,
    )  # fmt: skip


def opened(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def test_blocks_hold_every_voxel_and_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "BLOCK_BYTES", 2 * int(np.prod(GRID.shape)) + 1)  # two frames a block
    made = with_motion(scene())
    blocks = pack_scene(save_scene(made, tmp_path / "a.h5"))["blocks"]
    assert [(block["start"], block["stop"]) for block in blocks] == [(0, 2), (2, 4), (4, 5)]
    assert made.instances is not None
    for block in blocks:
        cut = slice(block["start"], block["stop"])
        voxels, cells = made.labels[cut].size, made.layout[cut, 0].size
        bytes_ = opened(block["data"])
        labels = np.frombuffer(bytes_[:voxels], np.uint8).reshape(made.labels[cut].shape)
        owners = np.frombuffer(bytes_[voxels + cells :], "<u2")
        assert (labels == made.labels[cut]).all()
        movable = np.isin(labels, [int(kind) for kind in MOVABLE])
        assert (owners == made.instances[cut][movable]).all() and block["instances"][-1] == len(owners) > 0


def test_poses_and_tracks_are_seen_from_the_first_pose(tmp_path: Path) -> None:
    far = np.eye(4)
    far[:2, 3] = 1.5e6, -2.5e6  # where 32 bits would be an eighth of a metre off
    near = scene()
    moved = replace(near, world_se3_ego=far @ near.world_se3_ego)
    texts = [pack_scene(save_scene(made, tmp_path / f"{n}.h5"))["tracks"] for n, made in enumerate((near, moved))]
    one, two = (np.frombuffer(opened(text), "<f4")[: 12 * 5].reshape(5, 3, 4) for text in texts)
    np.testing.assert_allclose(one, two, atol=1e-5)
    np.testing.assert_allclose(one[:, :, :3], near.world_se3_ego[:, :3, :3], atol=1e-6)
    assert np.abs(one[0, :, 3]).max() == 0


def test_what_is_drawn_last_lies_on_top() -> None:
    layout = np.zeros((2, len(LAYOUT_CHANNELS), 3, 4), np.float16)
    layout[:, LAYOUT_CHANNELS.index("road")] = 1
    layout[1, LAYOUT_CHANNELS.index("pedestrian"), 2, 1] = 0.1  # less than half a cell
    layout[1, LAYOUT_CHANNELS.index("sidewalk"), 0, 3] = 0.4
    codes = layout_codes(layout)
    assert (codes[0] == 1).all() and codes[1, 2, 1] == 1 + LAYOUT_CODES.index("pedestrian") and codes[1, 0, 3] == 1


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a & b > c", "\u2028\ud800"])
def test_json_ends_no_script_and_is_the_same_text(text: str) -> None:
    made = as_json({"text": text})
    assert not re.search("[<>&\u2028]", made) and json.loads(made)["text"] == text


@pytest.mark.parametrize("command", Command)
def test_a_command_has_one_colour_on_pages_and_in_pictures(command: Command, tmp_path: Path) -> None:
    made = replace(scene(2), command=np.full(2, command, np.int8))
    packed = pack_scene(save_scene(made, tmp_path / "a.h5"))
    told = packed["command_colours"][packed["command"][0]]
    page = PageSize(800)
    image = compose(frame_of(made, 0), Caption("a", "b"), page, lambda mesh, camera: Image.new("RGB", camera.size_px))
    strip = np.asarray(image)[: page.strip_px].reshape(-1, 3)
    seen = {f"rgb({r}, {g}, {b})" for r, g, b in strip.tolist()}
    assert told in seen and not seen & {*packed["command_colours"]} - {told}


def test_scores_are_found_by_scene(tmp_path: Path) -> None:
    shared = [{"scene": "x/a.h5", "planner": "idm", "epdms": 0.5, "comfort": {"jerk": float("inf")}, "contacts": []}]
    (tmp_path / "scores.json").write_text(json.dumps({"episodes": shared}))
    (tmp_path / "b.json").write_text('{"epdms": 0.25, "done": true}')
    for name in "abc":
        (tmp_path / f"{name}.h5").touch()
    found = Scores.of(tmp_path, None)
    assert found.of_scene("a", alone=False) == {"idm": {"epdms": 0.5, "comfort: jerk": "inf"}}
    assert found.of_scene("b", alone=False) == {"": {"epdms": 0.25, "done": "yes"}}
    assert not found.of_scene("c", alone=False)
    given = Scores.of(tmp_path / "c.h5", tmp_path / "b.json")
    assert given.of_scene("c", alone=True)[""]["epdms"] == 0.25 and not given.of_scene("c", alone=False)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(SceneError, match="not JSON"):
        Scores.of(tmp_path, tmp_path / "deep.json")


def test_another_package_is_not_taken() -> None:
    with pytest.raises(DcgenError, match="another sha512"):
        unpack(b"not three.js")


def test_two_modules_become_one_script() -> None:
    core = "class A {}\nconst b = 1;\nexport { A, b as B };\n"
    module = "import { A, B as c } from './three.core.js';\nexport { A } from './three.core.js';\n"
    module += "const d = c;\nexport { d as D };\n"
    script = classic(core, module)
    assert "return { A, B: b };" in script and "const { A, B: c } = core;" in script
    assert "return { ...core, D: d };" in script and not re.search(r"^(import|export) ", script, re.MULTILINE)
