"""Bridges: an upper street on an earth bank crosses a lower one; parapets above, pillars and abutments below."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from dcgen.types import Semantics
from scenarios.layout import ROAD, RoadRaster, rasterise
from scenarios.roadmap import Lane, RoadMap
from scenarios.world.town.tile import TownTile
from scenarios.world.town.town import build_town
from tests.scenarios.world.conftest import street_lane

HIGH_M = 7.0


def _lane(lane_id: int, kind: str, offset_m: float, width_m: float, upper: bool) -> Lane:
    """A lane of 130 m: along x at height 0, or along y, HIGH_M above it and crossing in the middle."""
    lane = street_lane(lane_id, kind, offset_m, width_m, 130.0)

    def placed(line: np.ndarray) -> np.ndarray:
        x, y = line[:, 0] - 65.0, line[:, 1]
        z = np.full(len(x), HIGH_M if upper else 0.0)
        return np.stack([-y, x, z] if upper else [x, y, z], axis=1)

    road = 2 if upper else 1
    return replace(
        lane, id=f"{road}:0:{lane_id}", road_id=road, centre_m=placed(lane.centre_m), left_m=placed(lane.left_m),
        right_m=placed(lane.right_m), yaw_rad=lane.yaw_rad + np.pi / 2 * upper,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bridge() -> tuple[RoadRaster, TownTile]:
    rows = [
        (-1, "driving", -1.75, 3.5),
        (-2, "sidewalk", -4.75, 2.5),
        (1, "driving", 1.75, 3.5),
        (2, "sidewalk", 4.75, 2.5),
    ]
    lanes = [_lane(*row, upper) for row in rows for upper in (False, True)]
    road_map = RoadMap("bridge", {lane.id: lane for lane in lanes}, (), (), (), (-65.0, -65.0, 65.0, 65.0))
    raster = rasterise(road_map)
    return raster, build_town(road_map, raster, 3)


def test_the_map_has_a_deck(bridge: tuple[RoadRaster, TownTile]) -> None:
    raster, tile = bridge
    assert raster.flags.shape[0] == 2 and np.all(tile.surface_cm[1][raster.flags[1] > 0] == 100 * HIGH_M)


def test_parapets_run_along_both_sides_and_nothing_else_is_on_the_roads(bridge: tuple[RoadRaster, TownTile]) -> None:
    raster, tile = bridge
    assert set(np.unique(tile.span_class[:, raster.flags[0] & ROAD > 0])) <= {0, Semantics.BARRIER}
    above = (tile.span_hi_cm > 100 * HIGH_M) & (raster.flags[1] > 0)
    assert set(np.unique(tile.span_class[above])) == {Semantics.BARRIER}
    parapet = (tile.span_class == Semantics.BARRIER) & (tile.span_lo_cm == 100 * HIGH_M)
    deck = raster.flags[1] > 0
    on_deck = (parapet & deck).any(axis=0)
    drivable = deck & (raster.flags[1] & ROAD > 0)
    assert not (on_deck & ndimage.binary_erosion(drivable, iterations=3)).any()
    i, j = np.nonzero(on_deck)
    x = raster.origin_m[0] + (i + 0.5) * 0.2
    assert {-1, 1} == set(np.sign(x)) and np.all(np.abs(x) > 5.0)
    rows = np.unique(j[x < 0])
    assert np.all(np.diff(rows) == 1) and len(rows) * 0.2 > 12.0


def test_pillars_and_abutments_stand_between_ground_and_deck(bridge: tuple[RoadRaster, TownTile]) -> None:
    raster, tile = bridge
    bare = (raster.flags[1] > 0) & (raster.flags[0] == 0)
    concrete = (tile.span_class == Semantics.OTHER) & bare
    assert concrete.any(axis=0).sum() > 60
    assert (tile.span_hi_cm[concrete] <= 100 * HIGH_M - 50).all()
    assert (tile.span_lo_cm == tile.surface_cm[0][None])[concrete].all()
    assert np.abs(tile.surface_cm[0][bare]).max() <= 10, "the ground below a deck lies as low as the road"
