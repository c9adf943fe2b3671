"""How a model is made: the autoencoder on clips, the transformer on its latents, then one folder of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from dcgen import parallel
from dcgen.checkpoint import (
    INDEX,
    Model,
    build,
    load_model,
    load_part,
    model_path,
    read_config,
    save_model,
)
from dcgen.config import ModelConfig
from dcgen.dataset.source import ClipSource
from dcgen.device import default_device
from dcgen.dit.model import Dit
from dcgen.errors import CheckpointError, GridMismatch
from dcgen.latent_parts import LatentParts, carried_spec
from dcgen.latents import Statistics, encode_parts, latent_spec, latent_statistics
from dcgen.stages import DitStage, VaeBatch, VaeStage, dit_batches, label_weights, vae_batches
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.train import Report, TrainConfig, train
from dcgen.vae.model import Vae

EMA = "ema.safetensors"
STATISTICS, LATENTS = "statistics.safetensors", "latents"  # what the second stage keeps beside its checkpoint
DECODER_NOISE = 1.1  # of the latents' spread, when the decoder alone is trained


@runtime_checkable
class BatchSource(Protocol):
    """A clip source that makes the batches of the autoencoder itself, where it can do so faster."""

    def vae_batches(self, size: int, seed: int) -> Callable[[int], VaeBatch]: ...


def check_fits(name: object, clips: ClipSource, config: ModelConfig) -> None:
    """Raises GridMismatch where the clips called `name` do not have the model's shape."""
    want = (config.frames, *config.grid.shape)
    if clips.clip_shape != want:
        raise GridMismatch(f"{name}: clips are {clips.clip_shape}, model {config.name} needs {want}; build them again")


def train_vae(
    config: ModelConfig,
    clips: ClipSource,
    out: Path,
    how: TrainConfig,
    report: Report | None = None,
    minutes: float | None = None,
    start: Model | None = None,
) -> Path:
    """First stage. Returns the file of EMA weights; a run folder is resumed.

    start: a model, perhaps of other sizes, whose autoencoder lends every weight that fits.
    """
    torch.manual_seed(how.seed)
    vae = Vae(config)
    if start is not None:
        lend(start.vae, vae)
    return _fit_vae(VaeStage(vae, label_weights(clips)), clips, out, how, report, minutes)


def lend(source: nn.Module, target: nn.Module) -> int:
    """Copies the weights whose names and shapes agree; returns how many tensors did."""
    mine = target.state_dict()
    fits = {name: t for name, t in source.state_dict().items() if name in mine and mine[name].shape == t.shape}
    target.load_state_dict({**mine, **fits})
    return len(fits)


def train_decoder(
    vae_weights: Path,
    clips: ClipSource,
    out: Path,
    how: TrainConfig,
    report: Report | None = None,
    minutes: float | None = None,
) -> Path:
    """The decoder once more, on latents as noisy as a sampler's, the encoder as it is. Returns the EMA weights.

    What crumbles a generated scene are small errors of the latents that no trained latent has.
    """
    _, vae = load_vae(vae_weights)
    vae.encoder.requires_grad_(False)
    stage = VaeStage(vae, label_weights(clips), noise=DECODER_NOISE, name="decoder")
    return _fit_vae(stage, clips, out, how, report, minutes)


def _fit_vae(
    stage: VaeStage,
    clips: ClipSource,
    out: Path,
    how: TrainConfig,
    report: Report | None,
    minutes: float | None,
) -> Path:
    stage.vae, stage.weights = stage.vae.to(default_device()), stage.weights.to(default_device())
    config = stage.vae.config
    if isinstance(clips, BatchSource):
        batches = clips.vae_batches(how.batch, how.seed)
    else:
        batches = vae_batches(clips, config, how.batch, how.seed)
    weights = train(stage, batches, how, out, report, minutes)
    if parallel.first():
        write_tensors(out / EMA, weights, {"config": json.dumps(config.to_dict())})
    parallel.wait()
    return out / EMA


