"""Trees, groves, hedges and gardens. Canopies may reach over a sidewalk, never over a road."""

from __future__ import annotations

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.world.town.blocks import STEP_M, Blocks, Edge
from scenarios.world.town.canvas import Canvas, Patch, rectangle
from scenarios.world.town.style import TownStyle, Zone

TRUNK_M = 0.8
CANOPY_LOW_M = 2.2
TREE_INSET_M = 2.6
TREE_SPACING_M = 9.0
WOODS_M = 44.0  # from the streets to the woods inside large blocks
WOODS_M2 = 700.0  # for each clump


def plant_tree(canvas: Canvas, at_m: Doubles, radius_m: float, top_m: float) -> bool:
    """A trunk and a round crown. False where the place is taken."""
    trunk = canvas.box(rectangle(at_m, np.array([1.0, 0.0]), TRUNK_M, TRUNK_M))
    if not canvas.free(trunk):
        return False
    canvas.add(trunk, Semantics.VEGETATION, 0.0, CANOPY_LOW_M)
    canvas.reserve(trunk)
    _crown(canvas, canvas.disc(at_m, radius_m), at_m, radius_m, top_m)
    return True


def _crown(canvas: Canvas, patch: Patch, at_m: Doubles, radius_m: float, top_m: float) -> None:
    """A dome above CANOPY_LOW_M, cut away where a building, a pole or another crown is."""
    from scipy import ndimage

    kinds = canvas.span_class[:, patch.x, patch.y]
    over = canvas.span_hi_cm[:, patch.x, patch.y] - canvas.surface_cm[0][None, patch.x, patch.y] > CANOPY_LOW_M * 100
    patch.mask[...] &= ~((kinds > 0) & over).any(axis=0) & ~canvas.road[patch.x, patch.y]
    pieces, count = ndimage.label(patch.mask)
    if count > 1:  # what was cut off from the trunk would float
        patch.mask[...] &= pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    x, y = canvas.centres_m(patch)
    far = ((x - at_m[0]) ** 2 + (y - at_m[1]) ** 2) / radius_m**2
    rise = top_m - CANOPY_LOW_M
    canvas.add_tops(
        patch, Semantics.VEGETATION, CANOPY_LOW_M, CANOPY_LOW_M + rise * np.sqrt(np.clip(1.15 - far, 0.2, 1))
    )


def plant_grove(canvas: Canvas, centre_m: Doubles, radius_m: float, rng: np.random.Generator) -> bool:
    """Several crowns grown into one piece, with undergrowth in the core. False where the place is taken."""
    patch = canvas.disc(centre_m, radius_m)
    if not canvas.free(patch):
        return False
    x, y = canvas.centres_m(patch)
    tops = np.zeros(patch.mask.shape)
    crowns = max(1, round(radius_m / 2.2))
    for k, turn in enumerate(rng.uniform(0, 2 * np.pi, crowns)):
        size = radius_m * (0.62 if k else 0.75)
        at = centre_m + (radius_m - size) * np.array([np.cos(turn), np.sin(turn)])
        far = ((x - at[0]) ** 2 + (y - at[1]) ** 2) / size**2
        tops = np.maximum(tops, np.where(far <= 1, rng.uniform(6.0, 9.0) * np.sqrt(np.clip(1.2 - far, 0.3, 1)), 0.0))
    canvas.add(canvas.disc(centre_m, 0.5 * radius_m), Semantics.VEGETATION, 0.0, 2.0)
    canvas.add_tops(patch, Semantics.VEGETATION, 2.0, tops)
    canvas.reserve(patch)
    return True


def street_trees(edge: Edge, canvas: Canvas, style: TownStyle, rng: np.random.Generator) -> None:
    """A row of equal trees along the whole edge, in parks a double one."""
    base = {Zone.RESIDENTIAL: 0.6, Zone.PARK: 0.8, Zone.INDUSTRIAL: 0.3, Zone.RURAL: 0.4, Zone.DOWNTOWN: 0.2}
    draw, radius, top = rng.random(), rng.uniform(1.9, 2.3), rng.uniform(5.5, 6.5)
    if draw >= min(1.0, base[edge.zone] * 2 * style.greenery):
        return
    inset = TREE_INSET_M if edge.urban else 4.0
    rows = (inset, inset + 6.0) if edge.zone is Zone.PARK and draw < 0.3 else (inset,)
    for row in rows:
        for mark in np.arange(4.0, edge.length_m - 1.0, TREE_SPACING_M):
            index = int(mark / STEP_M)
            plant_tree(canvas, edge.point_m[index] + edge.inward[index] * row, radius, top)


