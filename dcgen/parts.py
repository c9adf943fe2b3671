"""Tensors in files small enough to carry: numbered parts of safetensors, and a JSON index that is renamed last.

Who finds an index finds all its parts: the parts of the index before go only when the new one is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcgen.errors import CheckpointError
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.whole_file import write_whole

FORMAT = "dcgen-parts 1"
DIGEST = "index_sha256"
PART_BYTES = 47 << 20  # of numbers; with its header a file stays below 48 MiB


def write_parts(
    index: Path, tensors: Iterable[tuple[str, Tensor]], about: dict[str, Any], tag: str, part_bytes: int = PART_BYTES
) -> None:
    """Writes tensors to INDEX-TAG-NN.safetensors beside `index` (*.json), then the index, then removes older parts.

    tag: what no set of parts before had, such as a step. Tensors are fetched a part at a time. Raises CheckpointError.
    """
    written, shapes = [], dict[str, list[int]]()
    try:
        for number, part in enumerate(_parts(tensors, shapes, part_bytes)):
            path = index.with_name(f"{index.stem}-{tag}-{number:02d}.safetensors")
            written.append(path)
            write_tensors(path, part, {})
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
        content = {"format": FORMAT, "about": about, "files": files, "split": shapes}
        said = json.dumps({**content, DIGEST: _digest(content)}, indent=1).encode()
        write_whole(index, said, fault=CheckpointError, remedy="free the disk")
    except BaseException:  # an interrupt too leaves what was there before
        for path in written:
            if path.name not in _named(index):
                path.unlink(missing_ok=True)
        raise
    for path in index.parent.glob(f"{index.stem}-*-[0-9]*.safetensors"):
        if path.name not in files:
            path.unlink(missing_ok=True)


def read_parts(index: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and `about` of an index. Raises CheckpointError where a part is missing or is not the index's own."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        files, split, about, form = (found[field] for field in ("files", "split", "about", "format"))
        if not all(isinstance(part, dict) for part in (files, split, about)):
            raise TypeError("files, split and about need fields")
        changed = found.pop(DIGEST, None) not in (None, _digest(found))  # indices of before have none
    except FileNotFoundError:
        raise CheckpointError(f"{index}: no such index; train one or copy it with its parts") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index}: does not describe parts ({error}); copy or train it again") from error
    if form != FORMAT:
        raise CheckpointError(f"{index}: format is {form!r}, this dcgen reads {FORMAT!r}; train it again")
    if changed:
        raise CheckpointError(f"{index}: one of its fields is not as it was written; copy or train it again")
    tensors: dict[str, Tensor] = {}
    for name, sha256 in files.items():
        path = index.parent / Path(name).name
        if not path.is_file():
            raise CheckpointError(f"{path}: this part of {index.name} is missing; copy it too")
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise CheckpointError(f"{path}: is not the part that {index.name} was written with; copy them again")
        tensors |= read_tensors(path)[0]
    for name, shape in split.items():
        pieces = [tensors.pop(piece) for piece in list(_piece_names(name, tensors))]
        try:
            tensors[name] = torch.cat(pieces).view(shape)
        except (RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{index}: field split: the {len(pieces)} pieces of {name} do not make {shape}; copy or train it again"
            ) from error
    return tensors, about


def _parts(
    tensors: Iterable[tuple[str, Tensor]], shapes: dict[str, list[int]], most: int
) -> Iterator[dict[str, Tensor]]:
    """Tensors in order, as many to a part as it holds; notes the shapes of those that are cut."""
    part, held = dict[str, Tensor](), 0
    for name, tensor in tensors:
        pieces = {name: tensor.detach()}
        if tensor.numel() * tensor.element_size() > most:
            shapes[name] = list(tensor.shape)
            flat = tensor.detach().reshape(-1).split(max(most // tensor.element_size(), 1))
            pieces = {f"{name}#{k}": piece.clone() for k, piece in enumerate(flat)}
        for key, piece in pieces.items():
            bytes_ = piece.numel() * piece.element_size()
            if part and held + bytes_ > most:
                yield part
                part, held = {}, 0
            part[key], held = piece, held + bytes_
    yield part


def _piece_names(name: str, tensors: dict[str, Tensor]) -> Iterator[str]:
    number = 0
    while f"{name}#{number}" in tensors:
        yield f"{name}#{number}"
        number += 1


def _named(index: Path) -> set[str]:
    """The parts of the index that is there."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _digest(content: dict[str, Any]) -> str:
    """Of all that an index says: sizes of a model may change and still fit its weights."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
