"""What one training step of an autoencoder takes of memory: weights, activations and gradients, beyond its batch."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import torch
from numpy.typing import NDArray

from dcgen.config import ModelConfig
from dcgen.device import default_device
from dcgen.measure import resident_bytes
from dcgen.stages import VaeBatch, VaeStage
from dcgen.types import NUM_CLASSES
from dcgen.vae.model import Vae


def step_bytes(config: ModelConfig, batch: VaeBatch) -> int:
    """On CUDA by the allocator; on a CPU by the peak of a process of its own."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _step(config, batch)
        return torch.cuda.max_memory_allocated() - before
    arrays = tuple(part.numpy() for part in (batch.inputs, batch.labels, batch.moving))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_step_alone, config, arrays).result()


def _step(config: ModelConfig, batch: VaeBatch) -> None:
    device = default_device()
    stage = VaeStage(Vae(config).to(device), torch.ones(NUM_CLASSES, device=device))
    loss, _ = stage.loss(batch, torch.Generator().manual_seed(0))
    loss.backward()


def _step_alone(config: ModelConfig, arrays: tuple[NDArray, ...]) -> int:
    """In a fresh process. A step of a corner of the grid goes before, so that the libraries' code is in memory."""
    side = config.vae.volume_stride * 2
    corner = replace(config, grid=replace(config.grid, shape=(side, side, config.grid.shape[2])))
    _step(corner, VaeBatch(*(torch.from_numpy(a[:, :, :side, :side].copy()) for a in arrays)))
    before = resident_bytes("VmRSS")
    _step(config, VaeBatch(*map(torch.from_numpy, arrays)))
    return resident_bytes("VmHWM") - before
