"""One loop for both stages: EMA, accumulation, checkpoints that survive kill -9, a JSONL log and a curve."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dcgen.checkpoint import read_tensors, write_tensors
from dcgen.errors import CheckpointError, DcgenError

Report = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast. The learning rate warms up, stays, and falls to 3 % over the last `cooldown` of steps."""

    steps: int
    batch: int = 4
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.4
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    seed: int = 0
    save_s: float = 45.0
    log_every: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.accumulate < 1:
            raise ValueError("train: steps, batch and accumulate must be at least 1")

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        left = (self.steps - step) / max(self.steps * self.cooldown, 1)
        return self.learning_rate * warm * max(0.03, min(1.0, left))


@runtime_checkable
class Stage(Protocol):
    """What a loop needs of a stage: a network and a loss. Everything random comes from the generator."""

    @property
    def network(self) -> nn.Module: ...

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]: ...


def train(
    stage: Stage,
    batch_at: Callable[[int], Any],
    config: TrainConfig,
    folder: Path,
    report: Report | None = None,
    minutes: float | None = None,
) -> dict[str, Tensor]:
    """Trains to config.steps, or until `minutes` are over, and returns the EMA weights.

    batch_at(i) is the i-th batch of the run: a function of i alone, so that a resumed run sees what it would have.
    A run folder that holds a checkpoint goes on from it. Raises DcgenError where the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = stage.network
    optimiser = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=config.weight_decay)
    ema = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    start = _resume(folder / "state.safetensors", network, ema, optimiser)
    began, saved = time.monotonic(), time.monotonic()
    log = _Log(folder, start)
    network.train()
    for step, batches in _prefetch(batch_at, start, config):
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        terms = _step(stage, batches, config, torch.Generator().manual_seed(config.seed * 7919 + step))
        if not (math.isfinite(terms["loss"]) and math.isfinite(terms["norm"])):
            raise DcgenError(f"{folder}: loss is {terms['loss']} at step {step}; lower --learning-rate and resume")
        optimiser.step()
        _follow(ema, network, min(config.ema, (step + 1) / (step + 10)))
        log.add(step, terms, config)
        if report and (step + 1) % config.log_every == 0:
            report(step + 1, config.steps, log.latest)
        over = minutes is not None and time.monotonic() - began > 60 * minutes
        if step + 1 == config.steps or over or time.monotonic() - saved > config.save_s:
            _save(folder / "state.safetensors", step + 1, network, ema, optimiser)
            saved = time.monotonic()
        if over:
            break
    log.draw()
    return ema


def _step(stage: Stage, batches: list[Any], config: TrainConfig, generator: torch.Generator) -> dict[str, float]:
    """Adds up the gradients of the batches and clips them; returns the mean of each term, and the gradients' norm."""
    stage.network.zero_grad(set_to_none=True)
    terms: dict[str, float] = {}
    for batch in batches:
        loss, more = stage.loss(batch, generator)
        (loss / len(batches)).backward()
        for name, value in {"loss": loss.item(), **more}.items():
            terms[name] = terms.get(name, 0.0) + value / len(batches)
    norm = nn.utils.clip_grad_norm_(stage.network.parameters(), config.clip_norm)
    return terms | {"norm": norm.item()}


def _follow(ema: dict[str, Tensor], network: nn.Module, keep: float) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            ema[name].lerp_(tensor.detach(), 1 - keep)
        else:
            ema[name].copy_(tensor)


def _prefetch(batch_at: Callable[[int], Any], start: int, config: TrainConfig) -> Any:
    """(step, its batches), made one step ahead in a thread."""
    queue: Queue[Any] = Queue(maxsize=2)
    stop = threading.Event()

    def work() -> None:
        try:
            for step in range(start, config.steps):
                first = step * config.accumulate
                queue.put((step, [batch_at(i) for i in range(first, first + config.accumulate)]))
                if stop.is_set():
                    return
            queue.put(None)
        except BaseException as error:  # handed to the training thread, which raises it
            queue.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while not queue.empty():
            queue.get_nowait()


def _save(path: Path, step: int, network: nn.Module, ema: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in ema.items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"adam.{key}.{name}"] = value
    write_tensors(path, tensors, {"step": str(step)})


def _resume(path: Path, network: nn.Module, ema: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> int:
    """Loads a checkpoint into its three owners; returns the step to go on with, 0 where there is none."""
    if not path.exists():
        return 0
    tensors, metadata = read_tensors(path)

    def take(field: str, like: Tensor) -> Tensor:
        found = tensors.pop(field, None)
        if found is None or found.shape != like.shape or found.dtype != like.dtype:
            what = "is missing" if found is None else f"has shape {tuple(found.shape)}, not {tuple(like.shape)}"
            raise CheckpointError(f"{path}: field {field} {what}; train into another folder")
        return found.to(like.device)

    for name, tensor in network.state_dict().items():
        tensor.copy_(take(f"network.{name}", tensor))
        ema[name].copy_(take(f"ema.{name}", tensor))
    for name, parameter in network.named_parameters():
        if f"adam.step.{name}" in tensors:
            optimiser.state[parameter] = {
                "step": take(f"adam.step.{name}", torch.zeros(())),
                "exp_avg": take(f"adam.exp_avg.{name}", parameter),
                "exp_avg_sq": take(f"adam.exp_avg_sq.{name}", parameter),
            }
    if tensors or not metadata.get("step", "").isdecimal():
        field = min(tensors, default="step")
        raise CheckpointError(f"{path}: field {field} is not of this model; train into another folder")
    return int(metadata["step"])


class _Log:
    """One JSON line every log_every steps, and a picture of them at the end."""

    def __init__(self, folder: Path, start: int) -> None:
        self.path, self.terms, self.steps = folder / "log.jsonl", dict[str, list[float]](), 0
        self.latest: dict[str, float] = {}
        self.since = time.monotonic()
        kept = [line for line in self._lines() if line["step"] <= start]
        partial = self.path.with_suffix(".partial.jsonl")
        with self._written():
            try:
                partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
                partial.replace(self.path)
            finally:
                partial.unlink(missing_ok=True)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Names the run where the disk is full: an OSError of writing names no file."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise DcgenError(f"{self.path}: cannot be written ({reason}); free the disk and resume") from error

    def _lines(self) -> list[dict[str, float]]:
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:  # the last line of a run that was killed
                continue
        return lines

    def add(self, step: int, terms: dict[str, float], config: TrainConfig) -> None:
        for name, value in terms.items():
            if math.isfinite(value):  # a batch may hold nothing that moves
                self.terms.setdefault(name, []).append(value)
        self.steps += 1
        if (step + 1) % config.log_every and step + 1 != config.steps:
            return
        seconds = (time.monotonic() - self.since) / self.steps
        self.latest = {name: round(sum(values) / len(values), 6) for name, values in self.terms.items()}
        line = {"step": step + 1, **self.latest, "rate": config.rate(step), "step_s": round(seconds, 4)}
        with self._written(), open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        self.terms, self.steps, self.since = {}, 0, time.monotonic()

    def draw(self) -> None:
        """log.png beside the log: every term over steps."""
        from dcgen.export.curve import draw_curves

        lines = self._lines()
        if lines:
            with self._written():
                draw_curves(lines, self.path.with_suffix(".png"))
