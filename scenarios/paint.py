"""Lane surfaces, markings and polygons into cells. Q quads of four corners, L levels, X/Y cell axes.

Heights are metres, rasters lie along the world axes. A cell belongs to a surface when its centre does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Doubles
from scenarios.roadmap import Lane, RoadMap

ROAD, MARKING, JUNCTION, SIDEWALK, CROSSWALK, PARKING, SHOULDER, MEDIAN = (1 << bit for bit in range(8))
MARKING_WIDTH_M = 0.25
DASH_M = 3.0
OVERPASS_M = 2.5  # driving lanes this far above one another need a level each
DECK_REACH_M = 10.0  # how far a deck goes on beyond the crossing it is for


@dataclass(frozen=True)
class Quads:
    """Four-cornered pieces of surface, to be painted in order: later ones cover earlier ones."""

    corners_m: Doubles  # [Q, 4, 3], around the outline
    bits: NDArray[np.uint8]  # [Q]
    driving: NDArray[np.bool_]  # [Q]

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Quads:
        return Quads(self.corners_m[keep], self.bits[keep], self.driving[keep])


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel as machine code, compiled at first use and kept on disk where that is possible."""
    return _compile(kernel)


@cache
def _compile(kernel: Callable[..., Any]) -> Callable[..., Any]:
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # no writable place for the cache
        return numba.njit(nogil=True)(kernel)


def _sides(road_map: RoadMap) -> list[list[Lane]]:
    """The lanes of each side of each lane section, from the reference line outward."""
    sides: dict[tuple[str, bool], list[Lane]] = {}
    for lane in road_map.lanes.values():
        sides.setdefault((lane.id.rsplit(":", 1)[0], lane.lane_id > 0), []).append(lane)
    return [sorted(lanes, key=lambda lane: abs(lane.lane_id)) for lanes in sides.values()]


def asphalt_shoulders(road_map: RoadMap) -> frozenset[str]:
    """Ids of shoulders that are paved, not verge: no sidewalk lies between them and what is driven on."""
    paved: set[str] = set()
    for lanes in _sides(road_map):
        driven = any(lane.is_driving for lane in lanes)  # a junction's corner has shoulder and sidewalk alone
        for lane in lanes:
            if lane.kind == "sidewalk" and driven:
                break
            if lane.kind == "shoulder":
                paved.add(lane.id)
    return frozenset(paved)


def _closed_roads(road_map: RoadMap) -> list[Doubles]:
    """Strips between shoulders or parking lanes whose driving lanes are switched off (type none): asphalt still."""
    strips = []
    for lanes in _sides(road_map):
        if any(lane.is_driving for lane in lanes) or lanes[0].junction_id >= 0:
            continue
        for inner, outer in pairwise(lanes):
            paved = {inner.kind, outer.kind} <= {"shoulder", "parking"}
            gap = abs(outer.lane_id) - abs(inner.lane_id) > 1
            if paved and gap and len(inner.right_m) == len(outer.left_m) > 1:
                strips.append(_strip(outer.left_m, inner.right_m))
    return strips


def _surface(lane: Lane, paved: frozenset[str]) -> tuple[int, int]:
    """Paint order and bits of a lane: what is driven on covers everything else."""
    junction = JUNCTION if lane.junction_id >= 0 else 0
    if lane.is_driving or lane.kind in ("biking", "stop"):
        return 5, ROAD | junction
    if lane.kind == "parking":
        return 4, ROAD | PARKING
    if lane.kind in ("sidewalk", "walking", "curb"):
        return 3, SIDEWALK
    if lane.kind == "shoulder":
        return 2, SHOULDER | (ROAD if lane.id in paved else 0)
    return 1, MEDIAN


def lane_quads(road_map: RoadMap) -> Quads:
    """Every lane cut between its points, in paint order."""
    paved = asphalt_shoulders(road_map)
    parts: list[tuple[int, Doubles, int, bool]] = []
    for lane in road_map.lanes.values():
        if len(lane.left_m) < 2:
            continue
        order, bits = _surface(lane, paved)
        parts.append((order, _strip(lane.left_m, lane.right_m), bits, lane.is_driving))
    parts.extend((4, strip, ROAD, False) for strip in _closed_roads(road_map))
    parts.sort(key=lambda part: part[0])
    return _join([(corners, bits, driving) for _, corners, bits, driving in parts])


