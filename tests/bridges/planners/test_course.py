"""The line of a route: distances along it and beside it."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.planners.course import LATERAL_MPS2, course_of
from tests.bridges.planners import road


@pytest.mark.parametrize("route", [road.straight(), road.bend(20.0), road.bend(-35.0)])
def test_place_undoes_pose(route: np.ndarray) -> None:
    course = course_of(route)
    s, left = np.linspace(1.3, 42.7, 19), np.linspace(-3.0, 3.0, 19)
    pose = course.pose(s, left)
    again = course.place(pose[:, :2])
    assert np.allclose(again[0], s, atol=0.1) and np.allclose(again[1], left, atol=0.06)


def test_curvature_is_positive_to_the_left() -> None:
    for radius in (25.0, -25.0):
        assert np.allclose(course_of(road.bend(radius)).curvature_pm[5:40], 1 / radius, rtol=0.02)


def test_zero_is_where_the_ego_is() -> None:
    route = road.straight() - [4.0, 1.5, 0.0]
    s, left, yaw = course_of(route).place(np.zeros(2))
    assert abs(s) < 1e-9 and left == pytest.approx(1.5) and yaw == 0.0


def test_it_goes_straight_on_beyond_its_end_and_without_points() -> None:
    course = course_of(road.bend(20.0, 12))
    last = road.bend(20.0, 12)[-1]
    beyond = course.pose(np.array([course.known_m + 30.0]))[0]
    assert np.allclose(beyond[:2], last[:2] + 30.0 * np.array([np.cos(last[2]), np.sin(last[2])]), atol=1e-6)
    assert np.allclose(course_of(np.zeros((0, 3))).pose(np.array([17.0]))[0], [17.0, 0.0, 0.0])


def test_it_slows_down_before_a_bend() -> None:
    route = np.concatenate([road.straight(30), road.bend(12.0, 20)[1:] + [29.0, 0.0, 0.0]])
    course = course_of(route)
    cap = course.speed_cap(np.array([0.0, 15.0, 25.0, 38.0]), 20.0)
    assert cap[0] > cap[1] > cap[2] > cap[3] == pytest.approx(np.sqrt(LATERAL_MPS2 * 12.0), rel=0.03)
