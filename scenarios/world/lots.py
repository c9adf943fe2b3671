"""Buildings and gardens in lots along the streets, and the greenery of open land."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.world.blocks import STEP_M, Blocks, Edge, Zone
from scenarios.world.canvas import Canvas, rectangle

TRUNK_M = 0.8
CANOPY_LOW_M = 2.2
CORNER_COS = 0.92  # a lot's ends may differ this much in direction


@dataclass(frozen=True)
class LotStyle:
    """Ranges (from, to) in metres, one draw per block edge except height, width and gap (one per lot)."""

    width: tuple[float, float]
    depth: tuple[float, float]
    gap: tuple[float, float]
    setback: tuple[float, float]
    height: tuple[float, float]


STYLES = {
    Zone.DOWNTOWN: LotStyle((14, 30), (14, 20), (0, 0), (1.0, 1.0), (9, 20)),
    Zone.RESIDENTIAL: LotStyle((10, 14), (9, 12), (5, 8), (4.8, 6.4), (5, 8)),
    Zone.INDUSTRIAL: LotStyle((24, 30), (20, 28), (9, 13), (6.4, 9.6), (6, 10)),
    Zone.RURAL: LotStyle((11, 16), (10, 13), (24, 60), (11, 16), (5, 8)),
}


def build_lots(blocks: Blocks, canvas: Canvas) -> None:
    """Place the buildings of every edge, the most built-up edges first, then their gardens.

    Most stretches of fast open road have woods instead.
    """
    order = {Zone.DOWNTOWN: 0, Zone.INDUSTRIAL: 1, Zone.RESIDENTIAL: 2, Zone.RURAL: 3, Zone.PARK: 4}
    for edge in sorted(blocks.edges, key=lambda each: order[each.zone]):
        if edge.zone in STYLES and not (edge.fast and not edge.urban and edge.seed % 10 < 6):
            _row(edge, STYLES[edge.zone], canvas, np.random.default_rng(edge.seed))


def _row(edge: Edge, style: LotStyle, canvas: Canvas, rng: np.random.Generator) -> None:
    setback, depth = rng.uniform(*style.setback), rng.uniform(*style.depth)
    base_height = rng.uniform(*style.height)
    at = 0.0 if edge.zone is Zone.DOWNTOWN else rng.uniform(1, 4)
    if edge.zone is Zone.RURAL:
        at = rng.uniform(0, 30)
    while at + style.width[0] <= edge.length_m:
        width = min(rng.uniform(*style.width), edge.length_m - at)
        height = float(np.clip(base_height * rng.uniform(0.75, 1.3), *style.height))
        if _building(edge, at, width, depth, setback, height, canvas):
            at += width + rng.uniform(*style.gap)
            if edge.zone is Zone.DOWNTOWN and rng.random() < 0.18:
                at += 4.0  # an alley
        else:
            at += 2.0


def _building(
    edge: Edge, at_m: float, width_m: float, depth_m: float, setback_m: float, height_m: float, canvas: Canvas
) -> bool:
    """One building with its front along the street. False where it does not fit."""
    first, last = int(at_m / STEP_M), min(int((at_m + width_m) / STEP_M), len(edge.point_m) - 1)
    if last - first < 4 or edge.inward[first] @ edge.inward[last] < CORNER_COS:
        return False
    chord = edge.point_m[last] - edge.point_m[first]
    length = float(np.linalg.norm(chord))
    if length < 0.8 * (last - first) * STEP_M:
        return False
    along = chord / length
    inward = np.array([-along[1], along[0]])
    front = max(0.0, float(((edge.point_m[first : last + 1] - edge.point_m[first]) @ inward).max()))
    middle = (edge.point_m[first] + edge.point_m[last]) / 2
    for depth in (depth_m, 0.65 * depth_m):
        corners = rectangle(middle + inward * (front + setback_m + depth / 2), along, length, depth)
        patch = canvas.box(corners)
        if canvas.free(patch):
            canvas.add(patch, Semantics.BUILDING, 0.0, height_m, flat_top=True)
            canvas.reserve(patch)
            return True
    return False


def plant_tree(canvas: Canvas, at_m: Doubles, radius_m: float, top_m: float) -> bool:
    """A trunk and a round canopy, which may reach over a sidewalk but never over a road. False where taken."""
    trunk = canvas.box(rectangle(at_m, np.array([1.0, 0.0]), TRUNK_M, TRUNK_M))
    if not canvas.free(trunk):
        return False
    canvas.add(trunk, Semantics.VEGETATION, 0.0, CANOPY_LOW_M)
    canvas.reserve(trunk)
    canopy = canvas.disc(at_m, radius_m)
    occupied = (canvas.span_class[:, canopy.x, canopy.y] == Semantics.BUILDING).any(axis=0)
    top = canvas.span_hi_cm[:, canopy.x, canopy.y] - canvas.surface_cm[0][None, canopy.x, canopy.y]
    leaves = canvas.span_class[:, canopy.x, canopy.y] == Semantics.VEGETATION
    occupied |= (leaves & (top > CANOPY_LOW_M * 100)).any(axis=0)  # another tree's canopy: they merge
    canopy.mask[...] &= ~occupied
    canvas.add(canopy, Semantics.VEGETATION, CANOPY_LOW_M, top_m)
    return True


def plant_open_land(blocks: Blocks, canvas: Canvas, rng: np.random.Generator) -> None:
    """Groves: few large patches of trees in parks and behind open roads."""
    for edge in blocks.edges:
        if edge.zone is Zone.PARK:
            _groves(edge, canvas, (14.0, 24.0), (7.0, 13.0), (5.0, 8.0))
        elif edge.zone is Zone.RURAL and edge.fast:
            _groves(edge, canvas, (18.0, 34.0), (10.0, 18.0), (7.0, 11.0))
        elif edge.zone is Zone.RURAL:
            _groves(edge, canvas, (26.0, 60.0), (10.0, 20.0), (6.0, 10.0))


def _groves(
    edge: Edge,
    canvas: Canvas,
    spacing_m: tuple[float, float],
    behind_m: tuple[float, float],
    radius_m: tuple[float, float],
) -> None:
    rng = np.random.default_rng(edge.seed + 1)
    at = rng.uniform(0, spacing_m[1])
    while at < edge.length_m:
        index = min(int(at / STEP_M), len(edge.point_m) - 1)
        radius = rng.uniform(*radius_m)
        depth = rng.uniform(*behind_m)
        centre = edge.point_m[index] + edge.inward[index] * max(depth, radius + 1.5)
        patch = canvas.disc(centre, radius)
        if canvas.free(patch):
            # Undergrowth in the core, one closed canopy above: a single large piece.
            canvas.add(canvas.disc(centre, 0.55 * radius), Semantics.VEGETATION, 0.0, 2.0)
            canvas.add(patch, Semantics.VEGETATION, 2.0, rng.uniform(6.0, 9.0))
            canvas.reserve(patch)
        at += rng.uniform(*spacing_m)
