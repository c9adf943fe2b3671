"""One run of an ablation: trained, scored on the unseen town, timed. N clip, B batch, D latent values, T frame."""

from __future__ import annotations

import hashlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bridges.ablation import FRAMES, Budget
from bridges.step_memory import step_bytes
from bridges.training import LiveClips
from dcgen.checkpoint import Model, build, load_part
from dcgen.config import ModelConfig, Sampling
from dcgen.dataset.source import FIELDS
from dcgen.device import autocast, default_device
from dcgen.dit.conditioning import ConditionBatch
from dcgen.dit.model import Dit
from dcgen.errors import DcgenError
from dcgen.eval.plausibility import jensen_shannon
from dcgen.eval.reconstruction import Confusion, confusion, moving_iou
from dcgen.eval.report import SceneFigures, score_scene
from dcgen.eval.tally import NOTHING, Tally, summed
from dcgen.flow import flow_loss
from dcgen.generate import noise_for, sample_chunks
from dcgen.latents import encode_labels, latent_statistics
from dcgen.stages import DitStage, VaeStage, label_weights, vae_batches
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.train import Stage, TrainConfig, train
from dcgen.types import Clip, Labels
from dcgen.vae.model import Vae
from scenarios.world.store import World

TRAIN_SEED, UNSEEN_SEED = 0, 1  # of the clips: the same for every seed of a variant
EVAL_BATCH = 4
ROLLOUT_VAE_STEPS, ROLLOUT_STEPS, ROLLOUT_BATCH = 4, 2, 8
SAMPLING = Sampling(steps=12, guidance=1.0)
LOSS_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class HeldClips:
    """Clips cut once and kept in memory: every variant of one shape learns from the same."""

    arrays: dict[str, NDArray]

    def __len__(self) -> int:
        return len(self.arrays["labels"])

    @property
    def clip_shape(self) -> tuple[int, ...]:
        return tuple(self.arrays["labels"].shape[1:])

    @property
    def content_sha256(self) -> str:
        return hashlib.sha256(self.arrays["labels"].tobytes()).hexdigest()

    def rows(self, index: NDArray[np.int64], fields: Iterable[str]) -> dict[str, NDArray]:
        return {name: self.arrays[name][index] for name in fields}


