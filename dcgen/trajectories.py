"""Ways of a guided teacher from noise to data, kept in files for a student. B batch, S state, D latent values.

One file holds SHARD trajectories with the conditions they were made under, so that a student needs no clips. Files
that are there and belong to the same teacher are used as they are: a run that was stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from dcgen import parallel
from dcgen.checkpoint import Model
from dcgen.dataset.source import ClipSource
from dcgen.dit.conditioning import ConditionBatch
from dcgen.errors import CheckpointError
from dcgen.generate import guided_field, noise_for
from dcgen.known import random_known
from dcgen.latents import encode_labels
from dcgen.sampler import times
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.types import UNKNOWN

SHARD = 32
LAYOUT_STEPS = 64.0  # a layout is kept as int8: -2 .. 2
KNOWN = 0.5  # of the trajectories know a part of their clip; the others begin a scene


@dataclass(frozen=True)
class Plan:
    """Which ways are gone: `count` of them, in `steps` teacher's steps, of which every `every`-th state is kept."""

    count: int
    steps: int = 12
    every: int = 1
    guidance: float = 2.0
    shift: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.every < 1 or self.steps < 1 or self.steps % self.every:
            raise ValueError(f"trajectories need a count of 1 or more, and steps that divide by every: {self}")

    @property
    def kept(self) -> Float[Tensor, " S"]:
        """The times of the states that are kept, 0 and 1 among them."""
        return times(self.steps, self.shift)[:: self.every]

    @property
    def shards(self) -> int:
        return -(-self.count // SHARD)

    def numbers(self, shard: int) -> range:
        """The trajectories of a shard."""
        return range(shard * SHARD, min((shard + 1) * SHARD, self.count))

    def identity(self, teacher: Model, clips: ClipSource) -> dict[str, str]:
        """What a file must agree with; trajectories that were added later change nothing in those before."""
        how = {"steps": self.steps, "every": self.every, "guidance": self.guidance, "shift": self.shift}
        return {
            "weights": teacher.sha256,
            "clips": clips.content_sha256,
            "steps": json.dumps({**how, "seed": self.seed}),
        }


@dataclass(frozen=True)
class Trajectories:
    """Finished files, read row by row."""

    folder: Path
    plan: Plan

    def __len__(self) -> int:
        return self.plan.count

    def rows(self, numbers: NDArray[np.int64]) -> tuple[Float[Tensor, "B S D"], ConditionBatch]:
        """The states of some trajectories, and their conditions."""
        found = [self._row(int(n)) for n in numbers]
        joined = {name: torch.cat([row[name] for row in found]) for name in found[0]}
        states = joined.pop("states").float()
        for name in ("layout_static", "layout_agents"):
            joined[name] = joined[name].float() / LAYOUT_STEPS
        joined["known"] = joined["known"].float()
        return states, ConditionBatch(**joined, present=torch.ones(len(found), dtype=torch.bool))

    def _row(self, number: int) -> dict[str, Tensor]:
        row = number % SHARD
        with safe_open(shard_path(self.folder, number // SHARD), framework="pt") as file:
            return {name: file.get_slice(name)[row : row + 1] for name in file.keys()}  # noqa: SIM118 - not a dict


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard lies."""
    return folder / f"{shard:05d}.safetensors"


def make_trajectories(
    teacher: Model,
    clips: ClipSource,
    folder: Path,
    plan: Plan,
    progress: Callable[[int], None] | None = None,
) -> Trajectories:
    """Goes all ways of the plan that are not there yet, each process its share of the files.

    progress is told how many there are.
    Trajectory n depends on (seed, n) alone. Raises CheckpointError where a file is damaged, or of another teacher or
    plan.
    """
    identity = plan.identity(teacher, clips)
    for shard in range(parallel.rank(), plan.shards, parallel.size()):
        if not _finished(folder, shard, identity, teacher, plan):
            tensors = _walk(teacher, clips, plan, np.array(plan.numbers(shard)))
            write_tensors(shard_path(folder, shard), tensors, identity)
        if progress:
            progress(plan.numbers(shard).stop)
    parallel.wait()
    return Trajectories(folder, plan)


def _finished(folder: Path, shard: int, identity: dict[str, str], teacher: Model, plan: Plan) -> bool:
    """Whether a shard is there with all the trajectories that the plan wants of it; a shorter one is made again."""
    path = shard_path(folder, shard)
    if not path.exists():
        return False
    tensors, metadata = read_tensors(path)
    for name, want in identity.items():
        if metadata.get(name) != want:
            raise CheckpointError(f"{path}: made with other {name}; train into another folder")
    wanted = {"states", *(field.name for field in fields(ConditionBatch))} - {"present"}
    shape = (len(plan.kept), teacher.config.hex_shape.size)
    count = len(tensors["states"]) if "states" in tensors else 0
    even = all(tensor.ndim and len(tensor) == count for tensor in tensors.values())
    if tensors.keys() != wanted or tensors["states"].shape[1:] != shape or not even:
        raise CheckpointError(f"{path}: holds no trajectories of this model; train into another folder")
    return count >= len(plan.numbers(shard))


@torch.inference_mode()
def _walk(teacher: Model, clips: ClipSource, plan: Plan, numbers: NDArray[np.int64]) -> dict[str, Tensor]:
    """The tensors of a shard."""
    conditions = _conditions(teacher, clips, plan.seed, numbers)
    noise = [noise_for(plan.seed, int(n), teacher.config.hex_shape.size) for n in numbers]
    x = torch.stack(noise).to(teacher.device)
    field = guided_field(teacher, conditions.to(teacher.device), plan.guidance)
    at, states = times(plan.steps, plan.shift), [x]
    for step in range(plan.steps):
        x = x + (at[step + 1] - at[step]) * field(x, at[step].expand(len(x)).to(x.device))
        if (step + 1) % plan.every == 0:
            states.append(x)
    return {
        "states": torch.stack(states, dim=1).half(),
        "trajectory": conditions.trajectory,
        "command": conditions.command,
        "layout_static": (conditions.layout_static * LAYOUT_STEPS).round().to(torch.int8),
        "layout_agents": (conditions.layout_agents * LAYOUT_STEPS).round().to(torch.int8),
        "known": conditions.known.half(),
    }


def _conditions(teacher: Model, clips: ClipSource, seed: int, numbers: NDArray[np.int64]) -> ConditionBatch:
    """Of the clips that these trajectories are made for: all of them in a random order, then again from the first."""
    order = np.random.default_rng(seed).permutation(len(clips))
    names = ("trajectory", "command", "layout_static", "layout_agents")
    rows = clips.rows(order[numbers % len(clips)], ("labels", *names))
    known = np.full_like(rows["labels"], UNKNOWN)
    for row, number in enumerate(numbers):
        rng = np.random.default_rng((seed, int(number)))
        if rng.random() < KNOWN:
            known[row] = random_known(rows["labels"][row], rows["layout_agents"][row], teacher.config.grid, rng)
    latents = torch.zeros(len(numbers), teacher.config.hex_shape.size)
    given = (known != UNKNOWN).any(axis=(1, 2, 3, 4))
    if given.any():
        mean, std = teacher.latent_mean.cpu(), teacher.latent_std.cpu()
        latents[torch.from_numpy(given)] = (encode_labels(teacher.vae, known[given]) - mean) / std
    parts = {name: torch.from_numpy(rows[name]) for name in names}
    parts["command"] = parts["command"].long()
    return ConditionBatch(**parts, known=latents, present=torch.ones(len(numbers), dtype=torch.bool))
