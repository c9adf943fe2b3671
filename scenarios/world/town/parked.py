"""Parked cars: in parking lanes, on paved shoulders beside a sidewalk and in parking lots. N car."""

from __future__ import annotations

import numpy as np

from dcgen.types import AgentTracks, Doubles, Semantics, wrap_angle
from scenarios.footprints import footprint
from scenarios.layout import ROAD, SIDEWALK, RoadRaster
from scenarios.roadmap import Lane, RoadMap
from scenarios.world.town.canvas import flags_at
from scenarios.world.town.parking_lots import ParkingLot
from scenarios.world.town.plan import plan_town
from scenarios.world.town.style import TownStyle, mixed

FIRST_ID = 1_000_000
SLOT_M = 6.4
END_M = 7.0  # kept free at either end of a lane
SLOW_MPS = 23.0

_Row = tuple[float, float, float, float, float, float, float]  # x, y, z, yaw, length, width, height


def park_cars(road_map: RoadMap, raster: RoadRaster, seed: int, style: TownStyle | None = None) -> AgentTracks:
    """Parked cars as agents of one frame, in the town that build_town makes of the same seed and style.

    Beside streets they stand on road cells with their whole footprint, else in a stall of a parking lot.
    """
    style = style or mixed()
    rng = np.random.default_rng([seed, 77])
    rows: list[_Row] = []
    for key in sorted(road_map.lanes):
        lane = road_map.lanes[key]
        if _for_parking(lane, raster):
            rows.extend(_fill(lane, raster, style, rng))
    for lot in plan_town(road_map, raster, seed, style).lots:
        rows.extend(_fill_lot(lot, style))
    table = np.array(rows, np.float64).reshape(-1, 7)
    n = len(table)
    return AgentTracks(
        FIRST_ID + np.arange(n, dtype=np.int64),
        np.full(n, Semantics.VEHICLE, np.uint8),
        table[:, 4:7].astype(np.float32),
        table[:, None, [0, 1, 3]],
        table[:, None, 2].astype(np.float32),
        np.zeros((n, 1), np.float32),
        np.ones((n, 1), bool),
    )


def _for_parking(lane: Lane, raster: RoadRaster) -> bool:
    if lane.junction_id >= 0 or len(lane.centre_m) < 8:
        return False
    width = float(np.median(lane.width_m))
    if lane.kind == "parking":
        return width >= 1.95
    if lane.kind != "shoulder" or not 1.95 <= width <= 5.0:
        return False
    if lane.speed_limit_mps is not None and lane.speed_limit_mps > SLOW_MPS:
        return False
    side = lane.right_m[:, :2] - lane.left_m[:, :2]
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    beside = flags_at(raster, lane.right_m[:, :2] + side * 0.8) & SIDEWALK > 0
    return bool(beside.mean() > 0.5)


def _fill(lane: Lane, raster: RoadRaster, style: TownStyle, rng: np.random.Generator) -> list[_Row]:
    step = np.linalg.norm(np.diff(lane.centre_m[:, :2], axis=0), axis=1)
    s = np.concatenate([[0.0], np.cumsum(step)])
    share = rng.uniform(0.25, 0.85) * 2 * style.parking
    rows: list[_Row] = []
    for at in np.arange(END_M + SLOT_M / 2, s[-1] - END_M - SLOT_M / 2, SLOT_M):
        if rng.random() > share:
            continue
        x, y, z, width = (np.interp(at, s, v) for v in (*lane.centre_m.T, lane.width_m))
        yaw = float(lane.yaw_rad[int(np.argmin(np.abs(s - at)))] + rng.normal(0, 0.02))
        van = rng.random() < 0.12
        size = (rng.uniform(4.9, 5.6), 2.0, rng.uniform(2.0, 2.4)) if van else (
            rng.uniform(3.8, 4.9), rng.uniform(1.7, 1.95), rng.uniform(1.42, 1.8))  # fmt: skip
        if size[1] + 0.1 > width or not _on_road(raster, np.array([x, y]), yaw, size):
            continue
        rows.append((float(x), float(y), float(z), float(wrap_angle(yaw)), *size))
    return rows


def _fill_lot(lot: ParkingLot, style: TownStyle) -> list[_Row]:
    """Cars in some of the stalls, nose in or out."""
    rng = np.random.default_rng([lot.seed, 4])
    share = min(0.95, rng.uniform(0.4, 0.9) * (0.5 + style.parking))
    rows: list[_Row] = []
    for x, y, yaw in lot.stalls:
        draw, back_in, turn = rng.random(), rng.random() < 0.3, rng.normal(0, 0.015)
        size = (rng.uniform(3.8, 4.8), rng.uniform(1.7, 1.95), rng.uniform(1.42, 1.8))
        if draw < share:
            heading = float(wrap_angle(yaw + np.pi * back_in + turn))
            rows.append((float(x), float(y), lot.z_m, heading, *size))
    return rows


def _on_road(raster: RoadRaster, xy_m: Doubles, yaw: float, size: tuple[float, float, float]) -> bool:
    return bool((flags_at(raster, footprint(xy_m, yaw, size[0], size[1])) & ROAD > 0).all())
