"""The tables of classes, spelt out a second time by dcgen's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridges.datasets import class_maps
from bridges.datasets.class_maps import ClassMap
from dcgen.errors import DatasetError
from dcgen.types import CLASS_NAMES, UNKNOWN

# dcgen's class -> ids of the set
TABLES: dict[str, dict[str, list[int]]] = {
    "CARLASC": {
        "free": [0], "building": [1], "barrier": [2, 11, 17], "other": [3, 13, 15, 16, 19, 20, 21], "pedestrian": [4],
        "pole": [5, 12, 18], "road": [6, 7], "ground": [14, 22], "sidewalk": [8], "vegetation": [9], "vehicle": [10],
    },
    "OCC3D_NUSCENES": {
        "free": [17], "building": [15], "barrier": [1], "other": [0, 8], "pedestrian": [7], "road": [11],
        "ground": [12, 14], "sidewalk": [13], "vegetation": [16], "vehicle": [3, 4, 5, 6, 9, 10], "bicycle": [2],
    },
    "OCC3D_WAYMO": {
        "free": [15, 23], "building": [10], "other": [0, 7], "pedestrian": [2], "pole": [3, 5, 6], "road": [13],
        "sidewalk": [14], "vegetation": [11, 12], "vehicle": [1, 9], "bicycle": [4, 8],
    },
    "UNIOCC": {
        "free": [10], "building": [9], "other": [0, 5], "pedestrian": [4], "road": [7], "ground": [8],
        "vegetation": [6], "vehicle": [1, 3], "bicycle": [2],
    },
    "SEMANTICKITTI": {
        "free": [0], "unknown": [1], "building": [50], "barrier": [51], "other": [52, 99], "pedestrian": [30, 254],
        "pole": [80, 81], "road": [40, 44, 60], "ground": [49, 72], "sidewalk": [48], "vegetation": [70, 71],
        "vehicle": [10, 13, 15, 16, 18, 20, 32, 252, 255, 256, 257, 258, 259], "bicycle": [11, 31, 253],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_this(name: str) -> None:
    table: ClassMap = getattr(class_maps, name)
    want = {}
    for label, ids in TABLES[name].items():
        want |= dict.fromkeys(ids, UNKNOWN if label == "unknown" else CLASS_NAMES.index(label))
    assert {number: int(label) for number, (_, label) in table.classes.items()} == want
    numbers = np.array(list(want), np.uint32)
    np.testing.assert_array_equal(table.apply(numbers, Path("a")), list(want.values()))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("odd", [-1, 24, 200, 65_535, 2**32 - 1])
def test_what_is_not_in_the_table_is_refused(name: str, odd: int) -> None:
    table: ClassMap = getattr(class_maps, name)
    ids = np.array([[next(iter(table.classes)), odd]], np.int64)
    with pytest.raises(DatasetError, match=rf"some\.label: holds class id {odd}, .*{table.name}"):
        table.apply(ids, Path("some.label"))


def test_no_table_was_forgotten() -> None:
    assert {id(getattr(class_maps, name)) for name in TABLES} == {id(table) for table in class_maps.CLASS_MAPS}
