"""Models on disk: safetensors for numbers, JSON for sizes. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from dcgen.config import ModelConfig
from dcgen.dit.model import Dit
from dcgen.errors import CheckpointError
from dcgen.parts import PART_BYTES, read_parts, write_parts
from dcgen.quantise import dequantised, quantised
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.vae.model import Vae

FORMAT = "dcgen-model 1"
WEIGHTS = "model.safetensors"
INDEX = "model.json"  # of a model in parts
Part = TypeVar("Part", bound=torch.nn.Module)


@dataclass(frozen=True)
class Model:
    """A trained pair, ready to generate. latent_mean and latent_std [D] normalise what the transformer sees."""

    config: ModelConfig
    vae: Vae
    dit: Dit
    latent_mean: Tensor
    latent_std: Tensor
    sha256: str = ""

    @property
    def device(self) -> torch.device:
        return self.latent_mean.device

    def to(self, device: str) -> Model:
        """The same model on another device."""
        return Model(
            self.config,
            self.vae.to(device),
            self.dit.to(device),
            self.latent_mean.to(device),
            self.latent_std.to(device),
            self.sha256,
        )


def save_model(
    model: Model,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    vae_dtype: torch.dtype = torch.float32,
    most_bytes: int = PART_BYTES,
) -> Path:
    """Writes a model folder; dtype is how the transformer's weights are stored, vae_dtype the autoencoder's.

    torch.int8 stands for matrices in 8 bits (dcgen.quantise), which ship in half the bytes.

    A model of more than most_bytes lies in parts that can be carried, each below 48 MiB, and an index. Returns the
    file that stands for the model.
    """
    tensors = {f"vae.{name}": tensor.to(vae_dtype) for name, tensor in model.vae.state_dict().items()}
    dit = {f"dit.{name}": tensor for name, tensor in model.dit.state_dict().items()}
    tensors |= quantised(dit) if dtype == torch.int8 else {name: tensor.to(dtype) for name, tensor in dit.items()}
    tensors |= {"latent.mean": model.latent_mean, "latent.std": model.latent_std}
    about = {"format": FORMAT, "config": json.dumps(model.config.to_dict())}
    whole, index = folder / WEIGHTS, folder / INDEX
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= most_bytes:
        write_tensors(whole, tensors, about)
        return whole
    folder.mkdir(parents=True, exist_ok=True)
    tag = hashlib.sha256(b"".join(t.detach().cpu().float().numpy().tobytes() for t in tensors.values())).hexdigest()[:8]
    write_parts(index, tensors.items(), about, tag, most_bytes)
    whole.unlink(missing_ok=True)  # of a smaller model that was there before
    return index


def shipped_file(name: str, file: str) -> Path:
    """Where a file of a shipped model would lie."""
    return Path(str(resources.files("dcgen") / "weights" / name / file))


def shipped_models() -> list[str]:
    """The names of the models that come with dcgen."""
    return sorted(path.parent.name for path in shipped_file("", "").glob(f"*/{WEIGHTS}"))


def model_path(name: str) -> Path:
    """A model's file: a shipped one by name, else a folder or a file by path."""
    shipped = shipped_file(name, WEIGHTS)
    if shipped.is_file():
        return shipped
    path = Path(name)
    if not path.is_dir():
        return path
    return path / INDEX if (path / INDEX).is_file() and not (path / WEIGHTS).is_file() else path / WEIGHTS


def load_model(name: str, device: str = "cpu") -> Model:
    """A model by shipped name or path, in eval mode. Raises CheckpointError naming what differs."""
    path = model_path(name)
    if not path.exists():
        *some, last = shipped_models()
        known = f"{', '.join(some)} or {last}"
        raise CheckpointError(f"{name}: no such checkpoint; give the path of one, or use --model {known}")
    tensors, metadata = read_parts(path) if path.suffix == ".json" else read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: field format is {metadata.get('format')!r}, this dcgen reads {FORMAT!r}; give a finished model"
        )
    config = read_config(path, metadata)
    tensors = dequantised(path, tensors)
    mean, std = (_statistic(path, tensors, part, config.hex_shape.size) for part in ("latent.mean", "latent.std"))
    least = config.dit.depth * config.dit.width**2 * (4 + config.dit.mlp_ratio)
    if least > sum(tensor.numel() for tensor in tensors.values()):  # a few digits may ask for any amount of memory
        raise CheckpointError(f"{path}: field config asks for more weights than the file holds; copy or train it again")
    vae, dit = build(path, config, Vae), build(path, config, Dit)
    load_part(path, "vae.", vae, tensors)
    load_part(path, "dit.", dit, tensors)
    if not (std > 0).all():
        raise CheckpointError(f"{path}: field latent.std must be positive; train the model again")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model(config, vae.eval(), dit.eval(), mean, std, sha256).to(device)


def read_config(path: Path, metadata: dict[str, str]) -> ModelConfig:
    """The sizes that lie beside the weights. Raises CheckpointError."""
    try:
        return ModelConfig.from_dict(json.loads(metadata["config"]))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: field config does not describe a model ({error}); copy or train it again"
        ) from error


def check_preset(name: object, config: ModelConfig, preset: ModelConfig) -> None:
    """Raises CheckpointError with the first field in which the model called `name` is not of a preset asked for."""
    there, asked = dict(_sizes(asdict(config))), dict(_sizes(asdict(preset)))
    for field, value in asked.items():
        if there.get(field) != value:
            raise CheckpointError(
                f"{name}: field {field} is {there.get(field)}, preset {preset.name} has {value}; "
                "give a checkpoint of that preset, or leave --preset out"
            )


def _sizes(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by dotted names; neither the model's name nor how it is sampled is a size."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _sizes(value, f"{before}{name}.") if name != "sampling" else ()
        elif before or name != "name":
            yield f"{before}{name}", value


def build(path: Path, config: ModelConfig, part: Callable[[ModelConfig], Part]) -> Part:
    """A network of the sizes found in a file, before its weights. Raises CheckpointError."""
    try:
        return part(config)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: field config has sizes that no model has ({reason}); train it again") from error


def load_part(path: Path, prefix: str, module: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts the tensors whose names begin with prefix into a network, all of them or CheckpointError."""
    expected: dict[str, Tensor] = module.state_dict()
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        name = (missing or extra)[0]
        raise CheckpointError(
            f"{path}: field {prefix}{name} is {'missing' if missing else 'unknown'}; copy or train the model again"
        )
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: field {prefix}{name} has shape {tuple(tensor.shape)}, "
                f"this configuration needs {tuple(expected[name].shape)}; copy or train the model again"
            )
        _check_numbers(path, f"{prefix}{name}", tensor)
    module.load_state_dict({name: tensor.float() for name, tensor in found.items()})


def _check_numbers(path: Path, field: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
        raise CheckpointError(f"{path}: field {field} holds numbers that are not finite; copy or train it again")


def _statistic(path: Path, tensors: dict[str, Tensor], field: str, size: int) -> Tensor:
    """[D] one of the two that normalise latents."""
    if field not in tensors or tensors[field].shape != (size,):
        raise CheckpointError(f"{path}: field {field} must hold {size} numbers; train the model again")
    _check_numbers(path, field, tensors[field])
    return tensors[field].float()
