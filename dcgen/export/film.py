"""Pictures and films as files: whole or not at all."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from dcgen.errors import MissingExtra, SceneError
from dcgen.export.mesh import Colour
from dcgen.export.plain import plain

SUFFIXES = (".png", ".gif", ".mp4")
GIF_COLOURS = 250  # of 256: some stay free for what a writer needs
_SHADES = (1.0, 0.8, 0.64)  # of a colour in the sun and off it
_LOOKS = 8  # frames that a film's palette is taken from


def write_pictures(output: Path, pictures: Iterator[Image.Image], step_s: float, keep: Sequence[Colour] = ()) -> None:
    """A .png of the first picture, or a film of all, each seen for step_s.

    The colours to `keep`, 50 at most, stay as they are in a .gif, however little is seen of them. Raises SceneError
    or MissingExtra.
    """
    with _whole_file(output) as part:
        if output.suffix.lower() == ".png":
            next(pictures).save(part, format="PNG")
        elif output.suffix.lower() == ".gif":
            _write_gif(part, pictures, step_s, keep)
        else:
            _write_mp4(part, pictures, step_s)


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


def _write_gif(part: Path, pages: Iterator[Image.Image], step_s: float, keep: Sequence[Colour]) -> None:
    """One palette for the whole film, taken from all its length, so that colours neither flicker nor get lost."""
    held = [(page.size, zlib.compress(page.tobytes(), 1)) for page in pages]

    def page(index: int) -> Image.Image:
        size, data = held[index]
        return Image.frombytes("RGB", size, zlib.decompress(data))

    looks = np.unique(np.linspace(0, len(held) - 1, _LOOKS).round().astype(int))
    palette = _palette([page(int(index)) for index in looks], keep)
    films = (page(index).quantize(palette=palette, dither=Image.Dither.NONE) for index in range(len(held)))
    next(films).save(
        part, format="GIF", save_all=True, append_images=films, duration=round(1000 * step_s), loop=0, optimize=False
    )


def _palette(pages: list[Image.Image], keep: Sequence[Colour]) -> Image.Image:
    """Of GIF_COLOURS: those to keep in their shades, and the others by how much is seen of them in these pages."""
    shades = np.outer(_SHADES, np.ravel(keep)).round().astype(np.uint8).reshape(-1, 3)
    kept = np.unique(shades, axis=0).ravel().tolist()
    mosaic = Image.fromarray(np.concatenate([np.asarray(page)[::2, ::2] for page in pages]))
    seen = mosaic.quantize(GIF_COLOURS - len(kept) // 3, Image.Quantize.MEDIANCUT).getpalette()
    assert seen is not None
    palette = Image.new("P", (1, 1))
    palette.putpalette(kept + seen)
    return palette


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
