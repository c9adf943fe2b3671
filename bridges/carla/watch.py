"""Runs a worker process and watches over it: it may crash, hang or be told to stop, and the server is put back."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import dcgen.errors
from bridges.carla.order import RecordOrder
from bridges.carla.session import answers
from dcgen.errors import CarlaError

GRACE_S = 10.0  # for a worker's own cleaning up
SLACK_S = 15.0  # beyond what a tick, a sweep or a connection may take: silence longer than that is a hang
LATE_S = 120.0  # for what is done after the last tick: maps are read, votes counted, clips written


class WorkerLost(CarlaError):
    """The worker ended without a word, or says no more: CARLA's client aborted or hangs."""


@dataclass
class Watch:
    """Runs tasks for one order. found: the server's settings before anything was changed."""

    order: RecordOrder
    tell: Callable[[str], None]
    found: dict[str, Any] | None = None
    _restored: bool = field(default=True, init=False)

    def run(self, task: dict[str, Any], heard: Callable[[dict[str, Any]], None] = lambda note: None) -> dict[str, Any]:
        """What the task returns. heard gets its notes. Raises what the worker raised, or WorkerLost."""
        with tempfile.TemporaryFile() as chatter:
            worker = _Worker(chatter, {"order": self.order.to_dict(), "found": self.found, **task})
            try:
                result = self._listen(worker, task["task"], heard)
                if result is None:
                    raise WorkerLost(self._lost(worker))
                return result
            finally:
                try:
                    self._restored |= any("restored" in note for note in worker.stop())
                finally:  # where the user cannot wait for that, too
                    if not self._restored and task["task"] != "restore":
                        self._put_back()

    def _listen(self, worker: _Worker, task: str, heard: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
        """Its result, or None where it ends without one."""
        patience_s = max(self.order.connect_s, LATE_S)
        while True:
            try:
                note = worker.notes.get(timeout=patience_s)
            except queue.Empty:
                raise WorkerLost(self._silent(patience_s)) from None
            if note is None:
                return None
            patience_s = self._patience(note, task)
            if "settings" in note:
                self.found, self._restored = self.found or note["settings"], False
            self._restored |= "restored" in note
            if "tell" in note:
                self.tell(note["tell"])
            if "error" in note:
                raise getattr(dcgen.errors, note["kind"], CarlaError)(note["error"])
            if "result" in note:
                return dict(note["result"])
            heard(note)

    def _patience(self, note: dict[str, Any], task: str) -> float:
        """How long the worker may be silent after a note, in seconds."""
        longest = max(self.order.tick_s, self.order.sensor_s, self.order.connect_s, note.get("patience_s", 0.0))
        late_s = 0.0 if "alive" in note or task != "part" else LATE_S
        return max(longest, late_s) + SLACK_S

    def _silent(self, seconds: float) -> str:
        return f"{self.order.place}: the client gave no sign for {seconds:.0f} s; check the server and run again"

    def _lost(self, worker: _Worker) -> str:
        """The one line for a process that is gone."""
        said, how = worker.last_words()
        gone = answers(self.order.host, self.order.port)
        state = f"the server is gone ({gone})" if gone else "the server still answers"
        return (
            f"{self.order.place}: CARLA's client ended ({how}{': ' if said else ''}{said}), {state}; "
            "what is recorded is kept, run the same command again to make the rest"
        )

    def _put_back(self) -> None:
        """Another process removes what the lost one left; where that fails too, the user is told."""
        if answers(self.order.host, self.order.port):
            return
        try:
            self.run({"task": "restore"})
        except CarlaError as fault:
            self.tell(f"the server could not be put back ({fault})")


class _Worker:
    """A process of worker.py with its task. notes: what it says, then None."""

    def __init__(self, chatter: IO[bytes], task: dict[str, Any]) -> None:
        home = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        self.chatter = chatter
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bridges.carla.worker"],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            start_new_session=True,  # Ctrl-C is for the process that watches
        )
        self.notes: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError), self.process.stdin as pipe:
            pipe.write(json.dumps(task).encode() + b"\n")

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                with contextlib.suppress(ValueError):  # half a line of a process that died
                    self.notes.put(json.loads(line))
        self.notes.put(None)

    def stop(self) -> list[dict[str, Any]]:
        """Ask it to clean up and end, kill it where it does not. What it said meanwhile."""
        try:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self._reader.join(GRACE_S)
        left = []
        while not self.notes.empty():
            left.append(self.notes.get())
        return [note for note in left if note is not None]

    def last_words(self) -> tuple[str, str]:
        """What it printed last, the reason of an abort rather, and how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        self.chatter.seek(0)
        lines = self.chatter.read().decode("utf-8", "replace").strip().splitlines()
        said = next((line.strip() for line in reversed(lines) if "what():" in line), lines[-1] if lines else "")
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return said.removeprefix("what():").strip()[:200], how
