"""How a model is made: the autoencoder on clips, the transformer on its latents, then one folder of weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dcgen.checkpoint import Model, read_tensors, save_model, write_tensors
from dcgen.clip_store import ClipStore
from dcgen.config import ModelConfig
from dcgen.device import default_device
from dcgen.dit.model import Dit
from dcgen.errors import CheckpointError, GridMismatch
from dcgen.latents import encode_store, latent_statistics
from dcgen.stages import DitStage, VaeStage, dit_batches, label_weights, vae_batches
from dcgen.train import Report, TrainConfig, train
from dcgen.vae.model import Vae

EMA = "ema.safetensors"


def open_clips(folder: Path, config: ModelConfig) -> ClipStore:
    """A store whose clips have the model's shape. Raises WorldError or GridMismatch."""
    store = ClipStore.open(folder)
    want = (config.frames, *config.grid.shape)
    if store.clip_shape != want:
        raise GridMismatch(f"{folder}: clips are {store.clip_shape}, model {config.name} needs {want}; cut them again")
    return store


def train_vae(
    config: ModelConfig,
    clips: Path,
    out: Path,
    how: TrainConfig,
    report: Report | None = None,
    minutes: float | None = None,
) -> Path:
    """First stage. Returns the file of EMA weights; a run folder is resumed."""
    store = open_clips(clips, config)
    torch.manual_seed(how.seed)
    device = default_device()
    stage = VaeStage(Vae(config).to(device), label_weights(store).to(device))
    weights = train(stage, vae_batches(store, config, how.batch, how.seed), how, out, report, minutes)
    return _keep(out / EMA, weights, config)


def train_dit(
    vae_weights: Path,
    clips: Path,
    out: Path,
    how: TrainConfig,
    report: Report | None = None,
    minutes: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Second stage, then the finished model folder `out`/model."""
    config, vae = load_vae(vae_weights)
    store = open_clips(clips, config)
    statistics = _statistics(vae, store, out / "statistics.safetensors")
    latents, known = encode_store(vae, store, statistics, out / "latents", how.seed, progress)
    torch.manual_seed(how.seed)
    device = default_device()
    stage = DitStage(Dit(config).to(device))
    weights = train(stage, dit_batches(store, latents, known, how.batch, how.seed), how, out, report, minutes)
    dit = Dit(config)
    dit.load_state_dict(weights)
    return save_model(Model(config, vae.cpu(), dit, *statistics), out / "model", torch.bfloat16)


def load_vae(weights: Path) -> tuple[ModelConfig, Vae]:
    """An autoencoder from the file that train_vae left, in eval mode."""
    tensors, metadata = read_tensors(weights / EMA if weights.is_dir() else weights)
    try:
        config = ModelConfig.from_dict(json.loads(metadata["config"]))
        vae = Vae(config)
        vae.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{weights}: not the weights of an autoencoder ({reason})") from error
    return config, vae.eval().to(default_device())


def _keep(path: Path, weights: dict[str, Tensor], config: ModelConfig) -> Path:
    write_tensors(path, weights, {"config": json.dumps(config.to_dict())})
    return path


def _statistics(vae: Vae, store: ClipStore, path: Path) -> tuple[Tensor, Tensor]:
    """Latent statistics, computed once a run: the transformer's weights belong to them."""
    if path.exists():
        tensors, _ = read_tensors(path)
        return tensors["mean"], tensors["std"]
    mean, std = latent_statistics(vae, store)
    write_tensors(path, {"mean": mean, "std": std}, {})
    return mean, std
