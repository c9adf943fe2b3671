"""CARLA agents: twenty times a second, y and yaw to the right, degrees."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bridges.adapters import from_carla_agent
from bridges.adapters.carla import STEER_DEG, control_of
from bridges.adapters.carla_sensors import gps_of
from dcgen.errors import PlannerError
from scenarios.route import RoadOption
from tests.bridges.adapters import left_turn


class Turner:
    """steer is CARLA's: positive to the right."""

    def __init__(self, steer: float) -> None:
        self.steer, self.seen, self.path, self.plan, self.destroyed = steer, [], None, None, False

    def setup(self, path_to_conf_file: str) -> None:
        self.path = path_to_conf_file

    def set_global_plan(self, gps, world) -> None:
        self.plan = gps, world

    def sensors(self) -> list[dict]:
        return [
            {"type": "sensor.other.gnss", "id": "GPS", "x": 0.0, "y": 0.0, "z": 0.0},
            {"type": "sensor.other.imu", "id": "IMU"},
            {"type": "sensor.speedometer", "id": "SPEED"},
            {"type": "sensor.lidar.ray_cast_semantic", "id": "LIDAR", "x": 1.0, "y": 0.5, "z": 1.5, "yaw": 90.0},
        ]

    def run_step(self, input_data, timestamp):
        self.seen.append((timestamp, input_data))
        return SimpleNamespace(throttle=0.2, brake=0.0, steer=self.steer, hand_brake=False, reverse=False)

    def destroy(self) -> None:
        self.destroyed = True


@pytest.mark.parametrize("side", [1, -1])
def test_it_turns_where_it_steers(side: int) -> None:
    turner = Turner(-0.2 * side)
    assert side * left_turn.turned(left_turn.drive(from_carla_agent(turner, "conf.json"), side)) > 0.6
    assert turner.destroyed and turner.path == "conf.json"


def test_it_is_asked_twenty_times_a_second() -> None:
    turner = Turner(0.0)
    egos = left_turn.drive(from_carla_agent(turner), steps=3)
    assert np.allclose([at for at, _ in turner.seen], np.arange(12) * 0.05)
    assert [data["IMU"][0] for _, data in turner.seen] == list(range(12))
    speeds = [data["SPEED"][1]["speed"] for _, data in turner.seen]
    assert speeds == sorted(speeds) and speeds[0] < speeds[1]
    assert speeds[4] == pytest.approx(egos[1].speed_mps), "between observations it rolls as the ego then did"


def test_what_it_senses_has_carlas_signs() -> None:
    turner = Turner(-0.2)
    left_turn.drive(from_carla_agent(turner), steps=8)
    first, last = turner.seen[0][1], turner.seen[-1][1]
    assert first["IMU"][1][6] == pytest.approx(np.pi / 2 - left_turn.START.yaw_rad), "clockwise from north"
    assert last["IMU"][1][5] < 0 and last["IMU"][1][1] < 0, "to the left is negative"
    assert last["IMU"][1][6] < first["IMU"][1][6]
    assert last["GPS"][1][0] > first["GPS"][1][0] and last["GPS"][1][1] > first["GPS"][1][1], "north and east"
    lat, lon, _ = gps_of(left_turn.START.x_m, left_turn.START.y_m, 0.0)
    assert np.allclose(first["GPS"][1][:2], [lat, lon])


def test_the_lidar_stands_where_it_was_put() -> None:
    turner = Turner(0.0)
    left_turn.drive(from_carla_agent(turner), steps=1)
    points = turner.seen[0][1]["LIDAR"][1]
    wall = points[points[:, 3] == 2]
    # The wall is 4.4, 5.2 and 6.0 m ahead and to the left. The LiDAR looks to the right, so its right is behind.
    assert np.allclose(np.unique(wall[:, 0].round(3)), -wall_left() - 0.5)
    assert np.allclose(np.unique(wall[:, 1].round(3)), 1.0 - np.array([6.0, 5.2, 4.4]))
    assert np.allclose(np.unique(wall[:, 2].round(3)), np.array([0.8, 1.6]) - 1.5)


def wall_left() -> float:
    grid = left_turn.GRID
    j = int((left_turn.WALL_LEFT_M - grid.origin_m[1]) / grid.voxel_m[1])
    return grid.origin_m[1] + (j + 0.5) * grid.voxel_m[1]


@pytest.mark.parametrize("side", [1, -1])
def test_the_route_is_told_in_carlas_frame(side: int) -> None:
    turner = Turner(0.0)
    from_carla_agent(turner).reset(left_turn.task(side))
    gps, world = turner.plan
    yaw = np.unwrap(np.radians([transform.rotation.yaw for transform, _ in world]))
    assert side * (yaw[-1] - yaw[0]) < -1.4
    assert np.allclose([world[0][0].location.x, world[0][0].location.y], [left_turn.START.x_m, -left_turn.START.y_m])
    assert {option for _, option in world} == {RoadOption.LANEFOLLOW, RoadOption.LEFT if side > 0 else RoadOption.RIGHT}
    assert len(gps) == len(world) and gps[0][0]["lat"] == gps_of(0.0, left_turn.START.y_m, 0.0)[0]


@pytest.mark.parametrize(
    ("pedals", "sign"), [({"throttle": 0.5}, 1), ({"brake": 0.5}, -1), ({"throttle": 1.0, "hand_brake": True}, -1)]
)
def test_pedals(pedals: dict, sign: int) -> None:
    control = SimpleNamespace(**{"throttle": 0.0, "brake": 0.0, "steer": 0.1, **pedals})
    done = control_of(control, 5.0, "it")
    assert sign * done.acceleration_mps2 > 0
    assert done.steering_rad == pytest.approx(-np.radians(0.1 * STEER_DEG))


def test_cameras_and_other_answers_are_told_in_one_line() -> None:
    turner = Turner(0.0)
    turner.sensors = lambda: [{"type": "sensor.camera.rgb", "id": "Center"}]
    with pytest.raises(PlannerError, match=r"Turner: sensors\(\): Center is a camera; .*lidar") as told:
        from_carla_agent(turner).reset(left_turn.task())
    assert "\n" not in str(told.value)
    turner.sensors = lambda: [{"type": "sensor.other.radar", "id": "R"}]
    with pytest.raises(PlannerError, match=r"radar' is not answered"):
        from_carla_agent(turner).reset(left_turn.task())
    with pytest.raises(PlannerError, match="NoneType; it needs throttle"):
        control_of(None, 1.0, "it")
