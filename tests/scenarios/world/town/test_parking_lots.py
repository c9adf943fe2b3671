"""Parking lots: stalls within their lot, lots apart from each other and from the roads, and nothing in them."""

from dataclasses import replace

import numpy as np
import pytest

from scenarios.layout import RoadRaster, rasterise
from scenarios.world.town.parking_lots import ROW_M, STALL_M, ParkingLot
from scenarios.world.town.plan import plan_town
from scenarios.world.town.style import mixed
from scenarios.world.town.tile import TownTile
from scenarios.world.town.town import build_town
from tests.scenarios.world.conftest import street_map

STYLE = replace(mixed(), parking=1.0)
SEED = 6


@pytest.fixture(scope="module")
def town() -> tuple[RoadRaster, TownTile, tuple[ParkingLot, ...]]:
    road_map = street_map(400.0)
    raster = rasterise(road_map)
    return raster, build_town(road_map, raster, SEED, STYLE), plan_town(road_map, raster, SEED, STYLE).lots


def _uv(lot: ParkingLot, points: np.ndarray) -> np.ndarray:
    offset = points - lot.site.origin_m
    return np.stack([offset @ lot.site.along, offset @ lot.site.inward], axis=-1)


def test_stalls_lie_in_their_lot_and_leave_room_for_each_other(town) -> None:
    lots = town[2]
    assert len(lots) >= 3
    for lot in lots:
        u, v = _uv(lot, lot.stalls[:, :2]).T
        assert np.all((u >= STALL_M / 2 - 1e-6) & (u <= lot.site.width_m - STALL_M / 2 + 1e-6))
        assert np.all((v >= ROW_M / 2 - 1e-6) & (v <= lot.site.depth_m - ROW_M / 2 + 1e-6))
        apart = np.abs(np.stack([u[:, None] - u, v[:, None] - v])) + np.eye(len(u)) * 99
        assert np.all((apart[0] > STALL_M - 0.01) | (apart[1] > ROW_M - 0.01))
        across = np.stack([np.cos(lot.stalls[:, 2]), np.sin(lot.stalls[:, 2])], axis=1) @ lot.site.inward
        assert np.allclose(np.abs(across), 1)


def test_nothing_stands_in_a_lot_and_no_lot_touches_a_street(town) -> None:
    raster, tile, lots = town
    covered = np.zeros(tile.cells, int)
    for lot in lots:
        u, v = np.meshgrid(np.arange(0.1, lot.site.width_m, 0.2), np.arange(0.1, lot.site.depth_m, 0.2))
        points = lot.site.origin_m + u[..., None] * lot.site.along + v[..., None] * lot.site.inward
        x, y = tile.cell_of(points)
        assert not tile.span_class[:, x, y].any() and not raster.flags[:, x, y].any()
        cells = np.unique(np.stack([x.ravel(), y.ravel()]), axis=1)
        covered[cells[0], cells[1]] += 1
    assert covered.max() == 1


def test_a_car_can_drive_in(town) -> None:
    _, tile, lots = town
    for lot in lots:
        way = [lot.site.point_m(lot.site.width_m / 2, v) for v in np.arange(-lot.reach_m, ROW_M + 2.0, 0.2)]
        for side in (-1.2, 0.0, 1.2):
            x, y = tile.cell_of(np.array(way) + side * lot.site.along)
            assert not tile.span_class[:, x, y].any()
        middle = _uv(lot, lot.stalls[:, :2]) - (lot.site.width_m / 2, 0)
        assert not ((np.abs(middle[:, 0]) < STALL_M) & (middle[:, 1] < ROW_M)).any()
