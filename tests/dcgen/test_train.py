"""A run that was killed goes on as if nothing had happened, and stops where it should."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dcgen.dit.model import Dit
from dcgen.errors import DcgenError, Stopped
from dcgen.flow import flow_loss
from dcgen.parts import read_parts
from dcgen.stages import DitStage, VaeBatch, VaeStage
from dcgen.train import TrainConfig, _Saves, train
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG, clip, condition_batch

pytestmark = pytest.mark.usefixtures("exact")

ROOT = Path(__file__).resolve().parents[2]
HOW = TrainConfig(steps=12, learning_rate=0.02, warmup=3, save_s=1e9, log_every=4, ema=0.8)

# Of a batch of six: 3 x 5, 5 x 5 and 5 x 2 weights, forward, and backward by weights and by inputs but the first.
FLOP = 2 * 6 * (2 * 15 + 3 * 25 + 3 * 10)


class Toy:
    """A stage with what real ones have: randomness of its own, a whole-number buffer, a term that may be NaN."""

    def __init__(self, width=5, layers=1):
        torch.manual_seed(0)
        middle = [nn.Linear(width, width) for _ in range(layers)]
        self.network = nn.Sequential(
            nn.Linear(3, width), nn.BatchNorm1d(width), nn.Tanh(), *middle, nn.Linear(width, 2)
        )

    def loss(self, batch, generator):
        x, y = batch
        noise = 0.1 * torch.randn(x.shape, generator=generator)
        late = torch.rand(1, generator=generator).item()
        return (self.network(x + noise) - y).square().mean(), {"late": late if late > 0.5 else float("nan")}


def batch_at(i):
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(i))
    return x, torch.stack([x.sum(1), x[:, 0] * x[:, 1]], dim=1)


def run_slowly(folder):
    """What the killed process runs."""

    def slow(i):
        time.sleep(0.05)
        return batch_at(i)

    train(Toy(), slow, replace(HOW, steps=40, save_s=0.0), Path(folder))


def whole_run(folder, how=HOW):
    stage = Toy()
    ema = train(stage, batch_at, how, folder)
    return {name: tensor.clone() for name, tensor in stage.network.state_dict().items()}, ema


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("at", [1, 5, 11])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, at):
    want, want_ema = whole_run(tmp_path / "whole")

    def breaks(i):
        if i == at:
            raise KeyboardInterrupt
        return batch_at(i)

    with pytest.raises(KeyboardInterrupt):
        train(Toy(), breaks, replace(HOW, save_s=0.0), tmp_path / "cut")
    stage = Toy(layers=1)
    nn.init.ones_(stage.network[0].weight)  # whatever it began with
    ema = train(stage, batch_at, HOW, tmp_path / "cut")
    assert same(stage.network.state_dict(), want) and same(ema, want_ema)
    lines = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert lines == [4, 8, 12]


def test_a_killed_process_is_resumed(tmp_path):
    code = f"from tests.dcgen.test_train import run_slowly; run_slowly({str(tmp_path / 'cut')!r})"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    state = tmp_path / "cut" / "state.json"
    began = time.monotonic()
    while not state.exists() and child.poll() is None and time.monotonic() - began < 200:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < read_parts(state)[1]["step"] < 40
    with open(tmp_path / "cut" / "log.jsonl", "a") as log:
        log.write('{"step": 4, "lo')  # what a killed writer leaves
    how = replace(HOW, steps=40)
    want, want_ema = whole_run(tmp_path / "whole", how)
    got, ema = whole_run(tmp_path / "cut", how)
    assert same(got, want) and same(ema, want_ema)
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 40


def test_a_finished_run_returns_what_it_made(tmp_path):
    want, want_ema = whole_run(tmp_path)
    calls = []
    stage = Toy()
    ema = train(stage, lambda i: calls.append(i), HOW, tmp_path)
    assert not calls and same(ema, want_ema) and same(stage.network.state_dict(), want)


def test_time_that_is_over_stops_and_saves(tmp_path):
    want, _ = whole_run(tmp_path / "whole")
    for step in range(1, 13):
        stage = Toy()
        train(stage, batch_at, HOW, tmp_path / "cut", minutes=0.0)
        assert read_parts(tmp_path / "cut" / "state.json")[1]["step"] == step
    assert same(stage.network.state_dict(), want)


def test_two_seeds_differ_and_one_does_not(tmp_path):
    runs = [whole_run(tmp_path / str(n), replace(HOW, seed=seed))[0] for n, seed in enumerate((0, 0, 1))]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_the_average_follows_the_weights(tmp_path):
    stage, seen = Toy(), []
    before = {name: tensor.clone() for name, tensor in stage.network.state_dict().items()}

    def watch(step, steps, terms):
        seen.append({name: tensor.clone() for name, tensor in stage.network.state_dict().items()})

    ema = train(stage, batch_at, replace(HOW, log_every=1), tmp_path, report=watch)
    want = before
    for step, weights in enumerate(seen):
        keep = min(HOW.ema, (step + 1) / (step + 10))
        want = {
            name: keep * want[name] + (1 - keep) * tensor if tensor.is_floating_point() else tensor
            for name, tensor in weights.items()
        }
    assert len(seen) == 12 and ema["1.num_batches_tracked"] == 12
    for name, tensor in want.items():
        torch.testing.assert_close(ema[name], tensor)
        assert name == "1.num_batches_tracked" or not torch.equal(ema[name], seen[-1][name])


def test_accumulating_equals_a_larger_batch(tmp_path):
    class Plain(Toy):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(3, 2)

        def loss(self, batch, generator):
            x, y = batch
            return (self.network(x) - y).square().mean(), {}

    def joined(i):
        return tuple(torch.cat(pair) for pair in zip(batch_at(2 * i), batch_at(2 * i + 1), strict=True))

    torch.manual_seed(0)
    small, large = Plain(), Plain()
    large.network.load_state_dict(small.network.state_dict())
    train(small, batch_at, replace(HOW, accumulate=2), tmp_path / "small")
    train(large, joined, HOW, tmp_path / "large")
    torch.testing.assert_close(small.network.weight, large.network.weight, rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_and_spares_the_checkpoint(tmp_path):
    def poisoned(i):
        x, y = batch_at(i)
        return x, y * float("nan") if i == 5 else y

    with pytest.raises(DcgenError, match=r"loss is nan at step 5; lower --learning-rate"):
        train(Toy(), poisoned, replace(HOW, save_s=0.0), tmp_path)
    tensors, about = read_parts(tmp_path / "state.json")
    assert about["step"] == 5 and all(t.isfinite().all() for t in tensors.values())
    train(Toy(), batch_at, HOW, tmp_path)


def test_a_gradient_that_is_not_finite_leaves_the_weights(tmp_path):
    class Steep(Toy):
        def loss(self, batch, generator):
            value, _ = super().loss(batch, generator)
            return value + (self.network[0].weight * 0).abs().sqrt().sum(), {}

    stage = Steep()
    before = {name: tensor.clone() for name, tensor in stage.network.named_parameters()}
    with pytest.raises(DcgenError, match="step 0"):
        train(stage, batch_at, HOW, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in stage.network.named_parameters())


def test_what_batches_raise_is_raised_and_no_thread_stays(tmp_path):
    threads = threading.active_count()

    def fails(i):
        if i == 3:
            raise DcgenError("clips: gone")
        return batch_at(i)

    with pytest.raises(DcgenError, match="clips: gone"):
        train(Toy(), fails, HOW, tmp_path)
    with pytest.raises(DcgenError, match="loss is nan"):
        train(Toy(), lambda i: (batch_at(i)[0], torch.full((6, 2), float("nan"))), HOW, tmp_path / "b")
    began = time.monotonic()
    while threading.active_count() > threads and time.monotonic() - began < 10:
        time.sleep(0.01)
    assert threading.active_count() == threads


def test_a_run_that_is_asked_to_end_saves_says_so_and_goes_on(tmp_path):
    def asked(i):
        if i == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch_at(i)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=r"cut: stopped and saved at step \d+ of 12; start it again to resume"):
        train(Toy(), asked, HOW, tmp_path / "cut")
    assert 0 < read_parts(tmp_path / "cut" / "state.json")[1]["step"] <= 3
    assert signal.getsignal(signal.SIGTERM) is before
    assert same(whole_run(tmp_path / "cut")[0], whole_run(tmp_path / "whole")[0])


def test_saving_takes_a_small_share_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dcgen.train.time.monotonic", lambda: now[0])
    saves = _Saves(10.0)
    now[0] = 10.5
    assert saves.due
    with saves.timed():
        now[0] += 3.0
    for later, due in ((0.0, False), (10.5, False), (59.0, False), (60.5, True)):
        now[0] = 13.5 + later
        assert saves.due is due, later


def test_the_rate_warms_up_stays_and_cools_down():
    how = TrainConfig(steps=1000, learning_rate=0.5, warmup=100, cooldown=0.4)
    rates = np.array([how.rate(step) for step in range(1000)])
    assert rates[0] == pytest.approx(0.005) and (np.diff(rates[:100]) > 0).all()
    assert (rates[100:600] == 0.5).all() and (np.diff(rates[601:950]) < 0).all()
    assert rates[-1] == pytest.approx(0.03 * 0.5)
    assert max(abs(b - a) for a, b in pairwise(rates[100:])) < 0.002


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"accumulate": 0}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        TrainConfig(**{"steps": 1, **wrong})


def test_the_log_averages_what_there_was(tmp_path):
    terms = []

    class Told(Toy):
        def loss(self, batch, generator):
            loss, more = super().loss(batch, generator)
            terms.append((loss.item(), more["late"]))
            return loss, more

    reports = []
    train(Told(), batch_at, HOW, tmp_path, report=lambda *a: reports.append(a))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12] == [step for step, _, _ in reports]
    assert any(np.isnan(late) for _, late in terms)
    del terms[0]  # of the batch on which operations were counted
    for k, line in enumerate(lines):
        losses, lates = np.array(terms[4 * k : 4 * k + 4]).T
        assert line["loss"] == pytest.approx(losses.mean(), abs=1e-5)
        if not np.isnan(lates).all():
            assert line["late"] == pytest.approx(np.nanmean(lates), abs=1e-5)
        assert line["rate"] == HOW.rate(line["step"] - 1)
        # The line's own digits, of which step_s keeps four.
        assert line["clips_s"] * line["step_s"] == pytest.approx(HOW.batch, rel=0.1, abs=1e-4 * line["clips_s"])
        assert line["gflop_step"] * 1e9 == pytest.approx(FLOP) and 0 < line["mfu"] < 1
    assert (tmp_path / "log.png").stat().st_size > 500


def vae_batch():
    clips = [clip(0), clip(3)]
    labels, moving = (torch.from_numpy(np.stack([getattr(c, n) for c in clips])) for n in ("labels", "moving"))
    return VaeBatch(labels, labels, moving)


def test_the_autoencoder_learns_two_clips(tmp_path):
    torch.manual_seed(0)
    stage, batch = VaeStage(Vae(CONFIG), torch.ones(12), noise=0.1), vae_batch()
    right = [(stage.vae.reconstruct(batch.labels) == batch.labels)[batch.labels != 0].float().mean().item()]
    how = TrainConfig(steps=60, learning_rate=8e-3, warmup=5, log_every=10, save_s=1e9, ema=0.9)
    stage.vae.load_state_dict(train(stage, lambda i: batch, how, tmp_path))
    right.append((stage.vae.reconstruct(batch.labels) == batch.labels)[batch.labels != 0].float().mean().item())
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.6 * losses[0], losses
    assert right[1] > right[0] + 0.2 and right[1] > 0.6, right


def test_the_transformer_learns_two_latents(tmp_path):
    torch.manual_seed(0)
    stage, conditions = DitStage(Dit(CONFIG)), condition_batch(2)
    data = torch.randn(2, CONFIG.hex_shape.size, generator=torch.Generator().manual_seed(1))
    how = TrainConfig(steps=80, learning_rate=4e-3, warmup=5, log_every=10, save_s=1e9, ema=0.9)
    stage.dit.load_state_dict(train(stage, lambda i: (data, conditions), how, tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"], lines
    noise, time_ = torch.randn(data.shape, generator=torch.Generator().manual_seed(2)), torch.full((2,), 0.5)
    with torch.no_grad():
        own = flow_loss(lambda x, t: stage.dit(x, t, conditions), data, noise, time_)
        null = flow_loss(lambda x, t: stage.dit(x, t, conditions.null()), data, noise, time_)
    assert own.mean() < null.mean()  # the conditions tell the two apart
