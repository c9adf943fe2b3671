"""Route files of every dialect and logged trajectories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcgen.errors import ScenarioError
from scenarios.routes import read_routes, read_trajectory, select_routes

LB1 = """<routes>
  <route id="8" town="Town01">
    <weather cloudiness="20" fog_distance="5"/>
    <waypoint pitch="360.0" roll="0.0" x="1.0" y="2.0" yaw="90.0" z="0.5"/>
    <waypoint pitch="0.0" roll="0.0" x="1.0" y="12.0" yaw="-90.0" z="0.5"/>
    <waypoint pitch="0.0" roll="0.0" x="4.0" y="22.0" yaw="450.0" z="0.5"/>
  </route>
</routes>"""
LB2 = """<routes>
  <!-- a comment -->
  <route id="24211" town="Town10HD_Opt" road_id="7">
    <weathers>
      <weather route_percentage="100" cloudiness="60"/>
      <weather route_percentage="0" cloudiness="5"/>
    </weathers>
    <waypoints><position x="1" y="-2" z="3"/><position x="3" y="-2" z="3"/></waypoints>
    <scenarios>
      <!-- another -->
      <scenario name="A_1" type="NobodyKnowsThis">
        <trigger_point x="5" y="6" z="7" yaw="-90"/>
        <frequency from="40" to="90"/><frequency value="3"/>
        <other_actor x="1" y="2" z="3" yaw="4" model="vehicle.*"/>
      </scenario>
      <scenario name="B_1" type="NoTrigger"/>
    </scenarios>
  </route>
  <route id="3" town="Town10HD">
    <waypoints><position x="0" y="0" z="0"/><position x="9" y="0" z="0"/></waypoints>
  </route>
