"""The process in which a planner lives: messages come in, answers go out, and nothing it does can harm who asks.

A message is its length in eight bytes and then itself: pickled on the way in, JSON on the way out, since whoever asks
trusts no planner. What a planner prints goes to stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pickle
import random
import struct
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

HEADER = struct.Struct("<q")
METHODS = ("reset", "plan", "close")


class Unusable(Exception):
    """Why no planner can be made; the words are for a user."""


def send(stream: BinaryIO, message: bytes) -> None:
    stream.write(HEADER.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: BinaryIO, most_bytes: int = 1 << 40) -> bytes:
    """The next message. Raises EOFError where there is none, ValueError for one that is too long."""
    (size,) = HEADER.unpack(_exactly(stream, HEADER.size))
    if not 0 <= size <= most_bytes:
        raise ValueError(f"a message of {size} bytes")
    return _exactly(stream, size)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """Serve until the other side goes away."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _end_with_parent()
    planner: Any = None
    own = os.getpid()
    while True:
        try:
            # From the parent's end of a pipe, never a file's or a planner's; read-only arrays stay read-only.
            kind, content = pickle.loads(receive(incoming))
        except EOFError:
            return
        try:
            if kind == "load":
                planner, answer = load(content), None
            else:
                answer = _asked(planner, kind, content)
            reply: dict[str, Any] = {"answer": answer}
        except BaseException as fault:  # SystemExit is no way out of an episode either
            reply = {"fault": told(fault)}
        if os.getpid() != own:  # a copy that the planner made of its process: two would answer each question
            os._exit(0)
        try:
            send(outgoing, json.dumps(reply).encode())
        except OSError:  # the planner closed what is not its own, or nobody waits any more
            return


def _asked(planner: Any, kind: str, content: Any) -> Any:
    import numpy as np

    from bridges.rollout.bicycle import checked

    if kind == "reset":
        random.seed(content.seed)
        np.random.seed(content.seed)  # noqa: NPY002 a planner may draw from it
        planner.reset(content)
    elif kind == "plan":
        answer = checked(planner.plan(content))
        return {name: np.asarray(value).tolist() for name, value in vars(answer).items()}
    else:
        planner.close()
    return None


def load(target: str) -> Any:
    """An instance of MODULE:CLASS, or of FILE.py:CLASS. Raises Unusable with what is wrong."""
    module_name, _, class_name = target.rpartition(":")
    module = _module(module_name)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        near = [name for name, value in vars(module).items() if _plans(value)]
        known = f"; it has {', '.join(near)}" if near else ""
        raise Unusable(f"{module_name} has no class {class_name}{known}; give MODULE:CLASS")
    missing = [name for name in METHODS if not callable(getattr(found, name, None))]
    if missing:
        raise Unusable(f"{class_name} lacks {', '.join(missing)}; add what docs/planners.md asks for")
    try:
        return found()
    except BaseException as fault:
        raise Unusable(f"{class_name}() {told(fault)}; make it work without arguments") from fault


def _plans(value: object) -> bool:
    return isinstance(value, type) and all(callable(getattr(value, name, None)) for name in METHODS)


def _module(name: str) -> Any:
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        sys.path.append(str(path.parent))
        spec.loader.exec_module(module)
        return module
    except BaseException as fault:
        if isinstance(fault, FileNotFoundError) and fault.filename == str(Path(name).resolve()):
            raise Unusable(f"no file {name}; check the path") from None
        raise Unusable(f"importing {name} {told(fault)}; mend it") from fault


def told(fault: BaseException) -> str:
    """One line that says what was raised and where."""
    if isinstance(fault, (Unusable, _planner_fault())):
        return str(fault)
    try:
        words = " ".join(str(fault).split())[:200]
    except Exception:  # its own words are the planner's, too
        words = ""
    steps = [step for step in traceback.extract_tb(fault.__traceback__) if step.filename != __file__]
    steps = [step for step in steps if "importlib" not in step.filename]
    place = f" ({Path(steps[-1].filename).name}:{steps[-1].lineno})" if steps else ""
    return f"raised {type(fault).__name__}{': ' if words else ''}{words}{place}"


def _planner_fault() -> type[Exception]:
    from bridges.rollout.bicycle import PlannerFault

    return PlannerFault


def _end_with_parent() -> None:
    """Ask Linux to end this process when the one that started it ends, and to leave it the orphans it makes."""
    if sys.platform == "linux":
        import ctypes
        import signal

        libc = ctypes.CDLL(None)
        libc.prctl(1, signal.SIGKILL)
        libc.prctl(36, 1, 0, 0, 0)  # so that who ends this process finds them
