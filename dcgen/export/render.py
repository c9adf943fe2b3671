"""Scene files to pictures and films, headless, and a window that plays them."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
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
        raise SceneError(f"{output}: the scene has frames 0 to {frames - 1}, not {frame}; choose one")
    still = output.suffix.lower() == ".png"
    page = PageSize(width_px or (1600 if output.suffix.lower() != ".gif" else 1100))
    order = [frames // 2 if frame is None else frame] if still or frame is not None else range(frames)
    caption = _caption(scene)
    with three_d(tell) as draw, _whole_file(output) as part:
        pages = (compose(frame_of(scene, index), caption, page, draw) for index in order)
        step_s = float(np.clip(np.median(np.diff(scene.time_s)), 0.02, 10.0)) if frames > 1 else 0.2
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
        raise SceneError(f"{output}: a picture's name ends in {', '.join(SUFFIXES)}; choose one")
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
    width, height = first.size
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{1 / step_s:g}", "-i", "-"]
    command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "10", str(part)]
    # Its complaints go to a file, so that no full pipe can stop it.
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log) as film:
        assert film.stdin is not None
        try:
            for image in chain([first], pages):
                film.stdin.write(np.ascontiguousarray(image).data)
            film.stdin.close()
        except BrokenPipeError:
            pass  # it has ended before the last frame; it says why
        except BaseException:
            film.kill()
            raise
        if film.wait() != 0:
            log.seek(0)
            said = log.read().decode("utf-8", "replace").strip().splitlines()
            reason = said[-1].rsplit("] ", 1)[-1] if said else f"exit code {film.returncode}"
            raise OSError(f"ffmpeg: {plain(reason, 120)}")
