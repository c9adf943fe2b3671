"""The command line: what it prints and what it leaves. Input that is bad has a file of its own, test_bad_input.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dcgen.scene_file import load_scene
from dcgen.types import Scene
from tests.conftest import LIBRARY, Run


def test_help_and_version(run: Run) -> None:
    for arguments in (["--help"], ["scenario", "--help"], ["world", "--help"], ["train", "--help"]):
        result = run(*arguments)
        assert result.code == 0 and "--help" in result.out
    assert run("--version").out.startswith("dcgen 0.")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["nope"], "'nope'. See dcgen --help."),
        (["scenario"], "See dcgen scenario --help."),
        (["render", "x.h5"], "See dcgen render --help."),
        (["scenario", "x", "--frames", "many"], ". See dcgen scenario --help."),
        (["scenario", "x", "--frames", "0"], "1. See dcgen scenario --help."),
        (["bench", "nope"], "See dcgen bench --help."),
        (["render", "x.h5", "-o", "x.png", "--camera", "eye"], "'--camera': 'eye' is not one of 'page'"),
    ],
)
def test_wrong_use_is_one_line(wrong: list[str], told: str, run: Run) -> None:
    assert told in run(*wrong).fault


def test_a_model_that_is_none_is_told_those_there_are(run: Run, tmp_path: Path) -> None:
    fault = run("scenario", "left_turn", "--model", "foo", "-o", tmp_path / "a.h5").fault
    assert fault.endswith("use --model base, nano or nano-student") and not list(tmp_path.iterdir())


def test_a_library_map_and_a_folder_that_is_not_there_yet(run: Run, untrained: Path, tmp_path: Path) -> None:
    quick = ["--model", untrained, "--frames", 1, "--steps", 1, "--guidance", 1]
    made = run("scenario", "crossroads", *quick, "-o", f"{tmp_path}/deep/new/")
    assert made.code == 0 and made.out.split() == [str(tmp_path / "deep" / "new" / "crossroads.h5")], made
    assert load_scene(made.out.strip()).labels.shape == (1, 64, 64, 8)


@pytest.mark.parametrize(
    "more", [["--model", "nano"], ["--guidance", 3], ["--steps", 4], ["--generate", 0], ["--long", 2], ["--worlds", 2]]
)
def test_an_autoencoder_is_measured_alone(more: list[object], run: Run) -> None:
    assert "--vae is measured alone; leave out" in run("evaluate", "--map", "x.xodr", "--vae", "base", *more).fault


def test_a_library_scenario_becomes_a_scene_and_a_picture(run: Run, untrained: Path, tmp_path: Path) -> None:
    quick = ["--model", untrained, "--frames", 9, "--steps", 1, "--guidance", 1, "--json"]
    result = run(
        "scenario", LIBRARY / "left_turn.yaml", *quick, "--picture", tmp_path / "a.png", "-o", tmp_path / "a.h5"
    )
    assert result.code == 0, result
    summary = json.loads(result.out)
    assert summary["scene"] == str(tmp_path / "a.h5") and summary["frames"] == 9 and summary["generate_s"] > 0
    assert (tmp_path / "a.png").stat().st_size > 10_000
    first = load_scene(tmp_path / "a.h5")
    assert first.labels.shape == (9, 64, 64, 8) and first.scenario == (LIBRARY / "left_turn.yaml").read_text()
    assert first.metadata["name"] and first.model == "nano" and len(first.model_sha256) == 64
    assert run("scenario", "left_turn", *quick, "-o", tmp_path / "b.h5").code == 0
    again = load_scene(tmp_path / "b.h5")
    assert np.array_equal(first.labels, again.labels)
    other = run("scenario", "left_turn", *quick, "--seed", first.seed + 1, "-o", tmp_path / "c.h5")
    assert other.code == 0 and not np.array_equal(load_scene(tmp_path / "c.h5").labels, first.labels)
    assert "\x1b" not in result.err and "%" not in result.err  # no bar in a pipe


def _no_memory_for_numpy(*_: object) -> None:
    np.empty(1 << 62, np.uint8)


def _no_memory_for_torch(*_: object) -> None:
    import torch

    torch.empty(1 << 60)


def _no_memory_on_the_gpu(*_: object) -> None:
    import torch

    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1 GiB free.")


@pytest.mark.parametrize("fault", [_no_memory_for_numpy, _no_memory_for_torch, _no_memory_on_the_gpu])
def test_no_memory_left_while_sampling_is_one_line(
    fault: Callable[..., None], run: Run, untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcgen.vae.model.Vae.labels", fault)
    quick = ["--model", untrained, "--frames", 8, "--steps", 1, "--guidance", 1]
    said = run("scenario", "left_turn", *quick, "-o", tmp_path / "a.h5").fault
    assert said.count("\n") <= 1 and "out of memory" in said and "smaller" in said
    assert not list(tmp_path.iterdir()), "nothing is left half written"


def test_several_routes_make_several_scenes(run: Run, untrained: Path, shared_data: Path, tmp_path: Path) -> None:
    routes, town = shared_data / "routes" / "lb1_training.xml", shared_data / "maps" / "Town01.xodr"
    result = run(
        "scenario", routes, "--map", town, "--routes-subset", "0,2", "--frames", 8, "--steps", 1, "--guidance", 1,
        "--model", untrained, "-o", tmp_path / "route.h5",
    )  # fmt: skip
    assert result.code == 0, result
    assert result.out.split() == [str(tmp_path / f"route_{k}.h5") for k in (0, 2)]
    assert load_scene(tmp_path / "route_2.h5").metadata["name"] == "Lb1 training, route 2"


def test_inspect(run: Run, scene: Scene, scene_path: Path) -> None:
    table = run("inspect", scene_path)
    assert table.code == 0 and "Town01" in table.out and "/occupancy/labels" in table.out
    summary = json.loads(run("inspect", scene_path, "--json").out)
    assert summary["frames"] == 3 and summary["commands"] == ["LEFT"] and len(summary["agents"]) == 2
    assert summary["found"] == 1 and "2 given, 1 found" in table.out
    assert sum(summary["class_shares"].values()) == pytest.approx(1.0)
    labels = scene.labels
    occupied = (labels > 0) & (labels < 255)
    assert summary["class_shares"]["road"] == pytest.approx((labels == 6).sum() / occupied.sum())
    assert summary["datasets"]["/occupancy/labels"]["shape"] == [3, 11, 13, 7]


def test_render(run: Run, scene_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    assert run("render", scene_path, "-o", output, "--width", 400, "--frame", -1).out.strip() == str(output)
    assert "x.bmp" in run("render", scene_path, "-o", tmp_path / "x.bmp").fault
    assert "frames 0 to 2" in run("render", scene_path, "-o", output, "--frame", 7).fault


def test_a_window_needs_a_display(run: Run, scene_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        assert "dcgen render" in run("view", scene_path).fault
