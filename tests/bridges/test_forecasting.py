"""dcgen forecast: a few steps learn something, a stopped run goes on exactly, bad input is one line and exit code 2."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from bridges.commands.forecast import app, seconds_of
from bridges.forecasting import EvaluateForecast, TrainForecast, cell, evaluate_forecast, table, train_forecast
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import DatasetWriter
from dcgen.errors import CheckpointError, DatasetError, DcgenError, GridMismatch
from dcgen.forecast.recipe import WEIGHTS, load_forecaster
from dcgen.scene_file import save_scene
from dcgen.types import (
    AGENT_CHANNELS,
    LAYOUT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    Clip,
    Command,
    Conditions,
    GridSpec,
    Scene,
)
from tests.dcgen.forecast.drives import DT, GRID, drive

# The shipped sizes halve the grid three times.
HOW = {"past": 3, "seconds": (0.2, 0.6)}


def clip_of(found) -> Clip:
    t, (x, y, _) = len(found.labels), GRID.shape
    conditions = Conditions(
        GRID, DT, found.world_se3_ego[t // 2], found.world_se3_ego, np.zeros((t, 3), np.float32), Command.LEFT,
        np.zeros((len(STATIC_CHANNELS), x, y), np.float32), np.zeros((t, len(AGENT_CHANNELS), x, y), np.float32),
        np.full(found.labels.shape, UNKNOWN, np.uint8), found.agents,
    )  # fmt: skip
    return Clip(found.labels, found.moving, conditions, "drive", ego_centred=True)


def scene_of(found, grid: GridSpec = GRID) -> Scene:
    t = len(found.labels)
    return Scene(
        found.labels, grid, np.arange(t) * DT, found.world_se3_ego, found.agents, np.zeros((t, 3), np.float32),
        np.ones(t, np.int8), np.zeros((t, len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float16),
        np.zeros(found.labels.shape, bool),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """clips: a data set; scenes: a folder of scenes; run: a forecaster after a few steps on both."""
    root = tmp_path_factory.mktemp("forecast")
    spec = DatasetSpec(GRID, 7, DT, 6, ego_centred=True, origin={"maps": ["Oval ab12"]})
    with DatasetWriter(root / "clips", spec) as writer:
        writer.write_shard(0, [clip_of(drive(seed, frames=7)) for seed in range(6)])
    for seed in range(2):
        save_scene(scene_of(drive(50 + seed, frames=7)), root / "scenes" / f"{seed}.h5")
    train_forecast(order(root, "run", 21), print)
    return root


def order(root: Path, name: str, steps: int, **more) -> TrainForecast:
    asked = {"steps": steps, "batch": 3, **more}
    return TrainForecast((root / "clips", root / "scenes"), root / name, **HOW, stride=1, asked=asked, seed=5)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_few_steps_lower_the_loss_and_beat_copying(folders):
    first, *_, last = lines(folders / "run")
    assert last["loss"] < first["loss"] and (folders / "run" / "log.png").stat().st_size > 1000
    result = evaluate_forecast(EvaluateForecast(folders / "scenes", (folders / "run",)), lambda done, total: None)
    copy, carried, model = result["figures"].values()
    assert model[1]["iou"] > carried[1]["iou"] > copy[1]["iou"]  # it fills in the road that comes into sight
    assert model[1]["moving"] > carried[1]["moving"]


def test_a_stopped_run_goes_on_exactly(folders):
    import dcgen.train as loop

    train_forecast(order(folders, "whole", 4, save_s=1e9), print)

    class Cut(Exception):
        pass

    kept = loop.RunState.save

    def save(self, step):
        kept(self, step)
        if step == 2:
            raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.RunState, "save", save)
        with pytest.raises(Cut):
            train_forecast(order(folders, "cut", 4, save_s=0.0), print)
    assert not (folders / "cut" / WEIGHTS).exists()
    train_forecast(order(folders, "cut", 4, save_s=1e9), print)
    one, other = (load_file(folders / name / WEIGHTS) for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_table_says_what_on_and_joins_seeds(folders):
    train_forecast(replace(order(folders, "seed", 2), seed=6), print)
    both = (folders / "run", folders / "seed")
    result = evaluate_forecast(EvaluateForecast(folders / "clips", both, "predicted"), lambda done, total: None)
    said = table(json.loads(json.dumps(result)))
    assert "6 clips of Oval" in said and "32 x 24 x 5 voxels of 0.8 m, 0.2 s a frame" in said
    assert "future is predicted" in said and "forecaster, 2 seeds" in said and "IoU 0.6 s" in said and " ± " in said
    values = [result["figures"][str(run)][0]["iou"] for run in both]
    assert cell(np.mean(values), np.std(values, ddof=1)) in said
    assert "m off" in said and result["figures"][str(both[0])][1]["ego_m"] > 0
    assert (cell(0.5, float("nan")), cell(float("nan"), float("nan")), cell(1.0, 0.012)) == (
        ".500",
        "-",
        "1.000 ± .012",
    )


def test_a_picture_shows_past_truth_and_forecasts(folders, tmp_path):
    from PIL import Image

    from dcgen.forecast.picture import GAP, HEAD, PAPER

    picture = tmp_path / "x.png"
    evaluate_forecast(
        EvaluateForecast(folders / "clips", (folders / "run",), picture=picture), lambda done, total: None
    )
    wide, high, rows = 24 * 4 + GAP, HEAD + 32 * 4 + GAP, 2 * 5
    image = np.asarray(Image.open(picture))
    assert image.shape == (rows * high, GAP + 3 * wide, 3)
    for row in range(rows):
        name, times = np.split(image[row * high : row * high + HEAD], 2)
        assert (name != PAPER).any()  # every row says what it is
        words = [(times[:, GAP + n * wide : GAP + (n + 1) * wide] != PAPER).any() for n in range(3)]
        assert words == [True, True, row % 5 == 0]  # and every frame when: three past ones, two later ones
        empty = image[row * high + HEAD : (row + 1) * high, GAP + 2 * wide :]
        assert (empty == PAPER).all() == (row % 5 != 0)


def refused(*words: object) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(found.exception, DcgenError), (found.exception, found.output)
    assert "\n" not in str(found.exception)
    return str(found.exception)


def test_bad_input_is_one_line(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    out, run, clips = tmp_path / "out", folders / "run", folders / "clips"
    ahead = ("--past", 3, "--horizons", "0.2,0.6")
    assert "holds neither a data set nor scenes" in refused("train", tmp_path / "empty", "-o", out)
    assert "no such folder" in refused("train", tmp_path / "none", "-o", out)
    assert "is no folder" in refused("evaluate", run / WEIGHTS)
    assert "longest has 7" in refused("train", folders / "scenes", "-o", out, "--past", 5, "--horizons", "0.6")
    assert "no whole number of frames" in refused("train", clips, "-o", out, "--horizons", "0.5")
    assert "ascending seconds" in refused("train", clips, "-o", out, "--horizons", "2,1")
    assert "is no folder" in refused("train", clips, "-o", run / WEIGHTS, *ahead)
    assert "ahead: the run has (1, 3), asked is (1, 2)" in refused(
        "train", clips, "-o", run, "--past", 3, "--horizons", "0.2,0.4"
    )
    assert "no such forecaster" in refused("evaluate", clips, "--model", tmp_path / "empty")
    assert "--horizons: asked is (1.0,)" in refused("evaluate", clips, "--model", run, "--horizons", "1")
    assert "is named twice" in refused("evaluate", clips, "--model", run, "--model", run)
    assert ".png" in refused("evaluate", clips, "--picture", tmp_path / "x.jpg", *ahead)
    assert not out.exists()
    moved = replace(GRID, origin_m=(0.0, -9.6, -0.8))
    save_scene(scene_of(drive(1, frames=7), moved), tmp_path / "moved" / "a.h5")
    assert "grid" in refused("evaluate", tmp_path / "moved", "--model", run)
    save_scene(scene_of(drive(1, frames=7)), tmp_path / "moved" / "b.h5")
    assert "b.h5: grid" in refused("train", tmp_path / "moved", "-o", out, *ahead)


def test_damaged_forecasters_are_refused(folders, tmp_path):
    whole = (folders / "run" / WEIGHTS).read_bytes()
    path = tmp_path / WEIGHTS
    for damaged in (
        whole[: len(whole) // 2],
        whole[:-9] + b"\x01" + whole[-8:],
        whole.replace(b'"past', b'"pest', 1),
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=str(path)):
            load_forecaster(path)
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="pickle"):
        load_forecaster(path)


def test_errors_are_named_by_their_kind(folders):
    with pytest.raises(DatasetError):
        train_forecast(TrainForecast((folders / "none",), folders / "x"), print)
    save_scene(scene_of(drive(1, frames=7), replace(GRID, voxel_m=(0.4, 0.8, 0.8))), folders / "fine" / "a.h5")
    with pytest.raises(GridMismatch):
        evaluate_forecast(EvaluateForecast(folders / "fine", (folders / "run",)), lambda done, total: None)
    assert seconds_of("1,2.5") == (1.0, 2.5) and seconds_of(None) is None


def test_the_command_line_ends_with_two_and_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-m", "cli", "forecast", "evaluate", str(tmp_path / "empty")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
