"""A student begins as its teacher, learns whole steps of its ways, and is sampled in four of them."""

import json
import math
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from dcgen.checkpoint import load_model
from dcgen.config import Sampling
from dcgen.errors import CheckpointError, DcgenError
from dcgen.generate import generate, guided_field, noise_for, sample_chunks
from dcgen.sampler import euler, jump, times
from dcgen.student import Pair, map_loss, pair_batches, student_of, train_student
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.train import TrainConfig
from dcgen.trajectories import SHARD, Plan, Trajectories, make_trajectories, shard_path
from dcgen.types import UNKNOWN
from tests.dcgen.small import CONFIG, chunk, clip, condition_batch, dataset_of, model

pytestmark = pytest.mark.usefixtures("exact")

PLAN = Plan(count=5, steps=12, every=1, guidance=1.5, seed=3)
HOW = TrainConfig(steps=2, batch=3, warmup=1, learning_rate=1e-3, save_s=1e9, log_every=1)
BATCH = 3


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return dataset_of([clip(seed) for seed in range(4)], tmp_path_factory.mktemp("clips") / "clips")


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    counts: list[int] = []
    path = train_student(model(), clips, tmp_path_factory.mktemp("student"), HOW, PLAN, progress=counts.append)
    return path, counts


@pytest.fixture
def kept(trained, tmp_path):
    """The trajectories of that run in a folder of their own."""
    shutil.copytree(trained[0].parents[1] / "trajectories", tmp_path / "made")
    return Trajectories(tmp_path / "made", PLAN)


def test_a_student_begins_as_its_teacher_whatever_the_step():
    teacher, conditions = model(), condition_batch(BATCH)
    student = student_of(teacher).eval()
    generator = torch.Generator().manual_seed(4)
    x, t = torch.randn(BATCH, CONFIG.hex_shape.size, generator=generator), torch.rand(BATCH, generator=generator)
    want = teacher.dit(x, t, conditions)
    prepared = student.prepare(conditions)
    for stop in (None, t, t + 0.3 * (1 - t), torch.ones(BATCH)):
        assert torch.equal(student.velocity(x, t, prepared, stop), want)
    (student.velocity(x, t, prepared, torch.ones(BATCH)) - x).square().mean().backward()
    assert student.vector.length[-1].weight.grad.abs().max() > 0


def test_the_end_of_a_step_counts_once_it_is_learnt():
    student, conditions = model(replace(CONFIG, dit=replace(CONFIG.dit, interval=True))).dit, condition_batch(BATCH)
    x, t = torch.zeros(BATCH, CONFIG.hex_shape.size), torch.full((BATCH,), 0.2)
    prepared = student.prepare(conditions)
    near, far = (student.velocity(x, t, prepared, torch.full((BATCH,), s)) for s in (0.3, 1.0))
    assert (near - far).abs().flatten(1).amax(1).min() > 1e-4
    assert torch.equal(student.velocity(x, t, prepared), student.velocity(x, t, prepared, t))


def test_conditions_that_are_read_once_serve_several_states():
    dit, conditions = model().dit, condition_batch(BATCH)
    x = torch.randn(2 * BATCH, CONFIG.hex_shape.size, generator=torch.Generator().manual_seed(6))
    t, row = torch.linspace(0.1, 0.9, 2 * BATCH), torch.arange(2 * BATCH) // 2
    made = dit.velocity(x, t, dit.prepare(conditions).repeated(2))
    torch.testing.assert_close(made, dit(x, t, conditions.index(row)), rtol=1e-4, atol=1e-4)


