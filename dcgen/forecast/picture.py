"""Forecasts from above, beside the truth. X/Y/Z voxel axes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dcgen.dataset.forecast import ForecastWindow, collate
from dcgen.errors import DcgenError
from dcgen.forecast.score import Forecasting
from dcgen.forecast.windows import Windows
from dcgen.types import PALETTE, UNKNOWN, Labels

SCALE, GAP = 4, 3  # pixels a voxel, and around a frame


def check_picture(path: Path) -> None:
    """Raises DcgenError where no picture could be written."""
    if path.suffix.lower() != ".png":
        raise DcgenError(f"{path}: a picture of forecasts is a .png; give it such a name")
    if not path.absolute().parent.is_dir():
        raise DcgenError(f"{path}: its folder is not there; make it, or give another place")


def draw(windows: Windows, forecasters: Mapping[str, Forecasting], path: Path, count: int = 2) -> None:
    """The windows with the most motion: past frames, then later ones, the truth and each forecaster's, a row each."""
    past = windows.config.past
    busiest = sorted(range(len(windows)), key=lambda n: -_motion(windows[n], past))[:count]
    rows = []
    for n in busiest:
        found = collate([windows[n]])
        ahead = torch.tensor([windows.config.ahead])
        guesses = [run(found, ahead)[0][0].cpu() for run in forecasters.values()]
        for frames in (found.past[0], found.future[0], *guesses):
            images = [np.pad(from_above(frame.numpy()), ((GAP, GAP), (GAP, GAP), (0, 0))) for frame in frames]
            images += [np.zeros_like(images[0])] * (max(past, len(windows.config.ahead)) - len(images))
            rows.append(np.concatenate(images, axis=1))
    from PIL import Image

    Image.fromarray(np.concatenate(rows)).save(path)


def _motion(window: ForecastWindow, past: int) -> int:
    return 0 if window.moving is None else int(window.moving[past - 1 :].sum())


def from_above(labels: Labels) -> NDArray[np.uint8]:
    """[X, Y, Z] labels -> an image, x up and y to the left: the colour of the highest voxel of each column."""
    known = np.where(labels == UNKNOWN, 0, labels)
    top = known.shape[2] - 1 - (known[..., ::-1] > 0).argmax(axis=2)
    image = PALETTE[np.take_along_axis(known, top[..., None], axis=2)[..., 0]]
    return np.kron(image[::-1, ::-1], np.ones((SCALE, SCALE, 1), np.uint8))
