"""Forecasts from above, beside the truth. X/Y/Z voxel axes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dcgen.dataset.forecast import ForecastWindow, collate
from dcgen.errors import DcgenError
from dcgen.export.plain import plain
from dcgen.forecast.score import Forecasting
from dcgen.forecast.windows import Windows
from dcgen.types import PALETTE, UNKNOWN, Labels
from dcgen.whole_file import write_whole

SCALE, GAP = 4, 6  # pixels a voxel, and between frames
HEAD, PAPER = 36, (226, 226, 230)  # pixels above a row for its words, and what it is on


def check_picture(path: Path) -> None:
    """Raises DcgenError where no picture could be written."""
    if path.suffix.lower() != ".png":
        raise DcgenError(f"{path}: a picture of forecasts is a .png; give it such a name")
    if not path.absolute().parent.is_dir():
        raise DcgenError(f"{path}: its folder is not there; make it, or give another place")


def draw(windows: Windows, forecasters: Mapping[str, Forecasting], path: Path, count: int = 2) -> None:
    """The windows with the most motion: past frames, then later ones, the truth and each forecaster's, a row each.

    Above a row stands what it is, above a frame its seconds from now.
    """
    config = windows.config
    busiest = sorted(range(len(windows)), key=lambda n: -_motion(windows[n], config.past))[:count]
    before = [n * config.dt_s for n in range(1 - config.past, 1)]
    rows: list[tuple[str, Sequence[float], Labels]] = []
    for n in busiest:
        found = collate([windows[n]])
        ahead = torch.tensor([config.ahead])
        rows.append((f"window {n}: past", before, found.past[0].numpy()))
        rows.append((f"window {n}: truth", config.seconds, found.future[0].numpy()))
        rows += [(name, config.seconds, run(found, ahead)[0][0].cpu().numpy()) for name, run in forecasters.items()]
    out = io.BytesIO()
    _sheet(rows).save(out, format="PNG")
    write_whole(path, out.getvalue(), fault=DcgenError, remedy="give another place")


def _sheet(rows: list[tuple[str, Sequence[float], Labels]]) -> Image.Image:
    """Rows of frames [T, X, Y, Z], each with its name and below it the frames' times."""
    high, wide = (SCALE * size for size in rows[0][2].shape[1:3])
    size = (GAP + max(len(frames) for *_, frames in rows) * (wide + GAP), len(rows) * (HEAD + high + GAP))
    image = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for row, (name, times, frames) in enumerate(rows):
        y, text = row * (HEAD + high + GAP), plain(name, 1000)
        while pen.textlength(text, font) > size[0] - 2 * GAP:
            text = "..." + text[4:]  # of a path, its end tells most
        pen.text((GAP, y + 2), text, (20, 20, 25), font)
        for column, (time_s, labels) in enumerate(zip(times, frames, strict=True)):
            x = GAP + column * (wide + GAP)
            pen.text((x, y + HEAD // 2 + 1), f"{time_s:+.4g} s" if time_s else "now", (90, 90, 95), font)
            image.paste(Image.fromarray(from_above(labels)), (x, y + HEAD))
    return image


def _motion(window: ForecastWindow, past: int) -> int:
    return 0 if window.moving is None else int(window.moving[past - 1 :].sum())


def from_above(labels: Labels) -> NDArray[np.uint8]:
    """[X, Y, Z] labels -> an image, x up and y to the left: the colour of the highest voxel of each column."""
    known = np.where(labels == UNKNOWN, 0, labels)
    top = known.shape[2] - 1 - (known[..., ::-1] > 0).argmax(axis=2)
    image = PALETTE[np.take_along_axis(known, top[..., None], axis=2)[..., 0]]
    return np.kron(image[::-1, ::-1], np.ones((SCALE, SCALE, 1), np.uint8))