def plant_open_land(blocks: Blocks, canvas: Canvas, style: TownStyle) -> None:
    """Groves in parks and behind open roads, single trees in yards."""
    if style.greenery == 0:
        return
    for edge in blocks.edges:
        if edge.narrow:
            continue
        if edge.zone is Zone.PARK:
            _groves(edge, canvas, style, (14.0, 24.0), (7.0, 13.0), (4.5, 8.0))
            _groves(edge, canvas, style, (24.0, 44.0), (26.0, 40.0), (4.0, 8.0), row=2)
        elif edge.zone is Zone.RURAL and edge.fast:
            _groves(edge, canvas, style, (18.0, 34.0), (10.0, 18.0), (7.0, 11.0))
        elif edge.zone is Zone.RURAL:
            _groves(edge, canvas, style, (26.0, 60.0), (10.0, 20.0), (6.0, 10.0))
        else:
            _yard_trees(edge, canvas, style)
    _woods(blocks, canvas, style)


def _woods(blocks: Blocks, canvas: Canvas, style: TownStyle) -> None:
    """Clumps of trees deep inside large blocks, fewer where people live around them."""
    import shapely

    for index, polygon in enumerate(blocks.polygons):
        edges = [edge for edge in blocks.edges if edge.block == index]
        whole = sum(edge.length_m for edge in edges)
        green = sum(edge.length_m for edge in edges if edge.zone in (Zone.PARK, Zone.RURAL))
        deep = polygon.buffer(-WOODS_M)
        if deep.is_empty or whole == 0:
            continue
        share = style.greenery * (1.0 if green > 0.5 * whole else 0.4)
        rng = np.random.default_rng([edges[0].seed, 12])
        x0, y0, x1, y1 = deep.bounds
        count = int((x1 - x0) * (y1 - y0) / WOODS_M2)
        points, radii = rng.uniform((x0, y0), (x1, y1), (count, 2)), rng.uniform(5.0, 13.0, count)
        inside = shapely.contains_xy(deep, points) & (rng.random(count) < share)
        for at, radius in zip(points[inside], radii[inside], strict=True):
            plant_grove(canvas, at, float(radius), rng)


def _groves(
    edge: Edge,
    canvas: Canvas,
    style: TownStyle,
    spacing_m: tuple[float, float],
    behind_m: tuple[float, float],
    radius_m: tuple[float, float],
    row: int = 1,
) -> None:
    rng = np.random.default_rng([edge.seed, row])
    at = rng.uniform(0, spacing_m[1])
    while at < edge.length_m:
        index = min(int(at / STEP_M), len(edge.point_m) - 1)
        radius, depth, draw = rng.uniform(*radius_m), rng.uniform(*behind_m), rng.random()
        if draw < 2 * style.greenery:
            centre = edge.point_m[index] + edge.inward[index] * max(depth, radius + 1.5)
            plant_grove(canvas, centre, radius, np.random.default_rng([edge.seed, row, index]))
        at += rng.uniform(*spacing_m) * (1.0 if style.greenery <= 0.5 else 1.5 - style.greenery)


def _yard_trees(edge: Edge, canvas: Canvas, style: TownStyle) -> None:
    """Trees behind the houses: many in gardens, few in town and on industrial land."""
    rng = np.random.default_rng([edge.seed, 3])
    chance = {Zone.RESIDENTIAL: 0.9, Zone.DOWNTOWN: 0.4, Zone.INDUSTRIAL: 0.25}[edge.zone] * style.greenery
    for mark in np.arange(5.0, edge.length_m - 4.0, 8.0):
        for depth in (23.0, 31.0):
            draw, shift, radius = rng.random(), rng.uniform(-3, 3, 2), rng.uniform(1.9, 3.0)
            if draw < chance:
                index = int(mark / STEP_M)
                at = edge.point_m[index] + edge.inward[index] * (depth + shift[0]) + edge.along(index) * shift[1]
                if canvas.free(canvas.disc(at, 0.8 * radius)):
                    plant_tree(canvas, at, radius, 2.6 + 1.5 * radius)
