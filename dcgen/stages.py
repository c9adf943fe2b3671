"""The two stages of training: an autoencoder of clips, then a velocity field on its latents. B batch, D values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcgen import parallel
from dcgen.config import HexShape, ModelConfig
from dcgen.dataset.source import ClipSource, in_order
from dcgen.device import autocast
from dcgen.dit.conditioning import ConditionBatch
from dcgen.dit.model import Dit
from dcgen.flow import flow_loss, sample_time
from dcgen.hexplane import HexPlane, flatten
from dcgen.known import random_known
from dcgen.latent_parts import LatentParts
from dcgen.measure import recomputed
from dcgen.types import AGENT_CHANNELS, NUM_CLASSES, UNKNOWN
from dcgen.vae.loss import class_weights, kl_to_standard_normal, reconstruction_loss
from dcgen.vae.model import Vae

SMALL_AGENT_WEIGHT = 4.0
# Of the latents in the loss. Half of them are the volume's, while a scene's coherence hangs on the xy plane, and
# whether a pedestrian is there on the few of the planes with time.
PART_WEIGHTS = {"xy": 3.0, "xz": 1.0, "yz": 1.0, "tx": 4.0, "ty": 4.0, "tz": 4.0, "volume": 0.5}


@dataclass(frozen=True)
class VaeBatch:
    """inputs [B, T, X, Y, Z] with unknown voxels, the labels behind them, and the moving voxels."""

    inputs: Tensor
    labels: Tensor
    moving: Tensor


@dataclass
class VaeStage:
    """Reconstruction, with noise on the latents so that the decoder forgives what the second stage gets wrong.

    Cross-entropy and Lovasz have normalisers of their batch, and the noise the spread of its latents: with several
    processes each has its own, and the mean of their losses is near the loss of the whole batch, not the same.
    """

    vae: Vae
    weights: Tensor
    kl_weight: float = 2e-4
    noise: float = 0.4
    moving_weight: float = 3.0
    name: str = "vae"
    checkpointing: bool = False  # of the decoder, whose inner volumes are most of what is kept

    @property
    def network(self) -> nn.Module:
        return self.vae

    def loss(self, batch: VaeBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        device = self.weights.device
        with autocast(device):
            posterior = self.vae.encode(batch.inputs.to(device))
            latents = posterior.sample(generator, parallel.own_normal)
            # Noise of a random strength a clip, none for half of them.
            strength = parallel.own_rows(len(batch.inputs), lambda n: torch.rand(n, generator=generator)) * 2 - 1
            latents = latents.map(lambda part: part + _noise_like(part, strength.clamp_min(0) * self.noise, generator))
            # Half of the frames, drawn anew each step: decoding and its loss are most of a step's cost.
            frames = torch.randperm(batch.labels.shape[1], generator=generator)[: (batch.labels.shape[1] + 1) // 2]
            decode = partial(recomputed, self.vae.decode) if self.checkpointing else self.vae.decode
            logits = decode(latents, frames)
        labels = torch.where(batch.inputs == UNKNOWN, UNKNOWN, batch.labels)[:, frames].to(device)
        moving = batch.moving[:, frames].to(device)
        terms = reconstruction_loss(logits, labels, moving, self.weights, moving_weight=self.moving_weight)
        kl = kl_to_standard_normal(posterior.mean, posterior.log_variance)
        report = {
            "ce": terms.cross_entropy.item(),
            "lovasz": terms.lovasz.item(),
            "moving": terms.moving.item(),
            "kl": kl.item(),
        }
        return terms.total + self.kl_weight * kl, report


def _noise_like(part: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    noise = parallel.own_normal(part.shape, generator).to(part.device)
    scale = part.detach().float().std(dim=(0, *range(2, part.ndim)), keepdim=True)
    return noise * scale * strength.to(part.device).view(-1, *[1] * (part.ndim - 1))


def vae_batches(store: ClipSource, config: ModelConfig, size: int, seed: int) -> Callable[[int], VaeBatch]:
    """This process's clips of the i-th batch; a quarter of the clips have voxels hidden."""

    def batch_at(i: int) -> VaeBatch:
        mine = np.arange(size)[parallel.part(size)]
        index = np.random.default_rng((seed, i)).integers(len(store), size=size)[mine]
        rows = store.rows(index, ("labels", "moving", "layout_agents"))
        inputs = rows["labels"].copy()
        for b, clip in enumerate(mine):
            rng = np.random.default_rng((seed, i, clip))
            if rng.random() < 0.25:
                known = random_known(rows["labels"][b], rows["layout_agents"][b], config.grid, rng)
                if (known != UNKNOWN).any():
                    inputs[b] = known
        return VaeBatch(torch.from_numpy(inputs), torch.from_numpy(rows["labels"]), torch.from_numpy(rows["moving"]))

    return batch_at


