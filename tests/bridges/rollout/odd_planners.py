"""Planners that do what planners should not."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np

from bridges.planner import Control, Observation, Task, Trajectory


class Steady:
    """The only one that behaves."""

    def reset(self, task: Task) -> None:
        """Needs to know nothing."""

    def plan(self, observation: Observation) -> object:
        return Control(0.2, 0.0)

    def close(self) -> None:
        """Nothing is held."""


class Talks(Steady):
    def plan(self, observation: Observation) -> object:
        print("to whom it may concern")
        os.write(1, b"and raw\n")
        return Control(0.2, 0.0)


class Raises(Steady):
    def plan(self, observation: Observation) -> object:
        raise KeyError("lane")


class Leaves(Steady):
    def plan(self, observation: Observation) -> object:
        raise SystemExit(0)


class Stalls(Steady):
    def plan(self, observation: Observation) -> object:
        while True:
            time.sleep(0.01) if observation.step else time.monotonic()


class Exits(Steady):
    def plan(self, observation: Observation) -> object:
        os._exit(3)


class Crashes(Steady):
    def plan(self, observation: Observation) -> object:
        os.kill(os.getpid(), 11)
        return None


class NotANumber(Steady):
    def plan(self, observation: Observation) -> object:
        return Trajectory(np.array([0.5]), np.full((1, 3), np.nan))


class OtherType(Steady):
    def plan(self, observation: Observation) -> object:
        return {"steer": 0.0}


class Leaps(Steady):
    def plan(self, observation: Observation) -> object:
        return Trajectory(np.array([0.1]), np.array([[40.0, 0.0, 0.0]]))


class Scribbles(Steady):
    def plan(self, observation: Observation) -> object:
        observation.occupancy[:] = 0
        return Control(0.0, 0.0)


class Forks(Steady):
    def plan(self, observation: Observation) -> object:
        return Control(2.0 if os.fork() else -2.0, 0.0)


class Breeds(Steady):
    """Leaves a process of a session of its own, and says which."""

    def plan(self, observation: Observation) -> object:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        raise ValueError(f"pid {child.pid}")


class Mutters(Steady):
    def plan(self, observation: Observation) -> object:
        raise ValueError("a\0b \ud800 \x1b[2J")


class Wordless(Steady):
    def plan(self, observation: Observation) -> object:
        raise Unspeakable


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Shuts(Steady):
    def plan(self, observation: Observation) -> object:
        os.closerange(3, 64)
        return Control(0.0, 0.0)


class Forges(Steady):
    """Writes into the pipe of its answers: a number where a table is due."""

    def plan(self, observation: Observation) -> object:
        for pipe in (fd for fd in range(3, 16) if _is_pipe(fd)):
            with suppress(OSError):
                os.write(pipe, struct.pack("<q", 1) + b"1")
        return Control(0.0, 0.0)


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False


class Unready(Steady):
    def reset(self, task: Task) -> None:
        raise RuntimeError("no weights")


class Halved:
    def reset(self, task: Task) -> None:
        """But no plan."""


class Demanding(Steady):
    def __init__(self, weights: str) -> None:
        self.weights = weights
