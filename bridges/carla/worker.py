"""The process that talks to the server: `python -m bridges.carla.worker`, a task as JSON on stdin, notes on stdout.

CARLA's client ends its process where one of its threads meets an error. So this one does a bounded piece of work (a
look at the server, one part of a data set, or putting a server back) and may be lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from bridges.carla.order import RecordOrder
from bridges.carla.session import Note, Session, first_line
from dcgen.errors import DcgenError


class Stopped(BaseException):
    """The process was told to end."""


def survey(order: RecordOrder, task: dict[str, Any], note: Note) -> dict[str, Any]:
    """Version and map of the server; its OpenDRIVE goes to task["map"]."""
    with Session(order, note) as session:
        world_map = session.world.get_map()
        Path(task["map"]).write_text(world_map.to_opendrive(), encoding="utf-8")
        return {"version": session.client.get_server_version(), "map": world_map.name}


def restore(order: RecordOrder, task: dict[str, Any], note: Note) -> dict[str, Any]:
    """Remove what a lost process has left, and put its settings back."""
    with Session(order, note, task["found"]):
        return {}


def record_part(order: RecordOrder, task: dict[str, Any], note: Note) -> dict[str, Any]:
    """Record one part of a data set and keep it, whole or not at all."""
    from bridges.carla.clips import write_recorded_part

    write_recorded_part(order, task["spec"], int(task["part"]), Path(task["map"]), task["found"], note)
    return {}


TASKS = {"survey": survey, "part": record_part, "restore": restore}


def main() -> int:
    """Run the task of stdin. The last note says what came of it."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the client's own chatter is no note

    def note(values: dict[str, Any]) -> None:
        channel.write(json.dumps(values) + "\n")
        channel.flush()

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the cleaning up is not to be broken off
        raise Stopped

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    task = json.loads(sys.stdin.readline())
    order = RecordOrder.from_dict(task["order"])
    try:
        result = TASKS[task["task"]](order, task, note)
        note({"result": result})
    except Stopped:
        return 1
    except DcgenError as fault:
        with contextlib.suppress(OSError):
            note({"error": str(fault), "kind": type(fault).__name__})
    except RuntimeError as fault:  # how the client says that the server refused
        traceback.print_exc()
        line = f"{order.place}: {first_line(fault)}; check the server and run the same command again: it goes on"
        with contextlib.suppress(OSError):
            note({"error": line, "kind": "CarlaError"})
    except Exception:  # nobody hears the notes, or a fault of dcgen's own: the last line is told
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # the client's threads would not let go
