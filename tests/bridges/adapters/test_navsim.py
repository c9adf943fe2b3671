"""NAVSIM agents: statuses and poses in the frame of the present rear axle, y to the left."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from bridges.adapters import from_navsim
from bridges.planner import WHEELBASE_M, Observation
from dcgen.errors import PlannerError
from tests.bridges.adapters import left_turn

ARC_M = 14.0


@dataclass
class Sensors:
    cam_f0: object = False
    lidar_pc: object = True


class Turner:
    def __init__(self, to_left: int) -> None:
        self.to_left, self.inputs, self.begun, self.config = to_left, [], 0, Sensors()

    def name(self) -> str:
        return "turner"

    def get_sensor_config(self):
        return self.config

    def initialize(self) -> None:
        self.begun += 1

    def compute_trajectory(self, agent_input):
        self.inputs.append(agent_input)
        bend = self.to_left * 5.0 * 0.5 * np.arange(1, 9) / ARC_M
        x, y = ARC_M * np.sin(np.abs(bend)), self.to_left * ARC_M * (1 - np.cos(bend))
        sampling = SimpleNamespace(interval_length=0.5)
        return SimpleNamespace(poses=np.stack([x, y, bend], axis=1).astype(np.float32), trajectory_sampling=sampling)


@pytest.mark.parametrize("side", [1, -1])
def test_it_turns_where_it_says(side: int) -> None:
    turner = Turner(side)
    planner = from_navsim(turner)
    assert side * left_turn.turned(left_turn.drive(planner, side)) > 0.6
    left_turn.drive(planner, side, steps=1)
    assert turner.begun == 1, "initialize() once, however many scenes"
    command = turner.inputs[-1].ego_statuses[-1].driving_command
    assert command.tolist() == ([1, 0, 0, 0] if side > 0 else [0, 0, 1, 0])


def test_what_it_sees_lies_where_it_is() -> None:
    turner = Turner(1)
    egos = left_turn.drive(from_navsim(turner), steps=12)
    statuses = turner.inputs[-1].ego_statuses
    assert len(statuses) == 4 and np.allclose(statuses[-1].ego_pose, 0.0)
    assert statuses[0].ego_pose[0] < statuses[1].ego_pose[0] < 0
    assert statuses[0].ego_pose[2] < statuses[1].ego_pose[2] < 0, "it turned to the left: earlier it looked more right"
    assert statuses[0].ego_pose[1] > 0, "what it comes from lies to its left"
    assert np.allclose(statuses[-1].ego_velocity, [egos[11].speed_mps, 0.0])
    assert statuses[-1].ego_acceleration[1] > 0, "in a left turn it is pushed to the left"


def test_before_the_first_moment_it_drove_straight() -> None:
    turner = Turner(1)
    left_turn.drive(from_navsim(turner), steps=1)
    poses = np.array([one.ego_pose for one in turner.inputs[0].ego_statuses])
    assert np.allclose(poses, [[-7.5, 0, 0], [-5.0, 0, 0], [-2.5, 0, 0], [0, 0, 0]])


def test_the_lidar_is_of_voxels() -> None:
    turner = Turner(1)
    left_turn.drive(from_navsim(turner), steps=1)
    points = turner.inputs[0].lidars[-1].lidar_pc
    wall = points[:, points[4] == 2]
    assert points.shape[0] == 6 and wall.shape[1] == 6
    assert np.all(wall[1] > 5.0) and wall[0].min() == pytest.approx(4.4 + WHEELBASE_M / 2)
    assert all(one.lidar_pc is None for one in turner.inputs[0].lidars[:-1])


def test_cameras_are_refused_in_one_line() -> None:
    turner = Turner(1)
    turner.config = Sensors(cam_f0=[0, 1])
    with pytest.raises(PlannerError, match=r"turner: asks for cameras \(cam_f0\).*lidar_pc"):
        from_navsim(turner)
    turner.config, turner.requires_scene = Sensors(), True
    with pytest.raises(PlannerError, match="requires_scene"):
        from_navsim(turner)


def test_a_wrong_answer_is_told() -> None:
    turner = Turner(1)
    turner.compute_trajectory = lambda seen: SimpleNamespace(poses=np.zeros((8, 2)))
    planner = from_navsim(turner)
    planner.reset(left_turn.task())
    seen: Observation = left_turn.observation(left_turn.START)
    with pytest.raises(PlannerError, match=r"shape \(8, 2\)"):
        planner.plan(seen)
