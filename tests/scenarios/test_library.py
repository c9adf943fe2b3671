"""The library: maps that are what the script writes, and scenarios that show what their names say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from shapely import contains_xy
from shapely.geometry import Polygon

from dcgen.types import LAYOUT_CHANNELS, UNKNOWN, Command, Doubles, Scene, Semantics
from scenarios.compile import CompiledScenario, compile_scenario
from scenarios.footprints import boxes_overlap
from scenarios.lane_graph import LaneGraph
from scenarios.library import make_maps
from scenarios.library.plan import Piece, joined, lay_out, rounded
from scenarios.roads import read_map
from scenarios.route import RoadOption, Route, plan_route
from scenarios.schema import load_scenario
from scenarios.sources import library_folder, library_maps, library_scenarios

MAPS = ("avenue", "crossroads", "ring")
DRIVES = ("straight", "left_turn", "right_turn", "lane_change", "crossing_pedestrian", "dense_traffic")
EDITS = {
    "inpainting": "inpaint",
    "outpainting": "outpaint",
    "continuation": "continue_from",
    "edited_agents": "edit",
}


@pytest.fixture(scope="module")
def compiled() -> dict[str, CompiledScenario]:
    return {name: compile_scenario(load_scenario(library_scenarios()[name])) for name in DRIVES}


def test_the_library_is_complete() -> None:
    assert set(library_maps()) == set(MAPS)
    assert set(library_scenarios()) >= {*DRIVES, *EDITS}


# Maps


def test_maps_are_what_the_script_writes(tmp_path: Path) -> None:
    make_maps.main(tmp_path)
    for name, path in library_maps().items():
        assert (tmp_path / f"{name}.xodr").read_bytes() == path.read_bytes(), f"{name}: run make_maps.py and commit"
        assert path.stat().st_size < 300_000


@pytest.mark.parametrize("name", MAPS)
def test_carla_reads_the_maps_whole(name: str) -> None:
    road_map = read_map(library_maps()[name])
    kinds = {lane.kind for lane in road_map.lanes.values()}
    assert {"driving", "sidewalk"} <= kinds
    assert len(road_map.junctions) == 5 and len(road_map.crosswalks) >= 12
    assert {signal.kind for signal in road_map.signals} & {"stop", "traffic_light"}
    for lane in road_map.lanes.values():
        if lane.is_driving:
            assert lane.successors and lane.predecessors, lane.id
            for key in lane.successors:
                assert np.linalg.norm(road_map.lanes[key].centre_m[0] - lane.centre_m[-1]) < 0.1, (lane.id, key)
    graph = LaneGraph(road_map).graph
    assert nx.is_strongly_connected(graph)


@pytest.mark.parametrize("town", [make_maps.crossroads(), make_maps.ring(), make_maps.avenue()], ids=lambda t: t.name)
def test_turns_join_their_arms(town: make_maps.Town) -> None:
    layout = lay_out(town)
    for turns in layout.turns.values():
        for turn in turns:
            x, y, heading = turn.pieces[-1].end()
            want = turn.to_arm.edge_point(turn.to_lane, True)
            np.testing.assert_allclose([x, y], want, atol=1e-6)
            assert np.cos(heading - (turn.to_arm.heading_rad + np.pi)) == pytest.approx(1.0)
            first = turn.from_arm.edge_point(turn.from_lane, False)
            np.testing.assert_allclose([turn.pieces[0].x, turn.pieces[0].y], first, atol=1e-9)


def test_rounded_corners_are_smooth_and_end_where_they_should() -> None:
    pieces = rounded([(0.0, 0.0), (50.0, 0.0), (50.0, 70.0), (20.0, 90.0)], 12.0)
    for before, after in pairwise(pieces):
        x, y, heading = before.end()
        np.testing.assert_allclose([x, y], [after.x, after.y], atol=1e-9)
        assert np.cos(heading - after.heading_rad) == pytest.approx(1.0)
    np.testing.assert_allclose(pieces[-1].end()[:2], [20.0, 90.0], atol=1e-9)
    with pytest.raises(ValueError, match="no room"):
        rounded([(0.0, 0.0), (5.0, 0.0), (5.0, 70.0)], 12.0)


def test_rays_that_do_not_meet_are_refused() -> None:
    assert joined((0.0, 0.0), 0.0, (9.0, 0.0), 0.0) == (Piece(0.0, 0.0, 0.0, 9.0),)
    with pytest.raises(ValueError, match="apart"):
        joined((0.0, 0.0), 0.0, (9.0, 1.0), 0.0)
    with pytest.raises(ValueError, match="do not meet"):
        joined((0.0, 0.0), 0.0, (-9.0, 5.0), np.pi / 2)


# Scenarios


def option_of(name: str) -> tuple[Route, np.ndarray]:
    """The planned route of a scenario, and its options over what is driven."""
    scenario = load_scenario(library_scenarios()[name])
    keypoints = (
        np.array([point[:2] for point in scenario.route.keypoints])
        if scenario.route and scenario.route.keypoints
        else np.array([[scenario.start.x, scenario.start.y], [scenario.goal.x, scenario.goal.y]])  # type: ignore[union-attr]
    )
    route = plan_route(read_map(library_maps()[scenario.map or ""]), keypoints)
    driven = compile_scenario(scenario).world_se3_ego[:, :2, 3]
    near = np.hypot(*(route.points_m[:, None, :2] - driven).transpose(2, 0, 1)).min(axis=1) < 1.0
    return route, route.option[near]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("straight", RoadOption.STRAIGHT),
        ("left_turn", RoadOption.LEFT),
        ("right_turn", RoadOption.RIGHT),
        ("lane_change", RoadOption.CHANGELANELEFT),
    ],
)
def test_the_route_does_what_the_name_says(name: str, option: RoadOption) -> None:
    _, driven = option_of(name)
    manoeuvres = {RoadOption(o) for o in driven.tolist()} - {RoadOption.LANEFOLLOW, RoadOption.VOID}
    assert manoeuvres == {option}


@pytest.mark.parametrize(
    ("name", "command", "degrees"),
    [("straight", Command.FORWARD, 0), ("left_turn", Command.LEFT, 75), ("right_turn", Command.RIGHT, -75)],
)
def test_commands_and_headings(
    compiled: dict[str, CompiledScenario], name: str, command: Command, degrees: float
) -> None:
    made = compiled[name]
    commands = {chunk.command for chunk in made.chunks}
    assert command in commands and commands <= {command, Command.FORWARD}
    yaw = yaw_of(made.world_se3_ego)
    net = float(np.degrees(np.sum((np.diff(yaw) + np.pi) % (2 * np.pi) - np.pi)))
    assert abs(net) < 3 if degrees == 0 else net * np.sign(degrees) > abs(degrees) - 5


def test_the_lane_change_moves_one_lane_over(compiled: dict[str, CompiledScenario]) -> None:
    y = compiled["lane_change"].world_se3_ego[:, 1, 3]
    assert y[0] == pytest.approx(-6.6, abs=0.2) and y[-1] == pytest.approx(-3.2, abs=0.2)


def test_pedestrians_cross_ahead_of_the_ego(compiled: dict[str, CompiledScenario]) -> None:
    """At least one comes from one side of the ego's route to the other, on a zebra, ahead of the ego, within view."""
    made = compiled["crossing_pedestrian"]
    assert made.road_map is not None
    zebras = [Polygon(each.polygon_m[:, :2]) for each in made.road_map.crosswalks]
    ego = np.linalg.inv(made.world_se3_ego)
    crossed = 0
    for index in np.flatnonzero(made.agents.class_id == Semantics.PEDESTRIAN):
        xy = made.agents.pose[index, :, :2]
        seen = np.einsum("tij,tj->ti", ego, np.column_stack([xy, np.zeros(len(xy)), np.ones(len(xy))]))
        middle = np.argmin(np.abs(seen[:, 1]))
        zebra = any(contains_xy(each, *xy[middle]) for each in zebras)
        crossed += bool(
            zebra
            and seen[:, 1].min() < -2
            and seen[:, 1].max() > 2
            and 4 < seen[middle, 0] < 25
            and seen[:, 0].min() > 3
        )
    assert crossed >= 1
    assert made.speed_mps[0] > 4 and made.speed_mps[-1] < 0.5  # the ego lets them