def test_a_trajectory_is_the_guided_teachers_own_way(clips, kept, tmp_path):
    teacher = model()
    states, conditions = kept.rows(np.array([4, 1]))
    assert states.shape == (2, 13, CONFIG.hex_shape.size) and len(kept) == 5
    noise = torch.stack([noise_for(PLAN.seed, n, CONFIG.hex_shape.size) for n in (4, 1)])
    with torch.inference_mode():
        end = euler(guided_field(teacher, conditions, PLAN.guidance), noise, times(PLAN.steps, PLAN.shift))
    torch.testing.assert_close(states[:, 0], noise, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(states[:, -1], end, rtol=0.02, atol=0.02)
    assert torch.equal(kept.plan.kept, times(12, PLAN.shift))
    coarser = make_trajectories(teacher, clips, tmp_path / "coarser", replace(PLAN, every=4))
    assert torch.equal(coarser.rows(np.array([4, 1]))[0], states[:, ::4])


def test_a_trajectory_does_not_depend_on_how_many_there_are(clips, kept, tmp_path):
    few = make_trajectories(model(), clips, tmp_path / "few", replace(PLAN, count=2))
    for one, other in zip(few.rows(np.arange(2)), kept.rows(np.arange(2)), strict=True):
        parts = (one, other) if torch.is_tensor(one) else (one.known, other.known)
        torch.testing.assert_close(*parts, rtol=2e-3, atol=2e-3)


def test_files_that_are_there_are_used_as_they_are(clips, tmp_path):
    plan = replace(PLAN, count=SHARD + 2, steps=1, every=1)
    make_trajectories(model(), clips, tmp_path, plan)
    first, last = (shard_path(tmp_path, n) for n in (0, 1))
    before = first.stat().st_mtime_ns
    whole = read_tensors(last)[0]
    last.unlink()  # as after a kill
    told: list[int] = []
    made = make_trajectories(model(), clips, tmp_path, plan, told.append)
    assert first.stat().st_mtime_ns == before and told == [SHARD, SHARD + 2]
    assert all(torch.equal(part, whole[name]) for name, part in read_tensors(last)[0].items())
    make_trajectories(model(), clips, tmp_path, replace(plan, count=SHARD + 3))  # the last one grows
    assert len(read_tensors(last)[0]["states"]) == 3 and first.stat().st_mtime_ns == before
    assert made.rows(np.array([SHARD + 1]))[0].shape[:2] == (1, 2)


@pytest.mark.parametrize(
    ("teacher", "plan", "what"),
    [(replace(model(), sha256="cd" * 32), PLAN, "weights"), (model(), replace(PLAN, guidance=3.0), "steps")],
)
def test_files_of_another_teacher_or_plan_are_refused(teacher, plan, what, clips, kept):
    before = shard_path(kept.folder, 0).read_bytes()
    with pytest.raises(CheckpointError, match=rf"00000\.safetensors: made with other {what}; train into"):
        make_trajectories(teacher, clips, kept.folder, plan)
    assert shard_path(kept.folder, 0).read_bytes() == before


def test_a_damaged_file_is_named(clips, kept):
    path = shard_path(kept.folder, 0)
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="00000"):
        make_trajectories(model(), clips, kept.folder, PLAN)


def test_a_file_whose_parts_differ_in_length_is_named(clips, kept):
    tensors, metadata = read_tensors(shard_path(kept.folder, 0))
    write_tensors(shard_path(kept.folder, 0), {**tensors, "command": tensors["command"][:-1]}, metadata)
    with pytest.raises(CheckpointError, match=r"00000\.safetensors: holds no trajectories of this model"):
        make_trajectories(model(), clips, kept.folder, PLAN)


