"""When a run must stop: numbers that are not finite, a loss that has left its course, memory that does not suffice."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from dcgen.errors import DcgenError

WINDOW, LEAST = 100, 20  # steps whose medians are a run's course, and how few of them make one
LOSS_TIMES, NORM_TIMES = 3.0, 3.0
IN_A_ROW = 5


class Guard:
    """Watches a run's loss and gradient norm.

    A spike is a loss AND a gradient norm above three times their medians over the last 100 calm steps, for five steps
    in a row: one batch of rare clips does not do that, and a model that has lost its way does not come back from it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.norms: deque[float] = deque(maxlen=WINDOW)
        self.wild = 0

    @property
    def calm(self) -> bool:
        """Whether a checkpoint of now would be one of a run on its course."""
        return self.wild == 0

    def check(self, step: int, loss: float, norm: float) -> None:
        """Takes note of a step, before its gradients are used. Raises DcgenError where the run must stop."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {norm}, loss {loss:.4g}"
            raise DcgenError(f"{self.folder}: {what} at step {step}; lower --learning-rate and resume")
        if len(self.losses) >= LEAST:
            usual, slope = median(self.losses), median(self.norms)
            if loss > LOSS_TIMES * usual and norm > NORM_TIMES * slope:
                self.wild += 1
                if self.wild >= IN_A_ROW:
                    raise DcgenError(
                        f"{self.folder}: loss is {loss:.4g} at step {step}, {loss / usual:.1f} times what it was, for "
                        f"{self.wild} steps in a row; lower --learning-rate and resume from the checkpoint of before"
                    )
                return
        self.wild = 0
        self.losses.append(loss)
        self.norms.append(norm)


@contextmanager
def memory_named(batch: int, accumulate: int) -> Iterator[None]:
    """Out of memory becomes a line that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as fault:
        if not _is_memory(fault):
            raise
        smaller = f"--batch {max(batch // 2, 1)} --accumulate {2 * accumulate}" if batch > 1 else "a smaller --preset"
        raise DcgenError(
            f"out of memory at --batch {batch}; lower it and accumulate more ({smaller}), or add --checkpointing"
        ) from fault


def _is_memory(fault: Exception) -> bool:
    said = str(fault).lower()
    how = ("not enough memory", "out of memory", "can't allocate memory")
    return isinstance(fault, (MemoryError, torch.cuda.OutOfMemoryError)) or any(words in said for words in how)
