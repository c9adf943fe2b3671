"""The procedural town: what may stand where, on a street drawn by hand and on real maps."""

import numpy as np
import pytest

from dcgen.types import Semantics
from scenarios.layout import ROAD, SIDEWALK, rasterise
from scenarios.roads import read_map
from scenarios.world.store import World
from scenarios.world.town.parked import park_cars
from scenarios.world.town.plan import plan_town
from scenarios.world.town.style import mixed
from scenarios.world.town.terrain import terrain_cm
from scenarios.world.town.town import build_town
from scenarios.world.traffic.clearance import boxes_touch
from tests.scenarios.world.conftest import MAPS, street_map


def test_surfaces_are_what_the_layout_shows(street: World) -> None:
    flags, surface = street.raster.flags[0], street.tile.surface_class[0]
    assert np.array_equal(surface == Semantics.ROAD, flags & ROAD > 0)
    assert np.array_equal(surface == Semantics.SIDEWALK, (flags & SIDEWALK > 0) & (flags & ROAD == 0))
    assert set(np.unique(surface)) == {Semantics.ROAD, Semantics.SIDEWALK, Semantics.GROUND}


def test_nothing_stands_on_a_road_and_buildings_keep_off_sidewalks(street: World) -> None:
    flags = street.raster.flags[0]
    spans = street.tile.span_class
    assert not (spans[:, flags & ROAD > 0] > 0).any()
    assert not (spans[:, flags > 0] == Semantics.BUILDING).any()
    assert (spans == Semantics.BUILDING).any() and (spans == Semantics.POLE).any()


def test_used_spans_come_first_and_stand_upright(street: World) -> None:
    used = street.tile.span_class > 0
    assert not (used[1:] & ~used[:-1]).any()
    assert (street.tile.span_hi_cm > street.tile.span_lo_cm)[used].all()


def test_a_seed_grows_the_same_town_and_another_a_different_one() -> None:
    road_map = street_map()
    raster = rasterise(road_map)
    first, again, other = (build_town(road_map, raster, seed).span_class for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_terrain_leads_the_road_height_outwards(street: World) -> None:
    ground = terrain_cm(street.raster).astype(int)
    known = street.raster.flags[0] > 0
    assert np.array_equal(ground[known], street.raster.height_cm[0][known])
    step = np.abs(np.diff(ground, axis=1))
    assert step.max() <= 12  # centimetres a cell, the road's edge included
    left, right = ground[:200].mean(), ground[-200:].mean()
    assert right - left > 100


def test_the_signal_stands_beside_the_road(street: World) -> None:
    x, y = street.tile.cell_of(np.array([90.0, -8.0]))
    near = street.tile.span_class[:, x - 40 : x + 40, y - 40 : y + 40]
    high = street.tile.span_hi_cm[:, x - 40 : x + 40, y - 40 : y + 40] > 500
    assert ((near == Semantics.POLE) & high).any()


def test_parked_cars_fill_the_parking_lane_and_the_lots_alone() -> None:
    road_map = street_map()
    raster = rasterise(road_map)
    in_lane = in_lots = 0
    for seed in range(6):
        cars = park_cars(road_map, raster, seed)
        lane = np.abs(cars.pose[:, 0, 1] + 4.75) < 0.3
        stalls = np.concatenate(
            [np.zeros((0, 3)), *(lot.stalls for lot in plan_town(road_map, raster, seed, mixed()).lots)]
        )
        assert not cars.speed_mps.any()
        for at in cars.pose[~lane, 0, :2]:
            assert np.hypot(*(stalls[:, :2] - at).T).min() < 0.01
        in_lane, in_lots = in_lane + int(lane.sum()), in_lots + int((~lane).sum())
        for k in range(len(cars.id) - 1):
            rest = slice(k + 1, None)
            assert not boxes_touch(cars.pose[k, 0], cars.size_m[k], cars.pose[rest, 0], cars.size_m[rest]).any()
    assert in_lane > 20 and in_lots > 20


def test_boxes_touch_by_their_corners_too() -> None:
    pose, size = np.array([0.0, 0.0, 0.0]), np.array([4.0, 2.0])
    others = np.array([[3.4, 0, np.pi / 2], [2.9, 0, np.pi / 2], [3.6, 2.6, 0.8], [2.6, 1.2, 0.8]])
    assert boxes_touch(pose, size, others, np.tile(size, (4, 1))).tolist() == [False, True, False, True]


@pytest.mark.parametrize("name", ["Town02", "Town05"])
def test_a_real_town_has_its_parts(name: str) -> None:
    path = MAPS / f"{name}.xodr"
    if not path.exists():
        pytest.skip(f"needs ../shared/data/maps/{name}.xodr")
    road_map = read_map(path)
    raster = rasterise(road_map)
    tile = build_town(road_map, raster, seed=2)
    counts = np.bincount(tile.span_class.ravel(), minlength=12)
    for kind in (Semantics.BUILDING, Semantics.BARRIER, Semantics.OTHER, Semantics.POLE, Semantics.VEGETATION):
        assert counts[kind] > 50, kind
    ground_road = (raster.flags[0] & ROAD > 0) & (raster.flags[-1] & ROAD > 0)
    assert not np.isin(tile.span_class[:, ground_road], [Semantics.BUILDING, Semantics.VEGETATION]).any()
    assert tile.surface_class.shape[0] == (2 if name == "Town05" else 1)
    assert tile.bytes < 600e6
