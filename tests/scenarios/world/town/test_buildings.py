"""Buildings: plans keep to their lots, roofs rise, and walls stand where the plan says."""

from itertools import pairwise

import numpy as np
import pytest

from dcgen.types import Semantics
from scenarios.layout import RoadRaster
from scenarios.world.town.buildings import Part, Site, build, can_build, draw_plan, draw_row
from scenarios.world.town.canvas import Canvas
from scenarios.world.town.style import Zone

ZONES = (Zone.DOWNTOWN, Zone.RESIDENTIAL, Zone.INDUSTRIAL, Zone.RURAL)


def _canvas() -> Canvas:
    flags = np.zeros((1, 180, 140), np.uint8)
    return Canvas(
        RoadRaster(np.array([-3.0, 5.0]), 0.2, flags, np.zeros(flags.shape, np.int16)), np.zeros((180, 140), np.int16)
    )


@pytest.mark.parametrize("zone", ZONES)
def test_plans_keep_to_their_lots(zone: Zone) -> None:
    rng = np.random.default_rng(8)
    shapes = set()
    for _ in range(40):
        width, depth, height = rng.uniform(10, 30), rng.uniform(9, 22), rng.uniform(5, 18)
        plan = draw_plan(zone, width, depth, height, rng)
        assert plan
        for part in plan:
            assert -1e-9 <= part.u0 < part.u1 <= width + 1e-9 and -1e-9 <= part.v0 < part.v1 <= depth + 1e-9
            assert 2.5 <= part.height_m <= 1.7 * height + 3
        shapes.add((len(plan), *(round(part.height_m) for part in plan)))
    assert len(shapes) > 8


def test_row_houses_stand_wall_to_wall() -> None:
    plan = draw_row(25.0, 10.0, 7.0, np.random.default_rng(1))
    assert len(plan) == 4 and plan[0].u0 == 0 and plan[-1].u1 == pytest.approx(25)
    assert all(a.u1 == b.u0 for a, b in pairwise(plan))


def test_a_gable_is_highest_along_its_ridge() -> None:
    part = Part(0, 8, 0, 6, 3.0, 2.0)
    v = np.linspace(0.1, 5.9, 30)
    tops = part.tops_m(np.full(30, 4.0), v)
    assert tops.max() == pytest.approx(5.0, abs=0.1) and tops[0] == pytest.approx(3.0, abs=0.1)
    assert part.tops_m(np.array([8.1]), np.array([3.0]))[0] == 0


def test_a_yard_stays_open_and_the_whole_lot_is_taken() -> None:
    canvas = _canvas()
    along = np.array([np.cos(0.3), np.sin(0.3)])
    site = Site(np.array([6.0, 9.0]), along, 18.0, 12.0)
    patch = can_build(site, canvas)
    assert patch is not None
    build(site, patch, [Part(0, 18, 0, 5, 9.0), Part(0, 5, 0, 12, 6.0)], canvas)

    def column(u: float, v: float) -> tuple[int, int]:
        x, y = site.point_m(u, v)
        i, j = int((x + 3.0) / 0.2), int((y - 5.0) / 0.2)
        return int(canvas.span_class[0, i, j]), int(canvas.span_hi_cm[0, i, j])

    assert column(9, 2.5) == (Semantics.BUILDING, 900) and column(2.5, 9) == (Semantics.BUILDING, 600)
    assert column(12, 9) == (0, 0) and column(2.5, 2.5) == (Semantics.BUILDING, 900)
    assert can_build(Site(site.point_m(10, 8), along, 4.0, 3.0), canvas) is None


def test_nobody_builds_on_a_cliff() -> None:
    canvas = _canvas()
    canvas.surface_cm[0, 90:] = 700
    assert can_build(Site(np.array([10.0, 10.0]), np.array([1.0, 0.0]), 12.0, 9.0), canvas) is None
    assert can_build(Site(np.array([1.0, 10.0]), np.array([1.0, 0.0]), 12.0, 9.0), canvas) is not None
