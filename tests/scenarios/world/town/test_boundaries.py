"""Strips along edges: where they run, where they stay open, and dividers on medians."""

import numpy as np

from dcgen.types import Semantics
from scenarios.layout import ROAD, RoadRaster, rasterise
from scenarios.roadmap import RoadMap
from scenarios.world.town.boundaries import strip
from scenarios.world.town.canvas import Canvas
from scenarios.world.town.style import TownStyle
from scenarios.world.town.town import build_town
from tests.scenarios.world.conftest import street_lane


def _canvas() -> Canvas:
    flags = np.zeros((1, 200, 60), np.uint8)
    flags[0, :, :20] = ROAD
    height = np.zeros(flags.shape, np.int16)
    return Canvas(RoadRaster(np.array([0.0, 0.0]), 0.2, flags, height), height[0])


def _along(y_m: float) -> np.ndarray:
    return np.stack([np.arange(1.0, 39.0), np.full(38, y_m)], axis=1)


def test_a_strip_stays_open_where_it_should_and_where_something_is_reserved() -> None:
    canvas = _canvas()
    canvas.taken[100:110] = True  # a driveway, x from 20 to 22
    strip(_along(7.0), canvas, Semantics.BARRIER, 1.2, 0.6, ((9.0, 12.0),))
    fence = (canvas.span_class[0] == Semantics.BARRIER).any(axis=1)
    x = (np.arange(200) + 0.5) * 0.2
    assert fence[(x > 2) & (x < 9)].all() and fence[(x > 14.5) & (x < 19)].all() and fence[(x > 23.5) & (x < 37)].all()
    assert not fence[(x > 10.5) & (x < 12.5)].any() and not fence[(x > 20) & (x < 22)].any()
    assert (canvas.span_hi_cm[0][canvas.span_class[0] > 0] == 120).all()


def test_a_strip_never_runs_over_a_road_and_leaves_no_crumbs() -> None:
    canvas = _canvas()
    strip(_along(3.9), canvas, Semantics.BARRIER, 1.2, 0.8)
    assert not canvas.span_class[0, :, :20].any()
    canvas.taken[:] = True
    canvas.taken[50:55] = False  # one metre is too short for a fence
    before = canvas.span_class.copy()
    strip(_along(9.0), canvas, Semantics.BARRIER, 1.2, 0.6)
    assert np.array_equal(canvas.span_class, before)


def test_strips_between_carriageways_get_dividers_and_no_houses() -> None:
    rows = [(-1, "driving", -2.0, 4.0), (1, "driving", 12.0, 4.0)]
    lanes = {lane.id: lane for lane in (street_lane(*row, 240.0, 25.0) for row in rows)}
    road_map = RoadMap("dual", lanes, (), (), (), (0.0, -4.0, 240.0, 14.0))
    raster = rasterise(road_map)
    kinds = set()
    for seed in range(6):
        tile = build_town(road_map, raster, seed, TownStyle(greenery=0.2, furniture=1.0))
        _, low = tile.cell_of(np.array([0.0, 0.2]))
        _, high = tile.cell_of(np.array([0.0, 9.8]))
        x, _ = tile.cell_of(np.array([[60.0, 0.0], [180.0, 0.0]]))
        between = tile.span_class[:, x[0] : x[1], low:high]
        kinds |= set(np.unique(between))
        assert not (between == Semantics.BUILDING).any()
    assert kinds & {Semantics.BARRIER, Semantics.VEGETATION}