def test_pairs_lie_on_a_way_and_are_steps_of_a_sampler(kept):
    batches = pair_batches(kept, 12, seed=2)
    grids = {steps: times(steps, PLAN.shift).tolist() for steps in (1, 2, 4, 12)}
    seen = set()
    for i in range(90):
        pair = batches(i)
        assert (pair.time < pair.stop).all() and pair.here.shape == (12, CONFIG.hex_shape.size)
        assert len(pair.conditions.known) == 3
        for start, stop in zip(pair.time.tolist(), pair.stop.tolist(), strict=True):
            steps = [n for n, at in grids.items() if any(np.allclose(two, (start, stop)) for two in pairwise(at))]
            assert len(steps) == 1
            seen.add((steps[0], round(start, 3)))
        for n in range(0, 12, 4):  # the states of one way lie with its conditions
            of_way = kept.rows(np.arange(5))
            way = (of_way[1].known == pair.conditions.known[n // 4]).all(dim=1)
            way &= (of_way[1].trajectory == pair.conditions.trajectory[n // 4]).flatten(1).all(dim=1)
            near = (of_way[0][way][:, :, None] == pair.here[n : n + 4]).all(dim=-1).any(dim=1)
            assert near.any(dim=0).all()
    assert len(seen) == 1 + 2 + 4 + 12
    assert torch.equal(batches(3).here, pair_batches(kept, 12, seed=2)(3).here)
    assert not torch.equal(batches(3).here, batches(4).here)


class _Linear(torch.nn.Module):
    """u(x, t, s) = a(t, s) x, one free number a step."""

    def __init__(self, at):
        super().__init__()
        self.at, self.slope = at, torch.nn.Parameter(torch.zeros(len(at), len(at), dtype=torch.double))

    def forward(self, x, t, s):
        row, column = (torch.searchsorted(self.at, time) for time in (t, s))
        return self.slope[row, column][:, None] * x


def test_the_map_of_a_linear_field_is_the_analytic_one():
    """x' = -2 x has x_s = x_t exp(-2 (s - t)): what the loss is least at, and one, two and four steps all reach it."""
    at, generator = times(4, 2.0).double(), torch.Generator().manual_seed(1)
    flow = _Linear(at)
    optimiser = torch.optim.LBFGS(flow.parameters(), line_search_fn="strong_wolfe", max_iter=60)
    start = torch.randn(64, 5, generator=generator, dtype=torch.double)
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 5) if (b - a, a % (b - a)) in {(1, 0), (2, 0), (4, 0)}]

    def loss():
        optimiser.zero_grad()
        total = torch.zeros((), dtype=torch.double)
        for a, b in pairs:
            here, there = (start * math.exp(-2 * at[n]) for n in (a, b))
            pair = Pair(here, there, at[a].expand(64), at[b].expand(64), condition_batch(1))
            total = total + map_loss(lambda x, t, s: flow(x, t, s), pair, torch.ones(64, 5)).mean()
        total.backward()
        return total

    optimiser.step(loss)
    for every in (1, 2, 4):
        made = jump(flow, start, at[::every])
        torch.testing.assert_close(made, start * math.exp(-2.0), rtol=1e-4, atol=1e-5)


def test_what_a_run_leaves(trained):
    path, counts = trained
    made, teacher = load_model(str(path)), model()
    assert counts == [PLAN.count]
    assert made.config.sampling == Sampling(steps=4, guidance=1.0, sampler="euler", shift=PLAN.shift)
    assert made.config.dit == replace(CONFIG.dit, interval=True) and made.config.name == "tiny-student"
    assert torch.equal(made.latent_mean, teacher.latent_mean) and torch.equal(made.latent_std, teacher.latent_std)
    assert all(torch.equal(part, made.vae.state_dict()[name]) for name, part in teacher.vae.state_dict().items())
    moved = [(part - made.dit.state_dict()[name]).abs().max() for name, part in teacher.dit.state_dict().items()]
    assert max(moved) > 1e-4
    assert made.dit.vector.length[-1].weight.abs().max() > 0


def test_a_student_takes_four_plain_steps_or_as_many_as_are_asked_for(trained):
    made = load_model(str(trained[0]))
    calls = []
    velocity = made.dit.velocity

    def counted(x, t, prepared, stop=None):
        calls.append((len(x), float(t[0]), float(stop[0])))
        return velocity(x, t, prepared, stop)

    made.dit.velocity = counted
    generate(chunk(), made, seed=1)
    at = times(4, PLAN.shift).tolist()
    assert calls == [(1, start, stop) for start, stop in pairwise(at)]
    calls.clear()
    generate(chunk(), made, seed=1, sampling=made.config.sampling.but(steps=3))
    assert len(calls) == 3


def test_a_run_goes_on(trained, clips):
    path, _ = trained
    run = path.parents[1]
    before = {file: file.stat().st_mtime_ns for file in (run / "trajectories").iterdir()}
    again = train_student(model(), clips, run, replace(HOW, steps=3), PLAN)
    assert again == path and {file: file.stat().st_mtime_ns for file in before} == before
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    with pytest.raises(CheckpointError, match="made with other weights"):
        train_student(replace(model(), sha256="cd" * 32), clips, run, HOW, PLAN)


@pytest.mark.parametrize(
    ("sampling", "line"),
    [
        (Sampling(4, 2.0), r"--guidance 2: model tiny-student has its guidance built in; give 1 or leave it out"),
        (Sampling(4, 1.0, "heun"), r"sampler heun: model tiny-student knows whole steps alone; use euler"),
    ],
)
def test_what_a_student_cannot_do_is_refused(sampling, line, trained):
    made, conditions = load_model(str(trained[0])), chunk()
    noise = noise_for(0, 0, CONFIG.hex_shape.size)
    unknown = np.full_like(conditions.known, UNKNOWN)
    for call in (
        lambda: generate(conditions, made, 0, sampling=sampling),
        lambda: sample_chunks([conditions], [unknown], [noise], made, sampling),
    ):
        with pytest.raises(DcgenError, match=line):
            call()


def test_a_student_is_no_teacher(trained, clips, tmp_path):
    with pytest.raises(CheckpointError, match="is a student itself; train from its teacher"):
        train_student(load_model(str(trained[0])), clips, tmp_path / "run", HOW, PLAN)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"count": 0}, {"every": 5}, {"steps": 0}, {"every": 0}])
def test_a_plan_that_makes_no_sense(wrong):
    with pytest.raises(ValueError, match="trajectories need"):
        replace(PLAN, **wrong)
