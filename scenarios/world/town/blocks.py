"""City blocks: the free land between roads, its edges along streets, and what each stretch is used for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Doubles
from scenarios.layout import ROAD, SIDEWALK, RoadRaster
from scenarios.roadmap import RoadMap
from scenarios.world.town.canvas import flags_at
from scenarios.world.town.style import TownStyle, Zone

STEP_M = 1.0
CLOSE_M = 3.0
SMALLEST_M2 = 30.0
DISTRICT_M = 140.0
ONE_ZONE_M2 = 30_000.0


NARROW_M = 9.0  # strips of land narrower than this are medians and verges: nobody builds there
_ZONES = list(Zone)


@dataclass(frozen=True)
class Edge:
    """A stretch of block boundary along a street, sampled every STEP_M; the block lies to its left."""

    block: int
    point_m: Doubles  # [N, 2]
    inward: Doubles  # [N, 2] unit normals into the block
    zone: Zone
    urban: bool  # a sidewalk runs along it
    fast: bool  # the road beside it is a fast one
    narrow: bool  # the land is a strip between two roads
    seed: int

    @property
    def length_m(self) -> float:
        return len(self.point_m) * STEP_M

    def along(self, index: int) -> Doubles:
        """Unit tangent at a sample, the block to the left."""
        normal = self.inward[index]
        return np.array([normal[1], -normal[0]])


@dataclass(frozen=True)
class Blocks:
    polygons: tuple[Any, ...]  # shapely polygons, metres
    edges: tuple[Edge, ...]


def find_blocks(road_map: RoadMap, raster: RoadRaster, style: TownStyle, rng: np.random.Generator) -> Blocks:
    """The free land within the raster and its edges along streets."""
    import shapely

    lanes = [
        shapely.Polygon(np.concatenate([lane.left_m[:, :2], lane.right_m[::-1, :2]]))
        for lane in road_map.lanes.values()
        if len(lane.left_m) > 1
    ]
    land = shapely.union_all(shapely.buffer(shapely.make_valid(np.array(lanes, object)), 0.1))
    land = land.buffer(CLOSE_M).buffer(-CLOSE_M)
    free = shapely.box(*raster.bounds_m).difference(land)
    parts = [part for part in shapely.get_parts(free) if part.geom_type == "Polygon" and part.area > SMALLEST_M2]
    parts.sort(key=lambda part: part.bounds)
    districts = _Districts(raster.bounds_m, style, rng)
    fast = _fast_points(road_map)
    edges: list[Edge] = []
    polygons = []
    for index, part in enumerate(parts):
        polygon = shapely.orient_polygons(part.simplify(0.3))
        polygons.append(polygon)
        narrow = bool(polygon.buffer(-NARROW_M / 2).is_empty)
        for ring in (polygon.exterior, *polygon.interiors):
            edges.extend(_edges(ring, index, polygon.area, narrow, raster, districts, fast, rng))
    return Blocks(tuple(polygons), tuple(edges))


class _Districts:
    """Voronoi districts of one zone each."""

    def __init__(self, bounds_m: tuple[float, float, float, float], style: TownStyle, rng: np.random.Generator) -> None:
        x0, y0, x1, y1 = bounds_m
        count = max(4, int((x1 - x0) * (y1 - y0) / DISTRICT_M**2))
        self.centre_m = rng.uniform((x0, y0), (x1, y1), (count, 2))
        zones = [zone for zone, share in style.shares().items() if share > 0]
        shares = np.array([style.shares()[zone] for zone in zones])
        # Equal parts rather than draws: every town has some of everything.
        fill = (np.arange(count) + rng.random()) / count
        self.zone = [zones[min(int(np.searchsorted(np.cumsum(shares), f)), len(zones) - 1)] for f in fill]
        rng.shuffle(self.zone)

    def at(self, xy_m: Doubles) -> Zone:
        return self.zone[int(np.argmin(((self.centre_m - xy_m) ** 2).sum(axis=1)))]


def _fast_points(road_map: RoadMap) -> Any:
    """A tree of points on roads that allow more than 16 m/s, or None."""
    from scipy.spatial import cKDTree

    points = [
        lane.centre_m[::4, :2]
        for lane in road_map.lanes.values()
        if lane.is_driving and lane.speed_limit_mps is not None and lane.speed_limit_mps > 16.0
    ]
    return cKDTree(np.concatenate(points)) if points else None


def _edges(
    ring: Any,
    block: int,
    area_m2: float,
    narrow: bool,
    raster: RoadRaster,
    districts: _Districts,
    fast: Any,
    rng: np.random.Generator,
) -> list[Edge]:
    """The parts of a ring that run along a street, cut where the street changes its character."""
    import shapely

    count = max(8, int(ring.length / STEP_M))
    point = shapely.get_coordinates(shapely.line_interpolate_point(ring, np.arange(count) * (ring.length / count)))
    tangent = np.roll(point, -2, axis=0) - np.roll(point, 2, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    inward = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    reach = np.array([0.3, 0.8, 1.4, 2.0, 2.8, 3.6, 4.4])
    seen = flags_at(raster, point[:, None] - inward[:, None] * reach[None, :, None])
    near = np.bitwise_or.reduce(seen, axis=1)
    urban = near & SIDEWALK > 0
    street = near & (ROAD | SIDEWALK) > 0
    quick = np.zeros(count, bool) if fast is None else fast.query(point)[0] < 14.0
    zones = _zones(point, urban, quick, area_m2, districts)
    code = np.where(street, zones * 4 + urban * 2 + quick, -1)
    edges = []
    for run in _runs(code):
        kind = int(code[run[0]])
        if kind >= 0 and len(run) >= 4:
            zone, seed = _ZONES[kind // 4], int(rng.integers(1 << 31))
            edges.append(Edge(block, point[run], inward[run], zone, bool(kind & 2), bool(kind & 1), narrow, seed))
    return edges


def _zones(
    point: Doubles, urban: NDArray[np.bool_], quick: NDArray[np.bool_], area_m2: float, districts: _Districts
) -> NDArray[np.int64]:
    """[N] indices into _ZONES: one district for a whole small block.

    Beside fast roads without a sidewalk nobody lives: towns and suburbs turn rural there.
    """
    if area_m2 < ONE_ZONE_M2:
        kind = np.full(len(point), _ZONES.index(districts.at(point.mean(axis=0))))
    else:
        every = max(1, len(point) // 64)
        kind = np.array([_ZONES.index(districts.at(p)) for p in point[::every]]).repeat(every)[: len(point)]
    lived_in = np.isin(kind, [_ZONES.index(Zone.DOWNTOWN), _ZONES.index(Zone.RESIDENTIAL)])
    return np.where(lived_in & quick & ~urban, _ZONES.index(Zone.RURAL), kind)


def _runs(code: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Indices of the stretches of equal code around a ring, the one over the seam joined."""
    cuts = np.flatnonzero(code != np.roll(code, 1))
    if len(cuts) == 0:
        return [np.arange(len(code))]
    order = (np.arange(len(code)) + cuts[0]) % len(code)
    return np.split(order, np.sort((cuts - cuts[0]) % len(code))[1:])
