"""A run's log: one JSON line every few steps, their means and how fast they were, and a picture of them at the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from dcgen import parallel
from dcgen.device import autocast
from dcgen.errors import DcgenError
from dcgen.measure import matrix_rate

rate_once = cache(matrix_rate)


def training_rate(device: torch.device) -> float:
    """FLOP/s of matrix products on a device, in the arithmetic that training has there; measured once a process."""
    with autocast(device):
        mixed = torch.is_autocast_enabled(device.type)
        return rate_once(str(device), torch.get_autocast_dtype(device.type) if mixed else torch.float32)


@dataclass(frozen=True)
class Pace:
    """What a step is: clips and operations over all processes, and the FLOP/s at which these multiply matrices."""

    clips: int
    flop: float
    flop_s: float

    def figures(self, step_s: float) -> dict[str, float]:
        """Throughput, and the share of the matrix rate that the model's own operations take (MFU, arXiv 2204.02311)."""
        mfu = self.flop / step_s / self.flop_s
        return {
            "clips_s": round(self.clips / step_s, 3),
            "mfu": float(f"{mfu:.4g}"),
            "gflop_step": float(f"{self.flop / 1e9:.6g}"),
        }


class Log:
    """Kept by the first process alone. Lines after `start` are of steps that are made anew, and go."""

    def __init__(self, folder: Path, start: int, steps: int, every: int) -> None:
        self.path, self.steps, self.every = folder / "log.jsonl", steps, every
        self.terms: dict[str, list[float]] = {}
        self.latest: dict[str, float] = {}
        self.count, self.since = 0, time.monotonic()
        if not parallel.first():
            return
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
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):  # the last line of a run that was killed
                continue
            if isinstance(line, dict) and "step" in line and all(isinstance(v, (int, float)) for v in line.values()):
                lines.append(line)
        return lines

    def add(self, step: int, terms: dict[str, float], rate: float, pace: Pace) -> bool:
        """Notes a step; returns whether it closed a line."""
        for name, value in terms.items():
            if math.isfinite(value):  # a batch may hold nothing that moves
                self.terms.setdefault(name, []).append(value)
        self.count += 1
        if (step + 1) % self.every and step + 1 != self.steps:
            return False
        step_s = (time.monotonic() - self.since) / self.count
        means = {name: round(sum(values) / len(values), 6) for name, values in self.terms.items()}
        self.latest = {**means, **pace.figures(step_s)}
        line = {"step": step + 1, **means, "rate": rate, "step_s": round(step_s, 4), **pace.figures(step_s)}
        if parallel.first():
            with self._written(), open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        self.terms, self.count, self.since = {}, 0, time.monotonic()
        return True

    def draw(self) -> None:
        """log.png beside the log: every term over steps."""
        from dcgen.export.curve import draw_curves

        lines = self._lines() if parallel.first() else []
        if lines:
            with self._written():
                draw_curves(lines, self.path.with_suffix(".png"))
