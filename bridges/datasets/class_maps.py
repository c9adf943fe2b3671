"""What each public set calls a class, and what dcgen calls it: one table a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import DatasetError
from dcgen.types import UNKNOWN, Labels, Semantics

FREE, OTHER, GROUND, ROAD = Semantics.FREE, Semantics.OTHER, Semantics.GROUND, Semantics.ROAD
BUILDING, BARRIER, POLE = Semantics.BUILDING, Semantics.BARRIER, Semantics.POLE
PEDESTRIAN, VEHICLE, BICYCLE = Semantics.PEDESTRIAN, Semantics.VEHICLE, Semantics.BICYCLE
SIDEWALK, VEGETATION = Semantics.SIDEWALK, Semantics.VEGETATION
_REFUSED = 254


@dataclass(frozen=True)
class ClassMap:
    """The ids of a set: id -> (the set's name, dcgen's class or UNKNOWN)."""

    name: str
    classes: Mapping[int, tuple[str, int]]

    def apply(self, ids: NDArray[np.integer], path: Path) -> Labels:
        """Labels of ids [...] that a file holds. Raises DatasetError, naming the file, for an id of no class."""
        table = np.full(max(self.classes) + 2, _REFUSED, np.uint8)
        for number, (_, label) in self.classes.items():
            table[number] = label
        labels: Labels = table[
            np.clip(ids.astype(np.int64), -1, len(table) - 1)
        ]  # the last place is no class, -1 reads it too
        if (labels == _REFUSED).any():
            odd = ", ".join(str(number) for number in np.unique(ids[labels == _REFUSED])[:4])
            raise DatasetError(f"{path}: holds class id {odd}, which {self.name} has not; check which set this is")
        return labels

    def of(self, number: int, path: Path) -> int:
        """dcgen's class of one id."""
        return int(self.apply(np.array([number]), path)[0])


CARLASC = ClassMap(
    "CarlaSC",
    {
        0: ("unlabeled", FREE),
        1: ("building", BUILDING),
        2: ("fence", BARRIER),
        3: ("other", OTHER),
        4: ("pedestrian", PEDESTRIAN),
        5: ("pole", POLE),
        6: ("road line", ROAD),
        7: ("road", ROAD),
        8: ("sidewalk", SIDEWALK),
        9: ("vegetation", VEGETATION),
        10: ("vehicle", VEHICLE),
        11: ("wall", BARRIER),
        12: ("traffic sign", POLE),
        13: ("sky", OTHER),
        14: ("ground", GROUND),
        15: ("bridge", OTHER),
        16: ("rail track", OTHER),
        17: ("guard rail", BARRIER),
        18: ("traffic light", POLE),
        19: ("static", OTHER),
        20: ("dynamic", OTHER),
        21: ("water", OTHER),
        22: ("terrain", GROUND),
    },
)

OCC3D_NUSCENES = ClassMap(
    "Occ3D-nuScenes",
    {
        0: ("others", OTHER),
        1: ("barrier", BARRIER),
        2: ("bicycle", BICYCLE),
        3: ("bus", VEHICLE),
        4: ("car", VEHICLE),
        5: ("construction vehicle", VEHICLE),
        6: ("motorcycle", VEHICLE),  # as CARLA's motorcycles
        7: ("pedestrian", PEDESTRIAN),
        8: ("traffic cone", OTHER),
        9: ("trailer", VEHICLE),
        10: ("truck", VEHICLE),
        11: ("driveable surface", ROAD),
        12: ("other flat", GROUND),
        13: ("sidewalk", SIDEWALK),
        14: ("terrain", GROUND),
        15: ("manmade", BUILDING),
        16: ("vegetation", VEGETATION),
        17: ("free", FREE),
    },
)

OCC3D_WAYMO = ClassMap(
    "Occ3D-Waymo",
    {
        0: ("general object", OTHER),
        1: ("vehicle", VEHICLE),
        2: ("pedestrian", PEDESTRIAN),
        3: ("sign", POLE),
        4: ("cyclist", BICYCLE),
        5: ("traffic light", POLE),
        6: ("pole", POLE),
        7: ("construction cone", OTHER),
        8: ("bicycle", BICYCLE),
        9: ("motorcycle", VEHICLE),
        10: ("building", BUILDING),
        11: ("vegetation", VEGETATION),
        12: ("tree trunk", VEGETATION),
        13: ("road", ROAD),
        14: ("walkable", SIDEWALK),
        15: ("free", FREE),
        23: ("free", FREE),  # so in the files that were published first
    },
)

UNIOCC = ClassMap(
    "UniOcc",
    {
        0: ("general object", OTHER),
        1: ("vehicle", VEHICLE),
        2: ("bicycle", BICYCLE),
        3: ("motorcycle", VEHICLE),
        4: ("pedestrian", PEDESTRIAN),
        5: ("traffic cone", OTHER),
        6: ("vegetation", VEGETATION),
        7: ("road", ROAD),
        8: ("terrain", GROUND),  # sidewalks are among it
        9: ("building", BUILDING),
        10: ("free", FREE),
    },
)

SEMANTICKITTI_MOVING = range(252, 260)
SEMANTICKITTI = ClassMap(
    "SemanticKITTI",
    {
        0: ("empty", FREE),
        1: ("outlier", UNKNOWN),
        10: ("car", VEHICLE),
        11: ("bicycle", BICYCLE),
        13: ("bus", VEHICLE),
        15: ("motorcycle", VEHICLE),
        16: ("on rails", VEHICLE),
        18: ("truck", VEHICLE),
        20: ("other vehicle", VEHICLE),
        30: ("person", PEDESTRIAN),
        31: ("bicyclist", BICYCLE),
        32: ("motorcyclist", VEHICLE),
        40: ("road", ROAD),
        44: ("parking", ROAD),
        48: ("sidewalk", SIDEWALK),
        49: ("other ground", GROUND),
        50: ("building", BUILDING),
        51: ("fence", BARRIER),
        52: ("other structure", OTHER),
        60: ("lane marking", ROAD),
        70: ("vegetation", VEGETATION),
        71: ("trunk", VEGETATION),
        72: ("terrain", GROUND),
        80: ("pole", POLE),
        81: ("traffic sign", POLE),
        99: ("other object", OTHER),
        252: ("moving car", VEHICLE),
        253: ("moving bicyclist", BICYCLE),
        254: ("moving person", PEDESTRIAN),
        255: ("moving motorcyclist", VEHICLE),
        256: ("moving on rails", VEHICLE),
        257: ("moving bus", VEHICLE),
        258: ("moving truck", VEHICLE),
        259: ("moving other vehicle", VEHICLE),
    },
)
CLASS_MAPS = (CARLASC, OCC3D_NUSCENES, OCC3D_WAYMO, UNIOCC, SEMANTICKITTI)