def train_dit(
    start: Path | Model,
    clips: ClipSource | None,
    out: Path,
    how: TrainConfig,
    report: Report | None = None,
    minutes: float | None = None,
    progress: Callable[[int], None] | None = None,
    lender: Model | None = None,
) -> Path:
    """Second stage, then the finished model folder `out`/model.

    start: the run folder or the weights of an autoencoder, or a whole Model whose transformer goes on from where it is.
    clips: None where `out` holds their latents already, made elsewhere: then nothing else is read.
    lender: a model, perhaps of other sizes, whose transformer lends a new one every weight that fits.
    """
    torch.manual_seed(how.seed)
    if isinstance(start, Model):
        config, vae, dit, digest = start.config, start.vae, start.dit, start.sha256
        used = (start.latent_mean.cpu(), start.latent_std.cpu())
    else:
        config, vae = load_vae(start)
        dit, digest, used = Dit(config), _digest(start), None
        if lender is not None:
            lend(lender.dit, dit)
    statistics = statistics_for(vae, clips, out / STATISTICS, digest, used)
    latents = latents_for(vae, clips, statistics, out / LATENTS, digest, how.seed, progress)
    stage = DitStage(dit.to(default_device()))
    weights = train(stage, dit_batches(latents, how.batch, how.seed), how, out, report, minutes)
    dit = Dit(config)
    dit.load_state_dict(weights)
    if parallel.first():
        save_model(Model(config, vae.cpu(), dit, *statistics), out / "model", torch.bfloat16)
    parallel.wait()
    return model_path(str(out / "model"))


def latents_for(
    vae: Vae,
    clips: ClipSource | None,
    statistics: Statistics,
    folder: Path,
    digest: str,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> LatentParts:
    """Every clip's latents, by all processes together. Without clips, those that lie in the folder."""
    if clips is None:
        return LatentParts(folder, carried_spec(folder, latent_spec(vae.config, digest, statistics, "", 0, seed)))
    spec = latent_spec(vae.config, digest, statistics, clips.content_sha256, len(clips), seed)
    encode_parts(vae, clips, statistics, folder, spec, progress, (parallel.rank(), parallel.size()))
    parallel.wait()
    return LatentParts(folder, spec)


def load_vae(weights: Path | str) -> tuple[ModelConfig, Vae]:
    """An autoencoder in eval mode: from what train_vae left, or that of a finished model by path or shipped name."""
    path = _file(weights)
    if not path.is_file():
        remedy = "give the run folder of dcgen train vae or decoder, or a finished model, as --vae base"
        raise CheckpointError(f"{path}: no such checkpoint of an autoencoder; {remedy}")
    tensors, metadata = ({}, {}) if path.name == INDEX else read_tensors(path)
    if path.name == INDEX or "format" in metadata:
        whole = load_model(str(path), default_device())
        return whole.config, whole.vae
    config = read_config(path, metadata)
    vae = build(path, config, Vae)
    load_part(path, "", vae, tensors)
    return config, vae.eval().to(default_device())


def _file(weights: Path | str) -> Path:
    alone = Path(weights) / EMA
    return alone if alone.is_file() else model_path(str(weights))


def _digest(weights: Path | str) -> str:
    return hashlib.sha256(_file(weights).read_bytes()).hexdigest()


def statistics_for(
    vae: Vae,
    clips: ClipSource | None,
    path: Path,
    digest: str,
    given: Statistics | None = None,
) -> Statistics:
    """Latent statistics, computed once a run, by its first process: its latents and its transformer belong to them,
    and they to one autoencoder."""
    if parallel.first() and not path.exists():
        if given is None:
            if clips is None:
                raise CheckpointError(f"{path}: no such statistics; carry them with the latents, or give the clips")
            given = latent_statistics(vae, clips)
        mean, std = given
        write_tensors(path, {"mean": mean, "std": std}, {"vae_sha256": digest})
    parallel.wait()
    tensors, metadata = read_tensors(path)
    if metadata.get("vae_sha256", digest) != digest or not {"mean", "std"} <= tensors.keys():
        raise CheckpointError(f"{path}: belongs to another autoencoder; train into another folder")
    size = (vae.config.hex_shape.size,)
    for name in ("mean", "std"):
        if tensors[name].shape != size:
            raise CheckpointError(f"{path}: field {name} needs {size[0]} numbers; train into another folder")
        if not torch.isfinite(tensors[name]).all() or (name == "std" and not (tensors[name] > 0).all()):
            raise CheckpointError(f"{path}: field {name} has numbers that normalise nothing; train into another folder")
    return tensors["mean"], tensors["std"]