</routes>"""


def written(folder: Path, text: str | bytes, name: str = "r.xml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_leaderboard_1(tmp_path: Path) -> None:
    (route,) = read_routes(written(tmp_path, LB1))
    assert (route.id, route.town, route.road_id, route.scenarios) == ("8", "Town01", None, ())
    assert np.array_equal(route.keypoints_m, [[1, -2, 0.5], [1, -12, 0.5], [4, -22, 0.5]])
    assert route.yaw_rad == pytest.approx([-np.pi / 2, np.pi / 2, -np.pi / 2])
    assert route.weather == {0.0: {"cloudiness": 20.0, "fog_distance": 5.0}}


def test_leaderboard_2(tmp_path: Path) -> None:
    route, other = read_routes(written(tmp_path, LB2))
    assert (route.town, route.road_id, other.town) == ("Town10HD", "7", "Town10HD")
    assert np.array_equal(route.keypoints_m, [[1, 2, 3], [3, 2, 3]]) and route.yaw_rad is None
    assert route.weather == {0.0: {"cloudiness": 5.0}, 100.0: {"cloudiness": 60.0}}
    known, bare = route.scenarios
    assert (known.type, known.position_m, known.yaw_rad) == ("NobodyKnowsThis", (5, -6, 7), pytest.approx(np.pi / 2))
    assert known.parameters["frequency"] == ({"from": "40", "to": "90"}, {"value": "3"})
    assert known.parameters["other_actor"][0]["model"] == "vehicle.*"
    assert (bare.type, bare.position_m, bare.parameters) == ("NoTrigger", None, {})


@pytest.mark.parametrize(
    ("name", "routes", "triggers"),
    [("lb1_devtest", 4, 0), ("lb1_training", 50, 0), ("lb2_devtest", 2, 119), ("routes_town10", 1, 9)],
)
def test_real_files(shared_data: Path, name: str, routes: int, triggers: int) -> None:
    read = read_routes(shared_data / "routes" / f"{name}.xml")
    assert len(read) == routes and all(len(route.keypoints_m) >= 6 for route in read)
    text = (shared_data / "routes" / f"{name}.xml").read_text()
    assert sum(len(route.scenarios) for route in read) == text.count("<scenario ") == triggers
    assert not any(route.town.endswith("_Opt") for route in read)


def test_selection_by_id_and_subset(tmp_path: Path) -> None:
    body = "".join(
        f'<route id="{i}" town="T"><waypoint x="0" y="0"/><waypoint x="5" y="0"/></route>'
        for i in (0, 1, 2, 5, 3, 7, 9)
    )
    routes = read_routes(written(tmp_path, f"<routes>{body}</routes>"))

    def ids(**chosen: str) -> list[str]:
        return [route.id for route in select_routes(routes, **chosen)]

    assert ids() == ["0", "1", "2", "5", "3", "7", "9"]
    assert ids(route_id="5") == ["5"]
    assert ids(subset="1-3,7") == ["1", "2", "5", "3", "7"]  # a range follows the file, as the leaderboard's does
    assert ids(subset="9, 0 ,1-2,1") == ["0", "1", "2", "9"]
    for wrong in ("4", "", "0-", "3-5", "-", "0-44"):
        with pytest.raises(ScenarioError):
            ids(subset=wrong)
    with pytest.raises(ScenarioError, match=r"r\.xml: --route-id '77': no such route; nearest 7.* it has 0, 1, 2, 5"):
        ids(route_id="77")


def test_a_repeated_id_is_only_wrong_when_asked_for(tmp_path: Path) -> None:
    text = LB2.replace('id="3"', 'id="24211"')
    routes = read_routes(written(tmp_path, text))
    with pytest.raises(ScenarioError, match="used 2 times"):
        select_routes(routes, "24211")


ENTITIES = '<!DOCTYPE routes [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
BAD = {
    "empty": ("", "is empty"),
    "truncated": (LB1[:-40], "not well-formed"),
    "binary": (bytes(range(256)), "not well-formed"),
    "entities": (ENTITIES + LB1, "entities"),
    "other root": ("<OpenDRIVE/>", "not <routes>"),
    "no route": ("<routes/>", "no <route>"),
    "no id": (LB1.replace('id="8"', ""), "route[0]: has no id"),
    "no town": (LB1.replace('town="Town01"', ""), "route[0] (id 8): has no town"),
    "nan": (LB1.replace('y="12.0"', 'y="nan"'), "route[0] (id 8): waypoint[1]: y='nan'"),
    "inf": (LB1.replace('x="4.0"', 'x="1e999"'), "waypoint[2]: x='1e999'"),
    "huge": (LB1.replace('x="4.0"', 'x="4e12"'), "waypoint[2]: x='4e12'"),
    "word": (LB1.replace('yaw="90.0"', 'yaw="north"'), "waypoint[0]: yaw='north'"),
    "no x": (LB1.replace('x="4.0"', ""), "waypoint[2]: has no x"),
    "trigger": (LB2.replace('yaw="-90"', 'yaw="nan"'), "scenario[0]: trigger_point: yaw='nan'"),
    "one": (
        LB2.replace('<position x="9" y="0" z="0"/>', ""),
        "route[1] (id 3): a route needs at least 2 waypoints, got 1",
    ),
    "point": (LB2.replace('x="9"', 'x="0"'), "route[1] (id 3): is 0.00 m long"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, complaint = BAD[name]
    with pytest.raises(ScenarioError) as caught:
        read_routes(written(tmp_path, text))
    message = str(caught.value)
    assert message.startswith("r.xml: ") and complaint in message and "\n" not in message and "; " in message


def test_missing_files_are_refused(tmp_path: Path) -> None:
    for read in (read_routes, read_trajectory):
        for path in (tmp_path, tmp_path / "absent"):
            with pytest.raises(ScenarioError, match="pass"):
                read(path)


def curve() -> tuple[np.ndarray, np.ndarray]:
    """x, y, z of a rising left turn, and its headings."""
    angle = np.linspace(0.3, 1.4, 9)
    place = np.stack([20 * np.sin(angle), -20 * np.cos(angle), 0.1 * np.arange(9)], axis=1)
    return place, angle


def poses_text(place: np.ndarray, yaw: np.ndarray, axes: np.ndarray) -> str:
    """poses.txt of a body whose axes, seen from (forward, left, up), are the rows of `axes`."""
    rows = []
    for point, angle in zip(place, yaw, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        matrix = np.column_stack([axes @ turn @ axes.T, axes @ point])
        rows.append(" ".join(f"{value:.9f}" for value in matrix.ravel()))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("axes", [np.eye(3), np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])], ids=["ego", "camera"])
def test_kitti_poses_of_ego_and_camera(tmp_path: Path, axes: np.ndarray) -> None:
    place, yaw = curve()
    logged = read_trajectory(written(tmp_path, poses_text(place, yaw, axes), "poses.txt"), dt_s=0.25)
    assert logged.pose == pytest.approx(np.column_stack([place[:, :2], yaw]), abs=1e-6)
    assert logged.z_m == pytest.approx(place[:, 2], abs=1e-6)
    assert logged.time_s == pytest.approx(0.25 * np.arange(9))


def test_times_beside_poses_are_used(tmp_path: Path) -> None:
    times = np.cumsum(np.linspace(0.1, 0.3, 9))
    written(tmp_path, "\n".join(map(str, times)), "times.txt")
    place, yaw = curve()
    poses = written(tmp_path, poses_text(place, yaw, np.eye(3)), "poses.txt")
    assert read_trajectory(poses).time_s == pytest.approx(times)
    written(tmp_path, "0\n1\n", "times.txt")
    with pytest.raises(ScenarioError, match="2 times for 9 poses"):
        read_trajectory(poses)


def test_csv_with_and_without_a_header(tmp_path: Path) -> None:
    plain = read_trajectory(written(tmp_path, "0,1,2,0.5\n0.2,3,4,3.5\n", "a.csv"))
    assert np.allclose(plain.pose, [[1, 2, 0.5], [3, 4, 3.5 - 2 * np.pi]]) and np.array_equal(plain.time_s, [0, 0.2])
    head = read_trajectory(written(tmp_path, "y,x,z,time,yaw_deg\n2,1,9,0,90\n4,3,8,1,-90\n", "b.csv"))
    assert np.allclose(head.pose, [[1, 2, np.pi / 2], [3, 4, -np.pi / 2]]) and np.array_equal(head.z_m, [9, 8])
    carla = read_trajectory(written(tmp_path, "t,x,y,yaw_deg\n0,1,2,90\n1,1,3,90\n", "c.csv"), frame="carla")
    assert np.allclose(carla.pose, [[1, -2, -np.pi / 2], [1, -3, -np.pi / 2]])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        (b"\xff\xfe\x00", "not text"),
        ("0,1,2,0\n", "at least 2 poses"),
        ("0,1,2,0\n1,2,nan,0\n", "line 2"),
        ("0,1,2,0\n1,2,3\n", "line 2: needs 4 numbers"),
        ("0,1,2,0\n0,2,3,0\n", "line 2: its time"),
        ("0,1,2,0\n1,2,9e9,0\n", "line 2: lies beyond"),
        ("0,1,2,90\n1,2,3,90\n", "yaw_deg"),
        ("t,x,yaw\n0,1,2\n", "lacks the column y"),
        ("1 2 3\n4 5 6\n", "3 columns"),
        (" ".join(["1"] * 12) + "\n" + " ".join(["2"] * 12), "line 1: its first 3x3 is no rotation"),
    ],
)
def test_bad_trajectories_are_refused_in_one_line(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_trajectory(written(tmp_path, text, "log.csv"))
    message = str(caught.value)
    assert message.startswith("log.csv: ") and complaint in message and "\n" not in message and "; " in message
