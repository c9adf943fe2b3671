"""Keypoints become routes, and routes are driven within limits."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from dcgen.errors import ScenarioError
from dcgen.types import wrap_angle
from scenarios.drive import curvature
from scenarios.lane_graph import LaneGraph
from scenarios.roadmap import Lane, RoadMap
from scenarios.roads import read_map
from scenarios.route import RoadOption, Route, drive, plan_route, random_route
from scenarios.routes import RouteSpec, read_routes

CARLA_FILES = {"lb1_devtest": 1, "lb1_training": 4, "routes_town10": 1}  # file: every so many routes


@cache
def town(path: Path) -> tuple[RoadMap, LaneGraph]:
    road_map = read_map(path)
    return road_map, LaneGraph(road_map)


@pytest.fixture(scope="module")
def planned(shared_data: Path) -> list[tuple[RouteSpec, Route]]:
    specs = [
        spec
        for name, stride in CARLA_FILES.items()
        for spec in read_routes(shared_data / "routes" / f"{name}.xml")[::stride]
    ]
    assert {spec.town for spec in specs} == {"Town01", "Town03", "Town04", "Town06", "Town10HD"}
    found = []
    for spec in specs:
        road_map, graph = town(shared_data / "maps" / f"{spec.town}.xodr")
        found.append((spec, plan_route(road_map, spec.keypoints_m, spec.yaw_rad, graph=graph)))
    return found


def lane(key: str, points: np.ndarray, width: float = 3.5, **more: object) -> Lane:
    """A lane along points [N, 2]."""
    slope = np.gradient(points, axis=0)
    yaw = np.arctan2(slope[:, 1], slope[:, 0])
    left = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1) * width / 2
    flat = [np.column_stack([p, np.zeros(len(p))]) for p in (points, points + left, points - left)]
    road, _, number = (int(part) for part in key.split(":"))
    fields: dict = {"junction_id": -1, "speed_limit_mps": 15.0} | more
    return Lane(key, road, number, "driving", *flat, np.full(len(points), width), yaw, **fields)


def mapped(*lanes: Lane) -> RoadMap:
    return RoadMap("made", {one.id: one for one in lanes}, (), (), (), (0, 0, 1, 1))


def two_lanes(length: float = 200.0) -> RoadMap:
    """Two lanes along +x at y = 0 and y = -3.5, and one against them at y = 3.5."""
    x = np.arange(0, length + 1)
    return mapped(
        lane("1:0:-1", np.stack([x, 0 * x], 1), right_change="1:0:-2"),
        lane("1:0:-2", np.stack([x, 0 * x - 3.5], 1), left_change="1:0:-1"),
        lane("1:0:1", np.stack([x[::-1], 0 * x + 3.5], 1)),
    )


def crossing(turn_deg: float) -> RoadMap:
    """A road along +x, a junction lane that turns, another that goes straight on, and the roads behind them."""
    u = np.linspace(0, 1, 21)
    angle = np.radians(turn_deg)
    bent = np.stack([np.sin(angle * u), 1 - np.cos(angle * u)], 1) * (20 / angle)
    ahead = bent[-1] + np.linspace(0, 40, 41)[:, None] * [np.cos(angle), np.sin(angle)]
    x = np.linspace(-50, 0, 51)
    far = np.linspace(20, 60, 41)
    return mapped(
        lane("1:0:-1", np.stack([x, 0 * x], 1), successors=("5:0:-1", "6:0:-1")),
        lane("5:0:-1", bent, junction_id=9, successors=("2:0:-1",), predecessors=("1:0:-1",)),
        lane("2:0:-1", ahead, predecessors=("5:0:-1",)),
        lane("6:0:-1", np.stack([20 * u, 0 * u], 1), junction_id=9, successors=("3:0:-1",), predecessors=("1:0:-1",)),
        lane("3:0:-1", np.stack([far, 0 * far], 1), predecessors=("6:0:-1",)),
    )


@pytest.mark.parametrize(
    ("turn_deg", "option"),
    [(90, RoadOption.LEFT), (-90, RoadOption.RIGHT), (30, RoadOption.STRAIGHT), (-30, RoadOption.STRAIGHT)]
    + [(35, RoadOption.LEFT), (-35, RoadOption.RIGHT)],
)
def test_turns_by_deviation(turn_deg: float, option: RoadOption) -> None:
    road_map = crossing(turn_deg)
    goal = road_map.lanes["2:0:-1"].centre_m[-2]
    route = plan_route(road_map, np.array([[-40, 0, 0], goal]))
    inside = np.array([key == "5:0:-1" for key in route.lane_id])
    assert (route.option[inside] == option).all() and (route.option[~inside] == RoadOption.LANEFOLLOW).all()
    assert route.length_m == pytest.approx(40 + 20 + 39, abs=0.5)


def test_left_turns_on_a_real_map_bend_to_the_left(planned: list[tuple[RouteSpec, Route]]) -> None:
    turns = {RoadOption.LEFT: 1.0, RoadOption.RIGHT: -1.0}
    seen = {RoadOption.LEFT: 0, RoadOption.RIGHT: 0}
    for spec, route in planned:
        if spec.town != "Town01":
            continue
        for option, sign in turns.items():
            runs = np.flatnonzero(np.diff(np.concatenate([[0], route.option == option, [0]])))
            for start, stop in runs.reshape(-1, 2):
                ring = route.points_m[start:stop, :2]
                x, y = (ring - ring[0]).T  # the area between the turn and its chord is signed by its bend
                area = 0.5 * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])
                assert sign * area > 5.0
                bend = float(wrap_angle(route.yaw_rad[stop - 1] - route.yaw_rad[start]))
                assert sign * bend == pytest.approx(np.pi / 2, abs=0.15)
                seen[option] += 1
    assert min(seen.values()) >= 5


def test_town01_route_0_turns_left_first(shared_data: Path) -> None:
    # Keypoints of the file, in CARLA's frame: north along x = 338.7, then west along y = 194.7: a left turn.
    spec = read_routes(shared_data / "routes" / "lb1_devtest.xml")[0]
    (ax, ay), (bx, by) = np.diff(spec.keypoints_m[:3, :2], axis=0)
    assert ax * by - ay * bx > 0
    road_map, graph = town(shared_data / "maps" / "Town01.xodr")
    route = plan_route(road_map, spec.keypoints_m, spec.yaw_rad, graph=graph)
    turns = [int(o) for o in route.option if o in (RoadOption.LEFT, RoadOption.RIGHT, RoadOption.STRAIGHT)]
    assert turns[0] == RoadOption.LEFT


def test_the_wrong_sign_of_y_is_noticed_on_town01(shared_data: Path) -> None:
    road_map, graph = town(shared_data / "maps" / "Town01.xodr")
    for spec in read_routes(shared_data / "routes" / "lb1_training.xml")[:10]:
        assert spec.town == "Town01"
        with pytest.raises(ScenarioError, match=r"keypoint \d+ .* lies \d+ m from the nearest driving lane"):
            plan_route(road_map, spec.keypoints_m * [1, -1, 1], graph=graph)


def test_carla_routes_are_dense_connected_and_pass_their_keypoints(planned: list[tuple[RouteSpec, Route]]) -> None:
    far = total = 0
    for spec, route in planned:
        steps = np.linalg.norm(np.diff(route.points_m[:, :2], axis=0), axis=1)
        assert steps.min() > 0.2 and steps.max() < 1.0
        assert np.abs(wrap_angle(np.diff(route.yaw_rad))).max() < 0.25
        gaps = np.linalg.norm(route.points_m[:, None, :2] - spec.keypoints_m[None, :, :2], axis=2).min(axis=0)
        far, total = far + int((gaps > 3.0).sum()), total + len(gaps)
        # Two lane changes within 7 m of a keypoint cannot be driven (Town06); else a lane's width is the most.
        assert np.sort(gaps)[-2] < 3.6 and gaps.max() < 6.0
        assert np.linalg.norm(route.points_m[0] - spec.keypoints_m[0]) < 1.0
        assert np.linalg.norm(route.points_m[-1] - spec.keypoints_m[-1]) < 1.0
    assert far <= 0.01 * total


def test_route_follows_linked_lanes(planned: list[tuple[RouteSpec, Route]], shared_data: Path) -> None:
    for spec, route in planned:
        graph = town(shared_data / "maps" / f"{spec.town}.xodr")[1]
        for before, after in pairwise(route.lane_id):
            if before != after:
                way = nx.shortest_path(graph.graph, before, after, weight="cost")
                left = [a for a in way[1:-1] if a not in graph.beside(before)]
                assert sum(graph.length_m(key) for key in left) < 0.6  # no more than a step is skipped


def test_keypoint_spacing_does_not_change_the_route(shared_data: Path) -> None:
    road_map, graph = town(shared_data / "maps" / "Town01.xodr")
    for seed in range(4):
        whole = random_route(road_map, seed, 400.0, graph)
        for spacing_m in (2, 9, 35):
            picked = np.unique([*range(0, len(whole.points_m), 2 * spacing_m), len(whole.points_m) - 1])
            again = plan_route(road_map, whole.points_m[picked], graph=graph)
            assert again.length_m == pytest.approx(whole.length_m, abs=1.5)
            gap = np.linalg.norm(again.points_m[:, None] - whole.points_m[None], axis=2).min(axis=1)
            assert gap.max() < 0.6


def test_a_sparse_leaderboard_2_route_is_joined(shared_data: Path) -> None:
    road_map, graph = town(shared_data / "maps" / "Town04.xodr")
    far = [graph.lanes[max(graph.lanes, key=lambda key: step @ graph.lanes[key].centre_m[0])] for step in np.eye(3)[:2]]
    keypoints = np.array([lane.centre_m[len(lane.width_m) // 2] for lane in far])
    apart = float(np.linalg.norm(np.diff(keypoints[:, :2], axis=0)))
    route = plan_route(road_map, keypoints, graph=graph)
    assert apart > 300 and apart < route.length_m < 6 * apart
    assert set(route.lane_id) >= {lane.id for lane in far}
    assert np.linalg.norm(np.diff(route.points_m[:, :2], axis=0), axis=1).max() < 1.0


def test_a_keypoint_on_the_wrong_side_is_moved_over() -> None:
    route = plan_route(two_lanes(), np.array([[10.0, 0, 0], [80.0, 3.5, 0], [150.0, 0, 0]]))
    assert set(route.lane_id) == {"1:0:-1"} and route.length_m == pytest.approx(140, abs=1)


def test_yaw_chooses_the_direction() -> None:
    keypoints = np.array([[120.0, 1.75, 0], [60.0, 1.75, 0]])
    assert set(plan_route(two_lanes(), keypoints).lane_id) == {"1:0:1"}
    east = plan_route(two_lanes(), keypoints[::-1], np.zeros(2))
    assert set(east.lane_id) == {"1:0:-1"}


@pytest.mark.parametrize(("start_y", "option"), [(0.0, RoadOption.CHANGELANERIGHT), (-3.5, RoadOption.CHANGELANELEFT)])
def test_a_lane_change_is_smooth_and_named(start_y: float, option: RoadOption) -> None:
    route = plan_route(two_lanes(), np.array([[5.0, start_y, 0], [190.0, -3.5 - start_y, 0]]))
    changing = route.option == option
    assert set(route.option.tolist()) == {int(option), int(RoadOption.LANEFOLLOW)}
    assert 20 < changing.sum() * 0.5 < 80
    assert (np.diff(np.flatnonzero(changing)) == 1).all()
    assert np.abs(route.yaw_rad).max() < 0.2
    assert (np.diff(route.points_m[:, 1]) * (1 if start_y else -1) > -1e-9).all()
    lateral = np.abs(curvature(route)) * 15.0**2
    assert lateral.max() < 2.6


def test_no_change_over_a_solid_line() -> None:
    x = np.arange(0.0, 201)
    solid = mapped(lane("1:0:-1", np.stack([x, 0 * x], 1)), lane("1:0:-2", np.stack([x, 0 * x - 3.5], 1)))
    route = plan_route(solid, np.array([[5.0, 0, 0], [190.0, -3.5, 0]]))
    assert len(set(route.lane_id)) == 1


def test_unreachable_and_off_map_keypoints_are_named() -> None:
    with pytest.raises(ScenarioError, match=r"r\.xml: no lanes lead from keypoint 0 to keypoint 1 \(140 m apart\)"):
        plan_route(mapped(two_lanes().lanes["1:0:-1"]), np.array([[150.0, 0, 0], [10.0, 0, 0]]), name="r.xml")
    with pytest.raises(ScenarioError, match=r"keypoint 1 \(x=50\.0, y=90\.0 .* lies 86 m"):
        plan_route(two_lanes(), np.array([[10.0, 0, 0], [50.0, 90.0, 0]]))
    with pytest.raises(ScenarioError, match=r"pass the map of Town03 \(--map Town03\.xodr\)"):
        plan_route(two_lanes(), np.array([[10.0, 0, 0], [50.0, 90.0, 0]]), name="lb1.xml", town="Town03")


def test_without_a_map_only_dense_keypoints_do() -> None:
    angle = np.linspace(0, np.pi / 2, 12)
    keypoints = np.stack([15 * np.sin(angle), 15 - 15 * np.cos(angle), 0.1 * angle], axis=1)
    route = plan_route(None, keypoints)
    assert route.length_m == pytest.approx(15 * np.pi / 2, rel=0.02)
    assert np.abs(np.linalg.norm(route.points_m[:, :2] - [0, 15], axis=1) - 15).max() < 0.3
    assert set(route.lane_id) == {""} and set(route.option.tolist()) == {RoadOption.LANEFOLLOW}
    with pytest.raises(ScenarioError, match=r"lb2\.xml: keypoints .* 225 m apart.*Town12.*--map Town12\.xodr"):
        plan_route(None, np.array([[0.0, 0, 0], [225.0, 0, 0]]), name="lb2.xml", town="Town12")


@pytest.mark.parametrize(
    "keypoints", [np.zeros((1, 3)), np.zeros((2, 4)), np.zeros((3, 3)), [[0, 0, 0], [1, np.nan, 0]]]
)
def test_unusable_keypoints_are_refused(keypoints: object) -> None:
    for road_map in (None, two_lanes()):
        with pytest.raises(ScenarioError, match="route: "):
            plan_route(road_map, np.asarray(keypoints))


def test_random_routes_follow_the_seed(shared_data: Path) -> None:
    for name in ("Town03", "Town10HD"):
        road_map, graph = town(shared_data / "maps" / f"{name}.xodr")
        routes = [random_route(road_map, seed, 300.0, graph) for seed in (1, 1, 2, 3)]
        assert np.array_equal(routes[0].points_m, routes[1].points_m)
        assert not np.array_equal(routes[0].points_m[0], routes[2].points_m[0])
        for route in routes:
            assert route.length_m == pytest.approx(300, abs=6)
            assert np.linalg.norm(np.diff(route.points_m, axis=0), axis=1).max() < 1.0


def test_a_short_map_gives_its_longest_route() -> None:
    assert 50 < random_route(two_lanes(), 0, 5000.0).length_m < 201


def test_driving_keeps_limits_and_comfort(planned: list[tuple[RouteSpec, Route]]) -> None:
    for _, route in planned[::2]:
        trip = drive(route, 900, 0.1, start_s_m=7.0)
        speed, s = trip.speed_mps, trip.s_m
        assert s[0] == pytest.approx(7.0) and (np.diff(s) >= -1e-9).all()
        assert (speed <= np.interp(s, route.s_m, route.speed_limit_mps) + 1e-6).all()
        moved = np.linalg.norm(np.diff(trip.pose[:, :2], axis=0), axis=1)
        assert np.abs(moved - np.diff(s)).max() < 0.05
        assert np.abs(np.diff(s) / 0.1 - (speed[1:] + speed[:-1]) / 2).max() < 0.02
        acceleration = np.diff(speed) / 0.1
        assert acceleration.min() > -4.05 and acceleration.max() < 2.40
        assert np.abs(np.diff(acceleration) / 0.1).max() < 4.13
        turning = np.diff(np.unwrap(trip.pose[:, 2])) / 0.1
        assert np.abs(turning).max() < 0.95 and np.abs(np.diff(turning) / 0.1).max() < 1.93
        assert np.abs(turning * speed[1:]).max() < 2.6


def test_driving_stops_at_the_end_and_holds() -> None:
    route = plan_route(two_lanes(), np.array([[10.0, 0, 0], [70.0, 0, 0]]))
    trip = drive(route, 300, 0.2)
    assert trip.speed_mps[0] > 5 and trip.speed_mps[-1] == 0
    assert trip.s_m[-1] == pytest.approx(60, abs=0.2) and trip.s_m.max() <= route.length_m
    assert trip.pose[-50] == pytest.approx(trip.pose[-1], abs=1e-9)


def test_target_speeds_and_standing() -> None:
    route = plan_route(two_lanes(), np.array([[5.0, 0, 0], [195.0, 0, 0]]))
    assert drive(route, 40, 0.2, target_speed=4.0).speed_mps == pytest.approx(4.0, abs=1e-6)
    still = drive(route, 13, 0.2, start_s_m=30.0, target_speed=0.0)
    assert (still.speed_mps == 0).all() and still.s_m == pytest.approx(30.0)
    stepped = drive(route, 200, 0.2, target_speed=[(0.0, 12.0), (60.0, 5.0), (120.0, 0.0)])
    late = (stepped.s_m > 60) & (stepped.s_m < 115)
    assert stepped.speed_mps[late].max() <= 5.0 + 1e-6 and stepped.speed_mps[:3].min() > 11
    assert 110 < stepped.s_m[-1] < 120.5
    start = drive(route, 30, 0.2, start_speed_mps=0.0)
    assert start.speed_mps[0] < 0.5 and start.speed_mps[20] > 4


def test_one_frame_and_the_very_end_are_fine() -> None:
    route = plan_route(two_lanes(), np.array([[5.0, 0, 0], [95.0, 0, 0]]))
    assert drive(route, 1, 0.2).pose.shape == (1, 3)
    parked = drive(route, 5, 0.2, start_s_m=1e9)
    assert (parked.speed_mps == 0).all() and parked.pose[:, 0] == pytest.approx(95, abs=0.1)


def test_frame_rate_does_not_change_the_drive() -> None:
    route = plan_route(crossing(80), np.array([[-45, 0, 0], crossing(80).lanes["2:0:-1"].centre_m[-2]]))
    fine, coarse = drive(route, 121, 0.05), drive(route, 31, 0.2)
    assert coarse.pose == pytest.approx(fine.pose[::4], abs=1e-6)


def test_a_used_graph_plans_the_same_route(shared_data: Path) -> None:
    road_map, used = town(shared_data / "maps" / "Town03.xodr")
    for seed in range(3):
        keypoints = random_route(road_map, seed, 600.0, used).points_m[::150]
        fresh = plan_route(road_map, keypoints)
        assert np.array_equal(plan_route(road_map, keypoints, graph=used).points_m, fresh.points_m)
