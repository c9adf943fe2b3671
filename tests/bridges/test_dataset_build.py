"""Data sets built from maps: the same clips whoever cuts them, once each, whole after any stop, and checked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.dataset import WorldReader, check_once, dcgen_dataset, preview_dataset
from bridges.dataset_build import BuildOrder, build_dataset
from bridges.dataset_verify import verify_dataset
from bridges.dataset_worlds import WorldJob, plan_worlds, world_stands
from dcgen.dataset.files import only_writer, read_json, write_json
from dcgen.dataset.shard import all_fields
from dcgen.dataset.store import WORLDS
from dcgen.errors import DatasetError, DcgenError, WorldError
from dcgen.types import UNKNOWN, GridSpec
from scenarios.world.cut.candidates import EgoMix
from scenarios.world.cut.clips import make_clip, picks
from scenarios.world.cut.recipe import ClipRecipe, Pick
from scenarios.world.store import build_world, load_world
from scenarios.world.traffic.spec import TrafficSpec
from tests.bridges.test_workers import ray_head
from tests.conftest import LIBRARY, ROOT, Run, refused
from tests.test_bad_output import full_disk

GRID = GridSpec((24, 20, 6), (0.8, 0.8, 0.9), (-9.6, -8.0, -1.0))
RECIPE = ClipRecipe(GRID, 5, 0.2)
TRAFFIC = TrafficSpec(warmup_s=4.0, vehicles=0.5, pedestrians=0.5)
CLIPS, SEED = 14, 6


def order(out: Path, **changes: Any) -> BuildOrder:
    values = {"clips": CLIPS, "recipe": RECIPE, "seed": SEED, "seconds": 12.0, "traffic": TRAFFIC}
    return BuildOrder(("ring", "crossroads"), out, **(values | changes))


def jobs_of(what: BuildOrder) -> list[WorldJob]:
    return plan_worlds(what.maps, what.worlds_per_map, what.seed, what.seconds, what.style, what.traffic)


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dataset(order(tmp_path_factory.mktemp("data") / "set"), silent, silent)


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy to be harmed or gone on with."""
    return Path(shutil.copytree(built, tmp_path / "set"))


def without_parts(built: Path, out: Path) -> Path:
    """The worlds alone, so that no test has to simulate them again."""
    shutil.copytree(built / WORLDS, out / WORLDS)
    return out


def test_a_data_set_is_as_ordered(built: Path) -> None:
    dataset = dcgen_dataset(built)
    assert len(dataset) == CLIPS and dataset.complete and dataset.spec.cut
    worlds = {str(row.cut["world"]) for row in dataset.rows}
    assert worlds == {"0000-ring", "0001-crossroads"}
    places = [(row.cut["world"], row.cut["ego"], row.cut["start"]) for row in dataset.rows]
    assert len(set(places)) == CLIPS  # none is doubled
    for n, clip in enumerate(dataset):
        assert clip.labels.shape == (5, *GRID.shape) and clip.source == dataset.rows[n].source
        assert (clip.labels != UNKNOWN).all() and (clip.labels > 0).any()
    assert len({row.sha256 for row in dataset.rows}) == CLIPS


@pytest.mark.parametrize("changes", [{"workers": 2}, {"shards": True}, {"shards": True, "workers": 3}])
def test_the_content_hangs_on_the_seed_alone(changes: dict[str, Any], built: Path, tmp_path: Path) -> None:
    out = build_dataset(order(without_parts(built, tmp_path), **changes), silent, silent)
    again, first = dcgen_dataset(out), dcgen_dataset(built)
    assert again.content_sha256 == first.content_sha256 and again.spec.cut != changes.get("shards", False)
    for n in (0, 9):
        one, other = again.packed(n, all_fields(again.spec)), first.packed(n, all_fields(first.spec))
        assert all(np.array_equal(one[name], other[name]) for name in other)


def test_a_world_is_the_same_wherever_it_is_built(built: Path, tmp_path: Path) -> None:
    out = build_dataset(order(tmp_path / "again", clips=2, workers=2), silent, silent)
    for world in ("0000-ring", "0001-crossroads"):
        for path in sorted((built / WORLDS / world).iterdir()):
            assert path.read_bytes() == (out / WORLDS / world / path.name).read_bytes(), path


