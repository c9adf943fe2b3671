"""Scene files to pictures and films, headless: a composed page, or what one camera sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dcgen.errors import SceneError
from dcgen.export.camera import CAMERAS, camera_of
from dcgen.export.film import SUFFIXES, write_pictures
from dcgen.export.frame import Frame, frame_of
from dcgen.export.look import Look
from dcgen.export.picture import LEGEND, Caption, Draw3D, PageSize, compose, three_d
from dcgen.export.plain import plain
from dcgen.export.props import COMMAND_COLOURS
from dcgen.export.scenery import ground_m, scenery
from dcgen.scene_file import check_destination, load_scene
from dcgen.types import Scene

PAGE = "page"
LEAST_PX, MOST_PX = 64, 7680
_SIZE_PX = (1280, 720)


@dataclass(frozen=True)
class Shot:
    """How a scene is filmed. camera: `page` or one of CAMERAS. every: frames from one picture to the next.

    size_px: width and height; a page takes its height from its width. fps: pictures a second, by default those of
    the scene's own time.
    """

    camera: str = PAGE
    size_px: tuple[int, int] | None = None
    look: Look = field(default_factory=Look)
    every: int = 1
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.camera != PAGE and self.camera not in CAMERAS:
            raise ValueError(f"shot.camera is one of {PAGE}, {', '.join(CAMERAS)}, got {self.camera}")
        if self.every < 1 or (self.fps is not None and not 0.1 <= self.fps <= 120):
            raise ValueError(f"shot needs every >= 1 and 0.1 <= fps <= 120, got {self.every} and {self.fps}")


def size_of(text: str) -> tuple[int, int]:
    """`1280x720` as width and height, even as films want them. Raises SceneError."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(LEAST_PX <= length <= MOST_PX for length in size):
        raise SceneError(f"--size {text}: give WIDTHxHEIGHT in pixels, {LEAST_PX} to {MOST_PX} each, as 1280x720")
    return (size[0] // 2 * 2, size[1] // 2 * 2)


def render_file(
    path: Path | str,
    output: Path | str,
    frame: int | None = None,
    width_px: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
    shot: Shot | None = None,
    bar: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Draw a scene file: .png one frame (the middle one by default), .gif and .mp4 all of them.

    `tell` hears notes, such as that Open3D is missing and Pillow draws instead; `bar` how many pictures of how many
    are drawn. Raises SceneError.
    """
    output = Path(output)
    check_picture(output)
    scene = load_scene(path, motion=True) if shot and shot.look.colour == "instance" else load_scene(path)
    return render_scene(scene, output, frame, width_px, tell, shot, bar)


def render_scene(
    scene: Scene,
    output: Path | str,
    frame: int | None = None,
    width_px: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
    shot: Shot | None = None,
    bar: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Draw a scene; see render_file."""
    output, shot = Path(output), shot or Shot()
    check_picture(output)
    frames = len(scene.time_s)
    if frame is not None and not -frames <= frame < frames:
        raise SceneError(f"{output}: the scene has frames 0 to {frames - 1}, not {frame}; choose one")
    still = output.suffix.lower() == ".png"
    order = [frames // 2 if frame is None else frame] if still or frame is not None else range(0, frames, shot.every)
    step_s = float(np.clip(shot.every * np.median(np.diff(scene.time_s)), 0.02, 10.0)) if frames > 1 else 0.2
    with three_d(tell) as draw:

        def pictures() -> Iterator[Image.Image]:
            for done, index in enumerate(order):
                bar(done, len(order))
                yield _picture(scene, range(frames)[index], output, width_px, shot, draw)

        keep = [*LEGEND.values(), *COMMAND_COLOURS.values()]
        write_pictures(output, pictures(), step_s if shot.fps is None else 1 / shot.fps, keep)
    return output


def check_picture(output: Path) -> None:
    """Raise SceneError unless `output` names a picture that could be written."""
    if output.suffix.lower() not in SUFFIXES:
        raise SceneError(f"{output}: a picture's name ends in {', '.join(SUFFIXES)}; choose one")
    check_destination(output)


def _picture(scene: Scene, index: int, output: Path, width_px: int | None, shot: Shot, draw: Draw3D) -> Image.Image:
    frame = frame_of(scene, index)
    if shot.camera == PAGE:
        width = width_px or (shot.size_px[0] if shot.size_px else 1100 if output.suffix.lower() == ".gif" else 1600)
        return compose(frame, _caption(scene), PageSize(width), draw, shot.look)
    return draw_shot(frame, shot, _shot_size(shot, width_px), draw)


def draw_shot(frame: Frame, shot: Shot, size_px: tuple[int, int], draw: Draw3D) -> Image.Image:
    """What a camera sees of a frame; the orbit goes round once in the course of a scene."""
    camera = camera_of(shot.camera, frame.grid, ground_m(frame), size_px, frame.index / frame.frames)
    return draw(scenery(frame, shot.look, camera, ego=shot.camera != "ego"), camera)


def _shot_size(shot: Shot, width_px: int | None) -> tuple[int, int]:
    if shot.size_px is not None:
        return shot.size_px
    width = width_px or _SIZE_PX[0]
    return (width // 2 * 2, max(LEAST_PX, round(width * _SIZE_PX[1] / _SIZE_PX[0] / 2) * 2))


def _caption(scene: Scene) -> Caption:
    title = scene.metadata.get("name") or scene.metadata.get("title") or "dcgen"
    made_by = f"model {scene.model}   seed {scene.seed}" if scene.model else "recorded"
    return Caption(plain(title, 48) or "dcgen", plain(made_by, 60))
