"""One loop for every stage, in one process or many: gradients, average, checkpoints that survive kill -9, a log."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dcgen import parallel
from dcgen.errors import Stopped
from dcgen.heap import keep_freed_memory
from dcgen.measure import ModelFlops
from dcgen.train_guard import Guard, memory_named
from dcgen.train_log import Log, Pace, training_rate
from dcgen.train_state import RunState, what_runs

Report = Callable[[int, int, dict[str, float]], None]
SAVING_SHARE = 0.05  # of the time, at most, however large a model is


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast. The learning rate warms up, stays, and falls to 3 % over the last `cooldown` of steps.

    batch: clips of all processes together. checkpointing computes inner values again instead of keeping them; fsdp
    shares weights and optimiser among the processes.
    """

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
    checkpointing: bool = False
    fsdp: bool = False

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
    """What a loop needs of a stage: a network and a loss. Everything random comes from the generator.

    A batch holds this process's clips (parallel.part); what is random is drawn for the whole batch, and a process takes
    its own rows (parallel.own_rows), so that a run does not depend on how many processes there are.
    """

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
    A run folder that holds a checkpoint goes on from it. Raises DcgenError where the loss is no longer finite or has
    left its course, CheckpointError for a folder of another run, Stopped on SIGTERM, after it saved.
    """
    parallel.part(config.batch)
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(stage, config, folder)
    start = step = run.state.resume()
    log = Log(folder, start, config.steps, config.log_every)
    began = time.monotonic()
    saves = _Saves(config.save_s)
    with _on_sigterm() as asked:
        for step, batches in _prefetch(batch_at, start, config):
            over = asked.is_set() or (minutes is not None and time.monotonic() - began > 60 * minutes)
            if step == start:
                run.measure(batches[0])
                log.since = time.monotonic()
            terms, wishes = run.gradients(step, batches, {"end": over, "save": saves.due, "asked": asked.is_set()})
            run.move(step)
            closed = log.add(step, terms, config.rate(step), run.pace)
            if report and closed and parallel.first():
                report(step + 1, config.steps, log.latest)
            ends = wishes["end"] and run.guard.calm
            if ends or step + 1 == config.steps or (wishes["save"] and run.guard.calm):
                with saves.timed():
                    run.state.save(step + 1)
            if ends:
                break
    log.draw()
    if start < config.steps and wishes["asked"] and step + 1 < config.steps:
        raise Stopped(f"{folder}: stopped and saved at step {step + 1} of {config.steps}; start it again to resume")
    return run.state.average()


class _Run:
    """A stage and what moves it."""

    def __init__(self, stage: Stage, config: TrainConfig, folder: Path) -> None:
        for part in (stage, *stage.network.modules()):
            if hasattr(part, "checkpointing"):
                part.checkpointing = config.checkpointing
        self.config, self.network, self.guard = config, stage.network, Guard(folder)
        self.network.train()
        self.loss = _Loss(stage)
        # A block of the transformer is a unit of its own; what is outside of blocks, and the autoencoder, is one.
        self.wrapped = parallel.wrap(self.loss, config.fsdp, lambda module: type(module).__name__ == "Block")
        parameters = list(self.network.parameters())
        self.device = parameters[0].device
        self.optimiser = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=config.weight_decay)
        self.state = RunState(folder, self.network, self.optimiser, what_runs(stage))
        self.pace: Pace  # known once it is measured

    def measure(self, batch: Any) -> None:
        """Counts the operations of a batch, and the device's rate. All of it is forgotten but the pace: torch's counter
        takes operations apart and so changes last digits, which a run that was cut may not differ in."""
        many, buffers = parallel.size(), [buffer.clone() for buffer in self.network.buffers()]
        with memory_named(self.config.batch, self.config.accumulate), ModelFlops() as flops:
            self._accumulate([batch], torch.Generator().manual_seed(0))
        self.network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(self.network.buffers(), buffers, strict=True):
                buffer.copy_(before)
        flop = many * self.config.accumulate * flops.total
        self.pace = Pace(self.config.batch * self.config.accumulate, flop, many * training_rate(self.device))

    def gradients(
        self, step: int, batches: list[Any], wishes: dict[str, bool]
    ) -> tuple[dict[str, float], dict[str, bool]]:
        """Adds up the gradients of the batches and clips them; returns the mean of each term, and what is wished.

        Raises DcgenError where it shows that the run must stop, on all processes.
        """
        with memory_named(self.config.batch, self.config.accumulate):
            terms = self._accumulate(batches, torch.Generator().manual_seed(self.config.seed * 7919 + step))
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        terms["norm"] = parallel.whole(norm).item()
        terms, wishes = parallel.agree(terms, wishes)
        self.guard.check(step, terms["loss"], terms["norm"])
        return terms, wishes

    def _accumulate(self, batches: list[Any], generator: torch.Generator) -> dict[str, float]:
        self.network.zero_grad(set_to_none=True)
        terms: dict[str, float] = {}
        for number, batch in enumerate(batches):
            self.loss.given = (batch, generator)
            last = number + 1 == len(batches)
            with nullcontext() if last else parallel.unsynchronised(self.wrapped):
                loss, more = self.wrapped()
                (loss / len(batches)).backward()
            for name, value in {"loss": loss.item(), **more}.items():
                terms[name] = terms.get(name, 0.0) + value / len(batches)
        return terms

    def move(self, step: int) -> None:
        """One step of the optimiser, and of the average behind it."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(step)
        self.optimiser.step()
        self.state.follow(min(self.config.ema, (step + 1) / (step + 10)))


class _Loss(nn.Module):
    """A stage's loss as the forward of a module, which is where gradients are joined over processes.

    The batch is put beside it, not passed: wrappers would move what they are passed to the GPU.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.network = stage.network
        self.of = stage.loss
        self.given: tuple[Any, torch.Generator]

    def forward(self) -> tuple[Tensor, dict[str, float]]:
        return self.of(*self.given)


class _Saves:
    """When the next checkpoint is due: every so many seconds, and never for more than a small share of the time."""

    def __init__(self, every_s: float) -> None:
        self.every_s, self.took_s, self.last = every_s, 0.0, time.monotonic()

    @property
    def due(self) -> bool:
        pause = max(self.every_s, self.took_s / SAVING_SHARE if self.every_s else 0.0)
        return time.monotonic() - self.last > pause

    @contextmanager
    def timed(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.last = time.monotonic()
        self.took_s = self.last - began


@contextmanager
def _on_sigterm() -> Iterator[threading.Event]:
    """Set when the process is asked to end: it may finish its step and save."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where no signal comes to
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


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
