"""Conditions to occupancy: one chunk, or a scene of any length. B batch, D latent values, T frame, X/Y/Z voxel axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dcgen.canvas import Canvas
from dcgen.checkpoint import Model
from dcgen.config import Sampling
from dcgen.device import autocast
from dcgen.dit.conditioning import ConditionBatch
from dcgen.errors import DcgenError, GridMismatch
from dcgen.flow import FlowMap, Velocity
from dcgen.frames import Chunk, FrameCutter, Given, join_scenes
from dcgen.hexplane import flatten, unflatten
from dcgen.known import settled, world_known
from dcgen.sampler import SAMPLERS, guided, jump, times
from dcgen.specks import without_specks
from dcgen.types import MOVABLE, UNKNOWN, Conditions, Labels, Scene

Progress = Callable[[int], None]  # called with the steps done since the last call


def check_fits(conditions: Conditions, model: Model) -> None:
    """Raises GridMismatch where a chunk is not what the model speaks."""
    config = model.config
    for name, got, want in (
        ("grid", conditions.grid, config.grid),
        ("frames", conditions.frames, config.frames),
        ("dt_s", round(conditions.dt_s, 6), round(config.dt_s, 6)),
    ):
        if got != want:
            raise GridMismatch(f"{name}: the scenario has {got}, model {config.name} needs {want}; change {name}")


def check_sampling(sampling: Sampling, model: Model) -> None:
    """Raises DcgenError where a few-step student is asked for what was built into it."""
    if not model.config.dit.interval:
        return
    name, asked = model.config.name, sampling.guidance
    if asked != 1.0:
        raise DcgenError(f"--guidance {asked:g}: model {name} has its guidance built in; give 1 or leave it out")
    if sampling.sampler != "euler":
        raise DcgenError(f"sampler {sampling.sampler}: model {name} knows whole steps alone; use euler")


def batch_conditions(chunks: Sequence[Conditions], known: Sequence[Labels], model: Model) -> ConditionBatch:
    """Conditions as tensors on the model's device; what is known is encoded with the rest unknown."""
    device, config = model.device, model.config
    latents = torch.zeros(len(chunks), config.hex_shape.size, device=device)
    given = [i for i, labels in enumerate(known) if (labels != UNKNOWN).any()]
    if given:
        labels = torch.from_numpy(np.stack([known[i] for i in given])).to(device)
        with autocast(device):
            mean = flatten(model.vae.encode(labels).mean).float()
        latents[given] = (mean - model.latent_mean) / model.latent_std

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(getattr(c, name), np.float32) for c in chunks])).to(device)

    return ConditionBatch(
        trajectory=stack("trajectory"),
        command=torch.tensor([int(c.command) for c in chunks], device=device),
        layout_static=stack("layout_static"),
        layout_agents=stack("layout_agents"),
        known=latents,
        present=torch.ones(len(chunks), dtype=torch.bool, device=device),
    )


def noise_for(seed: int, index: int, size: int) -> Tensor:
    """[D] the noise of the index-th chunk of a seed: the same whatever else is in the batch."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % (1 << 63))
    return torch.randn(size, generator=generator)


def guided_field(model: Model, conditions: ConditionBatch, guidance: float) -> Velocity:
    """The model's velocity under the conditions, with classifier-free guidance."""
    given = field_of(model, conditions)
    if guidance == 1.0:
        return lambda x, t: given(x, t, t)
    none = field_of(model, conditions.null())
    return guided(lambda x, t: given(x, t, t), lambda x, t: none(x, t, t), guidance)


