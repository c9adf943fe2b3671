"""Lane following: behind agents, along the route, blind to voxels."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.planner import Planner
from bridges.planners import LaneFollowing
from tests.bridges.planners import road


@pytest.fixture
def planner() -> LaneFollowing:
    made = LaneFollowing()
    made.reset(road.task())
    return made


def test_it_is_a_planner(planner: LaneFollowing) -> None:
    assert isinstance(planner, Planner)


def test_it_speeds_up_to_the_limit_on_a_free_road(planner: LaneFollowing) -> None:
    plan = planner.plan(road.observation())
    speed = np.diff(plan.pose[:, 0]) / np.diff(plan.time_s)
    assert np.all(np.diff(speed) > -1e-9) and road.SPEED_MPS < speed[-1] < 8.0
    assert np.allclose(plan.pose[:, 1:], 0.0)


@pytest.mark.parametrize("turn_rad", [0.0, np.pi / 2])
def test_it_stops_behind_what_stands_on_its_way(planner: LaneFollowing, turn_rad: float) -> None:
    plan = planner.plan(road.observation(cars=road.agents((20.0, 0.6, turn_rad, 0.0, 0.0))))
    reach = 2.2 if turn_rad == 0.0 else 0.9
    assert plan.pose[-1, 0] + 2.3 < 20.0 - reach and np.all(np.diff(plan.pose[:, 0]) >= 0)


@pytest.mark.parametrize("car", [(20.0, 4.0, 0.0, 0.0, 0.0), (-9.0, 0.0, 0.0, 0.0, 0.0)])
def test_who_is_beside_or_behind_does_not_matter(planner: LaneFollowing, car: tuple) -> None:
    free, with_car = planner.plan(road.observation()), planner.plan(road.observation(cars=road.agents(car)))
    assert np.array_equal(free.pose, with_car.pose)


def test_it_follows_who_drives_ahead(planner: LaneFollowing) -> None:
    plan = planner.plan(road.observation(cars=road.agents((14.0, 0.0, 0.0, 4.0, 0.0))))
    speed = np.diff(plan.pose[:, 0]) / np.diff(plan.time_s)
    assert 2.0 < speed[-1] < road.SPEED_MPS, "slower than it came, and it does not stop"


def test_it_does_not_see_voxels(planner: LaneFollowing) -> None:
    blocked = road.observation(((12.0, 16.0, -2.0, 2.0),))
    plan = planner.plan(blocked)
    assert np.array_equal(plan.pose, planner.plan(road.observation()).pose) and road.touches(plan.pose, blocked)


@pytest.mark.parametrize("radius_m", [20.0, -20.0])
def test_it_keeps_to_a_bend(planner: LaneFollowing, radius_m: float) -> None:
    plan = planner.plan(road.observation(route=road.bend(radius_m)))
    gap = np.hypot(plan.pose[:, 0], plan.pose[:, 1] - radius_m) - abs(radius_m)
    assert np.abs(gap).max() < 0.03 and np.sign(plan.pose[-1, 2]) == np.sign(radius_m)


def test_beside_its_lane_it_comes_back(planner: LaneFollowing) -> None:
    plan = planner.plan(road.observation(route=road.straight() + [0.0, 1.5, 0.0]))
    assert abs(plan.pose[0, 1]) < 0.1 and plan.pose[-1, 1] == pytest.approx(1.5)
    assert np.all(np.diff(plan.pose[:, 1]) > -1e-9)
