"""The road around an episode, from what a scene's layout and a map say. A/B cell of the world."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridges.episode import RoadField
from bridges.rollout.route import nearest
from bridges.rollout.static_world import ON_MAP, StaticWorld
from dcgen.errors import MapError
from dcgen.types import STATIC_CHANNELS, Doubles, Floats
from scenarios.lane_graph import LaneGraph
from scenarios.pathway import URBAN_MPS
from scenarios.roads import read_map

HALF_LANE_M = 1.75
LEAST_SHARE = 0.5  # of a cell that is road, for it to be drivable
ACROSS_RAD = 0.6  # lanes that cross at more than this leave no direction of travel
LANE_REACH_M = 2.5


def lanes_of(map: Path | None) -> LaneGraph | None:
    """The driving lanes of an OpenDRIVE file or a library map. Raises MapError."""
    return None if map is None else _lanes(map, map.stat().st_mtime_ns if map.exists() else 0)


@lru_cache(maxsize=4)
def _lanes(map: Path, _changed_ns: int) -> LaneGraph:
    from scenarios.sources import library_maps

    graph = LaneGraph(read_map(library_maps().get(str(map), map)))
    if not graph.lanes:
        raise MapError(f"{map}: has no driving lanes; pass the map that the scene was made on")
    return graph


def road_field(world: StaticWorld, route: Doubles, graph: LaneGraph | None) -> RoadField:
    """Drivable cells, known cells and directions of travel.

    Where the layout draws no road at all (a recording without a map), road is where voxels of road are.
    """
    columns, cell_m = world.columns, world.column_m
    origin = np.asarray(world.first_column * cell_m, np.float64)
    road, junction = (columns[..., STATIC_CHANNELS.index(name)] for name in ("road", "junction"))
    seen, paved = _from_voxels(world)
    drivable = (road >= LEAST_SHARE) | (junction >= LEAST_SHARE)
    known = seen | (columns[..., ON_MAP] > 0).any(axis=-1)
    if not drivable.any():
        drivable = paved
    centres = origin + (np.argwhere(drivable) + 0.5) * cell_m
    heading = np.full(drivable.shape, np.nan, np.float32)
    heading[drivable] = _by_lanes(centres, graph) if graph is not None else _by_route(centres, route)
    heading[junction >= LEAST_SHARE] = np.nan
    return RoadField(origin, cell_m, drivable & known, known, heading)


def _from_voxels(world: StaticWorld) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[A, B] columns in which anything is known, and in which there is a voxel of road."""
    first, known, road = world.column_classes()
    size = world.columns.shape[:2]
    axes = [
        np.floor((world.first_column[n] + np.arange(size[n]) + 0.5) * world.column_m / world.cell_m).astype(int)
        - first[n]
        for n in range(2)
    ]
    inside = [(axis >= 0) & (axis < known.shape[n]) for n, axis in enumerate(axes)]
    grid = np.ix_(*(np.clip(axis, 0, known.shape[n] - 1) for n, axis in enumerate(axes)))
    within = inside[0][:, None] & inside[1]
    return known[grid] & within, road[grid] & within


def _by_route(centres_m: Doubles, route: Doubles) -> Floats:
    index, near = nearest(centres_m, route, HALF_LANE_M)
    return np.where(near, route[index, 2], np.nan).astype(np.float32)


def _by_lanes(centres_m: Doubles, graph: LaneGraph) -> Floats:
    """The heading of the nearest lane; NaN where lanes of several directions lie over each other."""
    from scipy.spatial import cKDTree

    points = np.concatenate([lane.centre_m[:, :2] for lane in graph.lanes.values()])
    yaw = np.concatenate([lane.yaw_rad for lane in graph.lanes.values()])
    gap, index = cKDTree(points).query(centres_m, k=4, distance_upper_bound=LANE_REACH_M)
    there = np.isfinite(gap)
    found = yaw[np.minimum(index, len(yaw) - 1)]
    off = np.abs((found - found[:, :1] + np.pi) % (2 * np.pi) - np.pi)
    clear = there[:, 0] & ~((off > ACROSS_RAD) & there & (gap < gap[:, :1] + 0.5)).any(axis=1)
    return np.where(clear, found[:, 0], np.nan).astype(np.float32)


def speed_limit_mps(graph: LaneGraph | None, reference: Doubles, fastest_mps: float) -> float:
    """The map's limit where the scene begins, else the usual one in towns; never below what the scene's ego drove."""
    limit = URBAN_MPS
    if graph is not None:
        nodes = np.concatenate([lane.centre_m[:, :2] for lane in graph.lanes.values()])
        limits = np.concatenate(
            [np.full(len(lane.centre_m), lane.speed_limit_mps or URBAN_MPS) for lane in graph.lanes.values()]
        )
        limit = float(limits[np.argmin(np.hypot(*(nodes - reference[0, :2]).T))])
    return max(limit, fastest_mps)
