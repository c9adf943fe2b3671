"""Styles: bad fields are named, JSON round trips, and each parameter does to a town what it says."""

import json
import math
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from dcgen.errors import WorldError
from dcgen.types import Semantics
from scenarios.layout import ROAD, RoadRaster, rasterise
from scenarios.roadmap import RoadMap
from scenarios.world.town.parked import park_cars
from scenarios.world.town.style import PRESETS, TownStyle, Zone, mixed, style_named
from scenarios.world.town.tile import TownTile
from scenarios.world.town.town import build_town
from tests.scenarios.world.conftest import street_map

SEEDS = (1, 2)


@pytest.mark.parametrize("name", [field.name for field in fields(TownStyle)])
@pytest.mark.parametrize("value", [-0.1, 4.5, math.nan, math.inf, "many", True, None])
def test_a_bad_field_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"style\.{name} "):
        replace(mixed(), **{name: value})


def test_a_town_needs_a_zone_and_houses_a_height() -> None:
    with pytest.raises(ValueError, match=r"style\.downtown"):
        TownStyle(**{zone.value: 0.0 for zone in Zone})
    with pytest.raises(ValueError, match=r"style\.height_scale"):
        TownStyle(height_scale=0.1)


@pytest.mark.parametrize("make", PRESETS.values())
def test_presets_survive_json(make) -> None:
    style = make()
    assert TownStyle.from_dict(json.loads(json.dumps(style.to_dict()))) == style == style_named(make.__name__)
    assert sum(style.shares().values()) == pytest.approx(1)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"style\.trees: no such field; choose from .*greenery"):
        TownStyle.from_dict({"trees": 1})
    assert TownStyle.from_dict({"greenery": 1}) == replace(mixed(), greenery=1.0)
    with pytest.raises(WorldError, match=r"'metropolis'.*downtown"):
        style_named("metropolis")


@cache
def _map() -> tuple[RoadMap, RoadRaster]:
    road_map = street_map(230.0)
    return road_map, rasterise(road_map)


@cache
def _towns(style: TownStyle) -> tuple[TownTile, ...]:
    return tuple(build_town(*_map(), seed, style) for seed in SEEDS)


def _cells(style: TownStyle, *kinds: Semantics) -> int:
    return sum(int(np.isin(tile.span_class, kinds).sum()) for tile in _towns(style))


def _only(zone: Zone, **more: float) -> TownStyle:
    return TownStyle(**{each.value: float(each is zone) for each in Zone}, **more)


def test_a_denser_town_has_more_building() -> None:
    for zone in (Zone.DOWNTOWN, Zone.RESIDENTIAL):
        built = [_cells(_only(zone, density=density), Semantics.BUILDING) for density in (0.0, 0.35, 0.7, 1.0)]
        assert built[0] == 0 and all(more > 1.05 * less for less, more in pairwise(built)), built


def test_heights_scale() -> None:
    def mean_m(scale: float) -> float:
        heights = [
            (tile.span_hi_cm - tile.span_lo_cm.astype(int))[tile.span_class == Semantics.BUILDING]
            for tile in _towns(_only(Zone.DOWNTOWN, height_scale=scale, construction=0))
        ]
        return float(np.concatenate(heights).mean()) / 100

    low, one, two = (mean_m(scale) for scale in (0.5, 1.0, 2.0))
    assert 1.5 * low < one and 1.6 * one < two < 2.4 * one


def test_green_towns_have_more_green_and_bare_ones_none() -> None:
    green = [_cells(replace(mixed(), greenery=amount), Semantics.VEGETATION) for amount in (0.0, 0.5, 1.0)]
    assert green[0] == 0 and green[1] > 2000 and green[2] > 1.3 * green[1], green


def test_furniture_follows_its_amount() -> None:
    bare = replace(mixed(), construction=0)
    amount = [_cells(replace(bare, furniture=f), Semantics.POLE, Semantics.OTHER) for f in (0.0, 0.5, 1.0)]
    signals = len(SEEDS) * 16  # the map's own light stays
    assert amount[0] <= signals < amount[1] and amount[2] > 1.3 * amount[1], amount


def test_parking_fills_lots_and_streets() -> None:
    cars = [
        sum(len(park_cars(*_map(), seed, replace(mixed(), parking=amount)).id) for seed in SEEDS)
        for amount in (0.0, 0.5, 1.0)
    ]
    assert cars[0] == 0 and cars[1] > 20 and cars[2] > 1.3 * cars[1], cars


def test_construction_puts_up_scaffolds_and_barriers() -> None:
    bare = replace(_only(Zone.DOWNTOWN), furniture=0)
    none, some = (_cells(replace(bare, construction=amount), Semantics.OTHER) for amount in (0.0, 1.0))
    assert none == 0 and some > 300


def test_zones_are_what_they_are_called() -> None:
    assert _cells(_only(Zone.PARK, density=1.0), Semantics.BUILDING) == 0
    built = {zone: _cells(_only(zone, construction=0), Semantics.BUILDING) for zone in Zone}
    assert built[Zone.DOWNTOWN] > built[Zone.RESIDENTIAL] > built[Zone.RURAL] > 0
    assert built[Zone.INDUSTRIAL] > built[Zone.RESIDENTIAL]


@pytest.mark.parametrize("make", PRESETS.values())
def test_nothing_stands_on_a_road_or_below_its_ground(make) -> None:
    road = _map()[1].flags[0] & ROAD > 0
    for tile in _towns(make()):
        used = tile.span_class > 0
        assert not used[:, road].any() and not (used[1:] & ~used[:-1]).any()
        assert (tile.span_hi_cm > tile.span_lo_cm)[used].all()
        assert (tile.span_lo_cm >= tile.surface_cm[0][None])[used].all()