class Bench:
    """The worlds, the budget, and what several runs share: clips by their shape, the latents of the rollouts."""

    def __init__(self, worlds: Sequence[World], unseen: World, budget: Budget, out: Path, of: str) -> None:
        """of: what marks the files that runs share as belonging to these worlds and this budget."""
        self.worlds, self.unseen, self.budget, self.out, self.of = worlds, unseen, budget, out, of
        self.held: dict[tuple[Any, ...], HeldClips] = {}
        self.rollouts: RolloutBench | None = None

    def run(self, name: str, config: ModelConfig, seed: int) -> dict[str, Any]:
        """The figures of one variant and seed; None where there was nothing to count."""
        if name.startswith("rollout-"):
            if self.rollouts is None:
                self.rollouts = RolloutBench(self, config)
            figures = self.rollouts.run(config, seed)
        else:
            figures = self.autoencoder(config, seed)
        return {key: value if math.isfinite(value) else None for key, value in figures.items()}

    def clips(self, config: ModelConfig, unseen: bool = False) -> HeldClips:
        """As many frames of the unseen town whatever T is; as many clips to learn from."""
        key = (config.frames, config.anchored, unseen)
        if key not in self.held:
            count, worlds, seed = self.budget.clips, self.worlds, TRAIN_SEED
            if unseen:
                count = max(1, self.budget.unseen_clips * FRAMES // config.frames)
                worlds, seed = [self.unseen], UNSEEN_SEED
            live = LiveClips(worlds, count, seed, config)
            self.held[key] = HeldClips(live.rows(np.arange(count), FIELDS))
        return self.held[key]

    def autoencoder(self, config: ModelConfig, seed: int) -> dict[str, Any]:
        source, budget = self.clips(config), self.budget
        vae, seconds = self.fit_vae(config, seed, budget.steps)
        batch = vae_batches(source, config, budget.batch, seed=0)(0)
        return {
            **score_vae(vae, self.clips(config, unseen=True)),
            "latent_values": config.hex_shape.size,
            "compression": config.compression,
            "parameters": sum(p.numel() for p in vae.parameters()),
            "step_s": seconds,
            "step_mib": step_bytes(config, batch) / 2**20,
        }

    def fit_vae(self, config: ModelConfig, seed: int, steps: int) -> tuple[Vae, float]:
        """An autoencoder in eval mode, and the seconds of a step."""
        source, device = self.clips(config), default_device()
        torch.manual_seed(seed)
        stage = VaeStage(Vae(config).to(device), label_weights(source).to(device))
        how = TrainConfig(steps, self.budget.batch, learning_rate=2e-3, warmup=steps // 10, ema=0.97, seed=seed)
        seconds = _fit(stage, vae_batches(source, config, how.batch, seed), how, self.out)
        return stage.vae.eval(), seconds


def _fit(stage: Stage, batch_at: Callable[[int], Any], how: TrainConfig, out: Path) -> float:
    """Trains, leaves the averaged weights in the stage, and returns the median seconds of a step.

    On a CPU they are those that this process computed for: another process beside it costs the wall's time, not ours.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    out.mkdir(parents=True, exist_ok=True)
    marks = [clock()]
    with tempfile.TemporaryDirectory(dir=out, prefix=".run-") as folder:
        weights = train(
            stage, batch_at, replace(how, log_every=1), Path(folder), lambda step, steps, terms: marks.append(clock())
        )
    stage.network.load_state_dict(weights)
    return statistics.median(np.diff(marks)[min(1, how.steps - 1) :].tolist())


@torch.no_grad()
def score_vae(vae: Vae, unseen: HeldClips) -> dict[str, float]:
    """mIoU and the IoU of what moves, on clips of the town that was not learned from."""
    device = next(vae.parameters()).device
    total, moving = Confusion(), NOTHING
    for start in range(0, len(unseen), EVAL_BATCH):
        truth, moves = (unseen.arrays[name][start : start + EVAL_BATCH] for name in ("labels", "moving"))
        with autocast(device):
            made = vae.reconstruct(torch.from_numpy(truth).to(device)).cpu().numpy()
        total += confusion(made, truth)
        for one, real, moved in zip(made, truth, moves, strict=True):
            moving += moving_iou(one, real, moved, vae.config.grid.voxel_m)["all"]
    return {"miou": total.miou, "moving_iou": moving.share}


class RolloutBench:
    """One autoencoder, its latents of all clips, and transformers over their planes in one order or another."""

    def __init__(self, bench: Bench, config: ModelConfig) -> None:
        self.bench, self.steps = bench, ROLLOUT_STEPS * bench.budget.steps
        self.vae = self._autoencoder(config)
        source = bench.clips(config)
        self.mean, self.std = latent_statistics(self.vae, source)
        self.conditions = _conditions(source, config)
        self.latents = self._latents(source)
        count = max(1, bench.budget.unseen_clips // 2)
        live = LiveClips([bench.unseen], count, UNSEEN_SEED, config)
        self.unseen = [live.clip(n) for n in range(count)]
        held = HeldClips(live.rows(np.arange(count), FIELDS))
        self.unseen_conditions, self.unseen_latents = _conditions(held, config), self._latents(held)

    def _autoencoder(self, config: ModelConfig) -> Vae:
        """Trained once and kept beside the runs: a run that goes on needs the very latents of those before it."""
        path = self.bench.out / "rollout-vae.safetensors"
        if path.exists():
            tensors, metadata = read_tensors(path)
            if metadata.get("of") != self.bench.of:
                raise DcgenError(f"{path}: belongs to another ablation; give another -o DIR")
            vae = build(path, config, Vae)
            load_part(path, "", vae, tensors)
            return vae.eval().to(default_device())
        vae, _ = self.bench.fit_vae(config, 0, ROLLOUT_VAE_STEPS * self.bench.budget.steps)
        write_tensors(path, vae.state_dict(), {"of": self.bench.of})
        return vae

    def _latents(self, clips: HeldClips) -> Tensor:
        """[N, D] normalised."""
        labels = clips.arrays["labels"]
        parts = [encode_labels(self.vae, labels[n : n + EVAL_BATCH]) for n in range(0, len(clips), EVAL_BATCH)]
        return (torch.cat(parts) - self.mean) / self.std

    def run(self, config: ModelConfig, seed: int) -> dict[str, Any]:
        device = default_device()
        torch.manual_seed(seed)
        stage = DitStage(Dit(config).to(device))

        def batch_at(i: int) -> tuple[Tensor, ConditionBatch]:
            index = torch.from_numpy(np.random.default_rng((seed, i)).integers(len(self.latents), size=ROLLOUT_BATCH))
            return self.latents[index], self.conditions.index(index)

        how = TrainConfig(self.steps, ROLLOUT_BATCH, learning_rate=8e-4, warmup=self.steps // 10, ema=0.99, seed=seed)
        seconds = _fit(stage, batch_at, how, self.bench.out)
        model = Model(config, self.vae, stage.dit.eval(), self.mean.to(device), self.std.to(device))
        made = [self._generate(model, n) for n in range(len(self.unseen))]
        back = [self._reconstruct(clip) for clip in self.unseen]
        return {
            "flow_loss": self._loss(model),
            **_likeness(self.unseen, made),
            **{f"vae_{name}": value for name, value in _likeness(self.unseen, back).items()},
            "tokens": len(stage.dit.tokens.position),
            "step_s": seconds,
        }

    def _generate(self, model: Model, n: int) -> Labels:
        conditions = self.unseen[n].conditions
        noise = noise_for(n, 0, model.config.hex_shape.size)
        return sample_chunks([conditions], [conditions.known], [noise], model, SAMPLING)[0]

    def _reconstruct(self, clip: Clip) -> Labels:
        labels = torch.from_numpy(clip.labels[None]).to(default_device())
        back: Labels = self.vae.reconstruct(labels)[0].cpu().numpy()
        return back

    @torch.no_grad()
    def _loss(self, model: Model) -> float:
        """Of the velocity on the unseen clips, every latent counting alike; the same noise for all models."""
        data, device = self.unseen_latents.to(model.device), model.device
        generator = torch.Generator().manual_seed(UNSEEN_SEED)
        conditions, losses = self.unseen_conditions.to(device), []
        for time_ in LOSS_TIMES:
            noise = torch.randn(data.shape, generator=generator).to(device)
            at = torch.full((len(data),), time_, device=device)
            losses.append(flow_loss(lambda x, t: model.dit(x, t, conditions), data, noise, at).mean().item())
        return float(np.mean(losses))


def _conditions(clips: HeldClips, config: ModelConfig) -> ConditionBatch:
    """Of all clips, with nothing known."""
    arrays = {name: torch.from_numpy(clips.arrays[name]) for name in FIELDS}
    return ConditionBatch(
        arrays["trajectory"].float(),
        arrays["command"].long(),
        arrays["layout_static"],
        arrays["layout_agents"],
        torch.zeros(len(clips), config.hex_shape.size),
        torch.ones(len(clips), dtype=torch.bool),
    )


def _likeness(clips: Sequence[Clip], made: Sequence[Labels]) -> dict[str, float]:
    """Class shares, pieces and agents of labels that were made for the conditions of real clips."""
    real = sum((score_scene(clip.labels, clip.conditions) for clip in clips), SceneFigures())
    got = sum((score_scene(labels, clip.conditions) for labels, clip in zip(made, clips, strict=True)), SceneFigures())
    pieces = Tally(got.buildings + got.vegetation, real.buildings + real.vegetation).share
    return {
        "class_jsd": jensen_shannon(got.all_counts, real.all_counts),
        "pieces": pieces,
        "agent_recall": summed(got.recall.values()).share,
    }
