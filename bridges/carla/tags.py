"""CARLA's semantic tags as dcgen's classes. 0.9.14 numbered them anew, so the table goes by the server's version."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import CarlaError
from dcgen.types import UNKNOWN, Semantics

RENUMBERED = (0, 9, 14)
_CLASS_OF = {
    "Unlabeled": UNKNOWN, "Building": Semantics.BUILDING, "Fence": Semantics.BARRIER, "Other": Semantics.OTHER,
    "Pedestrian": Semantics.PEDESTRIAN, "Pole": Semantics.POLE, "RoadLine": Semantics.ROAD, "Road": Semantics.ROAD,
    "Sidewalk": Semantics.SIDEWALK, "Vegetation": Semantics.VEGETATION, "Vehicle": Semantics.VEHICLE,
    "Wall": Semantics.BARRIER, "TrafficSign": Semantics.POLE, "Sky": Semantics.OTHER, "Ground": Semantics.GROUND,
    "Bridge": Semantics.OTHER, "RailTrack": Semantics.OTHER, "GuardRail": Semantics.BARRIER,
    "TrafficLight": Semantics.POLE, "Static": Semantics.OTHER, "Dynamic": Semantics.OTHER, "Water": Semantics.OTHER,
    "Terrain": Semantics.GROUND, "Rider": Semantics.PEDESTRIAN, "Car": Semantics.VEHICLE, "Truck": Semantics.VEHICLE,
    "Bus": Semantics.VEHICLE, "Train": Semantics.VEHICLE, "Motorcycle": Semantics.VEHICLE,
    "Bicycle": Semantics.BICYCLE,
}  # fmt: skip
UP_TO_0_9_13 = (
    "Unlabeled", "Building", "Fence", "Other", "Pedestrian", "Pole", "RoadLine", "Road", "Sidewalk", "Vegetation",
    "Vehicle", "Wall", "TrafficSign", "Sky", "Ground", "Bridge", "RailTrack", "GuardRail", "TrafficLight", "Static",
    "Dynamic", "Water", "Terrain",
)  # fmt: skip
FROM_0_9_14 = (
    "Unlabeled", "Road", "Sidewalk", "Building", "Wall", "Fence", "Pole", "TrafficLight", "TrafficSign", "Vegetation",
    "Terrain", "Sky", "Pedestrian", "Rider", "Car", "Truck", "Bus", "Train", "Motorcycle", "Bicycle", "Static",
    "Dynamic", "Other", "Water", "RoadLine", "Ground", "Bridge", "RailTrack", "GuardRail",
)  # fmt: skip


def release(version: str) -> tuple[int, ...]:
    """(0, 9, 16) of "0.9.16-12-gabc". Raises CarlaError."""
    found = re.match(r"\s*(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        raise CarlaError(f"{version[:40]!r} is no version of CARLA; use a released server")
    return tuple(int(part or 0) for part in found.groups())


def class_table(version: str) -> NDArray[np.uint8]:
    """[256] tag -> class for a server of this version; UNKNOWN for what has no label, OTHER for tags to come."""
    names = FROM_0_9_14 if release(version) >= RENUMBERED else UP_TO_0_9_13
    table = np.full(256, Semantics.OTHER, np.uint8)
    table[: len(names)] = [_CLASS_OF[name] for name in names]
    return table
