"""The example forecaster: moving columns, finding motion, training from a data set, going on from a checkpoint."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import DatasetWriter
from dcgen.types import Clip, GridSpec, Semantics
from tests.dcgen.dataset.driven import CAR, DT, WALKER, driven_clip, stamp, tracks

GRID = GridSpec((24, 24, 5), (0.8, 0.8, 0.8), (-9.6, -9.6, -0.8))
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("train_forecaster")


@pytest.fixture(scope="module")
def network(example):
    return importlib.import_module("forecaster")


def test_columns_move_by_whole_and_by_half_voxels(network):
    values = torch.zeros(2, 3, 4, 9, 11)  # B C Z X Y
    values[1, 2, 1:3, 4, 5] = 1
    way = torch.zeros(2, 2, 3, 2, 9, 11)
    way[1, 0, 2, :, 4, 5] = torch.tensor([2.0, -3.0])
    way[1, 1, 2, :, 4, 5] = torch.tensor([0.5, 20.0])
    moved = network.splat(values, way)
    assert moved.shape == (2, 2, 3, 4, 9, 11)
    assert (moved[1, 0, 2, 1:3, 6, 2] == 1).all() and moved.sum() == 2  # the second leaves the grid
    way[1, 1, 2, 1] = 0
    assert network.splat(values, way)[1, 1, 2, 1, 4:6, 5].tolist() == [0.5, 0.5]


def test_patches_tell_how_far_a_body_went(network):
    users = torch.zeros(1, 3, 3, 32, 40)  # B P C X Y
    for t in range(3):
        users[0, t, 1, 8 + 4 * t : 14 + 4 * t, 26 - 6 * t : 30 - 6 * t] = 1  # 4 along x, 6 back along y a frame
        users[0, t, 1, 24:28, 33:37] = 1
        users[0, t, 0, 4, 3 + t] = 1
    speed = network.speeds(users)
    assert torch.allclose(speed[0, 1, :, 19, 16], torch.tensor([4.0, -6.0]), atol=0.2)
    assert speed[0, 1, :, 26, 35].abs().max() < 0.1
    assert torch.allclose(speed[0, 0, :, 4, 5], torch.tensor([0.0, 1.0]), atol=0.3)


def drive(seed: int) -> Clip:
    """A car along y, one along x, a walker; in a square grid that stands still."""
    rng = np.random.default_rng(seed)
    agents = tracks(
        (*CAR, rng.uniform(-6, 6), -1.0, np.pi / 2, 6.0, 0), (*CAR, 0, rng.uniform(4, 7), 0.0, -5.0, 0),
        (*WALKER, -7, rng.uniform(-5, 5), 0, 1.5, 0), frames=6,
    )  # fmt: skip
    base = driven_clip(seed, 6, sensed=False).conditions
    anchor = np.eye(4)
    cuts = [stamp(agents.frames(t, t + 1), anchor, GRID) for t in range(6)]
    conditions = replace(
        base, grid=GRID, world_se3_anchor=anchor, agents=agents, layout_static=base.layout_static[:, :24, :24],
        layout_agents=base.layout_agents[..., :24, :24], known=np.zeros((6, *GRID.shape), np.uint8),
    )  # fmt: skip
    labels, moving = (np.concatenate([getattr(cut, name) for cut in cuts]) for name in ("labels", "moving"))
    return Clip(labels, moving, conditions, f"drive {seed}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for name, first in (("train", 0), ("test", 100)):
        with DatasetWriter(root / name, DatasetSpec(GRID, 6, DT, 8, origin={"name": name})) as writer:
            writer.write_shard(0, [drive(first + n) for n in range(8)])
    return root


def run(example, monkeypatch, folders, out, minutes):
    arguments = ["--train", folders / "train", "--test", folders / "test", "--out", out, "--past", 3, "--future", 2]
    arguments += ["--minutes", minutes, "--workers", 0]
    monkeypatch.setattr(sys, "argv", ["train_forecaster.py", *map(str, arguments)])
    example.main()
    return json.loads((out / "figures.json").read_text())


def test_a_short_run_beats_copying_and_goes_on_where_it_stopped(example, monkeypatch, folders, tmp_path, capsys):
    said = run(example, monkeypatch, folders, tmp_path, 0.01)
    copy, model = (np.mean([step["moving"] for step in said["steps_ahead"][who]]) for who in ("copy", "model"))
    assert 0.05 < copy < model and (tmp_path / "forecast.png").stat().st_size > 1000
    more = run(example, monkeypatch, folders, tmp_path, 0.05)
    assert more["step"] > said["step"] and "going on from step" in capsys.readouterr().out


def test_figures_of_perfect_forecasts_are_one_and_copies_score_less(example):
    clip = drive(3)
    scores = example.Scores(example.Confusion(), {})
    scores.add(clip.labels, clip.labels, clip.moving, GRID.voxel_m)
    assert scores.figures()["miou"] == 1 and scores.figures()["moving"] == 1
    scores.add(np.roll(clip.labels, 1, axis=0), clip.labels, clip.moving, GRID.voxel_m)
    assert scores.figures()["moving"] < 0.9


def test_what_stands_still_is_the_newest_that_was_seen(network):
    past = torch.tensor([Semantics.ROAD, Semantics.VEHICLE, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1)
    assert network.background(past).item() == Semantics.ROAD
    assert network.background(past[:, 1:]).item() == Semantics.FREE
