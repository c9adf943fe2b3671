"""Two processes train as one does: the same batches and draws, the same loss and weights; one of them speaks."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcgen import parallel
from dcgen.errors import DcgenError, MissingExtra
from dcgen.parts import read_parts
from dcgen.tensor_file import read_tensors
from tests.dcgen.together import HOW, runs

pytestmark = pytest.mark.usefixtures("exact")

ROOT = Path(__file__).resolve().parents[2]
CONTEXT_S = 280


def launch(what: str, folder: Path) -> list[tuple[int, str]]:
    """Exit codes and stderr of two processes, started as torchrun starts them."""
    pytest.importorskip("accelerate")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.dcgen.together", what, str(folder)],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [child.communicate(timeout=CONTEXT_S)[1] for child in children]
        return [(child.returncode, text) for child, text in zip(children, said, strict=True)]
    finally:
        for child in children:
            child.kill()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    ended = launch("many", folder)
    assert [code for code, _ in ended] == [0, 0], ended
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    runs(folder)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder, part="network."):
    return {name: t for name, t in read_parts(folder / "state.json")[0].items() if name.startswith(part)}


def far(one, two):
    """The largest difference of two sets of weights, in steps of the learning rate."""
    assert one.keys() == two.keys() and one
    return max((tensor - two[name]).abs().max().item() for name, tensor in one.items()) / HOW.learning_rate


@pytest.mark.parametrize("run", ["dit", "fsdp"])
def test_two_processes_have_the_loss_and_the_weights_of_one(one, two, run):
    for mine, theirs in zip(lines(one / "dit"), lines(two / run), strict=True):
        assert theirs["step"] == mine["step"] and theirs["loss"] == pytest.approx(mine["loss"], rel=1e-5)
        assert theirs["norm"] == pytest.approx(mine["norm"], rel=1e-4)
    for part in ("network.", "ema."):
        assert far(weights(one / "dit", part), weights(two / run, part)) < 0.02
    assert weights(two / run, "adam.exp_avg_sq").keys() == weights(one / "dit", "adam.exp_avg_sq").keys()


def test_a_step_counts_the_operations_and_the_clips_of_all(one, two):
    mine, theirs = lines(one / "dit")[-1], lines(two / "dit")[-1]
    assert theirs["gflop_step"] == pytest.approx(mine["gflop_step"], rel=1e-4)
    clips = HOW.batch * HOW.accumulate
    assert all(line["clips_s"] * line["step_s"] == pytest.approx(clips, rel=0.1) for line in (mine, theirs))


def test_the_autoencoder_is_near(one, two):
    """Its normalisers are a batch's own: stated, not exact."""
    for mine, theirs in zip(lines(one / "vae"), lines(two / "vae"), strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-3)
        assert theirs["kl"] == pytest.approx(mine["kl"], rel=5e-3)
    assert far(weights(one / "vae"), weights(two / "vae")) < 2 * HOW.steps  # of what Adam can move them apart


def test_two_processes_that_were_cut_end_with_the_same_bytes(two):
    whole, cut = (sorted((two / run).glob("state-*.safetensors")) for run in ("dit", "cut"))
    assert [path.name for path in whole] == [path.name for path in cut]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(whole, cut, strict=True))


def test_what_fsdp_returns_is_whole(two):
    ema, _ = read_tensors(two / "ema.safetensors")
    saved = weights(two / "fsdp", "ema.")
    assert {f"ema.{name}" for name in ema} == saved.keys()
    assert all(torch.equal(tensor, saved[f"ema.{name}"]) for name, tensor in ema.items())


@pytest.mark.parametrize(
    ("what", "line"),
    [("nan", "loss is nan at step 1; lower --learning-rate and resume"), ("broken", "clips: gone; build them again")],
)
def test_a_fault_of_one_process_stops_both_with_one_line(tmp_path, what, line):
    ended = launch(what, tmp_path)
    told = [text for _, text in ended if "error:" in text]
    assert sorted(code for code, _ in ended) == [0, 2] and len(told) == 1, ended
    assert line in told[0] and not any("Traceback" in text for _, text in ended), ended


@pytest.fixture
def third_of_four(monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 4)
    monkeypatch.setattr(parallel, "rank", lambda: 2)


def test_a_process_takes_its_part(third_of_four):
    assert list(range(12))[parallel.part(12)] == [6, 7, 8]
    draw = torch.Generator().manual_seed(3)
    mine = parallel.own_normal((2, 5), draw)
    assert torch.equal(mine, torch.randn(8, 5, generator=torch.Generator().manual_seed(3))[4:6])
    with pytest.raises(DcgenError, match=r"--batch 6: does not divide among 4 processes; choose 4 or 8"):
        parallel.part(6)
    with pytest.raises(DcgenError, match=r"--batch 3: .*; choose 4"):
        parallel.part(3)


def test_terms_are_means_over_those_that_have_them(third_of_four, monkeypatch):
    nan = float("nan")
    table = [[nan, 1.0, 3.0, 0.0, 0.0], [2.0, 2.0, 3.0, 0.0, 1.0], [4.0, 6.0, 3.0, 0.0, 0.0]]
    monkeypatch.setattr(parallel, "_gather", lambda values: table)
    terms = {"loss": 1.0, "norm": 3.0, "late": nan}  # as each process has them, in an order of its own
    means, wishes = parallel.agree(terms, {"save": False, "end": False})
    assert list(means) == list(terms) and means == {"loss": 3.0, "norm": 3.0, "late": 3.0}
    assert wishes == {"save": False, "end": True}
    table[1][1] = nan
    assert torch.tensor(parallel.agree(terms, {"save": False, "end": False})[0]["loss"]).isnan()


def test_without_accelerate_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    line = r"several processes needs accelerate: pip install 'dcgen\[train\]'"
    with pytest.raises(MissingExtra, match=line), parallel.processes():
        pass


def test_one_process_imports_nothing_for_it_and_has_nobody_to_share_with(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    with parallel.processes():
        assert (parallel.rank(), parallel.size(), parallel.first()) == (0, 1, True)
    line = r"--fsdp shares a model among processes; start with torchrun"
    with pytest.raises(DcgenError, match=line), parallel.processes(fsdp=True):
        pass


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE=abc: is no whole number from 1 on; start with torchrun"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE=: is no whole number"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE=0: is no whole number from 1 on"),
        ({"WORLD_SIZE": "2"}, "RANK is missing, though the environment speaks of several processes"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1: is no whole number from 0 on"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2: is none of WORLD_SIZE=2 processes"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR is missing beside WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}, "MASTER_PORT is missing"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "x"}, "MASTER_PORT=x: is no"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a..b", "MASTER_PORT": "29500"},
            "MASTER_ADDR=a..b: no machine is known by that name; start with torchrun",
        ),
    ],
)
def test_an_environment_that_no_launcher_makes_is_named(monkeypatch, said, line):
    pytest.importorskip("accelerate")
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, text in said.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(DcgenError, match=line), parallel.processes():
        pass
