"""Writes the library's maps: `python -m scenarios.library.make_maps [FOLDER]`. The same bytes every time."""

from __future__ import annotations

import sys
from pathlib import Path

from scenarios.library.opendrive_writer import write_town
from scenarios.library.plan import Node, Profile, Street, Strip, Town

FOLDER = Path(__file__).resolve().parent / "maps"
STREET = Profile((Strip("driving", 3.5), Strip("sidewalk", 2.6)), 40.0)
PARKED_STREET = Profile((Strip("driving", 3.5), Strip("parking", 2.3), Strip("sidewalk", 2.6)), 40.0)
LANE = Profile((Strip("driving", 3.25), Strip("none", 1.4), Strip("sidewalk", 2.0)), 30.0)
_WIDE = (Strip("median", 1.5), Strip("driving", 3.4), Strip("driving", 3.4))
AVENUE = Profile((*_WIDE, Strip("parking", 2.3), Strip("sidewalk", 3.2)), 50.0)


def crossroads() -> Town:
    """A small grid of streets with signals: one crossing in the middle, four T-junctions, rounded corners."""
    nodes = {
        "middle": Node(0.0, 0.0, 13.0),
        "north": Node(0.0, 95.0, 13.0),
        "south": Node(0.0, -110.0, 13.0),
        "east": Node(120.0, 0.0, 13.0),
        "west": Node(-100.0, 0.0, 13.0, control="stop"),
    }
    streets = (
        Street("west", "middle", PARKED_STREET),
        Street("middle", "east", STREET),
        Street("south", "middle", STREET),
        Street("middle", "north", PARKED_STREET),
        Street("west", "north", STREET, via=((-100.0, 95.0),), radius_m=22.0),
        Street("north", "east", PARKED_STREET, via=((120.0, 95.0),), radius_m=30.0),
        Street("east", "south", STREET, via=((120.0, -110.0),), radius_m=26.0),
        Street("south", "west", PARKED_STREET, via=((-100.0, -110.0),), radius_m=18.0),
    )
    return Town("crossroads", nodes, streets)


def ring() -> Town:
    """A hilly suburb: a rounded loop, and two winding lanes that cross inside it; grass beside the road."""
    nodes = {
        "north": Node(10.0, 130.0, 14.0, z=3.0, control="yield"),
        "east": Node(150.0, 5.0, 14.0, z=1.0, control="none"),
        "south": Node(-15.0, -125.0, 14.0, z=0.0, control="stop"),
        "west": Node(-150.0, -10.0, 14.0, z=2.0, control="yield"),
        "middle": Node(0.0, 0.0, 13.0, z=1.5, control="stop"),
    }
    streets = (
        Street("north", "east", LANE, via=((150.0, 130.0),), radius_m=80.0, crosswalks=False),
        Street("east", "south", LANE, via=((150.0, -125.0),), radius_m=70.0),
        Street("south", "west", LANE, via=((-150.0, -125.0),), radius_m=60.0, crosswalks=False),
        Street("west", "north", LANE, via=((-150.0, 130.0),), radius_m=90.0),
        Street("north", "middle", LANE, via=((10.0, 90.0), (-30.0, 60.0), (0.0, 30.0)), radius_m=20.0),
        Street("middle", "south", LANE, via=((0.0, -35.0), (25.0, -65.0), (-15.0, -95.0)), radius_m=22.0),
        Street("west", "middle", LANE, via=((-110.0, -10.0), (-70.0, 20.0), (-35.0, 0.0)), radius_m=30.0),
        Street("middle", "east", LANE, via=((40.0, 0.0), (75.0, -20.0), (110.0, 5.0)), radius_m=30.0),
    )
    return Town("ring", nodes, streets)


def avenue() -> Town:
    """A boulevard of two lanes a side with a median and parking, and back streets on both sides of it."""
    nodes = {
        "a": Node(-190.0, 0.0, 20.0),
        "b": Node(0.0, 0.0, 20.0),
        "c": Node(210.0, 0.0, 20.0),
        "n": Node(0.0, 100.0, 13.0, control="stop"),
        "s": Node(0.0, -90.0, 13.0, control="yield"),
    }
    streets = (
        Street("a", "b", AVENUE),
        Street("b", "c", AVENUE),
        Street("s", "b", STREET),
        Street("b", "n", STREET),
        Street("a", "n", PARKED_STREET, via=((-190.0, 100.0),), radius_m=25.0),
        Street("n", "c", PARKED_STREET, via=((210.0, 100.0),), radius_m=35.0),
        Street("c", "s", STREET, via=((210.0, -90.0),), radius_m=28.0),
        Street("s", "a", STREET, via=((-190.0, -90.0),), radius_m=20.0),
    )
    return Town("avenue", nodes, streets)


def main(folder: Path = FOLDER) -> None:
    """Write every map into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for town in (crossroads(), ring(), avenue()):
        (folder / f"{town.name}.xodr").write_text(write_town(town), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
