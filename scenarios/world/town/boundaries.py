"""Strips that follow an edge: hedges, fences, walls and guard rails, open where driveways were kept free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Doubles, Semantics
from scenarios.world.town.blocks import Edge
from scenarios.world.town.canvas import Canvas, rectangle
from scenarios.world.town.style import TownStyle, Zone

FENCE_M = 0.6
HEDGE_M = 0.8
FENCE_INSET_M = 1.2
RAIL_INSET_M = 0.6
RAIL_M = 1.0
STEEP_M = 1.5
SHORTEST_M = 3.0

# kind, height and share by zone; hedges give way to fences where the style is not green
_KINDS: dict[Zone, tuple[tuple[Semantics, float, float], ...]] = {
    Zone.RESIDENTIAL: (
        (Semantics.VEGETATION, 1.3, 0.4),
        (Semantics.BARRIER, 1.2, 0.25),
        (Semantics.BARRIER, 1.8, 0.1),
    ),
    Zone.INDUSTRIAL: ((Semantics.BARRIER, 2.0, 0.8),),
    Zone.PARK: ((Semantics.BARRIER, 1.2, 0.3), (Semantics.VEGETATION, 1.2, 0.3)),
    Zone.RURAL: ((Semantics.BARRIER, 1.2, 0.15), (Semantics.VEGETATION, 1.4, 0.15)),
}


def strip(
    line_m: Doubles,
    canvas: Canvas,
    kind: Semantics,
    height_m: float,
    width_m: float,
    gaps_m: tuple[tuple[float, float], ...] = (),
) -> None:
    """A strip along a line [N, 2] of about metre-long steps, left out where something stands or was reserved.

    gaps_m are stretches (from, to) along the line that stay open. Pieces shorter than SHORTEST_M are left out.
    """
    if len(line_m) < 2:
        return
    steps = np.diff(line_m, axis=0)
    length = np.linalg.norm(steps, axis=1)
    s = np.cumsum(length) - length / 2
    wanted = (length > 0.05) & (length < 3.0)
    for low, high in gaps_m:
        wanted &= (s < low) | (s > high)
    middle = (line_m[1:] + line_m[:-1]) / 2
    i, j = _cells(canvas, middle)
    wanted &= ~canvas.taken[i, j]
    for first, last in _stretches(wanted):
        if length[first:last].sum() < SHORTEST_M:
            continue
        for k in range(first, last):
            patch = canvas.box(rectangle(middle[k], steps[k] / length[k], length[k] + 0.2, width_m))
            canvas.add(patch, kind, 0.0, height_m, over_taken=False)
            canvas.reserve(patch)


def _cells(canvas: Canvas, xy_m: Doubles) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    at = np.floor((xy_m - canvas.origin_m) / canvas.cell_m).astype(np.intp)
    return np.clip(at[:, 0], 0, canvas.road.shape[0] - 1), np.clip(at[:, 1], 0, canvas.road.shape[1] - 1)


def _stretches(wanted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last + 1) of every run of True."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(change[::2], change[1::2], strict=True)]


def boundary(edge: Edge, canvas: Canvas, style: TownStyle, rng: np.random.Generator) -> None:
    """One kind of boundary along the whole edge, or none."""
    draw, green = rng.random(), rng.random()
    for kind, height, share in _KINDS.get(edge.zone, ()):
        if draw < share:
            hedge = kind == Semantics.VEGETATION and green < 2 * style.greenery
            if not hedge and green >= 2 * style.furniture:
                return
            chosen, width = (Semantics.VEGETATION, HEDGE_M) if hedge else (Semantics.BARRIER, FENCE_M)
            entrance = ((edge.length_m / 2 - 2.0, edge.length_m / 2 + 2.0),) if edge.zone is Zone.PARK else ()
            strip(edge.point_m + edge.inward * FENCE_INSET_M, canvas, chosen, height, width, entrance)
            return
        draw -= share


def guard_rail(edge: Edge, canvas: Canvas, where: NDArray[np.bool_] | None = None) -> None:
    """A rail along the whole edge or, with where [N], along those of its samples."""
    line = edge.point_m + edge.inward * RAIL_INSET_M
    for first, last in [(0, len(line))] if where is None else _stretches(where):
        strip(line[first:last], canvas, Semantics.BARRIER, RAIL_M, FENCE_M)


def raised(edge: Edge, canvas: Canvas) -> NDArray[np.bool_]:
    """[N] where the street lies well above the land beside it, and a few metres before and after."""
    from scipy import ndimage

    near, away = (canvas.ground_cm(edge.point_m + edge.inward * inset_m) for inset_m in (-1.0, 12.0))
    drop = (near - away > 100 * STEEP_M).astype(np.float64)
    return np.asarray(ndimage.uniform_filter1d(drop, 9, mode="nearest") > 0.2)
