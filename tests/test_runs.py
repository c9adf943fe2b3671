"""The run scripts' own law: 0 finished, 75 more to do, anything else a fault in one line. A stand-in trains."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"2_vae": "vae", "3_decoder": "decoder", "4_dit": "dit", "5_student": "student"}
RESULTS = {"vae": "ema.safetensors", "decoder": "ema.safetensors"}
# Instead of `python -m cli train`: three steps a call, as the state says it; what else is asked of it is Python's.
STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
if sys.argv[1:3] != ["-m", "cli"]:
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
words = sys.argv[3:]
if os.environ.get("FAULT"):
    print("error: something a user can mend", file=sys.stderr)
    sys.exit(2)
option = dict(zip(words, words[1:]))
out = pathlib.Path(option["-o"])
(out / "model").mkdir(parents=True, exist_ok=True)
state = out / "state.json"
step = json.loads(state.read_text())["about"]["step"] if state.is_file() else 0
step = min(step + 3, int(option["--steps"]))
state.write_text(json.dumps({{"about": {{"step": step}}}}))
for name in ("ema.safetensors", "model/model.safetensors"):
    (out / name).touch()
with open(out.parent / "calls", "a") as calls:
    print(*words, file=calls)
"""


@pytest.fixture
def run(tmp_path):
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    world = tmp_path / "out" / "data" / "worlds" / "0000-a town"
    world.mkdir(parents=True)
    (world / "world.npz").touch()

    def call(stage, **more):
        clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        settings = {"PYTHON": python, "OUT": tmp_path / "out", "PRESET": "nano", "MINUTES": 1, "STEPS": 7, **more}
        return subprocess.run(
            [ROOT / "runs" / f"{stage}.sh"],
            capture_output=True,
            text=True,
            env=clean | {name: str(value) for name, value in settings.items()},
            timeout=60,
        )

    return call


def test_stages_go_on_slice_by_slice_until_they_are_finished(run, tmp_path):
    for stage, name in STAGES.items():
        said = [run(stage) for _ in range(4)]
        assert [each.returncode for each in said] == [75, 75, 0, 0], said
        assert "step 3 of 7; 4 steps to do, run it again" in said[0].stdout
        assert all(f"{name}: finished, 7 steps" in each.stdout for each in said[2:])
    calls = (tmp_path / "out" / "calls").read_text().splitlines()
    assert len(calls) == 3 * len(STAGES)  # a finished stage calls nothing
    assert all("--minutes 1" in call and "0000-a town -o" in call for call in calls)


def test_a_stage_names_the_one_before(run):
    for stage, missing in {"3_decoder": "2_vae", "4_dit": "3_decoder", "5_student": "4_dit"}.items():
        said = run(stage)
        assert said.returncode == 2 and f"run runs/{missing}.sh" in said.stderr


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"PRESET": "huge"}, "PRESET=huge: no such sizes; choose nano, base or wide"),
        ({"WORLDS": "/nowhere"}, "/nowhere: no finished world; run runs/1_data.sh"),
        ({"MINUTES": "1;x"}, "MINUTES=1;x: is no number of minutes; give one"),
        ({"PROCESSES": "two"}, "PROCESSES=two: is no whole number from 1 on; give one"),
        ({"STEPS": "1e3"}, "STEPS=1e3: is no whole number from 1 on; give one"),
        ({"FAULT": 1}, "something a user can mend"),
    ],
)
def test_a_fault_is_one_line_and_no_call_to_go_on(run, more, line):
    said = run("2_vae", **more)
    assert said.returncode == 2 and said.stderr.count("\n") == 1
    assert said.stderr.startswith("error: ") and line in said.stderr


@pytest.mark.parametrize("state", ["", "[]", '{"about": {}}', '{"about": {"step": "x"}}'])
def test_a_state_without_a_step_is_one_line(run, tmp_path, state):
    (tmp_path / "out" / "vae").mkdir()
    (tmp_path / "out" / "vae" / "state.json").write_text(state)
    said = run("2_vae")
    assert said.returncode == 2 and said.stderr.count("\n") == 1
    assert "state.json: says no step; carry the run folder again" in said.stderr


def test_what_is_finished_depends_on_the_state_not_on_what_lies_there(run, tmp_path):
    for _ in range(3):
        run("2_vae")
    (tmp_path / "out" / "vae" / "state.json").write_text(json.dumps({"about": {"step": 5}}))
    assert run("2_vae").returncode == 0
    assert run("2_vae", STEPS=20).returncode == 75  # a longer run goes on


def test_what_torchrun_starts_keeps_its_own_options():
    """torchrun would take --start for an abbreviation of its own."""
    distributed = pytest.importorskip("torch.distributed.run")
    told = subprocess.run(
        ["bash", "-c", '. runs/stage.sh; printf "%s\\n" "${command[@]}"'],
        capture_output=True, check=True, text=True, cwd=ROOT, env={**os.environ, "PROCESSES": "2", "PRESET": "base"},
    )  # fmt: skip
    words = told.stdout.split()
    assert words[1:3] == ["-m", "torch.distributed.run"]
    parsed = distributed.parse_args([*words[3:], "train", "dit", "--start", "nano", "--steps", "3"])
    assert parsed.training_script == "cli" and parsed.nproc_per_node == "2"
    assert parsed.training_script_args == ["train", "dit", "--start", "nano", "--steps", "3"]
