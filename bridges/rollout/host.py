"""A planner in a process of its own: asked through pipes, given a limited time, killed when it does not answer."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from bridges.planner import Control, Observation, Task, Trajectory
from bridges.rollout.bicycle import PlannerFault
from bridges.rollout.child import receive, send
from dcgen.errors import PlannerError
from dcgen.export.plain import plain

TIME_LIMIT_S = 2.0  # for an answer
START_LIMIT_S = 120.0  # to be loaded, and to get ready for an episode: weights take a while to read
CLOSE_LIMIT_S = 10.0
MOST_ANSWER_BYTES = 1 << 20
MOST_WORDS = 400
_BEGIN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from bridges.rollout.child import main; main()"


class PlannerProcess:
    """MODULE:CLASS, or FILE.py:CLASS, as a Planner. Everything it may do wrong is a PlannerFault.

    Raises PlannerError at once where it cannot be loaded.
    """

    def __init__(self, target: str, time_limit_s: float = TIME_LIMIT_S) -> None:
        module, colon, name = target.rpartition(":")
        if not (colon and module and name.isidentifier()):
            raise PlannerError(f"--planner {target}: is not MODULE:CLASS; give it as in bridges.planners:LaneFollowing")
        self.target, self._limit_s = target, time_limit_s
        path = [*filter(None, sys.path), os.getcwd()]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        try:
            self._ask("load", target, START_LIMIT_S)
        except PlannerFault as fault:
            self.kill()
            raise PlannerError(f"--planner {target}: {fault}") from None
        except BaseException:
            self.kill()
            raise

    def reset(self, task: Task) -> None:
        self._ask("reset", task, START_LIMIT_S)

    def plan(self, observation: Observation) -> Trajectory | Control:
        answer = self._ask("plan", observation, self._limit_s)
        try:
            if "pose" in answer:
                return Trajectory(np.array(answer["time_s"], np.float64), np.array(answer["pose"], np.float64))
            return Control(**answer)
        except (TypeError, ValueError, KeyError):
            raise PlannerFault("answered with what is neither a Trajectory nor a Control") from None

    def close(self) -> None:
        """Say goodbye, and end the process whatever it says."""
        try:
            if self._process.poll() is None:
                self._ask("close", None, CLOSE_LIMIT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process and all that it started."""
        self._stop()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def __enter__(self) -> PlannerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _ask(self, kind: str, content: object, limit_s: float) -> Any:
        message = pickle.dumps((kind, content), protocol=5)
        replies: SimpleQueue[bytes | Exception] = SimpleQueue()
        Thread(target=self._exchange, args=(message, replies), daemon=True).start()
        doing = {"plan": "to answer", "reset": "to get ready", "load": "to be loaded", "close": "to close"}[kind]
        try:
            found = replies.get(timeout=limit_s)
            if isinstance(found, Exception):
                raise found
            reply = json.loads(found)
            if not isinstance(reply, dict) or not reply.keys() & {"fault", "answer"}:
                raise ValueError
        except Empty:
            self._stop()
            raise PlannerFault(f"took longer than {limit_s:g} s {doing}") from None
        except (OSError, EOFError):
            raise PlannerFault(f"its process ended ({self._end()}) instead of answering") from None
        except (ValueError, RecursionError):
            self._stop()
            raise PlannerFault(f"answered with more than {MOST_ANSWER_BYTES} bytes, or none that can be read") from None
        if "fault" in reply:
            raise PlannerFault(plain(str(reply["fault"]), MOST_WORDS))  # they go into files and onto terminals
        return reply["answer"]

    def _exchange(self, message: bytes, replies: SimpleQueue[bytes | Exception]) -> None:
        """In a thread of its own: both sending and waiting may last until the process is killed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            send(self._process.stdin, message)  # type: ignore[arg-type]  # the buffered ends of pipes
            replies.put(receive(self._process.stdout, MOST_ANSWER_BYTES))  # type: ignore[arg-type]
        except Exception as fault:
            replies.put(fault)

    def _end(self) -> str:
        """How the process ended; it is made to, where it has not."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(0.5)
            if code < 0:
                return f"signal {signal.Signals(-code).name}"
            return f"exit code {code}"
        self._stop()
        return "killed"

    def _stop(self) -> None:
        strays = descendants(self._process.pid)  # some may have left the group
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        for pid in strays:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did, where /proc tells of them."""
    children: dict[int, list[int]] = {}
    for told in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(told.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(told.parent.name))
    found = list(children.get(pid, ()))
    for each in found:  # it grows
        found += children.get(each, ())
    return found
