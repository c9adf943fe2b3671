"""Planners in processes of their own, one by one and in batches, from the command line."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridges.rollout.closed_loop import ClosedLoop, LoopSettings
from bridges.rollout.drive import drive_apart
from bridges.rollout.host import PlannerProcess
from dcgen.errors import PlannerError, SceneError
from dcgen.scene_file import load_scene, save_scene
from tests.bridges.rollout.small_worlds import scene_of
from tests.conftest import Run

ODD = str(Path(__file__).with_name("odd_planners.py"))
FAILURES = {
    "Raises": r"raised KeyError: 'lane' \(odd_planners.py:\d+\)",
    "Leaves": "raised SystemExit",
    "Stalls": "took longer than 0.3 s to answer",
    "Exits": r"its process ended \(exit code 3\)",
    "Crashes": r"its process ended \(signal SIGSEGV\)",
    "NotANumber": "holds NaN",
    "OtherType": "answered with dict",
    "Leaps": "impossible motion: 400 m/s",
    "Scribbles": "read-only",
    "Mutters": r"raised ValueError: [^\x00\x1b\ud800]*\(odd",
    "Wordless": r"raised Unspeakable \(odd_planners.py:\d+\)",
    "Shuts": "its process ended",
    "Forges": "none that can be read",
    "Unready": "raised RuntimeError: no weights",
}


@pytest.mark.parametrize("name", FAILURES)
def test_whatever_a_planner_does_its_episode_ends_as_failed(name: str) -> None:
    limit = 0.3 if name == "Stalls" else 20.0
    driven = drive_apart(scene_of(frames=3), f"{ODD}:{name}", LoopSettings(), time_limit_s=limit)
    assert re.search(FAILURES[name], driven.scores.failure), driven.scores.failure
    assert driven.scores.epdms == driven.scores.driving_score == 0 and len(driven.episode.ego) == 1


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (f"{ODD}:Halved", "Halved lacks plan, close"),
        (f"{ODD}:Demanding", "raised TypeError"),
        (f"{ODD}:Nobody", "has no class Nobody; it has .*Steady"),
        ("no.such.module:Planner", "raised ModuleNotFoundError"),
        ("nowhere.py:Planner", "no file nowhere.py"),
        ("Planner", "is not MODULE:CLASS"),
    ],
)
def test_who_cannot_be_loaded_is_refused_at_once(target: str, why: str) -> None:
    with pytest.raises(PlannerError, match=why):
        PlannerProcess(target)


def test_a_copy_of_the_planner_s_process_answers_nothing() -> None:
    driven = drive_apart(scene_of(frames=5), f"{ODD}:Forks", LoopSettings(), time_limit_s=20.0)
    assert not driven.scores.failure and (driven.episode.acceleration_mps2[1:] > 0).all()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc tells of processes here")
def test_what_a_planner_started_ends_with_it() -> None:
    driven = drive_apart(scene_of(frames=3), f"{ODD}:Breeds", LoopSettings(), time_limit_s=20.0)
    found = re.search(r"pid (\d+)", driven.scores.failure)
    assert found is not None
    deadline = time.monotonic() + 5
    while _runs(int(found[1])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(int(found[1]))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("dt_s", [1e-6, 1e7])
def test_a_clock_by_which_nobody_drives_is_refused(dt_s: float) -> None:
    scene = scene_of(frames=3)
    with pytest.raises(SceneError, match="s apart are none to drive by"):
        ClosedLoop(replace(scene, time_s=np.arange(3) * dt_s), LoopSettings())


def test_a_rollout_leaves_a_scene_and_its_marks(run: Run, tmp_path: Path) -> None:
    source, output = save_scene(scene_of(frames=4), tmp_path / "street.h5"), tmp_path / "out" / "driven.h5"
    result = run("rollout", source, "--planner", f"{ODD}:Talks", "--agents", "idm", "--json", "-o", output)
    told = json.loads(result.out)  # what the planner printed is not in it
    assert result.code == 0 and told["scene"] == "street" and told["frames"] == told["wanted_frames"] == 4
    driven = load_scene(output, motion=True)
    assert len(driven.time_s) == 4 and driven.metadata["agents"] == "idm"
    assert run("inspect", output).code == 0


def test_a_batch_goes_on_past_failures_and_is_taken_up_again(run: Run, tmp_path: Path) -> None:
    scenes, output = tmp_path / "scenes", tmp_path / "out"
    for name, frames in (("b", 3), ("a", 4)):
        save_scene(scene_of(frames=frames), scenes / f"{name}.h5")
    asked = ["benchmark", "planners", "--scenes", scenes, "-o", output, "--json", "--time-limit", 20]
    asked += ["--planner", f"{ODD}:Raises", "--planner", f"{ODD}:Steady"]
    first = run(*asked)
    results = json.loads(first.out)
    assert [(one["scene"], bool(one["failure"])) for one in results["episodes"]] == [
        ("a", True), ("a", False), ("b", True), ("b", False),
    ]  # fmt: skip
    assert results["planners"][f"{ODD}:Raises"]["failed"] == 2 and results["planners"][f"{ODD}:Steady"]["failed"] == 0
    assert json.loads((output / "results.json").read_text()) == results
    page = (output / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "http" not in page.replace("http-equiv", "")
    made = {path: path.stat().st_mtime_ns for path in (output / "episodes").iterdir()}
    kept = next(iter((output / "episodes").glob("b-*Steady*.json")))
    kept.write_text(re.sub(r'"epdms": [\d.]+', '"epdms": 0.123', kept.read_text()))
    next(iter((output / "episodes").glob("a-*Steady*.png"))).write_bytes(b"cut")
    assert json.loads(run(*asked).out)["episodes"] == results["episodes"]
    again = {path for path in made if path.stat().st_mtime_ns != made[path]}
    assert {path.name[0] for path in again} == {"a", "b"} and len(again) == 4
    assert "failed in a: raised KeyError" in run(*[word for word in asked if word != "--json"]).out


def test_a_damaged_scene_is_told_and_the_others_are_driven(run: Run, tmp_path: Path) -> None:
    save_scene(scene_of(frames=3), tmp_path / "scenes" / "good.h5")
    whole = (tmp_path / "scenes" / "good.h5").read_bytes()
    (tmp_path / "scenes" / "cut.h5").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "out"
    result = run("benchmark", "planners", "--scenes", tmp_path / "scenes", "--planner", f"{ODD}:Steady", "-o", output)
    assert "cut.h5" in result.fault
    assert [one["scene"] for one in json.loads((output / "results.json").read_text())["episodes"]] == ["good"]


def test_wrong_uses_are_one_line(run: Run, tmp_path: Path) -> None:
    scene = save_scene(scene_of(frames=3), tmp_path / "s.h5")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("no scene")
    steady = ("--planner", f"{ODD}:Steady")
    assert "no such file" in run("rollout", tmp_path / "none.h5", *steady).fault
    assert "not a scene file" in run("rollout", tmp_path / "text.h5", *steady).fault
    slow = save_scene(replace(scene_of(frames=3), time_s=np.arange(3) * 1e7), tmp_path / "slow.h5")
    assert "slow.h5: /frames/time_s" in run("rollout", slow, *steady).fault
    assert "is the scene itself" in run("rollout", scene, *steady, "-o", scene).fault
    assert ".h5" in run("rollout", scene, *steady, "-o", tmp_path / "x.txt").fault
    assert "lacks plan" in run("rollout", scene, "--planner", f"{ODD}:Halved").fault
    assert "none.xodr" in run("rollout", scene, *steady, "--map", tmp_path / "none.xodr").fault
    assert "Missing option" in run("rollout", scene).fault
    many = ("benchmark", "planners", "-o", tmp_path / "out")
    assert "holds no scene" in run(*many, "--scenes", tmp_path / "empty", *steady).fault
    assert "no such folder" in run(*many, "--scenes", tmp_path / "none", *steady).fault
    assert "lacks plan" in run(*many, "--scenes", scene, "--planner", f"{ODD}:Halved").fault
    blocked = ("benchmark", "planners", "-o", scene / "out", "--scenes", scene)
    assert "cannot be written" in run(*blocked, *steady).fault
    assert not (tmp_path / "out").exists() and scene.is_file()