def field_of(model: Model, conditions: ConditionBatch) -> FlowMap:
    """u(x, t, s) of the model under the conditions; of a model without an interval the velocity, whatever s."""
    with autocast(model.device):
        prepared = model.dit.prepare(conditions)

    def field(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        with autocast(model.device):
            return model.dit.velocity(x, t, prepared, s).float()

    return field


def sample_latents(
    noise: Tensor, conditions: ConditionBatch, model: Model, sampling: Sampling, progress: Progress | None = None
) -> Tensor:
    """[B, D] normalised latents from noise [B, D]; a student jumps, without guidance, from time to time."""

    def told(x: Tensor) -> Tensor:
        if progress:
            progress(1)
        return x

    at = times(sampling.steps, sampling.shift)
    if model.config.dit.interval:
        flow = field_of(model, conditions)
        return jump(lambda x, t, s: flow(told(x), t, s), noise, at)
    field = guided_field(model, conditions, sampling.guidance)
    return SAMPLERS[sampling.sampler](lambda x, t: field(told(x), t), noise, at)


@torch.inference_mode()
def sample_chunks(
    chunks: Sequence[Conditions],
    known: Sequence[Labels],
    noise: Sequence[Tensor],
    model: Model,
    sampling: Sampling,
    progress: Progress | None = None,
) -> list[Labels]:
    """Labels [T, X, Y, Z] of each chunk, in its anchor frame; known voxels are passed through as they are."""
    check_sampling(sampling, model)
    start = torch.stack(list(noise)).to(model.device)
    latents = sample_latents(start, batch_conditions(chunks, known, model), model, sampling, progress)
    planes = unflatten(latents * model.latent_std + model.latent_mean, model.config.hex_shape)
    with autocast(model.device):
        labels = model.vae.labels(planes).cpu().numpy()
    grid = model.config.grid
    whole = (np.where(k != UNKNOWN, k, made) for k, made in zip(known, labels, strict=True))
    return [without_specks(made, k, grid) for made, k in zip(whole, known, strict=True)]


class Rollout:
    """Chunks one after the other on a canvas: what was seen stays, what comes next is completed."""

    def __init__(self, model: Model, seed: int, sampling: Sampling) -> None:
        check_sampling(sampling, model)  # before a chunk's conditions are made
        self.model, self.seed, self.sampling = model, seed, sampling
        self.canvas = Canvas(min(model.config.grid.voxel_m) / 2)
        self.cutter = FrameCutter(self.canvas, model.config.grid)
        self.last: Chunk | None = None

    def known(self, conditions: Conditions) -> Labels:
        """[T, X, Y, Z] the chunk's own known voxels, then the movers of shared frames, then the canvas."""
        static = self.cutter.static(conditions.world_se3_anchor)
        seen = world_known(static, conditions.layout_agents)
        if self.last is not None:
            shared = self.last.conditions.first_frame + self.last.conditions.frames - conditions.first_frame
            for t in range(min(max(shared, 0), conditions.frames)):
                before = self.cutter.moved(self.last, conditions, t)
                mover = np.isin(before, MOVABLE)
                seen[t] = np.where(mover, before, np.where(before != UNKNOWN, static, seen[t]))
        return np.where(conditions.known != UNKNOWN, conditions.known, seen)

    def advance(self, conditions: Conditions, index: int, progress: Progress | None = None) -> Chunk:
        """Generates one chunk and puts its static world on the canvas."""
        check_fits(conditions, self.model)
        known = self.known(conditions)
        noise = noise_for(self.seed, index, self.model.config.hex_shape.size)
        if (known == UNKNOWN).any():
            (labels,) = sample_chunks([conditions], [known], [noise], self.model, self.sampling, progress)
        else:
            labels = known
        self.cutter.paint(conditions.world_se3_anchor, settled(labels, known))
        self.last = Chunk(conditions, labels)
        return self.last


def generate_parts(
    chunks: Iterable[Conditions],
    model: Model,
    seed: int,
    *,
    frames: int,
    sampling: Sampling | None = None,
    given: Given | None = None,
    scenario: str = "",
    progress: Progress | None = None,
) -> Iterator[Scene]:
    """Parts of a scene as they are finished, in order; memory grows with the area that was seen, not with frames.

    chunks come in order and may begin before frame 0 or end after the last: what lies outside is context. A frame
    is cut from the chunk whose anchor is nearest, once the chunk after it has widened the canvas. given(f) holds
    ego-centred labels [X, Y, Z] of a recorded frame that pass through unchanged, UNKNOWN elsewhere.
    """
    rollout = Rollout(model, seed, sampling or model.config.sampling)
    done = 0
    before: Chunk | None = None
    names = {"seed": seed, "model": model.config.name, "model_sha256": model.sha256, "scenario": scenario}

    def cut(owner: Chunk, other: Chunk | None, stop: int) -> Iterator[Scene]:
        nonlocal done
        span = range(done, min(stop, frames, owner.conditions.first_frame + owner.conditions.frames))
        if len(span):
            yield rollout.cutter.scene(owner, other, span, given, names)
            done = span.stop

    for index, conditions in enumerate(chunks):
        chunk = rollout.advance(conditions, index, progress)
        if before is not None:
            middle = (anchor_frame(before.conditions) + anchor_frame(conditions)) // 2 + 1
            yield from cut(before, chunk, max(middle, conditions.first_frame))
        before = chunk
    if before is not None:
        yield from cut(before, None, frames)
    if done < frames:
        raise ValueError(f"the chunks cover {done} of {frames} frames")


def anchor_frame(conditions: Conditions) -> int:
    """The frame of the scene at which a chunk's grid is anchored."""
    return conditions.first_frame + conditions.frames // 2


def generate(
    conditions: Conditions | Iterable[Conditions],
    model: Model,
    seed: int,
    *,
    frames: int | None = None,
    sampling: Sampling | None = None,
    given: Given | None = None,
    scenario: str = "",
    progress: Progress | None = None,
) -> Scene:
    """A whole scene in memory; see generate_parts for one that is written as it grows.

    conditions: one chunk, or the chunks of a longer scene in order. The same seed gives the same labels.
    """
    chunks = [conditions] if isinstance(conditions, Conditions) else list(conditions)
    if not chunks:
        raise ValueError("generate needs at least one chunk of conditions")
    if frames is None:
        frames = max(c.first_frame + c.frames for c in chunks)
    parts = generate_parts(
        chunks, model, seed, frames=frames, sampling=sampling, given=given, scenario=scenario, progress=progress
    )
    return join_scenes(list(parts))
