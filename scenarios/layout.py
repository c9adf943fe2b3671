"""A road map and agents as bird's-eye rasters. L level, C channel, T frame, X/Y cell or voxel axes, N agent.

`rasterise` paints the whole map once, in the world frame; `crop_static` and `draw_agents` look at it from an anchor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import MapError
from dcgen.types import (
    AGENT_CHANNELS,
    STATIC_CHANNELS,
    AgentTracks,
    Doubles,
    Floats,
    GridSpec,
    Semantics,
)
from scenarios import layout_kernels, paint
from scenarios.paint import CROSSWALK, JUNCTION, MARKING, MEDIAN, PARKING, ROAD, SHOULDER, SIDEWALK, compiled
from scenarios.roadmap import RoadMap

__all__ = [
    "CROSSWALK", "JUNCTION", "MARKING", "MEDIAN", "PARKING", "ROAD", "SHOULDER", "SIDEWALK",
    "RoadRaster", "crop_static", "draw_agents", "rasterise",
]  # fmt: skip

MARGIN_M = 40.0
HOLE_M = 0.6  # gaps between the lanes of a junction up to twice this wide are closed
HOLE_M2 = 120.0  # and so are larger ones, when lanes enclose them: corners and islands of paint
ROUTE_HALF_WIDTH_M = 1.0
MAX_CELLS = 300_000_000
AGENT_SUBPOINTS = 4
_CHANNEL_OF = {int(Semantics.VEHICLE): 0, int(Semantics.BICYCLE): 1, int(Semantics.PEDESTRIAN): 2}


@dataclass(frozen=True)
class RoadRaster:
    """Cells of a road map. Level 1, where there is one, holds the roads that pass over others."""

    origin_m: Doubles  # [2] outer corner of cell [0, 0]
    cell_m: float
    flags: NDArray[np.uint8]  # [L, X, Y] bits ROAD, MARKING, ... ; 0 where the map says nothing
    height_cm: NDArray[np.int16]  # [L, X, Y] above z0_m; 0 where flags are 0
    z0_m: float = 0.0  # not 0 only on maps more than 300 m above or below zero

    def __post_init__(self) -> None:
        if self.flags.ndim != 3 or self.flags.shape != self.height_cm.shape or np.shape(self.origin_m) != (2,):
            raise ValueError(f"raster needs flags and height_cm [L, X, Y], got {self.flags.shape}")

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """x_min, y_min, x_max, y_max."""
        x, y = float(self.origin_m[0]), float(self.origin_m[1])
        return (x, y, x + self.flags.shape[1] * self.cell_m, y + self.flags.shape[2] * self.cell_m)


def rasterise(
    road_map: RoadMap, cell_m: float = 0.2, bounds_m: tuple[float, float, float, float] | None = None
) -> RoadRaster:
    """Paint the map, or the part of it within bounds_m (else all of it and MARGIN_M around), into cells of cell_m.

    Raises MapError when that would take more than MAX_CELLS cells.
    """
    if bounds_m is None:
        x0, y0, x1, y1 = road_map.bounds_m
        bounds_m = (x0 - MARGIN_M, y0 - MARGIN_M, x1 + MARGIN_M, y1 + MARGIN_M)
    first = np.floor(np.array(bounds_m[:2]) / cell_m)
    size = np.maximum(np.ceil(np.array(bounds_m[2:]) / cell_m) - first, 1)
    if size[0] * size[1] > MAX_CELLS:
        raise MapError(
            f"{road_map.name}: bounds: {size[0]:.0f} x {size[1]:.0f} cells of {cell_m} m are too many; "
            "give a route, so that only its surroundings are drawn"
        )
    origin = first * cell_m
    shape = (int(size[0]), int(size[1]))
    surfaces, markings = _within(paint.lane_quads(road_map), bounds_m), _within(paint.marking_quads(road_map), bounds_m)
    decks = paint.crossing_points(surfaces)
    levels = 2 if len(decks) else 1
    base = _base_m(surfaces)
    flags = np.zeros((levels, *shape), np.uint8)
    height = np.zeros((levels, *shape), np.int16)
    fill = compiled(paint.paint_quads)
    for quads, keep in ((surfaces, JUNCTION), (markings, 255)):
        upper = paint.deck_quads(quads, decks)
        for level in range(levels):
            part = quads.select(upper == bool(level))
            fill(part.corners_m, part.bits, keep, origin, cell_m, base, flags[level], height[level])
        if keep == JUNCTION:
            _close_junctions(road_map, origin, cell_m, flags, height)
    _add_crosswalks(road_map, origin, cell_m, base, flags, height)
    return RoadRaster(origin, cell_m, flags, height, base)


def _within(quads: paint.Quads, bounds_m: tuple[float, float, float, float]) -> paint.Quads:
    low, high = quads.corners_m[..., :2].min(axis=1), quads.corners_m[..., :2].max(axis=1)
    return quads.select(np.all((high >= bounds_m[:2]) & (low <= bounds_m[2:]), axis=1))


def _base_m(quads: paint.Quads) -> float:
    z = quads.corners_m[..., 2]
    return 0.0 if z.size == 0 or np.abs(z).max() < 300.0 else float(np.round(np.median(z)))


def _box(
    polygon_m: Doubles, origin: Doubles, cell_m: float, shape: tuple[int, ...], margin: int
) -> tuple[slice, slice, Doubles, Doubles] | None:
    """Cells around a polygon and the coordinates of their centres, or None outside the raster."""
    low = np.floor((polygon_m[:, :2].min(axis=0) - origin) / cell_m).astype(int) - margin
    high = np.ceil((polygon_m[:, :2].max(axis=0) - origin) / cell_m).astype(int) + margin
    low, high = np.maximum(low, 0), np.minimum(high, shape[-2:])
    if np.any(high <= low):
        return None
    x, y = (origin[k] + (np.arange(low[k], high[k]) + 0.5) * cell_m for k in range(2))
    return slice(low[0], high[0]), slice(low[1], high[1]), x, y


def _close_junctions(
    road_map: RoadMap, origin: Doubles, cell_m: float, flags: NDArray[np.uint8], height: NDArray[np.int16]
) -> None:
    """Pave what the lanes of a junction leave bare between them, and flag all its asphalt."""
    reach = max(1, round(HOLE_M / cell_m))
    for junction in road_map.junctions:
        box = _box(junction.polygon_m, origin, cell_m, flags.shape, round(12.0 / cell_m))
        if box is None or len(junction.polygon_m) < 3:
            continue
        i, j, x, y = box
        area = paint.inside(junction.polygon_m, x, y)
        for part, tall in zip(flags[:, i, j], height[:, i, j], strict=True):
            if np.any(area & (part & JUNCTION > 0)):
                _pave(part, tall, area, reach, HOLE_M2 / cell_m**2)


def _pave(
    flags: NDArray[np.uint8], height: NDArray[np.int16], area: NDArray[np.bool_], reach: int, most_cells: float
) -> None:
    """Close gaps inside area and enclosed holes beside it, in place, at the height of what lies nearest."""
    from scipy import ndimage

    span = np.arange(-reach, reach + 1)
    disc = span[:, None] ** 2 + span[None] ** 2 <= reach * reach + 1
    asphalt, bare = flags & ROAD > 0, flags == 0
    holes = ndimage.binary_closing(np.pad(asphalt, reach), disc)[reach:-reach, reach:-reach] & ~asphalt & area
    pieces, count = ndimage.label(bare)
    if count:
        cells = np.bincount(pieces.ravel())
        enclosed = cells <= most_cells
        edges = (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1], np.zeros(1, int))
        enclosed[np.unique(np.concatenate(edges))] = False
        beside = np.zeros(count + 1, bool)
        beside[np.unique(pieces[ndimage.binary_dilation(flags & JUNCTION > 0)])] = True
        holes |= (enclosed & beside)[pieces]
    if holes.any():
        nearest = ndimage.distance_transform_edt(bare, return_distances=False, return_indices=True)
        height[holes] = height[nearest[0][holes], nearest[1][holes]]
        flags[holes] = ROAD | JUNCTION
    flags[area & (flags & ROAD > 0)] |= JUNCTION


def _add_crosswalks(
    road_map: RoadMap,
    origin: Doubles,
    cell_m: float,
    base_m: float,
    flags: NDArray[np.uint8],
    height: NDArray[np.int16],
) -> None:
    for crosswalk in road_map.crosswalks:
        box = _box(crosswalk.polygon_m, origin, cell_m, flags.shape, 1)
        if box is None or len(crosswalk.polygon_m) < 3:
            continue
        i, j, x, y = box
        area = paint.inside(crosswalk.polygon_m, x, y)
        z_cm = (float(crosswalk.polygon_m[:, 2].mean()) - base_m) * 100.0
        for level in range(len(flags)):
            part = flags[level, i, j]
            near = np.abs(height[level, i, j] - z_cm) < 100.0 * paint.OVERPASS_M / 2
            part[area & near & (part & ROAD > 0)] |= CROSSWALK


def crop_static(
    raster: RoadRaster | None, world_se3_anchor: Doubles, grid: GridSpec, route_xy_m: Doubles | None
) -> Floats:
    """[len(STATIC_CHANNELS), X, Y] what the map and the route say about each voxel column, seen from the anchor.

    The anchor stands upright. Fractions count s x s sub-points a column, s = voxel / cell. Of two levels the one
    nearer to the anchor's height counts; surfaces outside the grid's z range are not there at all. The route is
    [N, 2], or [N, 3] to leave out what lies outside that range, too.
    """
    x, y, z = grid.shape
    out = np.zeros((len(STATIC_CHANNELS), x, y), np.float32)
    c, s, tx, ty, tz = _upright(world_se3_anchor)
    if raster is not None:
        sub = max(1, round(min(grid.voxel_m[:2]) / raster.cell_m))
        low = grid.origin_m[2]
        compiled(layout_kernels.crop_kernel)(
            raster.flags, raster.height_cm, float(raster.origin_m[0]), float(raster.origin_m[1]), float(raster.cell_m),
            c, s, tx, ty, tz - raster.z0_m, grid.origin_m[0], grid.origin_m[1], grid.voxel_m[0], grid.voxel_m[1],
            low, low + z * grid.voxel_m[2], sub, out,
        )  # fmt: skip
    if route_xy_m is not None and len(route_xy_m) > 1:
        points = np.asarray(route_xy_m, np.float64)
        route = points[:, :2] - (tx, ty)
        local = np.stack([route[:, 0] * c + route[:, 1] * s, route[:, 1] * c - route[:, 0] * s], axis=1)
        shown = np.ones(len(points), bool)
        if points.shape[1] == 3:  # what passes above or below is not this road
            up = points[:, 2] - tz
            shown = (up >= grid.origin_m[2]) & (up < grid.origin_m[2] + z * grid.voxel_m[2])
        compiled(layout_kernels.route_kernel)(
            local, shown, grid.origin_m[0], grid.origin_m[1], grid.voxel_m[0], grid.voxel_m[1], ROUTE_HALF_WIDTH_M,
            out[5],
        )  # fmt: skip
    return out


def _upright(world_se3_anchor: Doubles) -> tuple[float, float, float, float, float]:
    """cos yaw, sin yaw, x, y, z of a pose, its pitch and roll left out."""
    m = world_se3_anchor
    norm = float(np.hypot(m[0, 0], m[1, 0]))
    return float(m[0, 0]) / norm, float(m[1, 0]) / norm, float(m[0, 3]), float(m[1, 3]), float(m[2, 3])


def draw_agents(agents: AgentTracks, world_se3_anchor: Doubles, grid: GridSpec) -> Floats:
    """[T, len(AGENT_CHANNELS), X, Y] footprints of the agents (the ego is none), seen from the anchor.

    Class channels hold the covered fraction of a column; heading (relative to the anchor) and speed are those of the
    agent that covers most of it. Agents whose ground lies outside the grid's z range are not drawn.
    """
    x, y, z = grid.shape
    n, frames = agents.valid.shape
    out = np.zeros((frames, len(AGENT_CHANNELS), x, y), np.float32)
    if n == 0:
        return out
    c, s, tx, ty, tz = _upright(world_se3_anchor)
    dx, dy = agents.pose[..., 0] - tx, agents.pose[..., 1] - ty
    cos, sin = np.cos(agents.pose[..., 2]), np.sin(agents.pose[..., 2])
    placed = np.stack([c * dx + s * dy, c * dy - s * dx, cos * c + sin * s, sin * c - cos * s], axis=-1)
    up = agents.z_m - tz
    shown = agents.valid & (up >= grid.origin_m[2]) & (up < grid.origin_m[2] + z * grid.voxel_m[2])
    shown &= np.isfinite(placed).all(axis=-1)
    channel = np.array([_CHANNEL_OF.get(int(k), -1) for k in agents.class_id], np.int64)
    compiled(layout_kernels.agents_kernel)(
        placed, shown, channel, agents.size_m.astype(np.float64) / 2, agents.speed_mps.astype(np.float64),
        grid.origin_m[0], grid.origin_m[1], grid.voxel_m[0], grid.voxel_m[1], AGENT_SUBPOINTS, out,
    )  # fmt: skip
    return out
