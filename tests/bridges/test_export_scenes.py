"""Many scenes: parallel, resumed and repeated they are the same bytes; a bad one is told of, the rest goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from bridges.export_scenes import ExportOrder, export_scenes
from bridges.export_staging import STATE, Receipts, plain_name
from bridges.formats.choices import FORMATS
from dcgen.errors import DatasetError
from dcgen.scene_file import save_scene
from tests.conftest import ROOT, Run, refused, small_scene


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of five small scenes."""
    folder = tmp_path / "scenes"
    for n in range(5):
        save_scene(replace(small_scene(seed=n), seed=n), folder / "below" / f"s{n}.h5")
    return folder


def run_export(*sources: Path, format: str, out: Path, **rest: object):
    told: list[str] = []
    report = export_scenes(ExportOrder(sources, format, out, **rest), told.append, lambda done, total: None)  # type: ignore[arg-type]
    return report, told


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of an export but its lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize(
    "format", [name for name in FORMATS if name not in ("openoccupancy", "waymo-flow", "cam4docc")]
)
def test_twice_is_the_same_bytes(format: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = run_export(scenes / "below" / "s0.h5", format=format, out=tmp_path / "a")
    monkeypatch.setattr("time.time", lambda: 1e9)
    two, _ = run_export(scenes / "below" / "s0.h5", format=format, out=tmp_path / "b")
    assert one.exported == two.exported == 1 and one.frames == 3 and not one.faults
    assert tree(tmp_path / "a") == tree(tmp_path / "b") and one.content_sha256 == two.content_sha256


def test_what_stands_is_not_made_again(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, _ = run_export(scenes, format="occ3d-waymo", out=out)
    assert (first.exported, first.stood) == (5, 0)
    whole = tree(out)
    inodes = {path: path.stat().st_ino for path in out.rglob("*.npz")}
    again, _ = run_export(scenes, format="occ3d-waymo", out=out)
    assert (again.exported, again.stood, again.content_sha256) == (0, 5, first.content_sha256)
    assert {path: path.stat().st_ino for path in out.rglob("*.npz")} == inodes and tree(out) == whole
    # A scene that is lost or another one is made again, with its number; the rest stays.
    shutil.rmtree(out / "training" / "002")
    save_scene(replace(small_scene(seed=77), seed=77), scenes / "below" / "s4.h5")
    third, _ = run_export(scenes, format="occ3d-waymo", out=out)
    assert (third.exported, third.stood) == (2, 3)
    assert {name for name, data in tree(out).items() if whole.get(name) != data} <= {
        f"{STATE}/occ3d-waymo/s4.json", *(f"training/004/{t:03d}_04.npz" for t in range(3)), "training/004/poses.txt",
    }  # fmt: skip
    # Fewer frames leave none of the older ones behind.
    run_export(scenes / "below" / "s1.h5", format="occ3d-waymo", out=out, frames=(0, 2))
    assert sorted(path.name for path in (out / "training" / "001").iterdir()) == [
        "000_04.npz", "001_04.npz", "poses.txt",
    ]  # fmt: skip


def test_scenes_that_come_later_join_the_index(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_export(scenes / "below" / "s3.h5", format="occ3d-nuscenes", out=out)
    run_export(scenes / "below" / "s1.h5", format="occ3d-nuscenes", out=out)
    assert list(json.loads((out / "annotations.json").read_text())["scene_infos"]) == ["s1", "s3"]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(scenes: Path, tmp_path: Path) -> None:
    """By two processes, killed; then by one; against one that was never stopped."""
    for n in range(5, 16):
        save_scene(replace(small_scene(seed=n), seed=n), scenes / f"s{n:02d}.h5")
    out, command = tmp_path / "out", [sys.executable, "-m", "cli", "export", str(scenes), "--format", "carlasc"]
    process = subprocess.Popen(
        [*command, "-o", str(out), "--workers", "2"], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    receipts = out / STATE / "carlasc"
    deadline = time.monotonic() + 60
    while len(list(receipts.glob("*.json"))) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.3)  # its workers see it and leave
    stood = len(Receipts(out, "carlasc").whole()[0])  # without what was being put in place
    assert 2 <= stood < 16
    report, _ = run_export(scenes, format="carlasc", out=out)
    assert report.stood == stood and report.stood + report.exported == 16
    never, _ = run_export(scenes, format="carlasc", out=tmp_path / "never")
    assert never.content_sha256 == report.content_sha256 and tree(out) == tree(tmp_path / "never")


def test_a_bad_scene_among_many(scenes: Path, tmp_path: Path, run: Run) -> None:
    data = (scenes / "below" / "s1.h5").read_bytes()
    (scenes / "below" / "s1.h5").write_bytes(data[: len(data) // 2])
    with h5py.File(scenes / "below" / "s2.h5", "r+") as file:
        file.attrs["format_version"] = 99
    (scenes / "words.h5").write_text("no scene")
    result = run("export", scenes, "--format", "ply", "-o", tmp_path / "out", "--json")
    lines = result.err.splitlines()
    assert result.code == 2 and len(lines) == 4 and "Traceback" not in result.err
    assert (
        lines[-1]
        == "error: 3 of 6 scenes were not exported, as told above; mend them or leave them out, and export again"
    )
    for name, words in (("s1.h5", "damaged"), ("s2.h5", "format_version 99"), ("words.h5", "not a scene file")):
        assert sum(name in line and words in line for line in lines[:-1]) == 1, lines
    report = json.loads(result.out)
    assert report["exported"] == 3 and len(report["faults"]) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [STATE, "s0", "s3", "s4"]


def test_faults_are_one_line(scenes: Path, tmp_path: Path, run: Run) -> None:
    one, out = scenes / "below" / "s0.h5", tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "file").touch()
    shutil.copy(one, tmp_path / "other" / "s0.h5")
    cases = {
        "holds no scene": [tmp_path / "empty", "--format", "ply", "-o", out],
        "both called s0": [one, tmp_path / "other", "--format", "ply", "-o", out],
        "is no range": [one, "--format", "ply", "-o", out, "--frames", "3:1"],
        "y to the right": [one, "--format", "uniocc", "-o", tmp_path / "Carla-5Hz"],
        "lists no voxels": [one, "--format", "ply", "-o", out, "--compact"],
        "cannot be written": [one, "--format", "ply", "-o", tmp_path / "file" / "out"],
    }
    for words, arguments in cases.items():
        assert words in refused(run, tmp_path, "export", *arguments)
    # With a folder at hand, what is wrong lies in the scene.
    assert "no such file" in run("export", tmp_path / "none.h5", "--format", "glb", "-o", out).fault
    assert "none of which was asked for" in run("export", one, "--format", "glb", "-o", out, "--frames", "7:9").fault
    assert "needs 13 frames" in run("export", one, "--format", "cam4docc", "-o", out).fault
    assert "needs 41 frames" in run("export", one, "--format", "waymo-flow", "-o", out).fault
    assert [path.name for path in out.iterdir()] == [STATE]
    with pytest.raises(DatasetError, match="kitty: no such format; choose one of carlasc, "):
        run_export(one, format="kitty", out=out)
    result = run("export", one, "--format", "kitty", "-o", out)
    assert result.code == 2 and "carlasc" in result.err


def test_nothing_of_anybody_else_is_touched(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "s0").mkdir(parents=True)
    (out / "s0" / "notes.txt").write_text("mine")
    report, told = run_export(scenes, format="carlasc", out=out)
    assert report.exported == 4 and len(report.faults) == 1 and "stands already" in told[0]
    assert [path.name for path in (out / "s0").iterdir()] == ["notes.txt"]
    assert not list((out / STATE / "carlasc").glob(".*.part"))


def test_a_receipt_that_was_changed_rules_nothing(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_export(scenes / "below" / "s0.h5", format="npz", out=out)
    receipt = Receipts(out, "npz").path("s0")
    receipt.write_text(receipt.read_text().replace('"s0.npz"', '"../../x"'))
    report, told = run_export(scenes / "below", format="npz", out=out)
    assert report.exported == 4 and len(told) == 1 and "damaged; remove it" in told[0]


def test_a_second_export_waits_its_turn(scenes: Path, tmp_path: Path) -> None:
    from dcgen.dataset.files import only_writer

    with only_writer(tmp_path / "out" / STATE), pytest.raises(DatasetError, match="another process is writing here"):
        run_export(scenes, format="npz", out=tmp_path / "out")


def test_a_full_disk_leaves_what_was_finished(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bridges.export_staging import Staging

    real, out = Staging.put, tmp_path / "out"

    def full(self: Staging, place: str, *data: bytes) -> None:
        if place.startswith("s3/"):
            raise OSError(28, "No space left on device", str(self.folder / place))
        real(self, place, *data)

    monkeypatch.setattr(Staging, "put", full)
    report, told = run_export(scenes, format="ply", out=out)
    assert report.exported == 4 and len(told) == 1 and "s3: cannot be written (no space left on device)" in told[0]
    assert sorted(path.name for path in out.iterdir()) == [STATE, "s0", "s1", "s2", "s4"]
    monkeypatch.setattr(Staging, "put", real)
    assert run_export(scenes, format="ply", out=out)[0].stood == 4


def test_names_are_plain() -> None:
    names = ("a b.h5", "..x.h5", "Tür/ä.h5", "a\nb.h5", "a;b*.h5", "left-2.5+.h5")
    assert [plain_name(Path(name)) for name in names] == ["a_b", "x", "ä", "a_b", "a_b_", "left-2.5+"]
