"""On the road, with the traffic, in the lane: cases with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bridges.scoring import score
from bridges.scoring.road import ground, longest_run, most_against_m
from bridges.scoring.route import along
from tests.bridges.scoring import twins
from tests.bridges.scoring.episodes import episode, road

DT_S = 0.2


def path(y=0.0, x=None, yaw=0.0) -> np.ndarray:
    x = np.arange(21) * 1.6 if x is None else np.asarray(x, float)
    return np.stack([x, np.broadcast_to(y, x.shape), np.broadcast_to(yaw, x.shape)], axis=1)


@pytest.mark.parametrize(("y", "value"), [(-0.7, 1.0), (-1.04, 1.0), (-1.06, 0.0), (4.29, 1.0), (4.6, 0.0)])
def test_all_four_corners_stay_on_the_road(y: float, value: float) -> None:
    """The edge is at -1.75 and 5.25, the half width 0.95, and a raster of 0.5 m forgives 0.25 m."""
    assert score(episode(path(y))).drivable_area == value


def test_a_corner_over_the_edge_at_an_angle() -> None:
    """At 20 degrees the corners reach 0.787 + 0.893 m aside; with the raster's 0.25 m off either side, 1.36 m."""
    turned = np.where(np.arange(21) == 9, -np.radians(20.0), 0.0)
    assert score(episode(path(-0.35, yaw=turned))).drivable_area == 1.0
    assert score(episode(path(-0.45, yaw=turned))).drivable_area == 0.0


def test_the_given_frame_is_not_judged() -> None:
    y = np.where(np.arange(21) == 0, -9.0, 0.0)
    assert score(episode(path(y))).drivable_area == 1.0
    assert score(episode(path(np.roll(y, 1)))).drivable_area == 0.0


def test_unknown_ground_is_no_road_and_no_verge() -> None:
    blind = road(known=False)
    marks = score(episode(path(-9.0), road=blind))
    assert marks.drivable_area == marks.driving_direction == marks.lane_keeping == 1.0
    assert {"drivable_area", "driving_direction", "lane_keeping"} <= marks.not_measured.keys()
    assert marks.outside_share == 0.0


@pytest.mark.parametrize(
    ("speed", "seconds", "value"),
    [(1.9, 4.0, 1.0), (3.0, 4.0, 0.5), (5.9, 4.0, 0.5), (6.1, 4.0, 0.0), (8.0, 0.2, 1.0), (8.0, 0.6, 0.5)],
)
def test_metres_against_the_lane_within_a_second(speed: float, seconds: float, value: float) -> None:
    """So fast for so long on the oncoming side, whose lanes lead towards -x."""
    frames = round(seconds / DT_S)
    y = np.where((np.arange(21) > 0) & (np.arange(21) <= frames), 3.5, 0.0)
    x = np.arange(21) * speed * DT_S
    marks = score(episode(path(y, x), speed))
    assert marks.driving_direction == value
    assert marks.most_against_m == pytest.approx(speed * min(seconds, 1.0))


def test_three_metres_in_the_oncoming_lane() -> None:
    """Two frames of 1.5 m there, on a way of 4 s."""
    y = np.where(np.isin(np.arange(21), (9, 10)), 3.5, 0.0)
    marks = score(episode(path(y, np.arange(21) * 1.5), 7.5))
    assert marks.most_against_m == pytest.approx(3.0) and marks.driving_direction == 0.5


def test_reversing_in_ones_own_lane_is_against_it() -> None:
    assert score(episode(path(x=20.0 - np.arange(21) * 0.5), -2.5)).driving_direction == 0.5


def test_crossing_the_road_is_not_against_it() -> None:
    assert score(episode(path(np.linspace(-1, 4, 21), np.full(21, 9.0), np.pi / 2), 1.25)).driving_direction == 1.0


def test_most_metres_and_longest_runs_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(2)
    for dt_s in (0.07, 0.1, 0.2, 0.5, 1.3):
        under = ground(road(), path(), (4.6, 1.9), dt_s)
        against = rng.random(21) * (rng.random(21) < 0.6)
        fast = most_against_m(replace(under, against_m=against))
        assert fast == pytest.approx(twins.most_in_a_second(against, dt_s), abs=1e-8)
        assert longest_run(against > 0) == twins.longest_run(against > 0)
    assert longest_run(np.zeros(0, bool)) == 0


@pytest.mark.parametrize(
    ("y", "frames", "value"), [(0.49, 21, 1.0), (0.51, 9, 1.0), (0.51, 10, 0.0), (-0.51, 10, 0.0), (0.51, 21, 0.0)]
)
def test_two_seconds_away_from_the_centre_line(y: float, frames: int, value: float) -> None:
    away = np.where((np.arange(21) >= 3) & (np.arange(21) < 3 + frames), y, 0.0)
    assert score(episode(path(away))).lane_keeping == value


def test_junctions_neither_count_nor_end_a_run() -> None:
    away = np.where(np.isin(np.arange(21), range(3, 18)), 0.6, 0.0)
    field = road()
    junction = field.heading_rad.copy()
    junction[int(40 / 0.5) + int(8.0 / 0.5) : int(40 / 0.5) + int(20.0 / 0.5)] = np.nan  # 8 m <= x < 20 m: frames 5..12
    half = replace(field, heading_rad=junction)
    assert score(episode(path(away), road=half)).lane_keeping == 1.0  # 15 frames, of which 8 in the junction
    longer = np.where(np.isin(np.arange(21), range(2, 21)), 0.6, 0.0)
    assert score(episode(path(longer), road=half)).lane_keeping == 0.0  # 11 on either side of it together
    none = replace(field, heading_rad=np.full_like(junction, np.nan))
    assert "lane_keeping" in score(episode(path(away), road=none)).not_measured


def test_what_the_reference_fails_too_is_the_maps_fault() -> None:
    off = path(-3.0)
    marks = score(episode(off, reference=off))
    assert marks.drivable_area == 0.0 and "drivable_area" in marks.forgiven and marks.epdms > 0
    assert score(episode(off)).forgiven == () and score(episode(off)).epdms == 0


def test_a_route_is_followed_as_a_plain_projection_does() -> None:
    s = np.linspace(0, 60, 61)
    bend = np.stack([40 * np.sin(s / 40), 40 - 40 * np.cos(s / 40), s / 40], axis=1)
    rng = np.random.default_rng(4)
    poses = bend[5:50] + rng.normal(0, [0.8, 0.8, 0.1], (45, 3))
    found = along(bend, poses)
    for k, pose in enumerate(poses):
        arc, distance = twins.arc_and_distance(bend, pose)
        assert found.arc_m[k] == pytest.approx(arc, abs=0.1)
        assert abs(found.lateral_m[k]) == pytest.approx(distance, abs=2e-3)
    left = bend[5:50] + 0.5 * np.stack([-np.sin(bend[5:50, 2]), np.cos(bend[5:50, 2]), np.zeros(45)], axis=1)
    assert np.allclose(along(bend, left).lateral_m, 0.5, atol=0.01)


def test_where_a_route_crosses_itself_the_way_one_drives_decides() -> None:
    loop = np.array([[0, 0, 0], [30, 0, 0], [30, 30, 0], [15, 30, 0], [15, -30, 0]], float)
    crossing = np.array([[15.0, 0.2, 0.0], [14.9, 0.0, -np.pi / 2]])
    assert np.allclose(along(loop, crossing).arc_m, [15.0, 30 + 30 + 15 + 30])