def marking_quads(road_map: RoadMap) -> Quads:
    """Painted lines as strips MARKING_WIDTH_M wide. Each boundary is drawn once, so that dashes keep their phase."""
    parts: list[tuple[Doubles, int, bool]] = []
    for lane in road_map.lanes.values():
        if not (lane.is_driving or lane.kind in ("parking", "biking", "shoulder")):
            continue
        edges = [(lane.right_m, lane.right_marking)]
        section = lane.id.rsplit(":", 1)[0]
        sign = 1 if lane.lane_id > 0 else -1
        inner = f"{section}:{lane.lane_id - sign}" if abs(lane.lane_id) > 1 else f"{section}:-1"
        if inner not in road_map.lanes or inner == lane.id:
            edges.append((lane.left_m, lane.left_marking))
        for edge, kind in edges:
            parts.extend((piece, MARKING, False) for piece in _painted(edge, kind))
    return _join(parts)


def _painted(edge_m: Doubles, kind: str) -> list[Doubles]:
    """Strips of one painted line: whole when solid, DASH_M on and DASH_M off when broken."""
    if kind in ("none", "", "curb", "grass", "other") or len(edge_m) < 2:
        return []
    broken = kind.startswith("broken") or kind == "botts dots"
    step = np.linalg.norm(np.diff(edge_m[:, :2], axis=0), axis=1)
    moved = np.concatenate([[True], step > 1e-6])
    edge_m, s = edge_m[moved], np.concatenate([[0.0], np.cumsum(step)])[moved]
    if len(edge_m) < 2:
        return []
    stops = np.arange(0.0, s[-1], 2 * DASH_M) if broken else np.zeros(1)
    pieces = []
    for start in stops:
        end = min(start + DASH_M, s[-1]) if broken else s[-1]
        at = np.concatenate([[start], s[(s > start) & (s < end)], [end]])
        line = np.stack([np.interp(at, s, edge_m[:, axis]) for axis in range(3)], axis=1)
        tangent = np.gradient(line[:, :2], axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
        half = np.zeros_like(line)
        half[:, 0], half[:, 1] = -tangent[:, 1] * MARKING_WIDTH_M / 2, tangent[:, 0] * MARKING_WIDTH_M / 2
        pieces.append(_strip(line + half, line - half))
    return pieces


def _strip(left_m: Doubles, right_m: Doubles) -> Doubles:
    """[N - 1, 4, 3] quads between two lines of N points."""
    return np.stack([left_m[:-1], left_m[1:], right_m[1:], right_m[:-1]], axis=1)


def _join(parts: list[tuple[Doubles, int, bool]]) -> Quads:
    if not parts:
        return Quads(np.zeros((0, 4, 3)), np.zeros(0, np.uint8), np.zeros(0, bool))
    counts = [len(corners) for corners, _, _ in parts]
    return Quads(
        np.ascontiguousarray(np.concatenate([corners for corners, _, _ in parts]), dtype=np.float64),
        np.repeat(np.array([bits for _, bits, _ in parts], np.uint8), counts),
        np.repeat(np.array([driving for _, _, driving in parts], bool), counts),
    )


def deck_quads(quads: Quads, decks: Doubles) -> NDArray[np.bool_]:
    """[Q] true for quads of a deck: near a crossing point (rows x, y, z of decks [D, 3]) and at its height."""
    if len(decks) == 0 or len(quads.bits) == 0:
        return np.zeros(len(quads.bits), bool)
    from scipy.spatial import cKDTree

    centres = quads.corners_m.mean(axis=1)
    distance, nearest = cKDTree(decks[:, :2]).query(centres[:, :2], distance_upper_bound=DECK_REACH_M)
    near = np.isfinite(distance)
    upper = np.full(len(centres), np.inf)
    upper[near] = decks[nearest[near], 2]
    return near & (np.abs(centres[:, 2] - upper) < OVERPASS_M / 2)


def crossing_points(quads: Quads) -> Doubles:
    """[D, 3] places on upper roads where driving lanes pass over each other by more than OVERPASS_M."""
    corners = quads.corners_m[quads.driving]
    if len(corners) == 0:
        return np.zeros((0, 3))
    a, b, c, d = np.moveaxis(corners, 1, 0)
    across = np.linspace(0.1, 0.9, 5)[:, None, None]
    samples = np.concatenate([a + (d - a) * across, (a + b) / 2 + (c + d - a - b) / 2 * across]).reshape(-1, 3)
    cell = np.floor(samples[:, :2] / 2.0).astype(np.int64)
    cell -= cell.min(axis=0)
    key = cell[:, 0] * (cell[:, 1].max() + 1) + cell[:, 1]
    _, slot = np.unique(key, return_inverse=True)
    low = np.full(slot.max() + 1, np.inf)
    np.minimum.at(low, slot, samples[:, 2])
    return samples[samples[:, 2] > low[slot] + OVERPASS_M]


def paint_quads(
    corners_m: Doubles,
    bits: NDArray[np.uint8],
    keep: int,
    origin_m: Doubles,
    cell_m: float,
    base_m: float,
    flags: NDArray[np.uint8],
    height_cm: NDArray[np.int16],
) -> None:
    """Kernel: fill the cells [X, Y] whose centres lie in the quads; of the flags there before, only bits in keep stay.

    With keep == 255 only cells with ROAD (bit 1) are touched: markings are painted on asphalt.
    """
    nx, ny = flags.shape
    for q in range(corners_m.shape[0]):
        for half in range(2):
            ax, ay, az = corners_m[q, 0, 0], corners_m[q, 0, 1], corners_m[q, 0, 2]
            bx, by, bz = corners_m[q, half + 1, 0], corners_m[q, half + 1, 1], corners_m[q, half + 1, 2]
            cx, cy, cz = corners_m[q, half + 2, 0], corners_m[q, half + 2, 1], corners_m[q, half + 2, 2]
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if abs(area) < 1e-9:
                continue
            i0 = max(0, int(np.floor((min(ax, bx, cx) - origin_m[0]) / cell_m)))
            i1 = min(nx, int(np.floor((max(ax, bx, cx) - origin_m[0]) / cell_m)) + 1)
            j0 = max(0, int(np.floor((min(ay, by, cy) - origin_m[1]) / cell_m)))
            j1 = min(ny, int(np.floor((max(ay, by, cy) - origin_m[1]) / cell_m)) + 1)
            for i in range(i0, i1):
                x = origin_m[0] + (i + 0.5) * cell_m
                for j in range(j0, j1):
                    y = origin_m[1] + (j + 0.5) * cell_m
                    v = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                    w = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                    if v < -1e-6 or w < -1e-6 or v + w > 1 + 1e-6:
                        continue
                    if keep == 255:
                        if flags[i, j] & 1:
                            flags[i, j] |= bits[q]
                        continue
                    flags[i, j] = (flags[i, j] & keep) | bits[q]
                    z_cm = np.rint((az + v * (bz - az) + w * (cz - az) - base_m) * 100.0)
                    height_cm[i, j] = int(min(max(z_cm, -32767.0), 32767.0))


def inside(polygon_m: Doubles, x_m: Doubles, y_m: Doubles) -> NDArray[np.bool_]:
    """[len(x), len(y)] true where the point (x, y) lies in the polygon [N, 2+], by the even-odd rule."""
    result = np.zeros((len(x_m), len(y_m)), bool)
    for (ax, ay), (bx, by) in zip(polygon_m[:, :2], np.roll(polygon_m[:, :2], -1, axis=0), strict=True):
        if ay == by:
            continue
        crosses = (ay > y_m) != (by > y_m)
        if crosses.any():
            limit = ax + (y_m[crosses] - ay) / (by - ay) * (bx - ax)
            result[:, crosses] ^= x_m[:, None] < limit[None]
    return result
