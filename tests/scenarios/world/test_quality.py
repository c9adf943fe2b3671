"""Figures of soundness on a real map, and that they notice what is wrong."""

import dataclasses
import json

import numpy as np

from dcgen.types import Semantics
from scenarios.world.bench import bench_world
from scenarios.world.quality import check_world
from scenarios.world.store import World


def test_a_real_world_is_sound(real_world: World) -> None:
    figures = check_world(real_world, samples=250, clips=16)
    json.dumps(figures)
    assert figures["agents_in_solid"] <= 0.002
    assert figures["parked_in_solid"] == 0 and figures["parked_on_road"] > 0.5  # the others stand in parking lots
    assert figures["vehicle_on_road"] >= 0.99
    assert figures["overlapping_agents"] <= 0.03
    traffic = figures["traffic"]
    assert traffic["overlap_share"] < 0.005 and traffic["off_surface_share"] < 0.01 and traffic["teleports"] == 0
    assert traffic["standing_share"] < 0.5 and traffic["turning_share"] > 0.05
    assert traffic["braking_mps2"]["p99"] < 4 and traffic["lateral_mps2"]["p99"] < 5
    assert figures["ego_path_free"] >= 0.995
    assert figures["static_consistency"] >= 0.995
    shares = figures["class_shares"]
    assert 0.5 < shares["free"] < 0.9 and shares["road"] > 0.02 and shares["building"] > 0.02
    assert all(shares[name] > 0 for name in ("pole", "vehicle", "pedestrian", "vegetation", "ground", "sidewalk"))


def test_the_figures_notice_a_wall_across_the_street(street: World) -> None:
    spans = street.tile.span_class.copy()
    high = street.tile.span_hi_cm.copy()
    x, _ = street.tile.cell_of(np.array([60.0, 0.0]))
    spans[0, x : x + 100], high[0, x : x + 100] = Semantics.BUILDING, 900
    walled = dataclasses.replace(street, tile=dataclasses.replace(street.tile, span_class=spans, span_hi_cm=high))
    good, bad = check_world(street, clips=4), check_world(walled, clips=4)
    assert good["agents_in_solid"] == 0 and good["ego_path_free"] == 1
    assert bad["agents_in_solid"] > 0.05


def test_the_figures_notice_grass_under_the_wheels(street: World) -> None:
    surface = np.where(street.tile.surface_class == Semantics.ROAD, Semantics.GROUND, street.tile.surface_class)
    meadow = dataclasses.replace(street, tile=dataclasses.replace(street.tile, surface_class=surface.astype(np.uint8)))
    assert check_world(street, clips=2)["vehicle_on_road"] == 1
    assert check_world(meadow, clips=2)["vehicle_on_road"] == 0


def test_the_benchmark_runs(street: World) -> None:
    figures = bench_world(street, seconds=0.05)
    assert all(value > 0 for key, value in figures.items() if key.startswith(("kernel", "clip")))
