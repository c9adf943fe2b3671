"""A forecaster is trained by the one loop, and kept as one safetensors file with its sizes beside the numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dcgen import parallel
from dcgen.checkpoint import load_part
from dcgen.device import default_device
from dcgen.errors import CheckpointError
from dcgen.forecast.config import ForecastConfig
from dcgen.forecast.model import Forecaster
from dcgen.forecast.stage import ForecastStage
from dcgen.forecast.windows import Windows, batches
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.train import Report, TrainConfig, train

FORMAT = "dcgen-forecaster 1"
WEIGHTS = "forecaster.safetensors"


def train_forecaster(
    config: ForecastConfig,
    sources: Sequence[Windows],
    out: Path,
    how: TrainConfig,
    report: Report | None = None,
    minutes: float | None = None,
) -> Path:
    """The file of the averaged weights. A run folder goes on from where it stopped; see dcgen.train.train.

    Of several sources a batch holds as many windows each. Raises DcgenError.
    """
    torch.manual_seed(how.seed)
    stage = ForecastStage(Forecaster(config).to(default_device()))
    weights = train(stage, batches(sources, how.batch, how.seed), how, out, report, minutes)
    if parallel.first():
        said = {"windows": [len(source) for source in sources], "of": [source.source.about for source in sources]}
        save_forecaster(out / WEIGHTS, config, weights, {**said, "batch": how.batch, "seed": how.seed})
    parallel.wait()
    return out / WEIGHTS


def save_forecaster(
    path: Path, config: ForecastConfig, weights: dict[str, torch.Tensor], trained: dict[str, Any]
) -> None:
    """Whole or not at all. trained: what it learned from, as JSON."""
    about = {"format": FORMAT, "config": json.dumps(config.to_dict()), "trained": json.dumps(trained)}
    write_tensors(path, weights, about)


def load_forecaster(place: Path, device: str = "cpu") -> Forecaster:
    """A forecaster by its file or run folder, in eval mode. Raises CheckpointError."""
    path = place / WEIGHTS if place.is_dir() else place
    if not path.is_file():
        raise CheckpointError(f"{path}: no such forecaster; train one with `dcgen forecast train`")
    tensors, about = read_tensors(path)
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path}: field format is {about.get('format')!r}, not {FORMAT!r}; give a forecaster")
    try:
        config = ForecastConfig.from_dict(json.loads(about["config"]))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: field config describes no forecaster ({error}); train it again") from error
    held = sum(tensor.numel() for tensor in tensors.values())
    if sum(width**2 for width in config.widths) > held:  # a few digits may ask for any amount of memory
        raise CheckpointError(f"{path}: field config asks for more weights than the file holds; train it again")
    model = Forecaster(config)
    load_part(path, "", model, tensors)
    return model.eval().to(device)
