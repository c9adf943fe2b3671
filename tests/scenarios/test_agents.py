"""Agents of a scenario: keyframes, lane following, and the population drawn by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from shapely.geometry import Polygon

from dcgen.errors import ScenarioError
from dcgen.types import AgentTracks, Doubles, Semantics, pose_matrix
from scenarios.agents import scenario_agents
from scenarios.carfollow import MIN_GAP_M, Driver, Mover, simulate_drivers
from scenarios.footprints import boxes_overlap
from scenarios.pathway import make_path
from scenarios.roadmap import RoadMap
from scenarios.roads import read_map
from scenarios.route import plan_route
from scenarios.schema import Agent, Traffic
from scenarios.sources import library_maps

DT_S = 0.2
EGO = np.array([4.6, 1.95])


def agent(**fields: object) -> Agent:
    return Agent.model_validate(fields, strict=False)


def poses_along(points: Doubles, speed_mps: float, frames: int) -> Doubles:
    """[F, 4, 4] an ego on a straight line from points[0] to points[1]."""
    way = points[1] - points[0]
    yaw = np.arctan2(way[1], way[0])
    step = speed_mps * DT_S * way / np.linalg.norm(way)
    return np.stack([pose_matrix(*(points[0] + k * step), 0.0, yaw) for k in range(frames)])


@pytest.fixture(scope="module")
def crossroads() -> RoadMap:
    return read_map(library_maps()["crossroads"])


@pytest.fixture(scope="module")
def avenue() -> RoadMap:
    return read_map(library_maps()["avenue"])


def on_route(
    road_map: RoadMap, start: tuple[float, float], goal: tuple[float, float], speed: float, frames: int
) -> tuple[Doubles, Doubles]:
    """(poses of an ego that drives straight from start at a speed, its route to the goal)."""
    route = plan_route(road_map, np.array([start, goal]))
    return poses_along(np.array([start, goal]), speed, frames), route.points_m


# Keyframes


def test_keyframes_are_passed_at_their_times() -> None:
    keys = [{"t_s": 0.4, "x": 3.0, "y": -2.0}, {"t_s": 1.4, "x": 6.0, "y": -1.0}, {"t_s": 3.0, "x": 6.5, "y": 4.0}]
    ego = poses_along(np.array([[0.0, 0.0], [1.0, 0.0]]), 5.0, 21)
    tracks = scenario_agents(
        [agent(**{"class": "pedestrian", "keyframes": keys})], None, None, ego, ego[:, :3, 3], DT_S, 0
    )
    for key in keys:
        frame = round(key["t_s"] / DT_S)
        np.testing.assert_allclose(tracks.pose[0, frame, :2], [key["x"], key["y"]], atol=1e-9)
    np.testing.assert_allclose(tracks.pose[0, 0], tracks.pose[0, 1], atol=1e-9)  # stands before the first
    assert tracks.speed_mps[0, 17:].max() == 0.0 and tracks.pose[0, 17:, 2].std() < 1e-6
    step = np.hypot(*np.diff(tracks.pose[0, :, :2], axis=0).T)
    assert step.max() < 5.0 * DT_S


def test_it_looks_where_it_goes_unless_told() -> None:
    ego = poses_along(np.array([[0.0, 0.0], [1.0, 0.0]]), 5.0, 11)
    keys = [{"t_s": 0.0, "x": 3.0, "y": 5.0}, {"t_s": 2.0, "x": 3.0, "y": -5.0}]
    turned = [{**key, "yaw_deg": 10.0 + 20 * k} for k, key in enumerate(keys)]
    rows = [agent(**{"class": "car", "keyframes": each}) for each in (keys, turned)]
    tracks = scenario_agents(rows, None, None, ego, ego[:, :3, 3], DT_S, 0)
    np.testing.assert_allclose(tracks.pose[0, :, 2], -np.pi / 2, atol=1e-6)
    np.testing.assert_allclose(tracks.pose[1, [0, 5, 10], 2], np.radians([10, 20, 30]), atol=1e-6)


def test_frames_of_reference() -> None:
    """The same place in world, carla and ego coordinates."""
    ego = np.stack([pose_matrix(10.0, 20.0, 0.0, np.pi / 2)] * 3)
    given_in = {
        "world": {"x": 7.0, "y": 26.0, "yaw_deg": 120.0},
        "carla": {"x": 7.0, "y": -26.0, "yaw_deg": -120.0},
        "ego": {"x": 6.0, "y": 3.0, "yaw_deg": 30.0},
    }
    rows = [agent(**{"class": "van", "frame": f, "keyframes": [{"t_s": 0.0, **key}]}) for f, key in given_in.items()]
    tracks = scenario_agents(rows, None, None, ego, ego[:, :3, 3], DT_S, 0)
    np.testing.assert_allclose(tracks.pose, np.broadcast_to([7.0, 26.0, np.radians(120)], (3, 3, 3)), atol=1e-9)


def test_ids_classes_and_sizes() -> None:
    still = [{"t_s": 0.0, "x": 3.0, "y": 5.0}]
    rows = [
        agent(**{"class": "bus", "keyframes": still}),
        agent(**{"class": "bicycle", "keyframes": still, "id": 2}),
        agent(**{"class": "pedestrian", "keyframes": still, "size_m": [0.4, 0.5, 1.2]}),
    ]
    ego = poses_along(np.array([[0.0, 0.0], [1.0, 0.0]]), 5.0, 4)
    tracks = scenario_agents(rows, None, None, ego, ego[:, :3, 3], DT_S, 0, taken_ids=(1, 3))
    assert tracks.id.tolist() == [4, 2, 5]
    assert tracks.class_id.tolist() == [Semantics.VEHICLE, Semantics.BICYCLE, Semantics.PEDESTRIAN]
    assert tracks.size_m[0, 0] > 9 and tracks.size_m[2].tolist() == pytest.approx([0.4, 0.5, 1.2])


def test_nobody_is_an_empty_cast() -> None:
    ego = poses_along(np.array([[0.0, 0.0], [1.0, 0.0]]), 5.0, 6)
    assert scenario_agents([], None, None, ego, ego[:, :3, 3], DT_S, 0).valid.shape == (0, 6)


# Car following


def straight(length_m: float = 300.0) -> Doubles:
    return np.column_stack([np.linspace(0, length_m, 100), np.zeros(100)])


def mover(pose: Doubles, speed: float, size: tuple[float, float, float] = (4.5, 1.8, 1.5)) -> Mover:
    return Mover(int(Semantics.VEHICLE), size, pose, np.full(len(pose), speed))


@settings(max_examples=25, deadline=None)
@given(
    wanted=st.floats(2.0, 13.0),
    leader=st.floats(0.0, 8.0),
    gap=st.floats(18.0, 60.0),
    dt_s=st.sampled_from([0.1, 0.2, 0.5]),
)
def test_nobody_runs_into_a_leader(wanted: float, leader: float, gap: float, dt_s: float) -> None:
    frames = round(20 / dt_s)
    ahead = np.column_stack([gap + leader * dt_s * np.arange(frames), np.zeros(frames), np.zeros(frames)])
    driver = Driver(int(Semantics.VEHICLE), (4.5, 1.8, 1.5), make_path(straight()), wanted)
    (track,) = simulate_drivers([driver], [mover(ahead, leader)], dt_s, frames)
    free = ahead[:, 0] - track.pose[:, 0] - 4.5
    assert free.min() > 0.5
    assert (np.diff(track.pose[:, 0]) > -1e-9).all()


def test_a_free_driver_reaches_its_speed_and_a_follower_its_leaders() -> None:
    free = Driver(int(Semantics.VEHICLE), (4.5, 1.8, 1.5), make_path(straight(400.0)), 10.0, start_mps=4.0)
    (track,) = simulate_drivers([free], [], DT_S, 60)
    assert 9.0 < track.speed_mps[-1] <= 10.05
    ahead = np.column_stack([25 + 5 * DT_S * np.arange(120), np.zeros(120), np.zeros(120)])
    (track,) = simulate_drivers([free], [mover(ahead, 5.0)], DT_S, 120)
    assert track.speed_mps[-1] == pytest.approx(5.0, abs=0.3)
    assert ahead[-1, 0] - track.pose[-1, 0] - 4.5 > MIN_GAP_M


def test_it_stops_for_a_pedestrian_and_not_for_one_who_stands_beside() -> None:
    def drive(y: float) -> Mover:
        person = mover(np.tile([40.0, y, np.pi / 2], (50, 1)), 0.0, (0.5, 0.5, 1.7))
        driver = Driver(int(Semantics.VEHICLE), (4.5, 1.8, 1.5), make_path(straight()), 8.0)
        return simulate_drivers([driver], [person], DT_S, 50)[0]

    assert drive(0.0).speed_mps[-1] < 0.3 and drive(0.0).pose[-1, 0] < 40 - 2.25
    assert drive(3.0).pose[-1, 0] > 60


def test_it_lets_crossing_traffic_pass() -> None:
    """A mover cuts the path at the time the driver would be there: they never overlap."""
    frames = 50
    crossing = np.column_stack([np.full(frames, 35.0), -40 + 10 * DT_S * np.arange(frames), np.full(frames, np.pi / 2)])
    driver = Driver(int(Semantics.VEHICLE), (4.5, 1.8, 1.5), make_path(straight()), 8.5)
    other = mover(crossing, 10.0, (8.0, 2.4, 3.0))
    (track,) = simulate_drivers([driver], [other], DT_S, frames)
    size = np.broadcast_to([4.5, 1.8], (frames, 2))
    both = boxes_overlap(np.hstack([track.pose, size]), np.hstack([crossing, np.broadcast_to([8.0, 2.4], (frames, 2))]))
    assert not np.diag(both).any()
    assert track.speed_mps.min() < 6.0 and track.pose[-1, 0] > 40


def test_it_slows_down_for_a_bend() -> None:
    angle = np.linspace(0, np.pi / 2, 40)
    bend = np.column_stack([60 + 10 * np.sin(angle), 10 - 10 * np.cos(angle)])
    path = make_path(np.concatenate([[[0.0, 0.0]], bend, [[70.0, 80.0]]]))
    (track,) = simulate_drivers([Driver(int(Semantics.VEHICLE), (4.5, 1.8, 1.5), path, 12.0)], [], DT_S, 80)
    inside = (track.pose[:, 0] > 62) & (track.pose[:, 1] < 9)
    assert inside.any() and track.speed_mps[inside].max() < 7.0
    assert track.speed_mps[:15].max() > 10


# Following lanes


def test_follow_ahead_beside_and_oncoming(avenue: RoadMap) -> None:
    ego, route = on_route(avenue, (-150.0, -3.2), (-40.0, -3.2), 8.0, 12)
    rows = [
        agent(**{"class": "car", "follow": {"ahead_m": 20.0}}),
        agent(**{"class": "car", "follow": {"ahead_m": -15.0, "speed_mps": 5.0}}),
        agent(**{"class": "car", "follow": {"ahead_m": 10.0, "lane_offset": -1}}),
        agent(**{"class": "car", "follow": {"ahead_m": 40.0, "oncoming": True}}),
        agent(**{"class": "car", "follow": {"ahead_m": 40.0, "oncoming": True, "lane_offset": 1}}),
        agent(**{"class": "car", "follow": {"start": {"x": -100.0, "y": 6.0}}}),
    ]
    tracks = scenario_agents(rows, None, avenue, ego, route, DT_S, 0)
    want = [(-130, -3.2, 0), (-165, -3.2, 0), (-140, -6.6, 0), (-110, 3.2, 180), (-110, 6.6, 180), (-100, 6.6, 180)]
    for k, (x, y, yaw_deg) in enumerate(want):
        np.testing.assert_allclose(tracks.pose[k, 0, :2], [x, y], atol=0.6)
        assert np.cos(tracks.pose[k, 0, 2] - np.radians(yaw_deg)) > 0.99
    forward = tracks.pose[:, -1, 0] - tracks.pose[:, 0, 0]
    assert (forward[:3] > 8).all() and (forward[3:] < -8).all()


@pytest.mark.parametrize(("turn", "degrees"), [("left", 90), ("right", -90), ("straight", 0)])
def test_follow_turns_as_told(crossroads: RoadMap, turn: str, degrees: float) -> None:
    ego, route = on_route(crossroads, (-60.0, -1.75), (-20.0, -1.75), 1.0, 50)
    row = agent(**{"class": "car", "follow": {"ahead_m": 30.0, "speed_mps": 7.0, "turn": turn}})
    tracks = scenario_agents([row], None, crossroads, ego, route, DT_S, 0)
    net = np.degrees(np.sum((np.diff(tracks.pose[0, :, 2]) + np.pi) % (2 * np.pi) - np.pi))
    assert net == pytest.approx(degrees, abs=3)
    assert off_lane_m(crossroads, tracks).max() < 0.4


def test_follow_needs_a_map_and_a_lane(crossroads: RoadMap) -> None:
    ego, route = on_route(crossroads, (-60.0, -1.75), (-20.0, -1.75), 1.0, 5)
    row = agent(**{"class": "car", "follow": {"ahead_m": 30.0}})
    with pytest.raises(ScenarioError, match=r"s\.yaml: agents\[0\]\.follow: needs a map"):
        scenario_agents([row], None, None, ego, route, DT_S, 0, name="s.yaml")
    aside = agent(**{"class": "car", "follow": {"ahead_m": 10.0, "lane_offset": 3}})
    with pytest.raises(ScenarioError, match=r"agents\[1\]\.follow: no lane 3 to the left"):
        scenario_agents([row, aside], None, crossroads, ego, route, DT_S, 0)
    off = agent(**{"class": "car", "follow": {"start": {"x": 900.0, "y": 900.0}}})
    with pytest.raises(ScenarioError, match=r"agents\[0\]\.follow\.start .* from the nearest"):
        scenario_agents([off], None, crossroads, ego, route, DT_S, 0)
    with pytest.raises(ScenarioError, match="traffic: needs a map"):
        scenario_agents([], Traffic(vehicles=3), None, ego, route, DT_S, 0)


# Population


CROWD = Traffic(vehicles=14, bicycles=3, pedestrians=12, parked=9, radius_m=55.0)


@pytest.fixture(scope="module")
def crowd(crossroads: RoadMap) -> tuple[Doubles, AgentTracks]:
    ego, route = on_route(crossroads, (-70.0, -1.75), (80.0, -1.75), 7.0, 24)
    own = [agent(**{"class": "car", "follow": {"ahead_m": 14.0, "speed_mps": 8.0}})]
    return ego, scenario_agents(own, CROWD, crossroads, ego, route, DT_S, 4)


def test_the_population_is_as_ordered(crowd: tuple[Doubles, AgentTracks]) -> None:
    _, tracks = crowd
    counts = np.bincount(tracks.class_id, minlength=12)
    parked = (tracks.class_id == Semantics.VEHICLE) & (tracks.speed_mps.max(axis=1) == 0)
    assert counts[Semantics.PEDESTRIAN] == 12 and counts[Semantics.BICYCLE] == 3
    assert counts[Semantics.VEHICLE] == 1 + 14 + 9 and parked.sum() >= 9
    assert len(set(tracks.id.tolist())) == len(tracks.id)
    assert tracks.id[0] == 1 and tracks.speed_mps[0, 0] > 6  # the file's own agent comes first


def test_nobody_overlaps_in_any_frame(crowd: tuple[Doubles, AgentTracks]) -> None:
    ego, tracks = crowd
    for t in range(len(ego)):
        own = [ego[t, 0, 3], ego[t, 1, 3], np.arctan2(ego[t, 1, 0], ego[t, 0, 0]), *EGO]
        boxes = np.vstack([np.hstack([tracks.pose[:, t], tracks.size_m[:, :2]]), own])
        hit = boxes_overlap(boxes, boxes)
        np.fill_diagonal(hit, False)
        assert not hit.any(), f"frame {t}: {np.argwhere(hit).tolist()}"


def test_the_population_keeps_to_its_ways(crowd: tuple[Doubles, AgentTracks], crossroads: RoadMap) -> None:
    _, tracks = crowd
    moving = tracks.speed_mps.max(axis=1) > 0
    vehicles = tracks.select((tracks.class_id == Semantics.VEHICLE) & moving)
    assert off_lane_m(crossroads, vehicles).max() < 0.5
    bays = np.concatenate([lane.centre_m[:, :2] for lane in crossroads.lanes.values() if lane.kind == "parking"])
    parked = tracks.select((tracks.class_id == Semantics.VEHICLE) & ~moving)
    assert cKDTree(bays).query(parked.pose[:, 0, :2])[0].max() < 0.8
    steps = np.hypot(*np.diff(tracks.pose[..., :2], axis=1).transpose(2, 0, 1)) / DT_S
    assert steps[tracks.class_id == Semantics.PEDESTRIAN].max() < 2.5
    assert steps.max() < 16


def test_pedestrians_also_cross(crossroads: RoadMap) -> None:
    ego, route = on_route(crossroads, (-60.0, -1.75), (-20.0, -1.75), 1.0, 16)
    tracks = scenario_agents([], Traffic(pedestrians=25, radius_m=50.0), crossroads, ego, route, DT_S, 3)
    zebras = [Polygon(each.polygon_m[:, :2]).buffer(0.3) for each in crossroads.crosswalks]
    from shapely import contains_xy

    on_zebra = np.any([contains_xy(each, tracks.pose[..., 0], tracks.pose[..., 1]) for each in zebras], axis=(0, 2))
    assert 2 <= on_zebra.sum() < len(on_zebra)


def test_the_same_seed_draws_the_same(crossroads: RoadMap) -> None:
    ego, route = on_route(crossroads, (-60.0, -1.75), (-20.0, -1.75), 5.0, 8)
    few = Traffic(vehicles=5, pedestrians=4, parked=3, radius_m=50.0)
    first, again, other = (scenario_agents([], few, crossroads, ego, route, DT_S, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.pose, again.pose)
    assert not np.array_equal(first.pose, other.pose)
    own_seed = Traffic(vehicles=5, pedestrians=4, parked=3, radius_m=50.0, seed=1)
    np.testing.assert_array_equal(scenario_agents([], own_seed, crossroads, ego, route, DT_S, 9).pose, first.pose)


def test_too_many_is_as_many_as_fit(crossroads: RoadMap) -> None:
    ego, route = on_route(crossroads, (-60.0, -1.75), (-20.0, -1.75), 5.0, 4)
    tracks = scenario_agents([], Traffic(vehicles=500, radius_m=20.0), crossroads, ego, route, DT_S, 1)
    assert 3 <= len(tracks.id) < 40


def test_heights_follow_the_hills() -> None:
    ring = read_map(library_maps()["ring"])
    ego, route = on_route(ring, (-100.0, 128.4), (-60.0, 128.4), 5.0, 10)
    tracks = scenario_agents([], Traffic(vehicles=8, pedestrians=4, radius_m=80.0), ring, ego, route, DT_S, 1)
    points = np.concatenate([lane.centre_m for lane in ring.lanes.values()])
    _, index = cKDTree(points[:, :2]).query(tracks.pose[..., :2])
    np.testing.assert_allclose(tracks.z_m, points[index, 2], atol=0.1)
    assert tracks.z_m.min() > 1.9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(-6, 6)] * 2, st.floats(-4, 4), st.floats(0.5, 9), st.floats(0.5, 3)),
        min_size=2,
        max_size=6,
    )
)
def test_boxes_overlap_as_polygons_do(rows: list[tuple[float, ...]]) -> None:
    boxes = np.array(rows)
    hit = boxes_overlap(boxes, boxes)
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes):
            shared = _polygon(a).intersection(_polygon(b)).area
            if shared > 1e-6:
                assert hit[i, j]
            elif _polygon(a).distance(_polygon(b)) > 1e-6:
                assert not hit[i, j]


def _polygon(box: Doubles) -> Polygon:
    c, s = np.cos(box[2]), np.sin(box[2])
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * box[3:5] / 2
    return Polygon(corners @ np.array([[c, s], [-s, c]]) + box[:2])


def off_lane_m(road_map: RoadMap, tracks: AgentTracks) -> Doubles:
    """Distance of every pose to the nearest middle of a driving lane."""
    lanes = [lane.centre_m[:, :2] for lane in road_map.lanes.values() if lane.is_driving]
    dense = np.concatenate(
        [np.concatenate([a[:-1] * (1 - p) + a[1:] * p for p in (0, 0.25, 0.5, 0.75)]) for a in lanes]
    )
    return np.asarray(cKDTree(dense).query(tracks.pose[..., :2])[0])
