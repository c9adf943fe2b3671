"""Tensors in one safetensors file, written whole or not at all, and with digests that tell what was changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dcgen.errors import CheckpointError
from dcgen.whole_file import write_whole

DIGEST, SAID_DIGEST = "tensors_sha256", "metadata_sha256"


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file beside its place and renames it, so that a reader never sees half a file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digests = {DIGEST: _digest(plain), SAID_DIGEST: _said_digest(metadata)}
    head, numbers = _ordered(save(plain, metadata | digests))
    write_whole(path, head, numbers, fault=CheckpointError, remedy="free the disk")


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
