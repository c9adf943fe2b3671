"""What a training run is at a step: weights, their average, the optimiser; saved whole, gone on with to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcgen import parallel
from dcgen.errors import CheckpointError
from dcgen.parts import read_parts, write_parts

STATE = "state.json"


class RunState:
    """The three owners of a run's numbers, and the folder they are saved in.

    about: what the run is of (stage, sizes, classes); a folder of another one is not gone on with. With FSDP each
    process holds its share, and all of them must call save, resume and average together.
    """

    def __init__(self, folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, about: dict[str, Any]):
        self.path, self.network, self.optimiser, self.about = folder / STATE, network, optimiser, about
        self.ema = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def follow(self, keep: float) -> None:
        """Moves the average towards the weights: keep of it stays."""
        for name, tensor in self.network.state_dict().items():
            mine, now = parallel.local(self.ema[name]), parallel.local(tensor.detach())
            if mine.is_floating_point():
                mine.lerp_(now, 1 - keep)
            else:
                mine.copy_(now)

    def average(self) -> dict[str, Tensor]:
        """The whole average, on every process."""
        return {name: parallel.whole(tensor) for name, tensor in self.ema.items()}

    def save(self, step: int) -> None:
        """Writes the state after `step` steps in place of what was saved before. Raises CheckpointError."""
        tensors = ((name, parallel.whole(tensor)) for name, tensor in self._tensors())
        if parallel.first():
            write_parts(self.path, tensors, {**self.about, "step": step}, tag=f"{step:07d}")
        else:
            for _ in tensors:  # each is gathered by all
                pass

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((f"network.{name}", tensor) for name, tensor in self.network.state_dict().items())
        yield from ((f"ema.{name}", tensor) for name, tensor in self.ema.items())
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                yield f"adam.{key}.{name}", value

    def resume(self) -> int:
        """Takes on what was saved; returns the step to go on with, 0 where nothing was. Raises CheckpointError."""
        if not self.path.exists():
            if (old := self.path.with_suffix(".safetensors")).exists():
                raise CheckpointError(f"{old}: is of an earlier dcgen and cannot go on; train into another folder")
            return 0
        tensors, about = read_parts(self.path)
        step = about.pop("step", None)
        check_same(self.path, about, self.about)

        def take(field: str, like: Tensor) -> Tensor:
            found = tensors.pop(field, None)
            if found is None or found.shape != like.shape or found.dtype != like.dtype:
                what = "is missing" if found is None else f"has shape {tuple(found.shape)}, not {tuple(like.shape)}"
                raise CheckpointError(f"{self.path}: field {field} {what}; train into another folder")
            return parallel.as_sharded(found, like)

        for name, tensor in self.network.state_dict().items():
            tensor.copy_(take(f"network.{name}", tensor))
            self.ema[name].copy_(take(f"ema.{name}", tensor))
        for name, parameter in self.network.named_parameters():
            if f"adam.step.{name}" in tensors:
                self.optimiser.state[parameter] = {
                    "step": take(f"adam.step.{name}", torch.zeros(())),
                    "exp_avg": take(f"adam.exp_avg.{name}", parameter.detach()),
                    "exp_avg_sq": take(f"adam.exp_avg_sq.{name}", parameter.detach()),
                }
        if tensors or not isinstance(step, int) or step < 0:
            field = min(tensors, default="step")
            raise CheckpointError(f"{self.path}: field {field} is not of this model; train into another folder")
        return step


def what_runs(stage: Any) -> dict[str, Any]:
    """What a run is of, ready for JSON: the stage's name, and its model's sizes and classes where it has any."""
    name = getattr(stage, "name", type(stage).__name__)
    config = getattr(stage.network, "config", None)
    return {"stage": name, **(config.to_dict() if config is not None else {})}


def check_same(path: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raises CheckpointError with the first field in which two runs differ, what matters most before the rest."""
    one, two = dict(_fields(saved)), dict(_fields(asked))
    for field in sorted(one.keys() | two.keys(), key=_weight):
        if one.get(field) != two.get(field):
            raise CheckpointError(
                f"{path}: {field}: the run has {one.get(field, 'none')}, asked is {two.get(field, 'none')}; "
                "train into another folder"
            )


def _weight(field: str) -> tuple[int, str]:
    order = ("stage", "grid", "frames")
    return (order.index(field) if field in order else len(order) + (field == "name"), field)


def _fields(about: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Plain fields by dotted names. How a model is sampled by default changes nothing of its training."""
    for name, value in about.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{before}{name}.") if name != "sampling" else ()
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
            yield from ((f"{before}{name}[{k}]", item) for k, item in enumerate(value))
        else:
            field = "grid" if before + name == "grid.shape" else before + name
            yield field, tuple(value) if isinstance(value, (list, tuple)) else value
