"""OpenDRIVE files become road maps, and bad ones become one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import carla
import networkx as nx
import numpy as np
import pytest

from dcgen.errors import MapError
from dcgen.types import wrap_angle
from scenarios import roads
from scenarios.lane_graph import is_routable
from scenarios.roadmap import RoadMap
from scenarios.roads import read_map

TOWNS = ("Town01", "Town03", "Town06", "Town10HD")
HEADER = '<OpenDRIVE><header revMajor="1" revMinor="4" name="" version="1" north="0" south="0" east="0" west="0"/>'


def lane(number: int, kind: str, width: float, mark: str = "broken") -> str:
    return (
        f'<lane id="{number}" type="{kind}" level="false"><link/><width sOffset="0" a="{width}" b="0" c="0" d="0"/>'
        f'<roadMark sOffset="0" type="{mark}" weight="standard" color="standard" width="0.13"/></lane>'
    )


def straight_road(extra: str = "", length: float = 120.0, speed: str = "") -> str:
    """One road along +x from (5, 7): two lanes a side, a sidewalk on the right, parking on the left."""
    left = lane(3, "parking", 2.5, "none") + lane(2, "driving", 3.0, "solid") + lane(1, "driving", 3.5)
    right = lane(-1, "driving", 3.5) + lane(-2, "driving", 3.25, "solid") + lane(-3, "sidewalk", 2.0, "none")
    return (
        f'{HEADER}<road name="" length="{length}" id="4" junction="-1"><link/><type s="0" type="town">{speed}</type>'
        f'<planView><geometry s="0" x="5" y="7" hdg="0" length="{length}"><line/></geometry></planView>'
        '<elevationProfile><elevation s="0" a="1.5" b="0.01" c="0" d="0"/></elevationProfile><lateralProfile/>'
        f'<lanes><laneSection s="0"><left>{left}</left><center>{lane(0, "none", 0.0, "solid")}</center>'
        f"<right>{right}</right></laneSection></lanes>{extra}</road></OpenDRIVE>"
    )


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=TOWNS)
def town(request: pytest.FixtureRequest, shared_data: Path) -> tuple[Path, RoadMap]:
    path = shared_data / "maps" / f"{request.param}.xodr"
    return path, read_map(path)


def written(folder: Path, text: str | bytes, name: str = "map.xodr") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_lanes_lie_as_their_widths_say(tmp_path: Path) -> None:
    road_map = read_map(written(tmp_path, straight_road(), "two lanes.xodr"))
    assert road_map.name == "two lanes"
    assert {key: lane.kind for key, lane in road_map.lanes.items()} == {
        "4:0:3": "parking",
        "4:0:2": "driving",
        "4:0:1": "driving",
        "4:0:-1": "driving",
        "4:0:-2": "driving",
        "4:0:-3": "sidewalk",
    }
    right, left = road_map.lanes["4:0:-2"], road_map.lanes["4:0:2"]
    assert right.centre_m[:, 1] == pytest.approx(7 - 3.5 - 3.25 / 2, abs=1e-3)
    assert left.centre_m[:, 1] == pytest.approx(7 + 3.5 + 3.0 / 2, abs=1e-3)
    assert (right.centre_m[0, 0], right.centre_m[-1, 0]) == pytest.approx((5, 125), abs=0.01)
    assert (left.centre_m[0, 0], left.centre_m[-1, 0]) == pytest.approx((125, 5), abs=0.01)
    assert right.centre_m[:, 2] == pytest.approx(1.5 + 0.01 * (right.centre_m[:, 0] - 5), abs=1e-3)
    assert road_map.bounds_m == pytest.approx((5, 7 - 8.75, 125, 7 + 9.0), abs=0.01)


def test_marks_tell_where_lanes_may_be_changed(tmp_path: Path) -> None:
    lanes = read_map(written(tmp_path, straight_road())).lanes
    assert (lanes["4:0:-1"].right_change, lanes["4:0:-1"].left_change) == ("4:0:-2", None)
    assert (lanes["4:0:2"].right_change, lanes["4:0:2"].left_change) == (None, "4:0:1")
    assert (lanes["4:0:1"].left_marking, lanes["4:0:1"].right_marking) == ("solid", "broken")


@pytest.mark.parametrize(
    ("speed", "want"),
    [
        ("", 50 / 3.6),
        ('<speed max="30" unit="mph"/>', 13.4112),
        ('<speed max="72" unit="km/h"/>', 20.0),
        ('<speed max="9"/>', 9.0),
        ('<speed max="no limit"/>', 50 / 3.6),
    ],
)
def test_speed_units(tmp_path: Path, speed: str, want: float) -> None:
    assert read_map(written(tmp_path, straight_road(speed=speed))).lanes["4:0:-1"].speed_limit_mps == pytest.approx(
        want
    )


def test_signals_and_crosswalks_open_or_closed(tmp_path: Path) -> None:
    corners = [(-4, -1.5), (-4, 1.5), (4, 1.5), (4, -1.5)]
    objects = ""
    for number, (s, ring) in enumerate(((30, corners), (90, [*corners, corners[0]]))):
        outline = "".join(f'<cornerLocal u="{u}" v="{v}" z="0"/>' for u, v in ring)
        objects += (
            f'<object id="{number}" name="" s="{s}" t="0" zOffset="0" hdg="1.5708" orientation="none" '
            f'type="crosswalk"><outline>{outline}</outline></object>'
        )
    signals = ""
    for number, kind, value in ((70, "274", 36), (71, "206", -1), (72, "1000001", -1)):
        signals += (
            f'<signal name="" id="{number}" s="60" t="-9" zOffset="2" hOffset="0" orientation="+" dynamic="no" '
            f'country="OpenDRIVE" type="{kind}" subtype="-1" value="{value}" height="1" width="1">'
            '<validity fromLane="-2" toLane="-1"/></signal>'
        )
    extra = f"<objects>{objects}</objects><signals>{signals}</signals>"
    road_map = read_map(written(tmp_path, straight_road(extra)))
    assert [walk.polygon_m.shape for walk in road_map.crosswalks] == [(4, 3), (4, 3)]
    middles = sorted(float(walk.polygon_m[:, 0].mean()) for walk in road_map.crosswalks)
    assert middles == pytest.approx([35, 95], abs=0.1)
    kinds = {signal.id: signal for signal in road_map.signals}
    assert [kinds[i].kind for i in ("70", "71", "72")] == ["speed_limit", "stop", "traffic_light"]
    assert kinds["70"].value == pytest.approx(10.0)  # a sign without a unit means km/h
    assert kinds["71"].position_m[:2] == pytest.approx((65, -2), abs=0.01)
    assert kinds["71"].yaw_rad == pytest.approx(0, abs=1e-4)  # it speaks to traffic along +x
    assert road_map.lanes["4:0:-1"].speed_limit_mps == pytest.approx(10.0)
    assert road_map.lanes["4:0:1"].speed_limit_mps == pytest.approx(50 / 3.6)


def test_lane_geometry_agrees_with_itself(town: tuple[Path, RoadMap]) -> None:
    for lane in town[1].lanes.values():
        steps = np.diff(lane.centre_m[:, :2], axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        assert lengths.max() < 2.1
        across = lane.left_m - lane.right_m
        assert np.abs(np.linalg.norm(across, axis=1) - lane.width_m).max() < 0.02
        assert np.allclose((lane.left_m + lane.right_m) / 2, lane.centre_m, atol=1e-6)
        long = lengths > 0.2
        heading = np.arctan2(steps[long, 1], steps[long, 0])
        assert np.abs(wrap_angle(heading - lane.yaw_rad[:-1][long])).max(initial=0) < 0.6  # Town06 has short tapers
        left_of_travel = steps[:, 0] * across[:-1, 1] - steps[:, 1] * across[:-1, 0]
        assert (left_of_travel[long] >= -1e-3).all()


def test_lanes_are_where_carla_finds_them_in_its_own_frame(town: tuple[Path, RoadMap]) -> None:
    path, road_map = town
    world = carla.Map(path.stem, path.read_text())
    driving = [lane for lane in road_map.lanes.values() if lane.kind == "driving" and lane.junction_id < 0]
    rng = np.random.default_rng(1)
    for lane in rng.choice(np.array(driving, dtype=object), 40):
        middle = len(lane.width_m) // 2
        x, y, z = lane.centre_m[middle]
        found = world.get_waypoint(carla.Location(x=x, y=-y, z=z))
        assert (found.road_id, found.lane_id) == (lane.road_id, lane.lane_id)
        assert np.abs(wrap_angle(-np.radians(found.transform.rotation.yaw) - lane.yaw_rad[middle])) < 0.1


def test_topology_equals_carlas(town: tuple[Path, RoadMap]) -> None:
    path, road_map = town
    pairs = carla.Map(path.stem, path.read_text()).get_topology()
    graph = nx.DiGraph([tuple(f"{w.road_id}:{w.section_id}:{w.lane_id}" for w in pair) for pair in pairs])
    for node in list(graph):  # sections shorter than a millimetre have no lanes here: step over them
        if node not in road_map.lanes:
            graph.add_edges_from((a, b) for a in graph.predecessors(node) for b in list(graph.successors(node)))
            graph.remove_node(node)
    driving = {key: lane for key, lane in road_map.lanes.items() if lane.kind == "driving"}
    ours = {(key, s) for key, lane in driving.items() for s in lane.successors if s in driving}
    assert ours == {(a, b) for a, b in graph.edges if a != b}


def test_every_lane_reaches_every_other(town: tuple[Path, RoadMap]) -> None:
    lanes = {key: lane for key, lane in town[1].lanes.items() if is_routable(lane)}
    graph = nx.DiGraph()
    for key, lane in lanes.items():
        for other in (*lane.successors, lane.left_change, lane.right_change):
            if other in lanes:
                graph.add_edge(key, other)
    parts = sorted((len(part) for part in nx.strongly_connected_components(graph)), reverse=True)
    assert parts[0] > 0.98 * len(lanes)


def test_junctions_cover_their_lanes(town: tuple[Path, RoadMap]) -> None:
    from shapely.geometry import MultiPoint, Polygon

    shapes = {junction.id: Polygon(junction.polygon_m).buffer(0.2) for junction in town[1].junctions}
    for lane in town[1].lanes.values():
        if lane.junction_id >= 0 and lane.is_driving:
            assert shapes[lane.junction_id].contains(MultiPoint(lane.centre_m[:, :2]))


def test_second_reading_is_fast_and_equal(town: tuple[Path, RoadMap]) -> None:
    start = time.perf_counter()
    again = read_map(town[0])
    assert time.perf_counter() - start < 1.0
    assert again.lanes.keys() == town[1].lanes.keys()
    for key, lane in again.lanes.items():
        assert np.array_equal(lane.left_m, town[1].lanes[key].left_m)
        assert lane.successors == town[1].lanes[key].successors
    assert again.signals == town[1].signals and again.bounds_m == town[1].bounds_m


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", None])
def test_a_damaged_cache_is_built_again(tmp_path: Path, damage: bytes | None) -> None:
    path = written(tmp_path, straight_road(length=33.0 if damage is None else 34.0 + len(damage)))
    before = set(roads.cache_folder().glob("*.npz"))
    first = read_map(path)
    (kept,) = set(roads.cache_folder().glob("*.npz")) - before
    kept.write_bytes(kept.read_bytes()[:-200] if damage is None else damage)
    assert read_map(path).bounds_m == first.bounds_m
    assert roads._load(kept) is not None


def test_a_folder_that_cannot_hold_the_cache_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCGEN_CACHE", str(written(tmp_path, "a file", "file") / "below"))
    assert len(read_map(written(tmp_path, straight_road())).lanes) == 6


ENTITY = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>'
BAD = {
    "empty": ("", "empty"),
    "blank": (" \n ", "empty"),
    "binary": (bytes(range(256)) * 9, "not UTF-8"),
    "nul": ("<OpenDRIVE>\0</OpenDRIVE>", "binary"),
    "truncated": (straight_road()[:-300], "not well-formed"),
    "entities": (ENTITY + straight_road().replace('name=""', 'name="&b;"'), "entities"),
    "routes": ("<routes><route id='0'/></routes>", "not <OpenDRIVE>"),
    "no roads": (HEADER + "</OpenDRIVE>", "no <road>"),
    "nan": (straight_road().replace('x="5"', 'x="nan"'), "road[0] (id 4)"),
    "long": (straight_road(length=1e8), "length"),
    "word for id": (straight_road().replace('id="4"', 'id="four"'), "whole number"),
    "twice": (straight_road().replace("</OpenDRIVE>", straight_road()[len(HEADER) :]), "used twice"),
    "no geometry": (straight_road().replace("<planView>", "<a>").replace("</planView>", "</a>"), "planView"),
    "no lanes": (straight_road().replace("laneSection", "section"), "laneSection"),
    "no driving": (straight_road().replace('"driving"', '"none"'), "no driving lane"),
    "deep": ("<OpenDRIVE>" + "<a>" * 100_000, "not well-formed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, complaint = BAD[name]
    with pytest.raises(MapError) as caught:
        read_map(written(tmp_path, text, "bad.xodr"))
    message = str(caught.value)
    assert message.startswith("bad.xodr: ") and complaint in message and "\n" not in message


def test_missing_file_folder_and_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "absent.xodr", tmp_path):
        with pytest.raises(MapError, match=r"pass an OpenDRIVE"):
            read_map(path)
    monkeypatch.setattr(roads, "MAX_BYTES", 100)
    with pytest.raises(MapError, match="larger than"):
        read_map(written(tmp_path, straight_road()))


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("kill -ABRT $$", "signal 6"),
        ("exit 7", "exit code 7"),
        ("sleep 60", "more than"),
        ("echo 'No module named '\"'carla'\" >&2; exit 1", "pip"),
    ],
)
def test_a_reader_that_dies_or_hangs_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str
) -> None:
    fake = written(tmp_path, f"#!/bin/sh\n{script}\n", "python")
    os.chmod(fake, 0o755)
    monkeypatch.setattr(roads.sys, "executable", str(fake))
    monkeypatch.setattr(roads, "TIMEOUT_S", 0.5)
    monkeypatch.setenv("DCGEN_CACHE", str(tmp_path / "none"))
    with pytest.raises(MapError, match=complaint):
        read_map(written(tmp_path, straight_road(length=77.0)))


@pytest.mark.parametrize("seed", range(6))
def test_mutated_files_give_a_map_or_one_line(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = bytearray(straight_road().encode())
    for _ in range(3):
        at = int(rng.integers(len(HEADER), len(text)))
        text[at : at + int(rng.integers(0, 3))] = bytes(rng.integers(32, 127, int(rng.integers(0, 3))).astype(np.uint8))
    try:
        assert read_map(written(tmp_path, bytes(text))).lanes
    except MapError as error:
        assert "\n" not in str(error)
