"""What a CARLA agent's sensors answer: position, motion and a LiDAR of voxels. CARLA's frame and units.

GNSS in degrees, IMU in m/s2 and rad/s with a compass (0 north, clockwise), LiDAR points x ahead, y right, z up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bridges.planner import Observation
from dcgen.errors import PlannerError
from dcgen.types import UNKNOWN, Doubles, Floats, Semantics
from scenarios.frames import carla_points_to_world, carla_transform_to_world, world_to_carla

EARTH_M = 6378137.0
GRAVITY_MPS2 = 9.81
ANSWERED = ("sensor.other.gnss", "sensor.other.imu", "sensor.speedometer", "sensor.lidar.ray_cast",
            "sensor.lidar.ray_cast_semantic")  # fmt: skip


@dataclass(frozen=True)
class Sensor:
    """A sensor that is answered, and where it stands on the ego."""

    id: str
    type: str
    ego_se3_sensor: Doubles  # [4, 4]
    range_m: float


@dataclass(frozen=True)
class Ego:
    """The ego at a tick, in the world."""

    time_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    acceleration_mps2: float
    yaw_rate_radps: float


def check_sensors(wanted: list[dict[str, Any]], who: str) -> list[Sensor]:
    """The sensors, read. Raises PlannerError for those that occupancy cannot answer."""
    sensors = []
    for one in wanted:
        kind, name = str(one.get("type", "")), str(one.get("id", ""))
        if kind.startswith("sensor.camera"):
            raise PlannerError(
                f"{who}: sensors(): {name or kind} is a camera; dcgen has occupancy, no images: "
                "use sensor.lidar.ray_cast or sensor.lidar.ray_cast_semantic"
            )
        if kind not in ANSWERED:
            raise PlannerError(f"{who}: sensors(): {kind or name!r} is not answered; there are {', '.join(ANSWERED)}")
        place = (float(one.get(axis, 0.0)) for axis in ("x", "y", "z", "pitch", "yaw", "roll"))
        sensors.append(Sensor(name, kind, carla_transform_to_world(*place), float(one.get("range", 1000.0))))
    return sensors


def sense(sensor: Sensor, ego: Ego, observation: Observation, ego_se2_observed: Doubles) -> Any:
    """One reading. ego_se2_observed [3, 3] moves points of the observation's ego frame into the ego's of this tick."""
    if sensor.type == "sensor.other.gnss":
        return np.array(gps_of(ego.x_m, ego.y_m, 0.0))
    if sensor.type == "sensor.speedometer":
        return {"speed": ego.speed_mps}
    if sensor.type == "sensor.other.imu":
        yaw_deg = world_to_carla(0.0, 0.0, 0.0, ego.yaw_rad)[3]
        spin = float(np.radians(_rate_deg(ego.yaw_rate_radps)))
        across = world_to_carla(0.0, ego.speed_mps * ego.yaw_rate_radps, 0.0, 0.0)[1]
        compass = float(np.radians(yaw_deg + 90.0) % (2 * np.pi))
        return np.array([ego.acceleration_mps2, across, GRAVITY_MPS2, 0.0, 0.0, spin, compass])
    return _points(sensor, observation, ego_se2_observed)


def gps_of(x_m: float, y_m: float, z_m: float) -> tuple[float, float, float]:
    """Latitude and longitude in degrees, altitude: a Mercator map whose origin is at 0, 0; north is the world's +y."""
    latitude = 2 * np.arctan(np.exp(y_m / EARTH_M)) - np.pi / 2
    return float(np.degrees(latitude)), float(np.degrees(x_m / EARTH_M)), float(z_m)


def _rate_deg(radps: float) -> float:
    """A yaw rate as CARLA counts it. Small, so that no turn of more than half a circle is cut off."""
    return world_to_carla(0.0, 0.0, 0.0, radps / 100.0)[3] * 100.0


def _points(sensor: Sensor, observation: Observation, ego_se2_observed: Doubles) -> Floats:
    """[P, 4] centres of solid voxels in the sensor's frame, and 1; or of a semantic LiDAR [P, 4] with the class."""
    labels, grid = observation.occupancy[-1], observation.grid
    cell = np.argwhere((labels != Semantics.FREE) & (labels != UNKNOWN))
    centre = np.array(grid.origin_m) + (cell + 0.5) * np.array(grid.voxel_m)
    centre[:, :2] = centre[:, :2] @ ego_se2_observed[:2, :2].T + ego_se2_observed[:2, 2]
    sensor_se3_ego = np.linalg.inv(sensor.ego_se3_sensor)
    seen = centre @ sensor_se3_ego[:3, :3].T + sensor_se3_ego[:3, 3]
    near = np.linalg.norm(seen, axis=1) < sensor.range_m
    last = labels[tuple(cell.T)] if sensor.type.endswith("semantic") else np.ones(len(cell))
    return np.column_stack([carla_points_to_world(seen), last])[near].astype(np.float32)
