"""What divides carriageways: hedges, concrete barriers and tree alleys on medians and on strips between two roads."""

from __future__ import annotations

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.layout import CROSSWALK
from scenarios.roadmap import Lane, RoadMap
from scenarios.world.town.blocks import NARROW_M, STEP_M, Blocks, Edge
from scenarios.world.town.boundaries import strip
from scenarios.world.town.canvas import Canvas, rectangle
from scenarios.world.town.greenery import TREE_SPACING_M, plant_tree
from scenarios.world.town.style import TownStyle

END_M = 7.0  # kept open at either end of a median lane
NARROWEST_M = 1.8
ALLEY_M = 5.0  # wide enough for trees


def furnish_medians(blocks: Blocks, road_map: RoadMap, canvas: Canvas, style: TownStyle) -> None:
    """Lanes that the map calls medians, then the narrow blocks."""
    rng = np.random.default_rng(blocks.edges[0].seed if blocks.edges else 0)
    for key in sorted(road_map.lanes):
        lane = road_map.lanes[key]
        draw = rng.random()
        if lane.kind == "median" and float(np.median(lane.width_m)) >= NARROWEST_M:
            _lane(lane, canvas, style, draw)
    for edge in blocks.edges:
        if edge.narrow:
            _between_roads(edge, canvas, style, np.random.default_rng([edge.block, 31]))


def _kind(draw: float, style: TownStyle) -> tuple[Semantics, float, float] | None:
    """(class, height, width) of a divider: hedge, concrete barrier or none."""
    if draw < 0.5 * min(1.0, 2 * style.greenery):
        return Semantics.VEGETATION, 1.0, 0.8
    return (Semantics.BARRIER, 1.0, 0.6) if 0.5 <= draw < 0.5 + 0.3 * min(1.0, 2 * style.furniture) else None


def _lane(lane: Lane, canvas: Canvas, style: TownStyle, draw: float) -> None:
    """A divider along a median lane, open at its ends and at crosswalks."""
    chosen = _kind(draw, style)
    if chosen is None:
        return
    kind, height, width = chosen
    line = lane.centre_m[:, :2]
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    around = line[:, None] + np.array([[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3]])
    crossing = (np.bitwise_or.reduce(canvas.flags_at(around), axis=1) & CROSSWALK) > 0
    for k in range(len(line) - 1):
        step = line[k + 1] - line[k]
        length = float(np.linalg.norm(step))
        if s[k] < END_M or s[-1] - s[k + 1] < END_M or crossing[k] or length < 0.05:
            continue
        patch = canvas.box(rectangle((line[k] + line[k + 1]) / 2, step / length, length + 0.2, width))
        canvas.add(patch, kind, 0.0, height)


def _between_roads(edge: Edge, canvas: Canvas, style: TownStyle, rng: np.random.Generator) -> None:
    """A divider or an alley along the middle of a narrow block."""
    middle, width = _middle(edge, canvas)
    draw, alley = rng.random(), rng.random() < style.greenery
    if len(middle) < 4:
        return
    if alley and float(np.median(width)) > ALLEY_M:
        for at in middle[3 :: round(TREE_SPACING_M / STEP_M)]:
            plant_tree(canvas, at, 1.9, 5.5)
        return
    chosen = _kind(draw if not edge.fast else 0.5 + 0.35 * draw, style)
    if chosen is not None and float(np.median(width)) >= NARROWEST_M:
        strip(middle, canvas, *chosen)


def _middle(edge: Edge, canvas: Canvas) -> tuple[Doubles, Doubles]:
    """Points half-way across the block and its width there, where the other side is a road within NARROW_M."""
    reach = np.arange(0.6, NARROW_M + 1.0, 0.3)
    across = edge.point_m[:, None] + edge.inward[:, None] * reach[None, :, None]
    mapped = canvas.flags_at(across) > 0
    width = reach[mapped.argmax(axis=1)]
    ok = mapped.any(axis=1) & (width >= NARROWEST_M)
    return edge.point_m[ok] + edge.inward[ok] * (width[ok, None] / 2), width[ok]
