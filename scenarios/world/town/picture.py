"""A town from above. Rows of pixels, PALETTE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.types import PALETTE
from scenarios.world.town.tile import TownTile

Pixels = NDArray[np.uint8]


def town_picture(tile: TownTile, pixel_m: float = 0.4) -> Pixels:
    """[rows, columns, 3] the town from above, north up, higher things lighter."""
    step = max(1, round(pixel_m / tile.cell_m))
    kind, top = tile.surface_class[0, ::step, ::step].copy(), tile.surface_cm[0, ::step, ::step].astype(np.int32)
    ground = top.copy()
    for level in range(1, len(tile.surface_class)):
        deck = tile.surface_class[level, ::step, ::step]
        kind = np.where(deck > 0, deck, kind)
        top = np.where(deck > 0, tile.surface_cm[level, ::step, ::step], top)
        ground = np.where(deck > 0, top, ground)
    for span in range(len(tile.span_class)):
        hi = tile.span_hi_cm[span, ::step, ::step].astype(np.int32)
        above = (tile.span_class[span, ::step, ::step] > 0) & (hi > top)
        kind, top = np.where(above, tile.span_class[span, ::step, ::step], kind), np.where(above, hi, top)
    shade = np.clip(0.72 + 0.028 * (top - ground) / 100.0, 0.6, 1.15)
    slope = np.zeros(shade.shape)
    slope[1:, 1:] = np.clip((top[:-1, :-1] - top[1:, 1:]) / 100.0, -3, 3) * -0.06
    colour = PALETTE[kind].astype(np.float64) * np.clip(shade + slope, 0.35, 1.25)[..., None]
    return np.clip(colour, 0, 255).astype(np.uint8).transpose(1, 0, 2)[::-1]
