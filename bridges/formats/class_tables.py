"""What each format calls a class of dcgen: one table a format, the way out of class_maps.py.

A line is (dcgen's class, the format's id, its name, why where no class of the format is the same). Nothing is guessed
from sizes: a vehicle is a car, since dcgen does not say bus or truck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import DatasetError
from dcgen.types import CLASS_NAMES, UNKNOWN, Labels

_NONE = -1
NO_ROW = -2  # a class that a list of voxels leaves out


@dataclass(frozen=True)
class ClassTable:
    """One format's ids. unknown is what a voxel of no known class is written as, beside the mask that hides it."""

    format: str
    unknown: int
    lines: tuple[tuple[str, int, str, str], ...]

    def ids(self, names: Sequence[str] = CLASS_NAMES) -> NDArray[np.int16]:
        """[256] the format's id of each label, for scenes whose classes are `names`. Raises DatasetError."""
        known = {name: number for name, number, _, _ in self.lines}
        missing = [name for name in names if name not in known]
        if missing:
            raise DatasetError(
                f"{self.format}: has no class for {', '.join(missing)}; add a line to its table in class_tables.py, "
                "or choose another --format"
            )
        out = np.full(256, _NONE, np.int16)
        out[: len(names)] = [known[name] for name in names]
        out[UNKNOWN] = self.unknown
        return out

    def apply(self, labels: Labels) -> NDArray[np.int16]:
        """The format's ids of labels [...]. Raises DatasetError for a label that is no class."""
        out: NDArray[np.int16] = self.ids()[labels]
        if (out == _NONE).any():
            odd = int(labels[out == _NONE].flat[0])
            raise DatasetError(f"{self.format}: the scene holds class {odd}, which is no class; make the scene again")
        return out


CARLASC = ClassTable(
    "CarlaSC",
    0,
    (
        ("free", 0, "unlabeled", ""),
        ("building", 1, "building", ""),
        ("barrier", 2, "fence", "fence, wall and guard rail are one class here"),
        ("other", 3, "other", ""),
        ("pedestrian", 4, "pedestrian", ""),
        ("pole", 5, "pole", "traffic signs and lights among them"),
        ("road", 7, "road", "lane markings among it"),
        ("ground", 22, "terrain", ""),
        ("sidewalk", 8, "sidewalk", ""),
        ("vegetation", 9, "vegetation", ""),
        ("vehicle", 10, "vehicle", ""),
        ("bicycle", 10, "vehicle", "CARLA's tags up to 0.9.13 count bicycles among vehicles"),
    ),
)

OCC3D_NUSCENES = ClassTable(
    "Occ3D-nuScenes",
    17,
    (
        ("free", 17, "free", ""),
        ("building", 15, "manmade", ""),
        ("barrier", 1, "barrier", ""),
        ("other", 0, "others", ""),
        ("pedestrian", 7, "pedestrian", ""),
        ("pole", 15, "manmade", "nuScenes counts poles, signs and lights as manmade"),
        ("road", 11, "driveable surface", ""),
        ("ground", 14, "terrain", ""),
        ("sidewalk", 13, "sidewalk", ""),
        ("vegetation", 16, "vegetation", ""),
        ("vehicle", 4, "car", "the kind of vehicle is not known"),
        ("bicycle", 2, "bicycle", ""),
    ),
)

OCC3D_WAYMO = ClassTable(
    "Occ3D-Waymo",
    15,
    (
        ("free", 15, "free", ""),
        ("building", 10, "building", ""),
        ("barrier", 0, "general object", "there is no class of fences"),
        ("other", 0, "general object", ""),
        ("pedestrian", 2, "pedestrian", ""),
        ("pole", 6, "pole", "traffic signs and lights among them"),
        ("road", 13, "road", ""),
        ("ground", 14, "walkable", "what is flat and not for driving is walkable here, grass too"),
        ("sidewalk", 14, "walkable", ""),
        ("vegetation", 11, "vegetation", "trunks among it"),
        ("vehicle", 1, "vehicle", ""),
        ("bicycle", 8, "bicycle", ""),
    ),
)

UNIOCC = ClassTable(
    "UniOcc",
    10,
    (
        ("free", 10, "free", ""),
        ("building", 9, "building", ""),
        ("barrier", 0, "general object", "there is no class of fences"),
        ("other", 0, "general object", ""),
        ("pedestrian", 4, "pedestrian", ""),
        ("pole", 0, "general object", "there is no class of poles"),
        ("road", 7, "road", ""),
        ("ground", 8, "terrain", ""),
        ("sidewalk", 8, "terrain", "sidewalks are among terrain here"),
        ("vegetation", 6, "vegetation", ""),
        ("vehicle", 1, "car", "the kind of vehicle is not known"),
        ("bicycle", 2, "bicycle", ""),
    ),
)

SEMANTICKITTI = ClassTable(
    "SemanticKITTI",
    0,
    (
        ("free", 0, "empty", ""),
        ("building", 50, "building", ""),
        ("barrier", 51, "fence", "walls and guard rails among them"),
        ("other", 99, "other object", ""),
        ("pedestrian", 30, "person", ""),
        ("pole", 80, "pole", "traffic signs and lights among them"),
        ("road", 40, "road", "lane markings among it"),
        ("ground", 72, "terrain", ""),
        ("sidewalk", 48, "sidewalk", ""),
        ("vegetation", 70, "vegetation", "trunks among it"),
        ("vehicle", 10, "car", "the kind of vehicle is not known"),
        ("bicycle", 11, "bicycle", ""),
    ),
)
# What moves has ids of its own there: id at rest -> id in motion.
SEMANTICKITTI_MOVING = {10: 252, 11: 253, 30: 254}

OPENOCCUPANCY = ClassTable(
    "OpenOccupancy",
    0,  # noise, which its loader ignores
    (
        ("free", NO_ROW, "", "a voxel without a row is free"),
        ("building", 15, "manmade", ""),
        ("barrier", 1, "barrier", ""),
        ("other", 15, "manmade", "0, what nuScenes calls others, is noise here"),
        ("pedestrian", 7, "pedestrian", ""),
        ("pole", 15, "manmade", "nuScenes counts poles, signs and lights as manmade"),
        ("road", 11, "driveable surface", ""),
        ("ground", 14, "terrain", ""),
        ("sidewalk", 13, "sidewalk", ""),
        ("vegetation", 16, "vegetation", ""),
        ("vehicle", 4, "car", "the kind of vehicle is not known"),
        ("bicycle", 2, "bicycle", ""),
    ),
)

CAM4DOCC = ClassTable(
    "Cam4DOcc",
    NO_ROW,
    tuple(
        (name, 1, "movable", "the benchmark knows one class of movable things")
        if name in ("pedestrian", "vehicle", "bicycle")
        else (name, NO_ROW, "", "background is not listed")
        for name in CLASS_NAMES
    ),
)
TABLES = (CARLASC, OCC3D_NUSCENES, OCC3D_WAYMO, UNIOCC, SEMANTICKITTI, OPENOCCUPANCY, CAM4DOCC)
