"""An Open3D window that plays a scene: space pauses, the arrow keys step, R looks from the start position again."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.errors import DcgenError, MissingExtra
from dcgen.export.camera import chase_camera
from dcgen.export.frame import frame_of
from dcgen.export.mesh import Mesh, frame_mesh
from dcgen.export.open3d_draw import aim, set_style, triangle_mesh
from dcgen.scene_file import load_scene

_SPACE, _RIGHT, _LEFT = 32, 262, 263
_SIZE_PX = (1440, 900)


class DisplayMissing(DcgenError):
    """A window was asked for where there is no screen."""


def view(path: Path | str) -> None:
    """Play a scene file in a window until it is closed. Raises SceneError, MissingExtra or DisplayMissing."""
    scene = load_scene(path)
    if sys.platform.startswith("linux") and not has_display():
        raise DisplayMissing(f"{path}: no display to open a window on; draw it with: dcgen render {path} -o scene.gif")
    try:
        import open3d as o3d
    except (ImportError, OSError) as fault:
        raise MissingExtra("open3d", "render", "a window") from fault
    frames = len(scene.time_s)
    meshes = lru_cache(maxsize=256)(lambda index: frame_mesh(frame_of(scene, index)))
    step_s = float(np.median(np.diff(scene.time_s))) if frames > 1 else 0.2
    window = o3d.visualization.VisualizerWithKeyCallback()
    if not window.create_window(f"dcgen  {Path(path).name}", *_SIZE_PX):
        raise DisplayMissing(f"{path}: no window could be opened; draw it with: dcgen render {path} -o scene.gif")
    set_style(window)
    camera = chase_camera(scene.grid, _SIZE_PX)
    player = _Player(frames, step_s)
    window.register_key_callback(_SPACE, lambda _: player.pause())
    window.register_key_callback(_RIGHT, lambda _: player.step(1))
    window.register_key_callback(_LEFT, lambda _: player.step(-1))
    window.register_key_callback(ord("R"), lambda _: aim(o3d, window, camera))
    shown = triangle_mesh(o3d, meshes(0))
    window.add_geometry(shown)
    aim(o3d, window, camera)
    while window.poll_events():
        if player.advance(time.monotonic()):
            _show(o3d, window, shown, meshes(player.index))
        window.update_renderer()
        time.sleep(0.005)
    window.destroy_window()


def has_display() -> bool:
    """Whether a screen answers. Open3D would go on unseen where DISPLAY names one that does not."""
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    screen = x11.XOpenDisplay(None)
    if screen:
        x11.XCloseDisplay(screen)
    return bool(screen)


def _show(o3d: Any, window: Any, shown: Any, mesh: Mesh) -> None:
    fresh = triangle_mesh(o3d, mesh)
    shown.vertices, shown.triangles, shown.vertex_colors = fresh.vertices, fresh.triangles, fresh.vertex_colors
    window.update_geometry(shown)


class _Player:
    """Which frame is to be seen: it moves on with the clock unless paused."""

    def __init__(self, frames: int, step_s: float) -> None:
        self.index = 0
        self._frames = frames
        self._step_s = step_s
        self._playing = True
        self._due_s = 0.0
        self._changed = False

    def pause(self) -> bool:
        self._playing = not self._playing
        return False

    def step(self, by: int) -> bool:
        self._playing = False
        self.index = (self.index + by) % self._frames
        self._changed = True
        return False

    def advance(self, now_s: float) -> bool:
        """Move on when it is time; whether there is a new frame to draw."""
        if self._playing and now_s >= self._due_s:
            self._due_s = now_s + self._step_s
            self.index = (self.index + 1) % self._frames
            self._changed = True
        changed, self._changed = self._changed, False
        return changed