def test_another_seed_gives_other_clips_and_worlds(built: Path, tmp_path: Path) -> None:
    jobs = [jobs_of(order(tmp_path, seed=seed)) for seed in (SEED, SEED, SEED + 1)]
    assert jobs[0] == jobs[1] and not {job.seed for job in jobs[0]} & {job.seed for job in jobs[2]}
    world = load_world(built / WORLDS / "0000-ring")
    chosen = [[next(source) for _ in range(6)] for source in (picks(world, RECIPE, seed) for seed in (1, 1, 2))]
    assert chosen[0] == chosen[1] != chosen[2] and len(set(chosen[0])) == 6


def test_a_build_goes_on_where_it_stopped(folder: Path) -> None:
    content = dcgen_dataset(folder).content_sha256
    (folder / "parts" / "part-000001.json").write_text("{")
    world = folder / WORLDS / "0001-crossroads"
    (world / "traffic.npz").write_bytes(b"damaged")
    ring, crossroads = jobs_of(order(folder))
    assert not world_stands(world, crossroads) and world_stands(folder / WORLDS / "0000-ring", ring)
    assert not world_stands(folder / WORLDS / "0000-ring", replace(ring, seed=ring.seed + 1))
    said: list[str] = []
    kept = (folder / WORLDS / "0000-ring" / "traffic.npz").stat().st_mtime_ns
    build_dataset(order(folder), said.append, silent)
    assert dcgen_dataset(folder).content_sha256 == content and world_stands(world, crossroads)
    assert (folder / WORLDS / "0000-ring" / "traffic.npz").stat().st_mtime_ns == kept
    assert len(said) == 2 and "part-000001.json" in said[0] and "1 of 2 parts stand" in said[1], said


