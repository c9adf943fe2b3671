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
    """The worker ended without a word: CARLA's client aborted."""


@dataclass
class Watch:
    """Runs tasks for one order. found: the server's settings before anything was changed."""

    order: RecordOrder
    tell: Callable[[str], None]
    found: dict[str, Any] | None = None
    _restored: bool = field(default=True, init=False)

    def run(self, task: dict[str, Any], heard: Callable[[dict[str, Any]], None] = lambda note: None) -> dict[str, Any]:
        """What the task returns. heard gets its notes. Raises what the worker raised, or CarlaError for a lost one."""
        with tempfile.TemporaryFile() as chatter:
            process = _start(chatter)
            try:
                result = self._listen(process, {"order": self.order.to_dict(), "found": self.found, **task}, heard)
                if result is None:
                    raise WorkerLost(self._lost(process, chatter))
                return result
            finally:
                _stop(process)
                if not self._restored and task["task"] != "restore":
                    self._put_back()

    def _listen(
        self, process: subprocess.Popen[bytes], task: dict[str, Any], heard: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any] | None:
        """Its result, or None where it ends without one."""
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        notes: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, notes), daemon=True).start()
        patience_s = max(self.order.connect_s, LATE_S)
        while True:
            try:
                note = notes.get(timeout=patience_s)
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
                return note["result"]
            heard(note)

    def _patience(self, note: dict[str, Any], task: dict[str, Any]) -> float:
        longest = max(self.order.tick_s, self.order.sensor_s * (task["task"] == "part"), self.order.connect_s)
        late = LATE_S if task["task"] == "part" and "alive" not in note else 0.0
        return max(longest, note.get("patience_s", 0.0), late) + SLACK_S

    def _silent(self, seconds: float) -> str:
        return f"{self.order.place}: the client gave no sign for {seconds:.0f} s; check the server and run again"

    def _lost(self, process: subprocess.Popen[bytes], chatter: IO[bytes]) -> str:
        """The one line for a process that is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        chatter.seek(0)
        lines = chatter.read().decode("utf-8", "replace").strip().splitlines()
        said = next((line.strip() for line in reversed(lines) if "what():" in line), lines[-1] if lines else "")
        code = process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        gone = answers(self.order.host, self.order.port)
        state = f"the server is gone ({gone})" if gone else "the server still answers"
        said = said.removeprefix("what():").strip()[:200]
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


def _start(chatter: IO[bytes]) -> subprocess.Popen[bytes]:
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "bridges.carla.worker"],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=chatter,
        start_new_session=True,  # Ctrl-C is for the process that watches
    )


def _read(pipe: IO[bytes], notes: queue.Queue[dict[str, Any] | None]) -> None:
    for line in pipe:
        with contextlib.suppress(ValueError):  # half a line of a process that died
            notes.put(json.loads(line))
    notes.put(None)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a worker to clean up and end; kill it where it does not."""
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
