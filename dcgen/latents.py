"""Latents of a clip store: their statistics, and all of them encoded once for the second stage. B batch, D values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcgen.dataset.source import ClipSource, in_order
from dcgen.device import autocast
from dcgen.errors import CheckpointError
from dcgen.hexplane import HexPlane, flatten, unflatten
from dcgen.known import random_known
from dcgen.types import UNKNOWN
from dcgen.vae.model import Vae

BATCH = 16


@torch.no_grad()
def encode_labels(vae: Vae, labels: NDArray[np.uint8]) -> Tensor:
    """[B, D] means of the latents of labels [B, T, X, Y, Z]."""
    device = next(vae.parameters()).device
    with autocast(device):
        return flatten(vae.encode(torch.from_numpy(labels).to(device)).mean).float().cpu()


def latent_statistics(vae: Vae, store: ClipSource, clips: int = 512) -> tuple[Tensor, Tensor]:
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


def encode_store(
    vae: Vae,
    store: ClipSource,
    statistics: tuple[Tensor, Tensor],
    folder: Path,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Normalised latents [N, D] of every clip, and of a random part of it that counts as known (zero where nothing).

    Written once to `folder` and mapped from there; a folder that is complete is used as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.npy" for name in ("latents", "known")}
    if not all(path.exists() for path in paths.values()):
        partial = {name: path.with_suffix(".partial.npy") for name, path in paths.items()}
        try:
            _encode_all(vae, store, statistics, partial, seed, progress)
            for name, path in partial.items():
                os.replace(path, paths[name])
        finally:
            for path in partial.values():
                path.unlink(missing_ok=True)
    latents, known = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths.values())
    if latents.shape != (len(store), vae.config.hex_shape.size):
        raise CheckpointError(
            f"{folder}: latents of {len(latents)} clips, the store has {len(store)}; delete the folder"
        )
    return latents, known


def _encode_all(
    vae: Vae,
    store: ClipSource,
    statistics: tuple[Tensor, Tensor],
    partial: dict[str, Path],
    seed: int,
    progress: Callable[[int], None] | None,
) -> None:
    shape = (len(store), vae.config.hex_shape.size)
    maps = {name: _empty_map(path, shape) for name, path in partial.items()}
    for index in in_order(store, BATCH):
        rows = store.rows(index, ("labels", "layout_agents"))
        rng = np.random.default_rng((seed, int(index[0])))
        clips = zip(rows["labels"], rows["layout_agents"], strict=True)
        known = np.stack([random_known(labels, layout, vae.config.grid, rng) for labels, layout in clips])
        maps["latents"][index] = _normalised(vae, rows["labels"], statistics)
        given = (known != UNKNOWN).any(axis=(1, 2, 3, 4))
        if given.any():
            maps["known"][index[given]] = _normalised(vae, known[given], statistics)
        if progress:
            progress(len(index))
    for each in maps.values():
        each.flush()


def _empty_map(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A file of zeros mapped into memory, its place on the disk taken: a full disk would end the process later."""
    made = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    try:
        with open(path, "r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error}); free the disk") from error
    return made


def _normalised(vae: Vae, labels: NDArray[np.uint8], statistics: tuple[Tensor, Tensor]) -> NDArray[np.float16]:
    mean, std = statistics
    return ((encode_labels(vae, labels) - mean) / std).numpy().astype(np.float16)
