"""An Open3D window that plays scenes side by side: playback.py says what its keys do, card.py draws their list."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.errors import DcgenError, MissingExtra
from dcgen.export.camera import Camera, camera_of
from dcgen.export.card import draw_card, hang_card
from dcgen.export.frame import frame_of
from dcgen.export.mesh import Mesh, join, moved
from dcgen.export.open3d_draw import aim, set_style, triangle_mesh
from dcgen.export.plain import plain
from dcgen.export.playback import CLASS_KEYS, Playback
from dcgen.export.scenery import ground_m, scenery
from dcgen.scene_file import load_scene
from dcgen.types import Doubles, GridSpec, Scene

_SIZE_PX = (1440, 900)
_GAP_M = 6.0  # between scenes
_LEAST_STEP_S = 0.02
# As GLFW numbers them.
_KEY_CODES = {"SPACE": 32, "TAB": 258, "RIGHT": 262, "LEFT": 263, "DOWN": 264, "UP": 265, "HOME": 268, "END": 269}
_KEY_CODES |= {key: ord(key) for key in f"{CLASS_KEYS}=CRIEBLH"}


class DisplayMissing(DcgenError):
    """A window was asked for where there is no screen."""


def view(*paths: Path | str) -> None:
    """Play scene files in a window until it is closed. Raises SceneError, MissingExtra or DisplayMissing."""
    scenes = [load_scene(path) for path in paths]
    remedy = f"draw it with: dcgen render {paths[0]} -o scene.gif"
    if sys.platform.startswith("linux") and not has_display():
        raise DisplayMissing(f"{paths[0]}: no display to open a window on; {remedy}")
    try:
        import open3d as o3d
    except (ImportError, OSError) as fault:
        raise MissingExtra("open3d", "render", "a window") from fault
    window = o3d.visualization.VisualizerWithKeyCallback()
    if not window.create_window("dcgen  " + "  ".join(Path(path).name for path in paths), *_SIZE_PX):
        raise DisplayMissing(f"{paths[0]}: no window could be opened; {remedy}")
    set_style(window)
    row = Row([Path(path) for path in paths], scenes)
    playback = Playback(tuple(len(scene.time_s) for scene in scenes), step_of(scenes[0]))
    if len(scenes) > 1:
        playback.camera = "birdseye"
    screen = _Screen(o3d, window, row, playback)
    while window.poll_events():
        playback.advance(time.monotonic())
        screen.show()
        time.sleep(0.004)
    window.destroy_window()


def step_of(scene: Scene) -> float:
    """Seconds from frame to frame."""
    return max(_LEAST_STEP_S, float(np.median(np.diff(scene.time_s)))) if len(scene.time_s) > 1 else 0.2


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


class Row:
    """Scenes side by side, the first on the left, each ahead along x."""

    def __init__(self, paths: list[Path], scenes: list[Scene]) -> None:
        self.names = [plain(path.name, 34) for path in paths]
        self._paths, self._scenes = paths, scenes
        self._away: list[Doubles] = []
        right = scenes[0].grid.origin_m[1] + scenes[0].grid.extent_m[1]
        for scene in scenes:  # each ends where the one before began
            left = scene.grid.origin_m[1] + scene.grid.extent_m[1]
            self._away.append(np.array([0.0, right - left, 0.0]))
            right -= scene.grid.extent_m[1] + _GAP_M

    @property
    def grid(self) -> GridSpec:
        """One voxel around all of them."""
        origins = np.array(
            [np.asarray(s.grid.origin_m) + away for s, away in zip(self._scenes, self._away, strict=True)]
        )
        ends = origins + [scene.grid.extent_m for scene in self._scenes]
        low, size = origins.min(axis=0), ends.max(axis=0) - origins.min(axis=0)
        return GridSpec((1, 1, 1), (size[0], size[1], size[2]), (low[0], low[1], low[2]))

    def camera(self, playback: Playback, size_px: tuple[int, int]) -> Camera:
        """That of the scene in focus where it follows an ego, else of all."""
        scene = self._scenes[playback.focus]
        ground = ground_m(frame_of(scene, playback.frame_of(playback.focus)))
        if playback.camera not in ("chase", "ego"):
            return camera_of(playback.camera, self.grid, ground, size_px, playback.index / playback.length)
        camera = camera_of(playback.camera, scene.grid, ground, size_px)
        return camera.moved(self._away[playback.focus])

    def mesh(self, playback: Playback, camera: Camera) -> Mesh:
        """What is to be seen of all scenes at a moment."""
        if playback.look.colour == "instance":  # found when they are first asked for
            for n, scene in enumerate(self._scenes):
                if scene.instances is None:
                    self._scenes[n] = load_scene(self._paths[n], motion=True)
        parts = []
        for n, scene in enumerate(self._scenes):
            frame = frame_of(scene, playback.frame_of(n))
            hidden = playback.camera == "ego" and n == playback.focus
            made = scenery(frame, playback.look, camera, ego=not hidden, sky=n == playback.focus)
            parts.append(moved(made, self._away[n]))
        return join(parts)


class _Screen:
    """What stands in the window: the scenes' mesh, and the card before the eye."""

    def __init__(self, o3d: Any, window: Any, row: Row, playback: Playback) -> None:
        self._o3d, self._window, self._row, self._playback = o3d, window, row, playback
        self._camera = row.camera(playback, _SIZE_PX)
        self._world: Any = None
        self._card: Any = None
        self._card_px = (0, 0)
        self._told: object = None
        for key, code in _KEY_CODES.items():
            window.register_key_callback(code, lambda _, key=key: not playback.press(key))

    def show(self) -> None:
        """Draw what has changed."""
        playback = self._playback
        if playback.unaimed or (playback.camera == "orbit" and playback.stale):
            playback.unaimed, first = False, self._world is None
            self._camera = self._row.camera(playback, self._size_px())
            if not first:
                aim(self._o3d, self._window, self._camera)
        if playback.stale:
            playback.stale = False
            self._show_world(self._row.mesh(playback, self._camera))
        self._show_card()
        self._window.update_renderer()

    def _size_px(self) -> tuple[int, int]:
        seen = self._window.get_view_control().convert_to_pinhole_camera_parameters().intrinsic
        return (int(seen.width), int(seen.height))

    def _show_world(self, mesh: Mesh) -> None:
        fresh = triangle_mesh(self._o3d, mesh)
        if self._world is None:
            self._world = fresh
            self._window.add_geometry(fresh)
            aim(self._o3d, self._window, self._camera)
            return
        self._world.vertices, self._world.triangles = fresh.vertices, fresh.triangles
        self._world.vertex_colors = fresh.vertex_colors
        self._window.update_geometry(self._world)

    def _show_card(self) -> None:
        """Anew where it says something new; it goes where the eye goes."""
        told = (self._playback.status(), self._playback.listed() if self._playback.listing else None)
        if told != self._told:
            self._told = told
            pixels = draw_card(self._playback, self._row.names)
            self._card_px = (pixels.shape[1], pixels.shape[0])
            with suppress(RuntimeError):
                if self._card is not None:
                    self._window.remove_geometry(self._card, False)
            self._card = _card_mesh(self._o3d, pixels, self._corners())
            self._window.add_geometry(self._card, False)
        else:
            self._card.vertices = self._o3d.utility.Vector3dVector(self._corners())
            self._window.update_geometry(self._card)

    def _corners(self) -> Doubles:
        seen = self._window.get_view_control().convert_to_pinhole_camera_parameters()
        size_px = (int(seen.intrinsic.width), int(seen.intrinsic.height))
        focal_px = float(seen.intrinsic.get_focal_length()[0])
        return hang_card(self._card_px, size_px, focal_px, np.asarray(seen.extrinsic), self._camera.clip_m[0] + 0.15)


def _card_mesh(o3d: Any, pixels: np.ndarray, corners_m: Doubles) -> Any:
    card = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(corners_m), o3d.utility.Vector3iVector(np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    )
    spot = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float64)  # rows go down
    card.triangle_uvs = o3d.utility.Vector2dVector(spot[[0, 1, 2, 0, 2, 3]])
    card.triangle_material_ids = o3d.utility.IntVector([0, 0])
    card.textures = [o3d.geometry.Image(np.ascontiguousarray(pixels))]
    return card
