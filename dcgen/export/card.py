"""The list of keys as a picture, and where it hangs before a camera: Open3D's window has no letters of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dcgen.export.picture import INK, LINE, PALE_INK
from dcgen.export.playback import CLASS_KEYS, Playback
from dcgen.types import CLASS_NAMES, PALETTE, Doubles

WIDTH_PX = 250
_ROW_PX, _MARGIN_PX, _TAB_PX = 19, 10, 96
_SWATCH_PX = 11
_OFF_INK = (172, 179, 189)


def draw_card(playback: Playback, names: list[str]) -> NDArray[np.uint8]:
    """[H, W, 3] the scenes, the moment, and each key with what it does, pale where that is off."""
    lines = playback.listed() if playback.listing else []
    head = [*names, *playback.status().split("   ")]
    height = 2 * _MARGIN_PX + _ROW_PX * (len(head) + len(lines)) + (8 if lines else 0)
    image = Image.new("RGB", (WIDTH_PX, height), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    draw.rectangle([0, 0, WIDTH_PX - 1, height - 1], outline=LINE)
    y = _MARGIN_PX
    for row, text in enumerate(head):
        ink = INK if row < len(names) else PALE_INK
        draw.text((_MARGIN_PX, y + _ROW_PX // 2), text, ink, font, anchor="lm")
        y += _ROW_PX
    if lines:
        draw.line([_MARGIN_PX, y + 4, WIDTH_PX - _MARGIN_PX, y + 4], fill=LINE)
        y += 8
    for key, what, on in lines:
        middle = y + _ROW_PX // 2
        draw.text((_MARGIN_PX, middle), key, INK if on else _OFF_INK, font, anchor="lm")
        left = _TAB_PX
        if key in CLASS_KEYS and what in CLASS_NAMES:
            half = _SWATCH_PX // 2
            fill = tuple(PALETTE[CLASS_NAMES.index(what)].tolist()) if on else (255, 255, 255)
            draw.rectangle([left, middle - half, left + _SWATCH_PX, middle + half], fill=fill, outline=LINE)
            left += _SWATCH_PX + 7
        draw.text((left, middle), what, PALE_INK if on else _OFF_INK, font, anchor="lm")
        y += _ROW_PX
    return np.asarray(image)


def hang_card(
    card_px: tuple[int, int], window_px: tuple[int, int], focal_px: float, camera_se3_ego: Doubles, away_m: float
) -> Doubles:
    """[4, 3] corners of a card of that width and height in the upper left of the window, pixel for pixel.

    From the lower left on, counter-clockwise as the camera sees it.
    """
    gap = 12
    left, top = gap - window_px[0] / 2, gap - window_px[1] / 2
    right, bottom = left + card_px[0], top + card_px[1]
    seen = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    camera = np.column_stack([seen * away_m / focal_px, np.full(4, away_m), np.ones(4)])
    return np.asarray((camera @ np.linalg.inv(camera_se3_ego).T)[:, :3])
