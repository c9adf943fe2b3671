"""The tables name every class of dcgen once, say why where the name differs, and agree with the way in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridges.datasets import class_maps
from bridges.formats import class_tables
from bridges.formats.class_tables import NO_ROW, ClassTable
from dcgen.errors import DatasetError
from dcgen.types import CLASS_NAMES, UNKNOWN

# What comes back as another class, since the format cannot tell them apart.
LOST = {
    "CARLASC": {"bicycle": "vehicle"},
    "OCC3D_NUSCENES": {"pole": "building"},
    "OCC3D_WAYMO": {"barrier": "other", "ground": "sidewalk"},
    "UNIOCC": {"barrier": "other", "pole": "other", "sidewalk": "ground"},
    "SEMANTICKITTI": {},
}


@pytest.mark.parametrize("table", class_tables.TABLES, ids=lambda table: table.format)
def test_every_class_has_one_line(table: ClassTable) -> None:
    assert sorted(line[0] for line in table.lines) == sorted(CLASS_NAMES)
    labels = np.array([*range(len(CLASS_NAMES)), UNKNOWN], np.uint8)
    by_name = {line[0]: line[1] for line in table.lines}
    assert table.apply(labels).tolist() == [*(by_name[name] for name in CLASS_NAMES), table.unknown]
    assert all(number >= 0 or number == NO_ROW for number in by_name.values())


@pytest.mark.parametrize("name", LOST)
def test_out_and_in_again(name: str) -> None:
    out, back = getattr(class_tables, name), getattr(class_maps, name)
    labels = np.arange(len(CLASS_NAMES), dtype=np.uint8)
    again = back.apply(out.apply(labels), Path("x"))
    assert {a: CLASS_NAMES[b] for a, b in zip(CLASS_NAMES, again, strict=True) if CLASS_NAMES[b] != a} == LOST[name]
    for line in out.lines:
        said = back.classes[line[1]][0]
        assert line[2].split()[0] in said or (line[2], said) in {("car", "vehicle")}, (line, said)
        assert line[0] not in LOST[name] or line[3] or name == "OCC3D_WAYMO", "why is not said"
    for rest, moving in class_tables.SEMANTICKITTI_MOVING.items():
        known = class_maps.SEMANTICKITTI.classes
        assert known[rest][1] == known[moving][1] and "moving" in known[moving][0]


def test_classes_without_a_counterpart_are_named() -> None:
    with pytest.raises(DatasetError, match=r"Occ3D-Waymo: has no class for tram, drone; add .* choose another"):
        class_tables.OCC3D_WAYMO.ids(("free", "tram", "road", "drone"))
    with pytest.raises(DatasetError, match=r"UniOcc: the scene holds class 12, .*; make the scene again"):
        class_tables.UNIOCC.apply(np.array([[3, 12]], np.uint8))
