"""A run that has left its course is stopped, one that is merely noisy is not."""

import numpy as np
import pytest
import torch
from torch import nn

from dcgen.errors import DcgenError
from dcgen.parts import read_parts
from dcgen.train import TrainConfig, train
from dcgen.train_guard import IN_A_ROW, LEAST, Guard, memory_named


class Fit:
    """A small net that fits a curve; at an absurd rate it explodes."""

    def __init__(self):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))

    def loss(self, batch, generator):
        return (self.network(batch) - batch[:, :1] * batch[:, 1:]).square().mean(), {}


def batch_at(i):
    return torch.randn(8, 2, generator=torch.Generator().manual_seed(i))


def losses_of(seed, steps=4000):
    """A loss that falls, with heavy-tailed noise and a bad batch now and then; norms likewise."""
    rng = np.random.default_rng(seed)
    fall = 0.2 + np.exp(-np.arange(steps) / 800)
    loss = fall * rng.lognormal(0, 0.3, steps)
    norm = rng.lognormal(0, 0.5, steps)
    bad = rng.random(steps) < 0.05
    return np.where(bad, 6 * loss, loss), np.where(bad, 9 * norm, norm)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_bad_batches_stop_nothing(tmp_path, seed):
    guard, doubts = Guard(tmp_path), 0
    for step, (loss, norm) in enumerate(zip(*losses_of(seed), strict=True)):
        guard.check(step, loss, norm)
        doubts += not guard.calm
    assert 50 < doubts < 800  # it saw them


@pytest.mark.parametrize(("loss", "norm", "stops"), [(4, 4, True), (4, 1, False), (1, 40, False), (2, 2, False)])
def test_a_spike_is_both_and_lasts(tmp_path, loss, norm, stops):
    guard = Guard(tmp_path)
    for step in range(300):
        guard.check(step, 0.5, 2.0)
    for step in range(300, 300 + IN_A_ROW - 1):
        guard.check(step, 0.5 * loss, 2.0 * norm)
    assert guard.calm is not stops
    if stops:
        line = r"loss is 2 at step 304, 4\.0 times .* 5 steps in a row; lower --learning-rate and resume"
        with pytest.raises(DcgenError, match=line):
            guard.check(304, 0.5 * loss, 2.0 * norm)
    else:
        guard.check(304, 0.5 * loss, 2.0 * norm)


def test_one_calm_step_ends_the_doubt(tmp_path):
    guard = Guard(tmp_path)
    for step in range(400):
        wild = step > LEAST and step % IN_A_ROW
        guard.check(step, 50.0 if wild else 0.5, 50.0 if wild else 0.5)


def test_a_run_that_is_fine_ends_and_one_at_an_absurd_rate_stops(tmp_path):
    fine = TrainConfig(steps=200, learning_rate=3e-3, warmup=5, save_s=0.0)
    train(Fit(), batch_at, fine, tmp_path / "fine")
    assert read_parts(tmp_path / "fine" / "state.json")[1]["step"] == 200
    absurd = TrainConfig(steps=400, learning_rate=1e3, warmup=400, cooldown=0.01, save_s=0.0)
    with pytest.raises(DcgenError, match=r"absurd: loss is .* lower --learning-rate and resume") as stop:
        train(Fit(), batch_at, absurd, tmp_path / "absurd")
    tensors, about = read_parts(tmp_path / "absurd" / "state.json")
    step = int(str(stop.value).split("at step ")[1].split(",")[0].split(";")[0])
    assert about["step"] <= step - IN_A_ROW + 1  # of before the spike
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_says_what_to_lower(fault, named):
    line = r"out of memory at --batch 8; lower it and accumulate more \(--batch 4 --accumulate 6\), or add --checkp"
    with pytest.raises(DcgenError if named else type(fault), match=line if named else str(fault)), memory_named(8, 3):
        raise fault


def test_a_step_that_needs_too_much_memory_is_named(tmp_path):
    class Large(Fit):
        def loss(self, batch, generator):
            return torch.empty(1 << 60).sum(), {}

    with pytest.raises(DcgenError, match=r"out of memory at --batch 4"):
        train(Large(), batch_at, TrainConfig(steps=3), tmp_path)
