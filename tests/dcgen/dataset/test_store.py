"""A data set gives back what it was given, whenever its writer was stopped, and names what is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from dcgen.dataset import parts
from dcgen.dataset.card import card
from dcgen.dataset.files import LOCK, appearing, canonical, read_json, write_json
from dcgen.dataset.packing import LAYOUT_SCALE, clip_sha256, pack_clip, quantise, unpack_clip
from dcgen.dataset.shard import all_fields
from dcgen.dataset.source import FIELDS, ClipRows, in_order
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import ClipDataset, DatasetWriter, open_dataset
from dcgen.errors import DatasetError
from dcgen.types import AgentTracks, Clip
from tests.conftest import ROOT
from tests.dcgen.dataset.clips import FRAMES, GRID, full_clip, spec


def write(folder: Path, what: DatasetSpec, only: range | None = None) -> None:
    with DatasetWriter(folder, what, "abc123") as writer:
        for part in only or range(what.parts):
            if part not in writer.finished:
                writer.write_shard(part, [full_clip(n) for n in what.part_range(part)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write(folder, spec())
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    for path in whole.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(whole)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def assert_same(got: Clip, want: Clip) -> None:
    for name in ("labels", "moving", "observed"):
        assert np.array_equal(getattr(got, name), getattr(want, name)), name
        assert getattr(got, name).dtype == getattr(want, name).dtype
    assert got.source == want.source and got.ego_centred == want.ego_centred
    assert got.points is not None and want.points is not None
    assert all(np.array_equal(a, b) for a, b in zip(got.points, want.points, strict=True))
    a, b = got.conditions, want.conditions
    for name in ("world_se3_ego", "world_se3_anchor", "trajectory", "known"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert a.command == b.command and a.grid == b.grid and a.dt_s == b.dt_s
    for name in ("layout_static", "layout_agents"):
        assert np.abs(getattr(a, name) - getattr(b, name)).max() <= 0.5 / LAYOUT_SCALE + 1e-6
    for each in fields(AgentTracks):
        assert np.array_equal(getattr(a.agents, each.name), getattr(b.agents, each.name)), each.name


def test_clips_come_back_as_they_went_in(whole: Path) -> None:
    dataset = open_dataset(whole)
    assert len(dataset) == 11 and dataset.complete and dataset.made_by["commit"] == "abc123"
    for n, clip in enumerate(dataset):
        assert_same(clip, full_clip(n))
        assert dataset.rows[n].source == clip.source
    assert_same(dataset[-1], full_clip(10))
    assert_same(pickle.loads(pickle.dumps(dataset))[5], full_clip(5))
    with pytest.raises(IndexError):
        dataset[11]


def test_fields_are_read_alone_and_alike(whole: Path) -> None:
    dataset = open_dataset(whole)
    for n in (7, 2):
        together = dataset.packed(n, all_fields(dataset.spec))
        want = pack_clip(full_clip(n), dataset.spec)
        assert together.keys() == want.keys()
        for name, values in want.items():
            alone = dataset.packed(n, [name])[name]
            assert np.array_equal(alone, values) and alone.dtype == values.dtype, name


def test_the_digest_is_of_the_content(whole: Path, tmp_path: Path) -> None:
    dataset = open_dataset(whole)
    digests = [clip_sha256(pack_clip(full_clip(n), spec())) for n in range(11)]
    assert [row.sha256 for row in dataset.rows] == digests and len(set(digests)) == 11
    assert dataset.content_sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    write(tmp_path, spec(part_clips=3))  # kept otherwise, the same content
    assert open_dataset(tmp_path).content_sha256 == dataset.content_sha256
    base = full_clip(0)
    for name in ("labels", "moving", "observed"):
        values = getattr(base, name).copy()
        values[1, 2, 3, 0] ^= 1
        assert clip_sha256(pack_clip(replace(base, **{name: values}), spec())) != digests[0], name
    moved = replace(base, conditions=replace(base.conditions, world_se3_ego=base.conditions.world_se3_ego + 1e-9))
    assert clip_sha256(pack_clip(moved, spec())) != digests[0]


def test_the_same_clips_give_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # no clock is written down
    write(tmp_path, spec())
    for path in sorted((whole / "parts").iterdir()):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("change", [{"observed": False}, {"points": False}, {"ego_centred": True}])
def test_what_a_data_set_leaves_out(change: dict[str, bool], tmp_path: Path) -> None:
    what = spec(clips=3, **change)
    ego = what.ego_centred
    with DatasetWriter(tmp_path, what) as writer:
        writer.write_shard(0, [full_clip(n, ego) for n in range(3)])
    clip = open_dataset(tmp_path)[1]
    assert (clip.observed is None) == (not what.observed) and (clip.points is None) == (not what.points)
    assert clip.ego_centred == ego and np.array_equal(clip.labels, full_clip(1).labels)
    lacking = replace(full_clip(0, ego), observed=None, points=None)
    with DatasetWriter(tmp_path / "other", what) as writer, pytest.raises(DatasetError, match="without"):
        writer.write_shard(0, [lacking] * 3)
    assert not list((tmp_path / "other" / "parts").glob("*"))


def test_clips_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, spec()) as writer:
        with pytest.raises(DatasetError, match="part 0 needs 4 clips, got 3"):
            writer.write_shard(0, [full_clip(n) for n in range(3)])
        with pytest.raises(DatasetError, match="does not fit a data set"):
            writer.write_shard(0, [full_clip(n, ego_centred=True) for n in range(4)])
    assert not list((tmp_path / "parts").glob("part*"))


def test_an_unfinished_data_set_is_what_is_whole_of_it(tmp_path: Path) -> None:
    write(tmp_path, spec(), range(2))
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 8 and not dataset.complete
    write(tmp_path, spec())
    assert len(open_dataset(tmp_path)) == 11
    (tmp_path / "parts" / "part-000001.json").unlink()  # what comes after a gap has no number yet
    assert len(open_dataset(tmp_path)) == 4


def test_another_data_set_is_not_written_over(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for change, said in (({"seed": 4}, "seed 3, asked for 4"), ({"clips": 12}, "clips 11, asked for 12"),
                         ({"origin": {"kind": "other"}}, "kind drawn, asked for other")):  # fmt: skip
        with pytest.raises(DatasetError, match=f"{said}.*choose another folder"), DatasetWriter(folder, spec(**change)):
            pass
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        DatasetWriter(tmp_path, spec()),
        pytest.raises(DatasetError, match="another process is writing here; wait"),
        DatasetWriter(tmp_path, spec()),
    ):
        pass
    with DatasetWriter(tmp_path, spec()):
        pass


HARMS = {
    "a bit": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "no permission to be a link": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_shard_is_named_and_made_anew(harm: str, folder: Path) -> None:
    path = folder / "parts" / "part-000001.h5"
    HARMS[harm](path)
    dataset = open_dataset(folder)
    assert_same(dataset[3], full_clip(3))
    with pytest.raises(DatasetError, match=r"part-000001\.h5: unreadable shard.*run the build again"):
        dataset[4]
    if harm == "a folder":
        return
    said: list[str] = []
    with DatasetWriter(folder, spec(), tell=said.append) as writer:
        assert writer.finished == {0, 2} and len(said) == 1 and "part-000001" in said[0]
        writer.write_shard(1, [full_clip(n) for n in range(4, 8)])
    assert_same(open_dataset(folder)[4], full_clip(4))


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["dataset.json", "parts/part-000001.json"])
def test_a_damaged_index_is_named(harm: str, name: str, folder: Path) -> None:
    HARMS[harm](folder / name)
    if harm == "gone" and name != "dataset.json":
        assert len(open_dataset(folder)) == 4
        return
    with pytest.raises(DatasetError, match=rf"{folder}.*(build|run)") as fault:
        open_dataset(folder)
    assert "\n" not in str(fault.value)


def replaced(name: str, values: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


FORGED: dict[str, Callable[[h5py.File], None]] = {
    "class": lambda file: file["labels"].__setitem__((1, 0, 0, 0, 0), 77),
    "offsets": replaced("agent_offset", np.array([0, 5, 2, 3, 4])),
    "size": replaced("moving", np.zeros((4, 3), np.uint8)),
    "type": replaced("world_se3_ego", np.zeros((4, FRAMES, 4, 4), np.float32)),
    "link": replaced("labels", h5py.ExternalLink("/etc/passwd", "/")),
    "missing": lambda file: file.__delitem__("command"),
}


@pytest.mark.parametrize("change", FORGED)
def test_a_shard_whose_checksum_was_forged_is_still_looked_at(change: str, folder: Path) -> None:
    index, path = folder / "parts" / "part-000000.json", folder / "parts" / "part-000000.h5"
    with h5py.File(path, "r+") as file:
        FORGED[change](file)
    values = read_json(index, parts.FORMAT, parts.VERSION)
    values["shard"] = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    write_json(index, values)
    with pytest.raises(DatasetError, match=r"part-000000\.h5|holds classes") as fault:
        list(open_dataset(folder))
    assert "\n" not in str(fault.value)


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with pytest.raises(KeyboardInterrupt), appearing(path) as partial:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with appearing(path) as partial:
        partial.write_bytes(b"all")
    assert [each.name for each in tmp_path.iterdir()] == ["x.bin"] and path.read_bytes() == b"all"


def test_json_has_one_spelling_and_a_checksum(tmp_path: Path) -> None:
    assert canonical({"b": 1, "a": [1.5, "ä"]}) == canonical({"a": [1.5, "ä"], "b": 1})
    write_json(tmp_path / "x.json", {"format": "f", "version": 1, "n": 3})
    text = (tmp_path / "x.json").read_text()
    assert read_json(tmp_path / "x.json", "f", 1)["n"] == 3
    (tmp_path / "x.json").write_text(text.replace('"n":3', '"n":4'))
    with pytest.raises(DatasetError, match="checksum"):
        read_json(tmp_path / "x.json", "f", 1)
    with pytest.raises(DatasetError, match="is no g file"):
        read_json(tmp_path / "x.json", "g", 1)


def test_layouts_keep_their_step() -> None:
    values = np.linspace(-1.9, 1.9, 77)
    assert np.abs(quantise(values) / LAYOUT_SCALE - values).max() <= 0.5 / LAYOUT_SCALE + 1e-9
    assert quantise(np.array([-50.0, 50.0])).tolist() == [-127, 127]
    clip = full_clip(1)
    again = unpack_clip(pack_clip(clip, spec()), spec(), clip.source)
    assert clip_sha256(pack_clip(again, spec())) == clip_sha256(pack_clip(clip, spec()))  # nothing is lost twice


def test_rows_for_training(whole: Path) -> None:
    rows = ClipRows(open_dataset(whole))
    assert len(rows) == 11 and rows.clip_shape == (FRAMES, *GRID.shape)
    order = np.array([9, 0, 3, 3])
    got = rows.rows(order, FIELDS)
    for n, i in enumerate(order):
        clip = full_clip(int(i))
        assert np.array_equal(got["labels"][n], clip.labels) and np.array_equal(got["moving"][n], clip.moving)
        assert got["moving"].dtype == bool and got["layout_static"].dtype == np.float32
        assert np.array_equal(got["trajectory"][n], clip.conditions.trajectory)
    for size in (1, 2, 5, 30):
        batches = list(in_order(rows, size))
        assert np.concatenate(batches).tolist() == list(range(11)) and max(map(len, batches)) <= size


def test_the_card_counts_what_is_there(whole: Path) -> None:
    figures = card(open_dataset(whole))
    clips = [full_clip(n) for n in range(11)]
    assert figures["clips"] == 11 and figures["frames"] == 11 * FRAMES and figures["complete"]
    labels = np.stack([clip.labels for clip in clips])
    known = labels != 255
    assert figures["class_shares"]["road"] == pytest.approx((labels[known] == 6).mean(), abs=1e-6)
    assert figures["unknown_share"] == pytest.approx(1 - known.mean(), abs=1e-6)
    assert sum(figures["class_shares"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(figures["turn_shares"].values()) == pytest.approx(1, abs=1e-4)
    assert figures["observed_share"] == pytest.approx(np.mean([clip.observed for clip in clips]), abs=1e-6)
    assert figures["agents_per_clip"] == pytest.approx(np.mean([n % 3 for n in range(11)]), abs=0.01)
    assert figures["commit"] == "abc123" and json.loads(json.dumps(figures)) is not None


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.dcgen.dataset.test_store import write
from tests.dcgen.dataset.clips import spec
print("ready", flush=True)
write(Path({folder!r}), spec(clips=120, part_clips=2))
print("done", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_writer_that_is_killed_at_any_moment(tmp_path: Path) -> None:
    """Every restart goes on; in the end there is every clip once, as if nothing had happened."""
    rng, what = np.random.default_rng(5), spec(clips=120, part_clips=2)
    script, grown, done = KILLED.format(root=str(ROOT), folder=str(tmp_path)), [], False
    for _ in range(40):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            try:
                done = process.communicate(timeout=rng.uniform(0.01, 0.25))[0] == "done\n"
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        if (tmp_path / "parts" / "part-000000.json").exists():
            dataset = open_dataset(tmp_path)
            grown.append(len(dataset))
            assert_same(dataset[-1], full_clip(len(dataset) - 1))
        if done:
            break
    assert grown == sorted(grown) and len(set(grown)) >= 3, grown
    write(tmp_path, what)
    finished = open_dataset(tmp_path)
    assert [row.sha256 for row in finished.rows] == [clip_sha256(pack_clip(full_clip(n), what)) for n in range(120)]
    assert isinstance(finished, ClipDataset) and finished.complete
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"dataset.json", LOCK, *(f"part-{n:06d}.{end}" for n in range(60) for end in ("json", "h5"))}
