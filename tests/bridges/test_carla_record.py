"""The real client against a server that speaks its protocol: a street with a wall on the left and a car ahead."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from bridges.carla.order import RecordOrder
from bridges.carla.record import record
from dcgen.dataset.store import ClipDataset, open_dataset
from dcgen.errors import CarlaError, DcgenError, MissingExtra
from dcgen.types import STATIC_CHANNELS, UNKNOWN, Clip, Command, GridSpec, Semantics
from tests.bridges.carla_server import Actor, CarlaServer, Faults

pytest.importorskip("carla")
GRID = GridSpec((44, 40, 6), (0.8, 0.8, 0.8), (-12.8, -16.0, -2.0))
FRAMES, DT_S = 4, 0.2
LANE_Y_M, WALL_Y_M, CAR_MPS = -1.75, 9.0, 8.0  # dcgen's y, left positive
CAR, WALKER = 50, 51


def order_for(server: CarlaServer, folder: Path, **changes: object) -> RecordOrder:
    """A recording of a second or so; nothing in it waits long."""
    small = RecordOrder(
        folder, 1, port=server.port, grid=GRID, frames=FRAMES, dt_s=DT_S, vehicles=0, walkers=0, lidars=2, channels=24,
        points_per_second=96_000, part_clips=1, connect_s=5.0, tick_s=8.0, sensor_s=3.0,
    )  # fmt: skip
    return replace(small, **changes)


def street(**changes: object) -> CarlaServer:
    """Room for the ego alone, with another client's car 10 m ahead of it and a walker on the right."""
    others = {
        CAR: Actor(CAR, "vehicle.audi.tt", {"role_name": "other"}, [10.0, 1.75, 0.0, 0.0, 0.0, 0.0], 0, CAR_MPS),
        WALKER: Actor(WALKER, "walker.pedestrian.0001", {"role_name": "x"}, [19.0, 8.5, 0.0, 0.0, 90.0, 0.0], 0),
    }
    return CarlaServer(**{"actors": others, "spots": ((0.0, 1.75),), **changes})  # type: ignore[arg-type]


@dataclass
class Told:
    """What a recording said, and how far it was."""

    lines: list[str] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def run(self, order: RecordOrder) -> ClipDataset:
        return open_dataset(record(order, self.lines.append, lambda done, total: self.done.append(done)))


