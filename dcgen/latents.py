"""Latents of clips: their statistics, and all of them encoded once for the second stage. B batch, D values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcgen.config import ModelConfig
from dcgen.dataset.source import ClipSource, in_order
from dcgen.device import autocast
from dcgen.heap import keep_freed_memory
from dcgen.hexplane import HexPlane, flatten, unflatten
from dcgen.known import random_known
from dcgen.latent_parts import BATCH, LatentParts, LatentSpec, check_folder, part_stands, write_part
from dcgen.types import UNKNOWN
from dcgen.vae.model import Vae

Statistics = tuple[Tensor, Tensor]
ALONE = (0, 1)


@torch.no_grad()
def encode_labels(vae: Vae, labels: NDArray[np.uint8]) -> Tensor:
    """[B, D] means of the latents of labels [B, T, X, Y, Z]."""
    device = next(vae.parameters()).device
    with autocast(device):
        return flatten(vae.encode(torch.from_numpy(labels).to(device)).mean).float().cpu()


def latent_statistics(vae: Vae, store: ClipSource, clips: int = 512) -> Statistics:
    """[D] mean and standard deviation of the latents, one of each a channel of a plane or of the volume."""
    total = []
    for index in in_order(store, 16):
        if index[0] >= clips:
            break
        total.append(encode_labels(vae, store.rows(index, ["labels"])["labels"]))
    planes = unflatten(torch.cat(total), vae.config.hex_shape)

    def channel(part: Tensor, what: Callable[[Tensor], Tensor]) -> Tensor:
        values = what(part.movedim(1, 0).flatten(1))
        return values.view(1, -1, *[1] * (part.ndim - 2)).expand(1, *part.shape[1:])

    mean = HexPlane(**{n: channel(p, lambda v: v.mean(1)) for n, p in planes.items()})
    std = HexPlane(**{n: channel(p, lambda v: v.std(1).clamp_min(1e-3)) for n, p in planes.items()})
    return flatten(mean)[0].clone(), flatten(std)[0].clone()


def latent_spec(
    config: ModelConfig, vae_sha256: str, statistics: Statistics, clips_sha256: str, clips: int, seed: int
) -> LatentSpec:
    """What parts of latents are made of: an autoencoder, the statistics that normalise, clips, and a seed."""
    numbers = b"".join(part.float().cpu().numpy().tobytes() for part in statistics)
    x, y, _ = config.grid.shape
    return LatentSpec(
        vae_sha256,
        hashlib.sha256(numbers).hexdigest(),
        clips_sha256,
        clips,
        seed,
        config.hex_shape.size,
        (config.static_channels, x, y),
        (config.frames, config.agent_channels, x, y),
    )


def encode_parts(
    vae: Vae,
    store: ClipSource,
    statistics: Statistics,
    folder: Path,
    spec: LatentSpec,
    progress: Callable[[int], None] | None = None,
    share: tuple[int, int] = ALONE,
) -> None:
    """Encodes the parts that are not there yet: every part, or part r, r + n, ... for the share (r, n).

    A part is known by its header and all its numbers: one that is damaged is made again, one of another spec raises
    CheckpointError before anything is encoded. progress hears of every clip of the share, of those that are there too.
    """
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    check_folder(folder, spec)
    for part in range(share[0], spec.parts, share[1]):
        clips = spec.part_range(part)
        if part_stands(folder, spec, part):
            if progress:
                progress(len(clips))
            continue
        batches = []
        for first in range(clips.start, clips.stop, BATCH):
            batches.append(_encoded(vae, store, statistics, range(first, min(first + BATCH, clips.stop)), spec.seed))
            if progress:
                progress(len(batches[-1]["command"]))
        write_part(folder, spec, part, {name: np.concatenate([b[name] for b in batches]) for name in batches[0]})


def encode_store(
    vae: Vae,
    store: ClipSource,
    statistics: Statistics,
    folder: Path,
    spec: LatentSpec,
    progress: Callable[[int], None] | None = None,
) -> LatentParts:
    """Normalised latents of every clip, and of a random known part of it; encoded where not there yet."""
    encode_parts(vae, store, statistics, folder, spec, progress)
    return LatentParts(folder, spec)


def _encoded(vae: Vae, store: ClipSource, statistics: Statistics, clips: range, seed: int) -> dict[str, NDArray]:
    """What a part keeps of some clips. What is known of clip n depends on (seed, n) alone."""
    fields = ("labels", "trajectory", "command", "layout_static", "layout_agents")
    rows = store.rows(np.arange(clips.start, clips.stop), fields)
    labels = rows.pop("labels")
    known = np.stack(
        [
            random_known(labels[k], rows["layout_agents"][k], vae.config.grid, np.random.default_rng((seed, n)))
            for k, n in enumerate(clips)
        ]
    )
    latents = _normalised(vae, labels, statistics)
    given = (known != UNKNOWN).any(axis=(1, 2, 3, 4))
    known_latents = np.zeros_like(latents)
    if given.any():
        known_latents[given] = _normalised(vae, known[given], statistics)
    return {"latents": latents, "known": known_latents, **rows}


def _normalised(vae: Vae, labels: NDArray[np.uint8], statistics: Statistics) -> NDArray[np.float16]:
    mean, std = statistics
    return ((encode_labels(vae, labels) - mean) / std).numpy().astype(np.float16)
