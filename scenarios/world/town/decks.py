"""Bridges: parapets along the open sides of decks, pillars below them. X/Y cell axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Semantics
from scenarios.world.town.canvas import Canvas

PARAPET_CM = 100
PILLAR_M = 1.2
SPACING_M = 7.0  # one pillar in each square of this size
LOWEST_CM = 250  # no pillar where a deck is closer to the ground
BEAM_CM = 60
ABUTMENT_M = 0.8  # thickness of the wall between land at two heights
STEP_CM = 60  # lower steps need no wall


def level_below(canvas: Canvas) -> None:
    """Bare land under decks lies as low as the road there; where it meets higher land stands an abutment."""
    if len(canvas.surface_class) < 2:
        return
    from scipy import ndimage

    cut = _around(canvas.surface_class[1] > 0, 30)
    if cut is None:
        return
    deck, mapped = canvas.surface_class[1][cut] > 0, canvas.raster.flags[0][cut] > 0
    ground, top = canvas.surface_cm[0][cut], canvas.surface_cm[1][cut].astype(np.int64)
    low_road = mapped & deck & (top - ground > LOWEST_CM)
    bare = deck & ~mapped
    if not low_road.any() or not bare.any():
        return
    nearest = ndimage.distance_transform_edt(~low_road, return_distances=False, return_indices=True)
    flat = ground[nearest[0], nearest[1]]
    bare &= flat < ground
    ground[bare] = flat[bare]
    reach = round(ABUTMENT_M / canvas.cell_m)
    beside = ndimage.grey_dilation(np.where(bare, -32000, ground), size=(2 * reach + 1, 2 * reach + 1))
    high = np.minimum(beside.astype(np.int64), top - BEAM_CM)
    x, y = np.nonzero(bare & (high - ground > STEP_CM))
    canvas.add_cells(x + cut[0].start, y + cut[1].start, Semantics.OTHER, ground[x, y], high[x, y])
    canvas.taken[cut] |= bare


def _around(cells: NDArray[np.bool_], margin: int) -> tuple[slice, slice] | None:
    """The window of the cells and a margin, or None without any."""
    if not cells.any():
        return None
    x, y = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
    return (slice(max(x[0] - margin, 0), x[-1] + margin + 1), slice(max(y[0] - margin, 0), y[-1] + margin + 1))


def furnish_decks(canvas: Canvas) -> None:
    """Parapets along the open sides of decks and pillars below them, clear of the roads underneath."""
    if len(canvas.surface_class) < 2:
        return
    from scipy import ndimage

    cut = _around(canvas.surface_class[1] > 0, 20)
    if cut is None:
        return
    deck = canvas.surface_class[1][cut] > 0
    height, below = canvas.surface_cm[1][cut].astype(np.int64), canvas.surface_cm[0][cut].astype(np.int64)
    away, nearest = ndimage.distance_transform_edt(~deck, return_indices=True)
    # Where the deck goes on as level 0 (a ramp at its height) its end is no open side.
    mapped = canvas.raster.flags[0][cut] > 0
    landing = mapped & (away < 12) & (np.abs(below - height[nearest[0], nearest[1]]) < 100)
    joined = ndimage.binary_closing(deck | landing, iterations=2)
    x, y = np.nonzero(deck & ~ndimage.binary_erosion(joined, iterations=3))
    level = height[x, y]
    canvas.add_cells(x + cut[0].start, y + cut[1].start, Semantics.BARRIER, level, level + PARAPET_CM)
    for i, j in _pillars(deck, mapped, height - below, canvas.cell_m):
        x, y = np.nonzero(deck[i, j] & ~mapped[i, j])
        x, y = x + i.start, y + j.start
        canvas.add_cells(x + cut[0].start, y + cut[1].start, Semantics.OTHER, below[x, y], height[x, y] - BEAM_CM)


def _pillars(
    deck: NDArray[np.bool_], mapped: NDArray[np.bool_], clear_cm: NDArray[np.int64], cell_m: float
) -> list[tuple[slice, slice]]:
    """Windows of pillars: rows along both sides of the roads below a deck, where a person could stand under it."""
    from scipy import ndimage

    beside = ndimage.distance_transform_edt(~mapped) * cell_m
    half = round(PILLAR_M / 2 / cell_m)
    i, j = np.nonzero(deck & (beside > 0.4 + PILLAR_M / 2) & (beside < 3.0) & (clear_cm > LOWEST_CM))
    if len(i) == 0:
        return []
    step = round(SPACING_M / cell_m)
    off = np.abs(i % step - step // 2) + np.abs(j % step - step // 2)
    order = np.lexsort((off, j // step, i // step))
    _, first = np.unique(np.stack([i[order] // step, j[order] // step]), axis=1, return_index=True)
    return [
        (slice(a - half, a + half), slice(b - half, b + half))
        for a, b in zip(i[order][first], j[order][first], strict=True)
    ]
