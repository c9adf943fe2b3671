"""Draws meshes with Open3D in a child process, so that a graphics driver that crashes does not take dcgen with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from PIL import Image

from dcgen.export.camera import Camera
from dcgen.export.mesh import Mesh


class WorkerFailed(Exception):
    """Open3D is missing, or it could not draw. The message says why."""


class Open3DWorker:
    """The child starts at once and loads Open3D while the caller does other work."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dcgen.export.open3d_draw"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )

    def draw(self, mesh: Mesh, camera: Camera, fine: int = 2) -> Image.Image:
        """The mesh as the camera sees it, drawn `fine` times as large and shrunk.

        Raises WorkerFailed when Open3D cannot, or has died.
        """
        head = {"vertices": len(mesh.vertices_m), "triangles": len(mesh.triangles), "camera": asdict(camera)}
        head["fine"] = fine
        body = mesh.vertices_m.tobytes() + mesh.triangles.tobytes() + mesh.colours.tobytes()
        send, receive = self._process.stdin, self._process.stdout
        if send is None or receive is None:
            raise WorkerFailed("the Open3D process has no pipes")
        try:
            send.write(json.dumps(head).encode() + b"\n" + body)
            send.flush()
            answer = json.loads(receive.readline() or b"{}")
            pixels = receive.read(answer.get("bytes", 0))
        except (OSError, ValueError) as fault:
            raise WorkerFailed("the Open3D process ended early") from fault
        width, height = camera.size_px
        if len(pixels) != 3 * width * height:
            raise WorkerFailed(answer.get("error", "the Open3D process ended early"))
        return Image.frombytes("RGB", camera.size_px, pixels)

    def busy_s(self) -> float:
        """CPU seconds that the child has taken so far; Linux alone can say."""
        return time.clock_gettime((~self._process.pid << 3) | 2)  # its CPU clock, as clock_getcpuclockid(3) names it

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # the process may have gone before its last bytes were read
                    pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Open3DWorker:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        self.close()
