"""Scene files to pictures and films, headless, and a window that plays them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from dcgen.errors import MissingExtra, SceneError
from dcgen.export.frame import frame_of
from dcgen.export.picture import Caption, PageSize, compose, three_d
from dcgen.export.plain import plain
from dcgen.scene_file import check_destination, load_scene
from dcgen.types import Scene

SUFFIXES = (".png", ".gif", ".mp4")


def render_file(
    path: Path | str,
    output: Path | str,
    frame: int | None = None,
    width_px: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Draw a scene file: .png one frame (the middle one by default), .gif and .mp4 all of them.

    `tell` hears notes, such as that Open3D is missing and Pillow draws instead. Raises SceneError.
    """
    return render_scene(load_scene(path), output, frame, width_px, tell)


def render_scene(
    scene: Scene,
    output: Path | str,
    frame: int | None = None,
    width_px: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Draw a scene; see render_file."""
    output = Path(output)
    check_picture(output)
    frames = len(scene.time_s)
    if frame is not None and not -frames <= frame < frames:
        raise SceneError(f"{output}: the scene has frames 0 to {frames - 1}, not {frame}")
    still = output.suffix.lower() == ".png"
    page = PageSize(width_px or (1600 if output.suffix.lower() != ".gif" else 1100))
    order = [frames // 2 if frame is None else frame] if still or frame is not None else range(frames)
    caption = _caption(scene)
    with three_d(tell) as draw, _whole_file(output) as part:
        pages = (compose(frame_of(scene, index), caption, page, draw) for index in order)
        step_s = float(np.median(np.diff(scene.time_s))) if frames > 1 else 0.2
        if still:
            next(pages).save(part, format="PNG")
        elif output.suffix.lower() == ".gif":
            _write_gif(part, pages, step_s)
        else:
            _write_mp4(part, pages, step_s)
    return output


def check_picture(output: Path) -> None:
    """Raise SceneError unless `output` names a picture that could be written."""
    if output.suffix.lower() not in SUFFIXES:
        raise SceneError(f"{output}: a picture's name ends in {', '.join(SUFFIXES)}")
    check_destination(output)


def _caption(scene: Scene) -> Caption:
    title = scene.metadata.get("name") or scene.metadata.get("title") or "dcgen"
    made_by = f"model {scene.model}   seed {scene.seed}" if scene.model else "recorded"
    return Caption(plain(title, 48) or "dcgen", plain(made_by, 60))


@contextmanager
def _whole_file(output: Path) -> Iterator[Path]:
    """A name to write to beside `output`; the file takes its place when all went well."""
    part = output.with_name(f".{output.stem}.{secrets.token_hex(4)}.part{output.suffix}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, output)
    except OSError as fault:
        raise SceneError(f"{output}: cannot be written ({fault.strerror or fault}); choose another output") from fault
    finally:
        part.unlink(missing_ok=True)


def _write_gif(part: Path, pages: Iterator[Image.Image], step_s: float) -> None:
    """One palette for the whole film, taken from its first frame, so that colours do not flicker."""
    first = next(pages)
    palette = first.quantize(192, Image.Quantize.MEDIANCUT)
    rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in pages)
    first.quantize(palette=palette, dither=Image.Dither.NONE).save(
        part, format="GIF", save_all=True, append_images=rest, duration=round(1000 * step_s), loop=0, optimize=False
    )


def _write_mp4(part: Path, pages: Iterator[Image.Image], step_s: float) -> None:
    try:
        import imageio_ffmpeg
    except ImportError as fault:
        raise MissingExtra("imageio-ffmpeg", "render", "an .mp4 film") from fault
    first = next(pages)
    film = imageio_ffmpeg.write_frames(
        str(part), first.size, fps=1 / step_s, codec="libx264", quality=8, macro_block_size=2
    )
    try:
        film.send(None)
        for image in chain([first], pages):
            film.send(np.ascontiguousarray(image))
    except OSError as fault:  # imageio-ffmpeg puts ffmpeg's whole log into the message
        raise SceneError(f"{part.parent}: ffmpeg could not write the film; is the disk full?") from fault
    finally:
        film.close()
