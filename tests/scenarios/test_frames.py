"""CARLA's frame and the world frame."""

from __future__ import annotations

import numpy as np
import pytest

from dcgen.types import wrap_angle
from scenarios.frames import carla_points_to_world, carla_to_world, carla_yaw_to_world, world_to_carla


def test_conversion_and_inverse_give_the_pose_back() -> None:
    pose = (3.0, -4.0, 5.0, 123.0)
    assert world_to_carla(*carla_to_world(*pose)) == pytest.approx(pose)


def test_yaw_looks_along_the_converted_motion() -> None:
    rng = np.random.default_rng(0)
    for yaw_deg in rng.uniform(-720, 720, 20):
        ahead = np.array([np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))])  # CARLA: x forward at yaw 0
        moved = carla_points_to_world(ahead)
        assert wrap_angle(np.arctan2(moved[1], moved[0]) - carla_yaw_to_world(yaw_deg)) == pytest.approx(0, abs=1e-9)


def test_a_left_turn_in_carla_has_negative_area_there_and_positive_area_here() -> None:
    path = np.array([[0.0, 0.0, 1.0], [10.0, 0.0, 1.0], [10.0, -10.0, 1.0]])  # y right: towards -y is left

    def area(points: np.ndarray) -> float:
        x, y = points[:, 0], points[:, 1]
        return float(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))

    assert area(path) < 0 < area(carla_points_to_world(path))


def test_points_keep_shape_and_refuse_other_widths() -> None:
    assert carla_points_to_world(np.ones((4, 5, 2))).shape == (4, 5, 2)
    with pytest.raises(ValueError, match="2 or 3"):
        carla_points_to_world(np.ones((3, 4)))
