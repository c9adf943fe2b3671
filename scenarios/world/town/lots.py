"""Buildings in lots along the streets, their driveways and fences between neighbours, and what stands in yards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.types import Semantics
from scenarios.world.town.blocks import STEP_M, Blocks, Edge
from scenarios.world.town.boundaries import strip
from scenarios.world.town.buildings import STOREY_M, Part, Plan, Site, build, can_build, draw_plan, draw_row
from scenarios.world.town.canvas import Canvas, rectangle
from scenarios.world.town.construction import building_site
from scenarios.world.town.style import TownStyle, Zone

CORNER_COS = 0.92  # a lot's ends may differ this much in direction
FULL_DENSITY = 0.7  # every lot is built on; beyond, gaps close and yards fill
DRIVEWAY_M = {Zone.RESIDENTIAL: 3.0, Zone.RURAL: 3.4, Zone.INDUSTRIAL: 6.0}
OPEN_SETBACK_M = 3.0  # more where no sidewalk lies between a road and its buildings


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
TERRACE = LotStyle((22, 38), (9, 11), (4, 7), (3.2, 4.8), (6, 9))
# The second row; its setback counts from the back of the first.
YARDS = {
    Zone.DOWNTOWN: LotStyle((10, 20), (8, 14), (4, 9), (6, 10), (4, 12)),
    Zone.RESIDENTIAL: LotStyle((3.2, 6), (3.2, 5), (9, 16), (6, 10), (2.6, 3.2)),
    Zone.INDUSTRIAL: LotStyle((12, 24), (10, 18), (8, 14), (8, 12), (4, 8)),
}


def build_lots(blocks: Blocks, canvas: Canvas, style: TownStyle) -> None:
    """Place the buildings of every edge, the most built-up edges first, then those in the yards behind them.

    Most stretches of fast open road have woods instead.
    """
    order = [Zone.DOWNTOWN, Zone.INDUSTRIAL, Zone.RESIDENTIAL, Zone.RURAL, Zone.PARK]
    behind: list[tuple[Edge, float]] = []
    for edge in sorted(blocks.edges, key=lambda each: order.index(each.zone)):
        woods = edge.zone is Zone.RURAL and edge.fast and not edge.urban and edge.seed % 10 < 6
        if edge.zone in STYLES and not edge.narrow and not woods:
            behind.append((edge, _front_row(edge, canvas, style)))
    for edge, depth_m in behind:
        if edge.zone in YARDS:
            _back_row(edge, depth_m, canvas, style)


def _front_row(edge: Edge, canvas: Canvas, style: TownStyle) -> float:
    """The lots along the street; how deep they reach, in metres from the edge."""
    rng = np.random.default_rng(edge.seed)
    terrace = edge.zone is Zone.RESIDENTIAL and edge.seed % 7 < 2
    lots = TERRACE if terrace else STYLES[edge.zone]
    setback = rng.uniform(*lots.setback) + (0.0 if edge.urban else OPEN_SETBACK_M)
    depth, base_height = rng.uniform(*lots.depth), rng.uniform(*lots.height)
    hedged = edge.zone is Zone.RESIDENTIAL and rng.random() < style.greenery
    gaps = 1.0 - 2.0 * max(0.0, style.density - FULL_DENSITY)
    at = 0.0 if edge.zone is Zone.DOWNTOWN else rng.uniform(1, 4)
    if edge.zone is Zone.RURAL:
        at = rng.uniform(0, 30)
    while at + lots.width[0] <= edge.length_m:
        width = min(rng.uniform(*lots.width), edge.length_m - at)
        height = float(np.clip(base_height * rng.uniform(0.75, 1.3), *lots.height)) * style.height_scale
        keep, alley, works = rng.random(3)
        site = _site(edge, at, width, depth, setback, canvas)
        if site is None:
            at += 2.0
            continue
        if keep < style.density / FULL_DENSITY:
            plan = draw_row(site.width_m, site.depth_m, height, rng) if terrace else draw_plan(
                edge.zone, site.width_m, site.depth_m, height, rng
            )  # fmt: skip
            _develop(site, plan, works < 0.08 * style.construction, canvas, rng)
            _driveway(edge, site, canvas)
            if hedged:
                _neighbours(site, canvas)
        at += width + rng.uniform(*lots.gap) * gaps + (4.0 if edge.zone is Zone.DOWNTOWN and alley < 0.18 else 0.0)
    return setback + depth


def _develop(site: Site, plan: Plan, works: bool, canvas: Canvas, rng: np.random.Generator) -> None:
    patch = can_build(site, canvas)
    if patch is None:
        return
    if works:
        building_site(site, patch, plan, canvas, rng)
    else:
        build(site, patch, plan, canvas)


def _back_row(edge: Edge, behind_m: float, canvas: Canvas, style: TownStyle) -> None:
    """Wings, sheds and halls in the yards, the more the denser the town."""
    rng, lots = np.random.default_rng([edge.seed, 9]), YARDS[edge.zone]
    setback, share = behind_m + rng.uniform(*lots.setback), min(1.0, 0.7 * style.density)
    at = rng.uniform(4, 14)
    while at + lots.width[0] <= edge.length_m - 4:
        width, depth = rng.uniform(*lots.width), rng.uniform(*lots.depth)
        height, keep = rng.uniform(*lots.height) * style.height_scale, rng.random()
        site = _site(edge, at, min(width, edge.length_m - at), depth, setback, canvas)
        if site is not None and keep < share:
            if edge.zone is Zone.RESIDENTIAL:
                plan: Plan = [Part(0, site.width_m, 0, site.depth_m, height)]
            else:
                plan = draw_plan(edge.zone, site.width_m, site.depth_m, max(STOREY_M, height), rng)
            _develop(site, plan, False, canvas, rng)
        at += width + rng.uniform(*lots.gap)


def _site(edge: Edge, at_m: float, width_m: float, depth_m: float, setback_m: float, canvas: Canvas) -> Site | None:
    """A lot with its front along the street, as deep as wanted or less. None where it does not fit."""
    first, last = int(at_m / STEP_M), min(int((at_m + width_m) / STEP_M), len(edge.point_m) - 1)
    if last - first < 3 or edge.inward[first] @ edge.inward[last] < CORNER_COS:
        return None
    chord = edge.point_m[last] - edge.point_m[first]
    length = float(np.linalg.norm(chord))
    if length < 0.8 * (last - first) * STEP_M:
        return None
    along = chord / length
    inward = np.array([-along[1], along[0]])
    front = max(0.0, float(((edge.point_m[first : last + 1] - edge.point_m[first]) @ inward).max()))
    for depth in (depth_m, 0.65 * depth_m):
        site = Site(edge.point_m[first] + inward * (front + setback_m), along, length, depth)
        if can_build(site, canvas) is not None:
            return site
    return None


def _driveway(edge: Edge, site: Site, canvas: Canvas) -> None:
    """Keep the way from the street to the house open: no fence, tree or lamp will stand on it."""
    width = DRIVEWAY_M.get(edge.zone)
    if width is None:
        return
    u = (
        min(width / 2 + 0.6, site.width_m / 2)
        if edge.seed % 2
        else max(site.width_m - width / 2 - 0.6, site.width_m / 2)
    )
    reach = float(np.max((site.point_m(u, 0.0) - edge.point_m) @ site.inward, initial=0.0, where=_near(edge, site, u)))
    if reach > 0.2:
        way = rectangle(site.point_m(u, -reach / 2), site.along, width, reach)
        canvas.reserve(canvas.box(way))


def _near(edge: Edge, site: Site, u: float) -> np.ndarray:
    return np.asarray(np.abs((edge.point_m - site.point_m(u, 0.0)) @ site.along) < 3.0) & np.asarray(
        np.hypot(*(edge.point_m - site.point_m(u, 0.0)).T) < 25.0
    )


def _neighbours(site: Site, canvas: Canvas) -> None:
    """A hedge to the next lot, from the house's front to the end of the garden."""
    u = site.width_m + 2.4
    line = np.array([site.point_m(u, v) for v in np.arange(0.0, site.depth_m + 5.0, 1.0)])
    strip(line, canvas, Semantics.VEGETATION, 1.4, 0.8)
