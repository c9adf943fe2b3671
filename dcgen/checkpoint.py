"""Models on disk: safetensors for numbers, JSON for sizes. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dcgen.config import ModelConfig
from dcgen.dit.model import Dit
from dcgen.errors import CheckpointError
from dcgen.vae.model import Vae

FORMAT = "dcgen-model 1"
WEIGHTS = "model.safetensors"
DIGEST, SAID_DIGEST = "tensors_sha256", "metadata_sha256"
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


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file beside its place and renames it, so that a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digests = {DIGEST: _digest(plain), SAID_DIGEST: _said_digest(metadata)}
    head, numbers = _ordered(save(plain, metadata | digests))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:  # save_file would leave it readable by its owner alone
            file.write(head)
            file.write(numbers)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error}); free the disk") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _said_digest(metadata: dict[str, str]) -> str:
    """Of what a file says beside its numbers: sizes of an autoencoder may change and still fit its weights."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _ordered(data: bytes) -> tuple[bytes, memoryview]:
    """Header and numbers of a safetensors file, its header in order: as written, equal models were not equal files."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header, memoryview(data)[end:]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises CheckpointError where it is missing or damaged."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train one or use --model nano")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        if _is_pickle(path):
            raise CheckpointError(
                f"{path}: is a pickle, which may run anything and is never loaded; save its tensors as safetensors"
            ) from error
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a whole safetensors file ({reason}); copy or train it again") from error
    if metadata.pop(DIGEST, None) not in (None, _digest(tensors)):
        raise CheckpointError(f"{path}: its numbers are not those that were written; copy or train it again")
    if metadata.pop(SAID_DIGEST, None) not in (None, _said_digest(metadata)):  # files of before have none
        fields = ", ".join(sorted(metadata))
        raise CheckpointError(f"{path}: one of the fields {fields} is not as it was written; copy or train it again")
    return tensors, metadata


def _is_pickle(path: Path) -> bool:
    """Whether a file that is no safetensors begins as torch.save's do: an archive, or a pickle since protocol 2."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError:
        return False
    return head == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _digest(tensors: dict[str, Tensor]) -> str:
    """Of all names, types, shapes and numbers: safetensors itself does not notice a changed byte."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def save_model(model: Model, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Writes a model folder; dtype is how the weights are stored (bfloat16 halves the file)."""
    tensors = {f"vae.{name}": tensor for name, tensor in model.vae.state_dict().items()}
    tensors |= {f"dit.{name}": tensor.to(dtype) for name, tensor in model.dit.state_dict().items()}
    tensors |= {"latent.mean": model.latent_mean, "latent.std": model.latent_std}
    path = folder / WEIGHTS
    write_tensors(path, tensors, {"format": FORMAT, "config": json.dumps(model.config.to_dict())})
    return path


def model_path(name: str) -> Path:
    """A model's file: a shipped one by name, else a folder or a file by path."""
    shipped = Path(str(resources.files("dcgen") / "weights" / name / WEIGHTS))
    if shipped.is_file():
        return shipped
    path = Path(name)
    return path / WEIGHTS if path.is_dir() else path


def load_model(name: str, device: str = "cpu") -> Model:
    """A model by shipped name or path, in eval mode. Raises CheckpointError naming what differs."""
    path = model_path(name)
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: field format is {metadata.get('format')!r}, this dcgen reads {FORMAT!r}; give a finished model"
        )
    config = read_config(path, metadata)
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
