"""A student that goes in few steps where its teacher goes in many, guidance included. B batch, S state, D values.

Its network is the teacher's with one more input, the length of a step. It learns the average velocity between two
states of the guided teacher's own way, (x_s - x_t) / (s - t): a flow map, as of shortcut models (arXiv 2410.12557) and
MeanFlow (arXiv 2505.13447), but read off a finished teacher instead of bootstrapped from the student.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dcgen import parallel
from dcgen.checkpoint import WEIGHTS, Model, save_model
from dcgen.config import ModelConfig, Sampling
from dcgen.dataset.source import ClipSource
from dcgen.device import autocast
from dcgen.dit.conditioning import ConditionBatch
from dcgen.dit.model import Dit
from dcgen.errors import CheckpointError
from dcgen.flow import FlowMap
from dcgen.stages import latent_weights
from dcgen.train import Report, TrainConfig, train
from dcgen.trajectories import Plan, Trajectories, make_trajectories

STEPS = 4
# How often a pair of states is one step of a sampler with so many steps; STEPS is what the student is for.
SHARES = {1: 0.05, 2: 0.08, STEPS: 0.8, 12: 0.07}
PAIRS = 4  # of one trajectory in a batch: its conditions, two fifths of a forward, are read once for them


@dataclass(frozen=True)
class Pair:
    """Two states on a way, B times over, and their times; each of the conditions serves B / len(conditions) of them."""

    here: Float[Tensor, "B D"]
    there: Float[Tensor, "B D"]
    time: Float[Tensor, " B"]
    stop: Float[Tensor, " B"]
    conditions: ConditionBatch


def map_loss(flow: FlowMap, pair: Pair, weights: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Mean squared error of the average velocity, row by row; latents count by their weights."""
    velocity = (pair.there - pair.here) / (pair.stop - pair.time)[:, None]
    error = (flow(pair.here, pair.time, pair.stop).float() - velocity).square()
    return (error * weights).mean(dim=1)


@dataclass
class StudentStage:
    """The student on pairs of its teacher's states."""

    dit: Dit

    @property
    def network(self) -> nn.Module:
        return self.dit

    def loss(self, batch: Pair, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        device = next(self.dit.parameters()).device
        conditions = batch.conditions.to(device)
        here, there, time, stop = (part.to(device) for part in (batch.here, batch.there, batch.time, batch.stop))
        pair = Pair(here, there, time, stop, conditions)
        pairs = len(batch.here) // len(conditions.present)

        def flow(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
            with autocast(device):
                return self.dit.velocity(x, t, self.dit.prepare(conditions).repeated(pairs), s)

        weights = latent_weights(conditions.layout_agents, self.dit.config.hex_shape)
        losses = map_loss(flow, pair, weights.repeat_interleave(pairs, dim=0))
        first = pair.time == 0
        return losses.mean(), {"first": losses[first].mean().item() if first.any() else float("nan")}


def pair_batches(trajectories: Trajectories, size: int, seed: int) -> Callable[[int], Pair]:
    """This process's part of the i-th batch of `size` pairs: trajectories are drawn evenly, pairs of each by SHARES."""
    kept = trajectories.plan.kept
    levels = {steps: share for steps, share in SHARES.items() if (len(kept) - 1) % steps == 0}
    chances = np.array(list(levels.values())) / sum(levels.values())

    def batch_at(i: int) -> Pair:
        rng = np.random.default_rng((seed, i))
        own = parallel.part(size)
        pairs = math.gcd(own.stop - own.start, PAIRS)
        drawn = rng.integers(len(trajectories), size=size // pairs)
        states, conditions = trajectories.rows(drawn[own.start // pairs : own.stop // pairs])
        jumps = (len(kept) - 1) // rng.choice(list(levels), size=size, p=chances)
        here = rng.integers((len(kept) - 1) // jumps) * jumps
        row = torch.arange(own.stop - own.start) // pairs
        start, stop = torch.from_numpy(here[own]), torch.from_numpy((here + jumps)[own])
        return Pair(states[row, start], states[row, stop], kept[start], kept[stop], conditions)

    return batch_at


def student_config(config: ModelConfig, shift: float) -> ModelConfig:
    """The teacher's sizes with an interval; as it is sampled by default, it takes STEPS steps without guidance."""
    sampling = Sampling(steps=STEPS, guidance=1.0, sampler="euler", shift=shift)
    return replace(config, name=f"{config.name}-student", dit=replace(config.dit, interval=True), sampling=sampling)


def student_of(teacher: Model, shift: float = 2.0) -> Dit:
    """A network that goes where the unguided teacher points, whatever the step. Raises CheckpointError."""
    if teacher.config.dit.interval:
        raise CheckpointError(f"model {teacher.config.name} is a student itself; train from its teacher")
    student = Dit(student_config(teacher.config, shift))
    student.load_state_dict({**student.state_dict(), **teacher.dit.state_dict()})
    return student


def train_student(
    teacher: Model,
    clips: ClipSource,
    out: Path,
    how: TrainConfig,
    plan: Plan,
    report: Report | None = None,
    minutes: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """The teacher's trajectories in `out`/trajectories, a student of them, then the model folder `out`/model.

    minutes are those of the training; progress is told how many trajectories there are. A run folder is resumed.
    """
    torch.manual_seed(how.seed)
    student = student_of(teacher, plan.shift).to(teacher.device)
    trajectories = make_trajectories(teacher, clips, out / "trajectories", plan, progress)
    weights = train(StudentStage(student), pair_batches(trajectories, how.batch, how.seed), how, out, report, minutes)
    config = student.config
    made = Dit(config)
    made.load_state_dict(weights)
    statistics = (teacher.latent_mean.cpu(), teacher.latent_std.cpu())
    if parallel.first():
        save_model(Model(config, teacher.vae.cpu(), made, *statistics), out / "model", torch.bfloat16)
    parallel.wait()
    return out / "model" / WEIGHTS