def label_weights(store: ClipSource, clips: int = 200) -> Tensor:
    """[K] class weights from the first clips of a store."""
    counts = np.zeros(NUM_CLASSES, np.int64)
    for index in in_order(store, 20):
        if index[0] >= clips:
            break
        counts += np.bincount(store.rows(index, ["labels"])["labels"].ravel(), minlength=256)[:NUM_CLASSES]
    return class_weights(torch.from_numpy(counts))


@dataclass
class DitStage:
    """Flow matching on normalised latents; all conditions are dropped at once for one chunk in ten."""

    dit: Dit
    drop: float = 0.1
    name: str = "dit"

    @property
    def network(self) -> nn.Module:
        return self.dit

    def loss(self, batch: tuple[Tensor, ConditionBatch], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        data, conditions = batch
        device = next(self.dit.parameters()).device
        data = data.to(device)
        rows = len(data)
        present = parallel.own_rows(rows, lambda n: torch.rand(n, generator=generator)) >= self.drop
        conditions = replace(conditions, present=present).to(device)
        noise = parallel.own_normal(data.shape, generator).to(device)
        time = parallel.own_rows(rows, lambda n: sample_time(n, generator, device))

        def field(x: Tensor, t: Tensor) -> Tensor:
            with autocast(device):
                return self.dit(x, t, conditions)

        weights = latent_weights(conditions.layout_agents, self.dit.config.hex_shape)
        losses = flow_loss(field, data, noise, time, weights)
        late = time > 0.7
        return losses.mean(), {"late": losses[late].mean().item() if late.any() else float("nan")}


def latent_weights(layout_agents: Tensor, shape: HexShape) -> Tensor:
    """[B, D] what each latent counts in the loss: PART_WEIGHTS, times SMALL_AGENT_WEIGHT where a pedestrian or a
    bicycle is, in a plane's or the volume's cells.

    They fill one cell in a thousand: unweighted, a model that leaves them out has hardly a larger loss.
    """
    batch = len(layout_agents)
    first, last = AGENT_CHANNELS.index("bicycle"), AGENT_CHANNELS.index("pedestrian")
    here = (layout_agents[:, :, first : last + 1].amax(dim=2) > 0).float()  # B T X Y
    small = {
        "xy": F.adaptive_max_pool2d(here.amax(1), (shape.x, shape.y)),
        "tx": F.adaptive_max_pool2d(here.amax(3), (shape.t, shape.x)),
        "ty": F.adaptive_max_pool2d(here.amax(2), (shape.t, shape.y)),
        "volume": F.adaptive_max_pool2d(here, (shape.volume_x or 1, shape.volume_y or 1)),
    }
    parts = {}
    for name, size in {**shape.planes, "volume": shape.volume}.items():
        weight = layout_agents.new_full((batch, *size), PART_WEIGHTS[name])
        if name in small and size[0]:
            weight *= 1 + (SMALL_AGENT_WEIGHT - 1) * small[name][:, None]
        parts[name] = weight
    return flatten(HexPlane(**{name: weight for name, weight in parts.items() if weight.numel()}))


def dit_batches(latents: LatentParts, size: int, seed: int) -> Callable[[int], tuple[Tensor, ConditionBatch]]:
    """Of the i-th batch, this process's normalised latents [B, D] and conditions, among them the known latents."""

    def batch_at(i: int) -> tuple[Tensor, ConditionBatch]:
        rng = np.random.default_rng((seed, i))
        index = rng.integers(len(latents), size=size)[parallel.part(size)]
        data, known = latents.rows(index)
        rows = latents.conditions(index)
        conditions = ConditionBatch(
            trajectory=torch.from_numpy(rows["trajectory"]),
            command=torch.from_numpy(rows["command"]).long(),
            layout_static=torch.from_numpy(rows["layout_static"]),
            layout_agents=torch.from_numpy(rows["layout_agents"]),
            known=known,
            present=torch.ones(len(index), dtype=torch.bool),
        )
        return data, conditions

    return batch_at