COMMAND = ["dataset", "build", "--maps", "ring", "--clips", "60", "--grid", "24x20x6@0.8,0.9", "--frames", "5"]
COMMAND += ["--seconds", "12", "--traffic", "warmup_s=4", "--traffic", "vehicles=0.5", "--seed", "6"]


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_build_that_is_killed_at_any_moment(tmp_path: Path) -> None:
    out, rng = tmp_path / "set", np.random.default_rng(3)
    command = [sys.executable, str(ROOT / "cli.py"), *COMMAND, "--workers", "2", "--shards", "-o", str(out)]
    for _ in range(6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                process.communicate(timeout=rng.uniform(0.5, 6))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    dataset = dcgen_dataset(out)
    verdict = verify_dataset(out, False, silent)
    assert dataset.complete and verdict.faults == () and verdict.clips == 60
    assert len({(row.cut["ego"], row.cut["start"]) for row in dataset.rows}) == 60
    assert not list(out.rglob("*.part")), "leftovers are swept"


def test_verify_names_what_does_not_fit(folder: Path) -> None:
    assert verify_dataset(folder, False, silent).faults == ()
    index = folder / "parts" / "part-000000.json"
    text = index.read_text()
    index.write_text(text.replace('"ego":', '"egg":', 1))
    with pytest.raises(DatasetError, match=r"part-000000\.json: its checksum"):
        verify_dataset(folder, False, silent)
    index.write_text(text)
    path = folder / WORLDS / "0000-ring" / "tile.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    (fault,) = verify_dataset(folder, True, silent).faults
    assert "0000-ring/tile.npz: its checksum" in fault and "run the build again" in fault
    path.unlink()
    assert "tile.npz: no such file" in verify_dataset(folder, True, silent).faults[0]


def test_a_clip_that_is_cut_otherwise_is_found(folder: Path) -> None:
    dataset = dcgen_dataset(folder)
    assert isinstance(dataset.reader, WorldReader)
    changed = replace(dataset.reader, recipe=replace(RECIPE, dt_s=0.4))
    assert not np.array_equal(changed.packed(0, ["labels"])["labels"], dataset.packed(0, ["labels"])["labels"])


def test_layouts_are_made_where_they_are_asked_for(built: Path) -> None:
    dataset = dcgen_dataset(built)
    everything = dataset.packed(3, all_fields(dataset.spec))
    assert everything["layout_static"].any()
    for name in ("labels", "moving", "trajectory", "command", "agent_pose"):
        assert np.array_equal(dataset.packed(3, [name])[name], everything[name]), name


def test_hollow_ego_centred_and_observed_clips(built: Path) -> None:
    world = load_world(built / WORLDS / "0000-ring")
    pick = next(picks(world, RECIPE, 0))
    plain = make_clip(world, pick, RECIPE)
    shell = make_clip(world, pick, replace(RECIPE, hollow=True))
    assert ((shell.labels == plain.labels) | (shell.labels == 0)).all() and not (shell.moving & ~plain.moving).any()
    ego = make_clip(world, pick, replace(RECIPE, ego_centred=True))
    middle = RECIPE.frames // 2
    assert ego.ego_centred and np.array_equal(ego.labels[middle], plain.labels[middle])
    assert np.allclose(ego.world_se3_grid, ego.conditions.world_se3_ego)
    seen = make_clip(world, pick, replace(RECIPE, lidar="roof"))
    assert seen.observed is not None and seen.points is not None and len(seen.points) == RECIPE.frames
    assert 0.05 < seen.observed.mean() < 0.95 and np.array_equal(seen.labels, plain.labels)
    assert Pick(pick.ego, pick.start, pick.seed) == pick


@pytest.mark.parametrize("share", ["turning", "junction", "busy"])
def test_shares_of_clips_are_as_asked(share: str, built: Path) -> None:
    import shapely

    world = load_world(built / WORLDS / "0001-crossroads")
    mix = EgoMix(**{**dict.fromkeys(EgoMix().to_dict(), 0.0), share: 1.0})
    source = picks(world, replace(RECIPE, mix=mix), 4)
    clips = [make_clip(world, next(source), RECIPE) for _ in range(8)]
    junctions = shapely.union_all([shapely.Polygon(each.polygon_m) for each in world.road_map.junctions])
    for clip in clips:
        c = clip.conditions
        if share == "turning":
            assert abs(float(c.trajectory[-1, 2] - c.trajectory[0, 2])) > 0.1
        elif share == "junction":
            assert junctions.distance(shapely.Point(c.world_se3_ego[RECIPE.frames // 2, :2, 3])) < 18
        else:
            assert (c.agents.speed_mps[:, RECIPE.frames // 2] > 0.5).sum() >= 1


def test_a_world_without_more_clips_says_so(built: Path, tmp_path: Path) -> None:
    with pytest.raises(DcgenError, match=r"no more than \d+ distinct clips; build more worlds a map, or simulate"):
        build_dataset(order(without_parts(built, tmp_path), clips=20_000), silent, silent)


def test_a_preview_is_a_picture(built: Path, tmp_path: Path) -> None:
    path = preview_dataset(built, tmp_path / "x.png", 3, 1)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_two_builds_into_one_folder(folder: Path, run: Run) -> None:
    with only_writer(folder):
        fault = refused(run, folder, *COMMAND, "-o", folder)
    assert "another process is writing here" in fault
    assert "holds another data set" in refused(run, folder, *COMMAND, "-o", folder)


def test_commands_look_at_a_data_set(built: Path, run: Run, tmp_path: Path) -> None:
    card = json.loads(run("dataset", "info", built, "--json").out)
    assert card["clips"] == CLIPS and card["content_sha256"] == dcgen_dataset(built).content_sha256
    assert card["maps"] == ["ring", "crossroads"] and card["seed"] == SEED and card["worlds"] == 2
    assert card["content_sha256"] in run("dataset", "info", built).out
    verdict = json.loads(run("dataset", "verify", built, "--json").out)
    assert verdict["ok"] and verdict["clips"] == CLIPS and verdict["content_sha256"] == card["content_sha256"]
    assert run("dataset", "preview", built, "-o", tmp_path / "p.png", "--clips", 2).code == 0


def test_a_damaged_world_of_a_finished_data_set(folder: Path) -> None:
    path = folder / WORLDS / "0000-ring" / "tile.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    check_once.cache_clear()
    with pytest.raises(DatasetError, match=r"0000-ring/tile\.npz: its checksum.*run the build again"):
        dcgen_dataset(folder)[0]
    build_dataset(order(folder), silent, silent)
    assert path.read_bytes() == whole and verify_dataset(folder, False, silent).faults == ()


def test_the_same_maps_in_another_order_are_another_data_set(folder: Path) -> None:
    for maps in (("crossroads", "ring"), ("ring", "crossroads", "ring")):
        with pytest.raises(DatasetError, match="holds another data set"):
            build_dataset(replace(order(folder), maps=maps), silent, silent)


@pytest.mark.parametrize(
    ("name", "value"), [("ego", 10**6), ("start", -50), ("start", 10**30), ("world", "../../etc"), ("world", 7)]
)
def test_a_row_that_lies_outside_its_world(name: str, value: object, folder: Path) -> None:
    path = folder / "parts" / "part-000000.json"
    values = read_json(path, "dcgen-part", 1)
    values["clips"][0]["cut"][name] = value
    write_json(path, values)
    with pytest.raises(DcgenError) as fault:
        dcgen_dataset(folder)[0]
    assert "\n" not in str(fault.value)


def test_clips_can_be_sliced_and_fields_are_known(built: Path) -> None:
    dataset = dcgen_dataset(built)
    assert [clip.source for clip in dataset[2:9:3]] == [dataset.rows[n].source for n in (2, 5, 8)]
    with pytest.raises(DatasetError, match="has no nosuch; give fields"):
        dataset.packed(0, ["labels", "nosuch"])


def test_a_full_disk_leaves_what_was_finished(built: Path, tmp_path: Path) -> None:
    out = without_parts(built, tmp_path)
    with full_disk(8_000), pytest.raises(DatasetError, match=r"part-000000.* cannot be written .*free the disk"):
        build_dataset(order(out, shards=True), silent, silent)
    assert not list(out.rglob("*.part")) and not list(out.glob("parts/*"))
    build_dataset(order(out, shards=True), silent, silent)
    assert dcgen_dataset(out).content_sha256 == dcgen_dataset(built).content_sha256


def test_a_world_is_not_built_over_another(built: Path) -> None:
    world = built / WORLDS / "0000-ring"
    before = {path.name: path.read_bytes() for path in world.iterdir()}
    with pytest.raises(WorldError, match="holds a world already; remove it, or choose another folder"):
        build_world(LIBRARY / "maps" / "ring.xodr", world, 99, 5.0)
    assert before == {path.name: path.read_bytes() for path in world.iterdir()}


@pytest.mark.parametrize(("flags", "want"), [([], EgoMix()), (["--busy", 0.7], EgoMix(0, 0.7, 0, 0))])
def test_shares_that_are_not_given(flags: list[object], want: EgoMix, run: Run, monkeypatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr("bridges.dataset_build.build_dataset", lambda what, *_: seen.append(what.recipe.mix))
    assert run(*COMMAND, *flags, "-o", tmp_path / "x").code == 0 and seen == [want]


def test_a_build_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.xodr").write_text("<OpenDRIVE></OpenDRIVE>")
    before = sorted(tmp_path.rglob("*"))
    for maps in (("nowhere.xodr",), ("random:x",), (str(tmp_path),), ()):
        with pytest.raises(DcgenError):
            build_dataset(replace(order(tmp_path / "out"), maps=maps), silent, silent)
    with pytest.raises(DatasetError, match="points need a sensor"):
        build_dataset(order(tmp_path / "out", points=True), silent, silent)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"file.*cannot be written"):
        build_dataset(order(tmp_path / "file" / "out"), silent, silent)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "file"])


@pytest.mark.slow
def test_a_ray_cluster_builds_the_same(built: Path, tmp_path: Path) -> None:
    with ray_head() as (address, _):
        out = build_dataset(order(without_parts(built, tmp_path), ray_address=address), silent, silent)
    assert dcgen_dataset(out).content_sha256 == dcgen_dataset(built).content_sha256
