"""Open3D's legacy Visualizer: pictures with no display, and a window where there is one.

Run as a program it draws what a pipe asks for. In: one JSON line {vertices, triangles, camera, fine}, then the arrays'
bytes (float32 [V, 3], int32 [F, 3], uint8 [V, 3]). Out: one JSON line {bytes} or {error}, then RGB rows from the top.
Pictures are drawn `fine` times as wide and as high, and shrunk: Open3D smooths no edges.
`worker.py` is the other end: a graphics driver that crashes takes this process down, and not the program.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dcgen.export.camera import Camera
from dcgen.export.mesh import Mesh
from dcgen.export.painter import BACKGROUND

_PACK_ALIGNMENT, _RGB, _UNSIGNED_BYTE = 0x0D05, 0x1907, 0x1401  # as OpenGL numbers them


def triangle_mesh(o3d: Any, mesh: Mesh) -> Any:
    """The mesh as open3d.geometry.TriangleMesh."""
    made = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices_m.astype(np.float64)),
        o3d.utility.Vector3iVector(mesh.triangles.copy()),
    )
    made.vertex_colors = o3d.utility.Vector3dVector(mesh.colours / 255.0)
    return made


def set_style(visualizer: Any) -> None:
    """Colours as they are baked, on the background of every picture."""
    option = visualizer.get_render_option()
    option.light_on = False
    option.mesh_show_back_face = True
    option.background_color = np.array(BACKGROUND) / 255.0


def aim(o3d: Any, visualizer: Any, camera: Camera) -> bool:
    """Put Open3D's camera where `camera` stands; whether it could."""
    width, height = camera.size_px
    pose = o3d.camera.PinholeCameraParameters()
    pose.intrinsic = o3d.camera.PinholeCameraIntrinsic(
        width, height, camera.focal_px, camera.focal_px, width / 2 - 0.5, height / 2 - 0.5
    )
    pose.extrinsic = camera.camera_se3_ego()
    control = visualizer.get_view_control()
    near_m, far_m = camera.clip_m
    control.set_constant_z_near(near_m)
    control.set_constant_z_far(far_m)
    return bool(control.convert_from_pinhole_camera_parameters(pose, True))


class _Studio:
    """One hidden window, opened at the size of the first picture."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        import open3d as o3d

        self._o3d = o3d
        self._size_px = size_px
        self._visualizer = o3d.visualization.Visualizer()
        if not self._visualizer.create_window(width=size_px[0], height=size_px[1], visible=False):
            raise RuntimeError("Open3D could not open an off-screen window")
        set_style(self._visualizer)
        self._read: Callable[[], NDArray[np.uint8]] | None = None

    def draw(self, mesh: Mesh, camera: Camera) -> NDArray[np.uint8]:
        """[H, W, 3] from the top."""
        if camera.size_px != self._size_px:
            raise RuntimeError("every picture of one run needs the same size")
        self._visualizer.clear_geometries()
        self._visualizer.add_geometry(triangle_mesh(self._o3d, mesh), self._read is None)
        aim(self._o3d, self._visualizer, camera)
        self._visualizer.poll_events()
        if self._read is None:
            quick = _pixel_reader(self._size_px)
            self._read = quick if quick is not None and _alike(quick().copy(), self._captured()) else self._captured
        return self._read()

    def _captured(self) -> NDArray[np.uint8]:
        pixels = np.asarray(self._visualizer.capture_screen_float_buffer(True))
        return np.rint(pixels * 255).astype(np.uint8)


def _alike(quick: NDArray[np.uint8], slow: NDArray[np.uint8]) -> bool:
    """Whether two readings show one picture. Open3D draws it anew for its own, and edges may differ by a pixel."""
    return bool((quick != slow).mean() < 0.002)


def _pixel_reader(size_px: tuple[int, int]) -> Callable[[], NDArray[np.uint8]] | None:
    """Asks OpenGL for the bytes that Open3D would fetch as floats, ten times as slowly; None where there is none."""
    name = ctypes.util.find_library("GL")
    try:
        library = ctypes.CDLL(name) if name else None
        read, store = (library.glReadPixels, library.glPixelStorei) if library else (None, None)
    except (OSError, AttributeError):
        return None
    if read is None or store is None:
        return None
    width, height = size_px
    pixels = np.empty((height, width, 3), np.uint8)

    def fetch() -> NDArray[np.uint8]:
        store(_PACK_ALIGNMENT, 1)
        read(0, 0, width, height, _RGB, _UNSIGNED_BYTE, pixels.ctypes.data_as(ctypes.c_void_p))
        return pixels[::-1]

    return fetch


def _receive(pipe: IO[bytes]) -> tuple[Mesh, Camera, int] | None:
    line = pipe.readline()
    if not line:
        return None
    head = json.loads(line)
    vertices, triangles = head["vertices"], head["triangles"]
    seen: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in head["camera"].items()}
    mesh = Mesh(
        np.frombuffer(pipe.read(12 * vertices), np.float32).reshape(vertices, 3),
        np.frombuffer(pipe.read(12 * triangles), np.int32).reshape(triangles, 3),
        np.frombuffer(pipe.read(3 * vertices), np.uint8).reshape(vertices, 3),
    )
    return mesh, Camera(**seen), int(head["fine"])


def main() -> None:
    """Answer requests until the pipe closes. What Open3D prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    studio: _Studio | None = None
    with suppress(ImportError, OSError):  # told when a picture is asked for
        import open3d  # noqa: F401 - loads while the caller prepares its first request
    while (request := _receive(sys.stdin.buffer)) is not None:
        mesh, camera, fine = request
        large = replace(camera, size_px=(fine * camera.size_px[0], fine * camera.size_px[1]))
        try:
            studio = studio or _Studio(large.size_px)
            image = Image.fromarray(np.ascontiguousarray(studio.draw(mesh, large)))
            pixels = (image.reduce(fine) if fine > 1 else image).tobytes()
            answers.write(json.dumps({"bytes": len(pixels)}).encode() + b"\n" + pixels)
        except (ImportError, OSError, RuntimeError, ValueError) as fault:
            answers.write(json.dumps({"error": str(fault).splitlines()[0][:200]}).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
