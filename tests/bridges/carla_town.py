"""A street to record: a plane, a wall on the left, cars that drive on. Left-handed as CARLA: x forward, y RIGHT.

A LiDAR's rays meet the plane z = 0 and boxes. N ray, B box.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.bridges.carla_wire import POINT

ROAD, SIDEWALK, WALL, WALKER, CAR = 1, 2, 4, 12, 14  # tags from 0.9.14 on
ROAD_HALF_WIDTH_M = 7.0
CAR_EXTENT_M = (2.3, 0.9, 0.75)
MAP = """<?xml version="1.0" standalone="yes"?>
<OpenDRIVE>
  <header revMajor="1" revMinor="4" name="street" north="20" south="-20" east="400" west="-100"/>
  <road name="street" length="500" id="1" junction="-1">
    <type s="0" type="town"/>
    <planView><geometry s="0" x="-100" y="0" hdg="0" length="500"><line/></geometry></planView>
    <elevationProfile><elevation s="0" a="0" b="0" c="0" d="0"/></elevationProfile>
    <lanes><laneOffset s="0" a="0" b="0" c="0" d="0"/><laneSection s="0">
      <left><lane id="1" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
        <roadMark sOffset="0" type="solid" weight="standard" color="white" width="0.15"/></lane></left>
      <center><lane id="0" type="none" level="false">
        <roadMark sOffset="0" type="broken" weight="standard" color="white" width="0.15"/></lane></center>
      <right><lane id="-1" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
        <roadMark sOffset="0" type="solid" weight="standard" color="white" width="0.15"/></lane></right>
    </laneSection></lanes>
  </road>
</OpenDRIVE>
"""


@dataclass
class Box:
    """A box that stands on the ground. transform: x, y, z, pitch, yaw, roll in CARLA's frame, of its foot."""

    id: int
    tag: int
    transform: list[float]
    extent_m: tuple[float, float, float]

    @property
    def yaw_rad(self) -> float:
        return float(np.radians(self.transform[4]))

    def local(self, points: np.ndarray, turn_only: bool = False) -> np.ndarray:
        """Points or directions [N, 3] of the world, seen from the middle of the box."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        moved = points if turn_only else points - np.array(self.transform[:3]) - [0, 0, self.extent_m[2]]
        return moved @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]).T


@dataclass
class Town:
    walls: list[Box] = field(default_factory=lambda: [Box(0, WALL, [150.0, -9.0, 0, 0, 0, 0], (200.0, 0.25, 1.5))])

    def cast(
        self, start: np.ndarray, rays: np.ndarray, reach_m: float, boxes: list[Box]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What rays [N, 3] of unit length from one point meet: hits in POINT's layout, and which of them are any."""
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(rays[:, 2] < -1e-6, -start[2] / rays[:, 2], np.inf)
            at = start + np.where(np.isfinite(far), far, 0)[:, None] * rays
            tag = np.where(np.abs(at[:, 1]) < ROAD_HALF_WIDTH_M, ROAD, SIDEWALK)
            who = np.zeros(len(rays), np.int64)
            for box in [*self.walls, *boxes]:
                begin, along = box.local(start[None]), box.local(rays, turn_only=True)
                edges = np.stack([(side * np.array(box.extent_m) - begin) / along for side in (-1, 1)])
                enter, leave = edges.min(0).max(1), edges.max(0).min(1)
                hit = (enter < leave) & (enter > 0) & (enter < far)
                far, tag, who = np.where(hit, enter, far), np.where(hit, box.tag, tag), np.where(hit, box.id, who)
        keep = far < reach_m
        points = np.zeros(len(rays), POINT)
        points["xyz"] = start + np.where(keep, far, 0.0)[:, None] * rays
        points["cos"], points["id"], points["tag"] = 0.5, who, tag
        return points, keep


def lidar_rays(channels: int, columns: int, lower_deg: float, upper_deg: float) -> np.ndarray:
    """[channels, columns, 3] unit directions in the sensor's frame."""
    up = np.radians(np.linspace(upper_deg, lower_deg, channels))[:, None]
    around = (2 * np.pi * (np.arange(columns) + 0.5) / columns)[None]
    return np.stack(np.broadcast_arrays(np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)), -1)
