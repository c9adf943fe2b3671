"""Parking lots: where they lie, their stalls, and what stands around them. N stall.

They are planned from the map alone, so that the town keeps them clear and parked cars find them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.layout import RoadRaster
from scenarios.world.town.blocks import STEP_M, Blocks, Edge
from scenarios.world.town.boundaries import strip
from scenarios.world.town.buildings import Site
from scenarios.world.town.canvas import Canvas, flags_at, rectangle
from scenarios.world.town.style import TownStyle, Zone

STALL_M = 2.6
ROW_M = 5.2
AISLE_M = 6.2
INSET_M = 3.2  # from the street's edge
ENTRANCE_M = 6.0
SPACING_M = 110.0
LEVEL_M = 1.2  # the street beside a lot rises no more than this
CHANCE = {Zone.DOWNTOWN: 0.2, Zone.INDUSTRIAL: 0.5, Zone.RESIDENTIAL: 0.14, Zone.PARK: 0.2, Zone.RURAL: 0.0}


@dataclass(frozen=True)
class ParkingLot:
    """A paved rectangle with rows of stalls on both sides of each aisle."""

    site: Site
    stalls: Doubles  # [N, 3] x, y, yaw of a car in the middle of its stall
    reach_m: float  # from the site's front to the street
    z_m: float  # height of the street
    seed: int


def plan_lots(blocks: Blocks, raster: RoadRaster, style: TownStyle) -> tuple[ParkingLot, ...]:
    """Lots along streets, one now and then; none of them touches a road, a sidewalk or another lot."""
    import shapely

    taken: list[shapely.Polygon] = []
    lots: list[ParkingLot] = []
    for edge in blocks.edges:
        rng = np.random.default_rng([edge.seed, 5])
        if edge.narrow or (edge.fast and not edge.urban and edge.zone is not Zone.INDUSTRIAL):
            continue
        for mark in np.arange(rng.uniform(4.0, 30.0), edge.length_m - 20.0, SPACING_M):
            draw, columns, modules = rng.random(), int(rng.integers(7, 15)), 1 + int(rng.random() < 0.4)
            if draw >= CHANCE[edge.zone] * 2 * style.parking:
                continue
            lot = _lot(edge, float(mark), columns, modules, raster)
            if lot is None:
                continue
            room = shapely.Polygon(lot.site.corners_m(2.0))
            if not any(room.intersects(other) for other in taken):
                taken.append(room)
                lots.append(lot)
    return tuple(lots)


def _lot(edge: Edge, at_m: float, columns: int, modules: int, raster: RoadRaster) -> ParkingLot | None:
    """As many modules as fit, or None."""
    first = int(at_m / STEP_M)
    last = min(int((at_m + columns * STALL_M) / STEP_M), len(edge.point_m) - 1)
    chord = edge.point_m[last] - edge.point_m[first]
    length = float(np.linalg.norm(chord))
    if length < 6 * STALL_M or length < 0.97 * (last - first) * STEP_M:
        return None
    along = chord / length
    inward = np.array([-along[1], along[0]])
    front = max(0.0, float(((edge.point_m[first : last + 1] - edge.point_m[first]) @ inward).max()))
    z_cm = _heights_cm(edge.point_m[first : last + 1] - edge.inward[first : last + 1] * 1.0, raster)
    if len(z_cm) == 0 or np.ptp(z_cm) > 100 * LEVEL_M:
        return None
    width = STALL_M * int(length / STALL_M)
    for rows in (modules, 1):
        site = Site(edge.point_m[first] + inward * (front + INSET_M), along, width, rows * (2 * ROW_M + AISLE_M))
        if _bare(site, raster):
            z_m = float(np.median(z_cm)) / 100 + raster.z0_m
            return ParkingLot(site, _stalls(site, rows), front + INSET_M, z_m, edge.seed + first)
    return None


def _heights_cm(xy_m: Doubles, raster: RoadRaster) -> np.ndarray:
    """Heights of the points on level 0 that the map knows."""
    at = np.floor((xy_m - raster.origin_m) / raster.cell_m).astype(np.intp)
    i, j = (np.clip(at[:, k], 0, raster.flags.shape[1 + k] - 1) for k in range(2))
    return np.asarray(raster.height_cm[0, i, j][raster.flags[0, i, j] > 0], np.int64)


def _bare(site: Site, raster: RoadRaster) -> bool:
    """Whether the map says nothing about the site and 2 m around it, and all of that lies on the raster."""
    u, v = np.arange(-2.0, site.width_m + 2.1, 0.4), np.arange(-2.0, site.depth_m + 2.1, 0.4)
    points = site.origin_m + u[:, None, None] * site.along + v[None, :, None] * site.inward
    x0, y0, x1, y1 = raster.bounds_m
    inside = (points > (x0 + 1, y0 + 1)).all() and (points < (x1 - 1, y1 - 1)).all()
    return bool(inside) and not flags_at(raster, points).any()


def _stalls(site: Site, modules: int) -> Doubles:
    """[N, 3] stalls, none of them in the way between the entrance and the aisles."""
    yaw = float(np.arctan2(site.inward[1], site.inward[0]))
    module, middle = 2 * ROW_M + AISLE_M, site.width_m / 2
    stalls: list[tuple[float, float, float]] = []
    for k in range(modules):
        for row, (v, turn) in enumerate(((ROW_M / 2, np.pi), (module - ROW_M / 2, 0.0))):
            last = k == modules - 1 and row == 1
            for u in np.arange(STALL_M / 2, site.width_m, STALL_M):
                x, y = site.point_m(float(u), k * module + v)
                if last or abs(u - middle) > ENTRANCE_M / 2 + STALL_M / 2:
                    stalls.append((float(x), float(y), yaw + turn))
    return np.array(stalls)


def pave_lots(lots: tuple[ParkingLot, ...], canvas: Canvas) -> None:
    """Keep the lots and their entrances free of everything."""
    for lot in lots:
        canvas.pave(canvas.box(lot.site.corners_m(0.2)))
        way = rectangle(
            lot.site.point_m(lot.site.width_m / 2, -lot.reach_m / 2), lot.site.along, ENTRANCE_M, lot.reach_m
        )
        canvas.pave(canvas.box(way))


def fence_lots(lots: tuple[ParkingLot, ...], canvas: Canvas, style: TownStyle) -> None:
    """Hedges or rails around the lots, lamps at their corners, a ticket machine at the entrance."""
    for lot in lots:
        rng = np.random.default_rng([lot.seed, 6])
        hedge, rail = rng.random() < style.greenery, rng.random() < style.furniture
        w, d, m = lot.site.width_m, lot.site.depth_m, 1.0
        if hedge or rail:
            kind = Semantics.VEGETATION if hedge else Semantics.BARRIER
            for (u0, v0), (u1, v1) in (
                ((0, -m), (w, -m)),
                ((w + m, 0), (w + m, d)),
                ((w, d + m), (0, d + m)),
                ((-m, d), (-m, 0)),
            ):
                steps = np.linspace(0, 1, max(2, round(abs(u1 - u0) + abs(v1 - v0)) + 1))
                line = np.array([lot.site.point_m(u0 + (u1 - u0) * s, v0 + (v1 - v0) * s) for s in steps])
                strip(line, canvas, kind, 1.0, 0.8 if hedge else 0.6)
        if style.furniture > 0:
            for u, v in ((-m, -m), (w + m, -m), (w + m, d + m), (-m, d + m)):
                _corner_post(canvas, lot.site.point_m(u, v), Semantics.POLE, 0.4, 6.0)
            machine = lot.site.point_m(w / 2 + ENTRANCE_M / 2 + 1.0, -1.8)
            _corner_post(canvas, machine, Semantics.OTHER, 0.8, 1.6)


def _corner_post(canvas: Canvas, at_m: Doubles, kind: Semantics, size_m: float, height_m: float) -> None:
    patch = canvas.box(rectangle(at_m, np.array([1.0, 0.0]), size_m, size_m))
    if canvas.free(patch):
        canvas.add(patch, kind, 0.0, height_m)
        canvas.reserve(patch)
