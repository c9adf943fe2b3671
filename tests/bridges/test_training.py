"""Clips that are cut when they are asked for, beside the same clips cut beforehand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridges.training import LiveClips, TrainingOrder, run_training
from dcgen.dataset.packing import LAYOUT_SCALE
from dcgen.dataset.source import FIELDS
from dcgen.errors import DcgenError
from dcgen.types import Clip, GridSpec
from scenarios.layout import rasterise
from scenarios.world.cut.clips import sample_clip
from scenarios.world.store import World, assemble_world
from tests.dcgen.small import CONFIG, dataset_of
from tests.scenarios.world.conftest import street_map, street_traffic

GRID = GridSpec((32, 40, 8), (0.8, 0.8, 0.8), (-12.8, -16.0, -2.0))
MODEL = replace(CONFIG, grid=GRID)
COUNT, SEED = 7, 11


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    road_map = street_map()
    return [assemble_world(road_map, rasterise(road_map), street_traffic(), seed) for seed in (5, 6)]


@pytest.fixture(scope="module")
def live(worlds: list[World]) -> LiveClips:
    return LiveClips(worlds, COUNT, SEED, MODEL)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_row_depends_on_the_seed_and_its_number_alone(worlds: list[World], live: LiveClips) -> None:
    whole = live.rows(np.arange(COUNT), FIELDS)
    order = np.array([4, 0, 6, 4])
    assert same(live.rows(order, FIELDS), {name: rows[order] for name, rows in whole.items()})
    longer = LiveClips(worlds, COUNT + 5, SEED, MODEL)
    for n in (5, 2):  # each by itself, the later first
        assert same(longer.rows(np.array([n]), FIELDS), {name: rows[n : n + 1] for name, rows in whole.items()})
    other = LiveClips(worlds, COUNT, SEED + 1, MODEL).rows(np.arange(COUNT), FIELDS)
    for n in range(COUNT):
        assert not np.array_equal(whole["labels"][n], other["labels"][n])
        assert all(not np.array_equal(whole["labels"][n], whole["labels"][m]) for m in range(n))


def test_a_field_is_the_same_whatever_is_asked_beside_it(live: LiveClips) -> None:
    index = np.array([3, 1])
    whole = live.rows(index, FIELDS)
    for name in FIELDS:
        assert same(live.rows(index, [name]), {name: whole[name]})


def test_live_clips_are_those_a_shard_would_hold(worlds: list[World], live: LiveClips, tmp_path) -> None:
    clips: list[Clip] = []
    for n in range(COUNT):
        rng = np.random.default_rng([SEED, n])
        clips.append(sample_clip(worlds[int(rng.integers(len(worlds)))], rng, GRID, MODEL.frames, MODEL.dt_s))
    store = dataset_of(clips, tmp_path / "clips")
    assert len(live) == len(store) == COUNT
    assert live.clip_shape == store.clip_shape == (MODEL.frames, *GRID.shape)
    index = np.array([6, 0, 3])
    cut, kept = live.rows(index, FIELDS), store.rows(index, FIELDS)
    assert cut.keys() == kept.keys() == set(FIELDS)
    for name in FIELDS:
        assert cut[name].dtype == kept[name].dtype and cut[name].shape == kept[name].shape, name
        coarse = 0.5 / LAYOUT_SCALE + 1e-6 if name.startswith("layout") else 0.0  # a shard holds layouts as int8
        assert np.abs(cut[name].astype(float) - kept[name].astype(float)).max() <= coarse, name
    assert cut["moving"].any() and cut["layout_agents"].any() and np.ptp(cut["trajectory"]) > 1


def test_a_model_whose_frames_follow_the_ego_gets_such_clips(worlds: list[World], live: LiveClips) -> None:
    centred = LiveClips(worlds, COUNT, SEED, replace(MODEL, anchored=False))
    moved = 0
    for n in (0, 3, 5):
        one, other = live.clip(n), centred.clip(n)
        assert other.ego_centred and not one.ego_centred and one.source == other.source
        assert np.array_equal(one.conditions.world_se3_ego, other.conditions.world_se3_ego)
        middle = MODEL.frames // 2  # where the anchor is
        assert np.array_equal(one.labels[middle], other.labels[middle])
        moved += int((one.labels != other.labels).any())
    assert moved and same(centred.rows(np.array([3]), ["labels"]), {"labels": centred.clip(3).labels[None]})


@pytest.mark.parametrize("vae", [None, Path("runs/vae")])
def test_a_start_that_would_be_ignored_is_refused(vae: Path | None, tmp_path: Path) -> None:
    order = TrainingOrder("decoder", (tmp_path,), tmp_path / "run", vae=vae, start="nano")
    with pytest.raises(DcgenError, match=r"--start is for dcgen train vae, dit and student; leave it out"):
        run_training(order, print)
    assert not (tmp_path / "run").exists()


def test_a_student_without_a_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DcgenError, match=r"--start is missing; dcgen train student needs the model"):
        run_training(TrainingOrder("student", (tmp_path,), tmp_path / "run"), lambda line: None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["vae", "student"])
def test_a_vae_that_would_be_ignored_is_refused(stage: str, tmp_path: Path) -> None:
    with pytest.raises(DcgenError, match=r"--vae is for dcgen train decoder and dit; leave it out"):
        run_training(TrainingOrder(stage, (tmp_path,), tmp_path / "run", vae=tmp_path, start="nano"), print)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("below", ["", "runs/vae"])
def test_a_file_where_a_run_should_go_is_named_before_any_work(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(DcgenError, match=r"--output .*file.*: .*file is no folder; give another folder"):
        run_training(TrainingOrder("student", (tmp_path,), tmp_path / "file" / below, start="nano"), print)
    assert (tmp_path / "file").read_text() == "somebody's"