def assert_left_as_found(server: CarlaServer) -> None:
    assert server.settings[:3] == [False, False, None]
    assert not [a for a in server.actors.values() if a.attributes["role_name"].startswith("dcgen")]
    assert not server.unknown


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[CarlaServer, ClipDataset, Told]:
    told = Told()
    with pytest.MonkeyPatch.context() as patch, street() as server:
        patch.setenv("DCGEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        data = told.run(order_for(server, tmp_path_factory.mktemp("carla") / "set", clips=2, part_clips=2, walkers=1))
    return server, data, told


@pytest.fixture(scope="module")
def clip(made: tuple[CarlaServer, ClipDataset, Told]) -> Clip:
    return made[1][0]


def ego_xy(clip: Clip) -> np.ndarray:
    return clip.conditions.world_se3_anchor[:2, 3]


def where(mask: np.ndarray) -> np.ndarray:
    """[N, 3] centres of the voxels of a mask, in the anchor frame."""
    return GRID.centres_m()[mask]


def test_every_clip_is_there_and_the_server_as_it_was(made: tuple[CarlaServer, ClipDataset, Told]) -> None:
    server, data, told = made
    assert data.complete and len(data) == 2 and told.done[-1] == 2 and told.done == sorted(told.done)
    assert_left_as_found(server)
    assert set(server.actors) == {CAR, WALKER}
    clocked = [seen for seen in server.settings_seen if seen[0]]
    assert clocked and all(seen[2] == pytest.approx(0.1) and seen[2] <= seen[4] * seen[5] for seen in clocked)
    assert any("0 of 1 walkers" in line for line in told.lines)  # this server has no navigation mesh
    assert (data.folder / "Street.xodr").read_text() == server.do_get_map_data()
    assert data.spec.origin["maps"][0].startswith("Street ") and data.spec.origin["carla"] == "0.9.16"


def test_the_wall_stands_on_the_left(clip: Clip) -> None:
    wall = where(clip.labels[0] == Semantics.BARRIER)
    assert len(wall) > 60 and np.all(wall[:, 1] > 0)
    assert np.abs(wall[:, 1] - (WALL_Y_M - LANE_Y_M)).max() < 0.8
    assert clip.points is not None
    left = clip.points[0][clip.points[0][:, 1] > 8.9 - LANE_Y_M - 0.2]
    assert len(left) > 50 and left[:, 2].max() > 1.0


def test_what_stands_still_is_the_same_in_every_frame(clip: Clip) -> None:
    known = (clip.labels != UNKNOWN).all(0) & ~clip.moving.any(0)
    still = known & np.isin(clip.labels[0], (Semantics.BARRIER, Semantics.ROAD, Semantics.SIDEWALK))
    assert still.sum() > 500
    assert (clip.labels[:, still] == clip.labels[0, still]).mean() > 0.999


def test_the_car_ahead_drives_away(clip: Clip) -> None:
    agents = clip.conditions.agents
    row = list(agents.id).index(CAR)
    rear_m = agents.pose[row, :, 0] - 2.3 - clip.conditions.world_se3_anchor[0, 3]
    for t in range(FRAMES):
        car = where(clip.labels[t] == Semantics.VEHICLE)
        assert np.array_equal(clip.moving[t], clip.labels[t] == Semantics.VEHICLE)
        assert len(car) >= 3 and np.all(np.abs(car[:, 1]) < 1.7)
        assert abs(car[:, 0].min() - rear_m[t]) < 0.75  # the voxel that its rear stands in, or the next
    assert agents.class_id[row] == Semantics.VEHICLE and agents.valid[row].all()
    assert agents.size_m[row] == pytest.approx([4.6, 1.8, 1.5]) and agents.speed_mps[row] == pytest.approx(CAR_MPS)
    assert agents.pose[row, :, 1] == pytest.approx(LANE_Y_M) and agents.z_m[row] == pytest.approx(0.0, abs=1e-5)
    assert np.diff(agents.pose[row, :, 0]) == pytest.approx(CAR_MPS * DT_S, abs=1e-4)


def test_the_walker_is_a_pedestrian_on_the_right_who_does_not_move(clip: Clip) -> None:
    agents = clip.conditions.agents
    row = list(agents.id).index(WALKER)
    assert agents.class_id[row] == Semantics.PEDESTRIAN
    assert agents.pose[row, 0] == pytest.approx([19.0, -8.5, -np.pi / 2])
    assert not agents.speed_mps[row].any()
    body = where(clip.labels[0] == Semantics.PEDESTRIAN)
    assert len(body) and np.hypot(*(body[:, :2] - (agents.pose[row, 0, :2] - ego_xy(clip))).T).max() < 1.0
    assert not (clip.moving & (clip.labels == Semantics.PEDESTRIAN)).any()


def test_the_ego_stands_on_the_ground_and_does_not_see_itself(clip: Clip) -> None:
    poses = clip.conditions.world_se3_ego
    assert poses[:, 1:3, 3] == pytest.approx(np.tile([LANE_Y_M, 0.0], (FRAMES, 1)), abs=1e-5)
    assert np.diff(poses[:, 0, 3]) == pytest.approx(5.0 * DT_S, abs=1e-4)
    assert clip.conditions.command is Command.FORWARD
    assert sorted(clip.conditions.agents.id) == [CAR, WALKER]
    body = (np.abs(GRID.centres_m()[..., 0]) < 2.3) & (np.abs(GRID.centres_m()[..., 1]) < 0.9)
    assert not (clip.labels[FRAMES // 2][body] == Semantics.VEHICLE).any()
    assert clip.points is not None and all(
        not ((np.abs(p[:, 0]) < 2.2) & (np.abs(p[:, 1]) < 0.8) & (p[:, 2] > 0.1)).any() for p in clip.points
    )


def test_what_nobody_looked_at_is_unknown(clip: Clip) -> None:
    assert clip.observed is not None
    assert not (clip.labels[clip.observed] == UNKNOWN).any()
    behind = where(clip.labels[0] == UNKNOWN)
    assert (clip.labels[:, GRID.centres_m()[..., 1] > WALL_Y_M - LANE_Y_M + 0.8] == UNKNOWN).mean() > 0.9
    assert len(behind) and (where(clip.labels[0] == Semantics.FREE)[:, 2] > -0.5).all()


def test_the_map_tells_where_the_road_is(clip: Clip) -> None:
    road = clip.conditions.layout_static[STATIC_CHANNELS.index("road")]
    x_m, y_m = GRID.centres_m()[:, :, 0, 0], GRID.centres_m()[:, :, 0, 1] + LANE_Y_M
    assert road[np.abs(y_m) < 2.5].min() > 0.9 and not road[np.abs(y_m) > 4.5].any()
    route = clip.conditions.layout_static[STATIC_CHANNELS.index("route")]
    assert route.any() and np.abs(y_m[route > 0.5] - LANE_Y_M).max() < 1.5 and x_m.shape == route.shape


def test_a_route_is_driven_from_its_beginning(tmp_path: Path) -> None:
    """Its keypoints are CARLA's; the town is the one that the server has to show."""
    routes = tmp_path / "routes.xml"
    points = "".join(f'<waypoint x="{x}" y="1.75" z="0" yaw="0"/>' for x in (30, 100, 170))
    routes.write_text(f'<routes><route id="4" town="Other">{points}</route></routes>')
    told = Told()
    with street() as server:
        data = told.run(order_for(server, tmp_path / "set", route=routes, seed=3))
        assert server.calls["load_new_episode"] == 1 and "Other" in server.map_name
        assert_left_as_found(server)
    conditions = data[0].conditions
    assert 30 < conditions.world_se3_ego[0, 0, 3] < 60
    line = conditions.layout_static[STATIC_CHANNELS.index("route")]
    ahead = line[:, GRID.shape[1] // 2 - 1 : GRID.shape[1] // 2 + 1]
    assert ahead[20:].min() > 0.9  # the whole route is drawn, not what was driven alone
    assert data.spec.origin["route_id"] == "" and data.spec.origin["maps"][0].startswith("Other ")


def test_the_same_seed_records_the_same_however_slowly_the_streams_begin(tmp_path: Path) -> None:
    """Also with traffic that the traffic manager drives."""
    made = []
    for name, slow in (("a", 0), ("b", 5)):
        spots = ((0.0, 1.75), (14.0, 1.75), (28.0, 1.75), (42.0, 1.75))
        with CarlaServer(spots=spots, faults=Faults(late_streams=slow)) as server:
            made.append(Told().run(order_for(server, tmp_path / name, vehicles=2, frames=2)))
            assert_left_as_found(server)
    first, again = made
    assert first.content_sha256 == again.content_sha256
    agents = first[0].conditions.agents
    assert len(agents.id) == 2 and agents.valid.all() and (agents.speed_mps > 0).all()


@pytest.mark.parametrize("changes", [{"clips": 0}, {"port": 0}, {"dt_s": float("nan")}, {"lidars": 0}])
def test_impossible_orders_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(CarlaError, match=f"^{next(iter(changes))}: .*; pass"):
        RecordOrder(**{"folder": tmp_path, **changes})  # type: ignore[arg-type]


def test_a_file_of_many_routes_needs_a_choice(tmp_path: Path) -> None:
    one = '<route id="{}" town="Other"><waypoint x="0" y="0" z="0"/><waypoint x="9" y="0" z="0"/></route>'
    (tmp_path / "routes.xml").write_text(f"<routes>{one.format(1)}{one.format(2)}</routes>")
    with pytest.raises(DcgenError, match="2 routes; choose one with --route-id"):
        Told().run(RecordOrder(tmp_path / "set", route=tmp_path / "routes.xml"))


def test_without_the_client_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'dcgen\[carla\]'"):
        Told().run(RecordOrder(tmp_path / "set"))
    assert not (tmp_path / "set").exists()


def test_an_order_travels_as_json(tmp_path: Path) -> None:
    order = RecordOrder(tmp_path, route=tmp_path / "r.xml", grid=GRID, dt_s=0.25)
    assert RecordOrder.from_dict(order.to_dict()) == order
    assert order.ticks_a_frame == 3 and order.tick_dt_s <= 0.1
