"""The example planner drives, and brakes for what only the occupancy shows."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

from bridges.planner import Planner
from bridges.rollout.bicycle import advance
from tests.bridges.planners import road

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "planner.py"


def test_it_drives_and_brakes() -> None:
    planner = runpy.run_path(str(EXAMPLE))["Careful"]()
    assert isinstance(planner, Planner)
    planner.reset(road.task())
    assert planner.plan(road.observation()).acceleration_mps2 > 0
    assert planner.plan(road.observation(((9.0, 12.0, -2.0, 2.0),))).acceleration_mps2 < -2.0
    for radius in (25.0, -25.0):
        seen = road.observation(route=road.bend(radius))
        assert np.sign(advance(seen.ego, planner.plan(seen), 0.2).steering_rad) == np.sign(radius)