def test_dense_traffic_is_dense(compiled: dict[str, CompiledScenario]) -> None:
    made = compiled["dense_traffic"]
    distance = np.hypot(*(made.agents.pose[..., :2] - made.world_se3_ego[None, :, :2, 3]).transpose(2, 0, 1))
    assert (distance < 25).sum(axis=0).min() > 15
    moving = made.agents.speed_mps > 0.5
    assert ((distance < 25) & moving).sum(axis=0).min() > 10


@pytest.mark.parametrize("name", DRIVES)
def test_nobody_is_driven_over(compiled: dict[str, CompiledScenario], name: str) -> None:
    made = compiled[name]
    yaw = yaw_of(made.world_se3_ego)
    for t in range(made.frames):
        own = np.array([[*made.world_se3_ego[t, :2, 3], yaw[t], 4.6, 1.95]])
        others = np.hstack([made.agents.pose[:, t], made.agents.size_m[:, :2]])
        assert not boxes_overlap(own, others).any(), f"frame {t}"


@pytest.mark.parametrize("name", EDITS)
def test_edits_work_on_the_left_turn(compiled: dict[str, CompiledScenario], name: str) -> None:
    """On a scene of bare ground: some voxels are given, some are left to be made."""
    made = compile_scenario(load_scenario(library_scenarios()[name]), bare_scene(compiled["left_turn"]))
    known = np.stack([chunk.known for chunk in made.chunks])
    assert 0.02 < (known == UNKNOWN).mean() < 0.98
    before = compiled["left_turn"].agents
    if name == "edited_agents":
        assert 1 in before.id and 1 not in made.agents.id
        assert len(made.agents.id) == len(before.id) + 1
        assert made.agents.class_id[-2:].tolist() == [Semantics.BICYCLE, Semantics.VEHICLE]


@pytest.mark.parametrize(("name", "what"), EDITS.items())
def test_edits_ask_for_their_scene(name: str, what: str) -> None:
    scenario = load_scenario(library_scenarios()[name])
    assert scenario.needs_scene == what
    assert getattr(scenario, what) is not None


def test_every_scenario_names_a_map_and_says_what_it_shows() -> None:
    for path in library_scenarios().values():
        scenario = load_scenario(path)
        assert scenario.map in MAPS and scenario.metadata["shows"]
    assert library_folder().is_dir()


def bare_scene(made: CompiledScenario) -> Scene:
    """The scenario as a finished scene of ground alone."""
    t, (x, y, z) = made.frames, made.grid.shape
    labels = np.zeros((t, x, y, z), np.uint8)
    labels[..., 2] = Semantics.GROUND
    return Scene(
        labels=labels,
        grid=made.grid,
        time_s=made.dt_s * np.arange(t),
        world_se3_ego=made.world_se3_ego,
        agents=made.agents,
        trajectory=np.zeros((t, 3), np.float32),
        command=np.zeros(t, np.int8),
        layout=np.zeros((t, len(LAYOUT_CHANNELS), x, y), np.float16),
        known=np.zeros((t, x, y, z), bool),
    )


def yaw_of(poses: Doubles) -> Doubles:
    return np.asarray(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
