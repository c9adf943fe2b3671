"""OpenDRIVE text -> tables of roads, lane sections, links, marks and speeds. s metres along a road's reference line.

Geometry is not evaluated here: carla.Map does that. Lane ids keep OpenDRIVE's sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from dcgen.errors import MapError

MAX_ROAD_M = 200_000.0
MAX_TOTAL_M = 2_000_000.0
SHORTEST_SECTION_M = 1e-3
_MPS = {"mph": 0.44704, "km/h": 1 / 3.6, "kmh": 1 / 3.6, "m/s": 1.0, "ms": 1.0}


@dataclass(frozen=True)
class LaneRow:
    id: int
    kind: str  # lower case OpenDRIVE type
    predecessor: int | None
    successor: int | None
    mark: str  # type of the outer border's longest mark
    change: str  # laneChange across that border: both, increase, decrease, none
    speed_mps: float | None


@dataclass(frozen=True)
class SectionRow:
    index: int  # its place in the file, as carla counts; sections of no length are left out
    start_s: float
    end_s: float
    lanes: dict[int, LaneRow]


@dataclass(frozen=True)
class RoadLink:
    is_junction: bool
    id: int
    at_end: bool  # contact point of the other road: its end, not its start


@dataclass(frozen=True)
class RoadRow:
    id: int
    length_m: float
    junction: int
    sections: tuple[SectionRow, ...]
    predecessor: RoadLink | None
    successor: RoadLink | None
    speeds: tuple[tuple[float, float], ...]  # (from s, m/s)
    curves: tuple[tuple[float, float], ...]  # ranges of s that bend


@dataclass(frozen=True)
class Connection:
    junction: int
    incoming: int
    connecting: int
    at_end: bool  # the connecting road's end touches the incoming road
    lanes: tuple[tuple[int, int], ...]  # (lane of the incoming road, lane of the connecting road)


@dataclass(frozen=True)
class OpenDrive:
    roads: dict[int, RoadRow]
    connections: tuple[Connection, ...]
    sign_unit: dict[str, str]  # unit of a signal's value, where the file says it
    crosswalk_corners: tuple[tuple[int, bool], ...]  # (corners, closed) of every crosswalk outline


def parse_opendrive(text: str, name: str) -> OpenDrive:
    """The tables of one file. Raises MapError naming the file, the road and the remedy."""
    import defusedxml.ElementTree  # here: machines that train read worlds, and no maps
    from defusedxml import DefusedXmlException

    try:
        root = defusedxml.ElementTree.fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise MapError(f"{name}: holds a DTD or XML entities; remove them ({type(error).__name__})") from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise MapError(f"{name}: not well-formed XML ({error}); export the OpenDRIVE file again") from None
    if _tag(root) != "OpenDRIVE":
        raise MapError(f"{name}: the root is <{_tag(root)[:40]}>, not <OpenDRIVE>; pass an OpenDRIVE road network")
    for node in root.iter():  # some exporters write a namespace
        node.tag = _tag(node)
    nodes = root.findall("road")
    if not nodes:
        raise MapError(f"{name}: has no <road>; export the road network again")
    roads: dict[int, RoadRow] = {}
    for index, node in enumerate(nodes):
        road = _road(node, f"{name}: road[{index}]")
        if road.id in roads:
            raise MapError(f"{name}: road[{index}]: id {road.id} is used twice; give each road its own")
        roads[road.id] = road
    total = sum(road.length_m for road in roads.values())
    if total > MAX_TOTAL_M:
        raise MapError(f"{name}: {total / 1000:.0f} km of road; at most {MAX_TOTAL_M / 1000:.0f} km, cut the map down")
    units = {str(n.get("id")): str(n.get("unit")) for n in root.iter("signal") if n.get("unit")}
    return OpenDrive(roads, tuple(_connections(root, name)), units, tuple(_crosswalks(root)))


def to_mps(value: float, unit: str | None) -> float:
    """A speed with OpenDRIVE's unit (mph, km/h, m/s; none means m/s) in m/s."""
    return value * _MPS.get((unit or "m/s").strip().lower(), 1.0)


def _tag(node: Element) -> str:
    return str(node.tag).rsplit("}", 1)[-1]


def _number(node: Element, key: str, place: str, default: float | None = None) -> float:
    text = node.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise MapError(f"{place}: <{node.tag}> {key}={(text or '')[:40]!r} is not a usable number; mend the file")
    return value


def _whole(node: Element, key: str, place: str, default: int | None = None) -> int:
    text = node.get(key)
    if (text is None or not text.strip()) and default is not None:
        return default
    try:
        value = int(text or "")
    except ValueError:
        value = 1 << 40
    if abs(value) >= 1 << 31:
        raise MapError(f"{place}: <{node.tag}> {key}={(text or '')[:40]!r} is not a whole number; renumber the file")
    return value


def _road(node: Element, place: str) -> RoadRow:
    road_id, length = _whole(node, "id", place), _number(node, "length", place)
    place = f"{place} (id {road_id})"
    if not 0 < length <= MAX_ROAD_M:
        raise MapError(f"{place}: length {length:g} m is not in 0..{MAX_ROAD_M:g}; mend or remove the road")
    pieces = node.findall("planView/geometry")
    if not pieces:
        raise MapError(f"{place}: has no <planView> geometry; mend or remove the road")
    for piece in pieces:
        for key in ("s", "x", "y", "hdg", "length"):
            _number(piece, key, place)
    speeds = []
    for kind in node.findall("type"):
        for speed in kind.findall("speed"):
            limit = _speed(speed)
            if limit is not None:
                speeds.append((_number(kind, "s", place, 0.0), limit))
    return RoadRow(
        road_id,
        length,
        _whole(node, "junction", place, -1),
        _sections(node, length, place),
        _link(node.find("link/predecessor"), place),
        _link(node.find("link/successor"), place),
        tuple(sorted(speeds)),
        tuple(_curves(pieces, place)),
    )


def _speed(node: Element) -> float | None:
    """m/s of a <speed>; None for "no limit", "undefined" and nonsense."""
    try:
        value = to_mps(float(node.get("max", "")), node.get("unit"))
    except ValueError:
        return None
    return value if 0.5 < value < 150 else None


def _curves(pieces: list[Element], place: str) -> Iterator[tuple[float, float]]:
    for piece in pieces:
        shape = piece[0] if len(piece) else None
        flat = shape is None or shape.tag == "line"
        if shape is not None and shape.tag == "arc":
            flat = abs(_number(shape, "curvature", place)) < 1 / 300
        if not flat:
            start = _number(piece, "s", place)
            yield start, start + _number(piece, "length", place)


def _link(node: Element | None, place: str) -> RoadLink | None:
    if node is None:
        return None
    kind = node.get("elementType", "road")
    return RoadLink(kind == "junction", _whole(node, "elementId", place), node.get("contactPoint") == "end")


def _sections(node: Element, length: float, place: str) -> tuple[SectionRow, ...]:
    nodes = node.findall("lanes/laneSection")
    if not nodes:
        raise MapError(f"{place}: has no <laneSection>; mend or remove the road")
    nodes = sorted(nodes, key=lambda n: _number(n, "s", place))
    starts = [_number(n, "s", place) for n in nodes]
    rows = []
    for index, (section, start, end) in enumerate(zip(nodes, starts, [*starts[1:], length], strict=True)):
        if min(end, length) - start > SHORTEST_SECTION_M:
            rows.append(SectionRow(index, start, min(end, length), _lanes(section, min(end, length) - start, place)))
    return tuple(rows)


def _lanes(section: Element, length: float, place: str) -> dict[int, LaneRow]:
    lanes: dict[int, LaneRow] = {}
    for side in ("left", "center", "right"):
        for node in section.findall(f"{side}/lane"):
            lane_id = _whole(node, "id", place)
            if lane_id in lanes:  # CARLA would crash on it
                raise MapError(f"{place}: lane {lane_id} is there twice in a section; renumber the lanes")
            mark, change = _mark(node, length, place)
            limits = [v for v in map(_speed, node.findall("speed")) if v is not None]
            lanes[lane_id] = LaneRow(
                lane_id,
                node.get("type", "none").strip().lower(),
                _lane_link(node, "predecessor", place),
                _lane_link(node, "successor", place),
                mark,
                change,
                min(limits) if limits else None,
            )
    return lanes


def _lane_link(node: Element, key: str, place: str) -> int | None:
    found = node.find(f"link/{key}")
    return None if found is None else _whole(found, "id", place)


def _mark(node: Element, length: float, place: str) -> tuple[str, str]:
    """Type and lane change of the mark that holds longest; a missing laneChange follows from the type."""
    marks = sorted(node.findall("roadMark"), key=lambda m: _number(m, "sOffset", place, 0.0))
    if not marks:
        return "none", "both"
    starts = [_number(m, "sOffset", place, 0.0) for m in marks]
    spans = [min(end, length) - start for start, end in zip(starts, [*starts[1:], length], strict=True)]
    longest = marks[spans.index(max(spans))]
    kind = longest.get("type", "none").strip().lower()
    allowed = [m for m in marks if _change(m) != "none"] if kind != "none" else [longest]
    return kind, _change(allowed[0]) if allowed else "none"


def _change(mark: Element) -> str:
    kind = mark.get("type", "none").strip().lower()
    solid = "none" if kind.startswith("solid") or kind in ("curb", "edge", "grass") else "both"
    return mark.get("laneChange", solid).strip().lower()


def _connections(root: Element, name: str) -> Iterator[Connection]:
    for junction in root.findall("junction"):
        junction_id = _whole(junction, "id", f"{name}: junction")
        place = f"{name}: junction {junction_id}"
        for node in junction.findall("connection"):
            if node.get("connectingRoad") is None or node.get("incomingRoad") is None:
                continue  # a direct junction: its roads are joined by their ends
            yield Connection(
                junction_id,
                _whole(node, "incomingRoad", place),
                _whole(node, "connectingRoad", place),
                node.get("contactPoint") == "end",
                tuple((_whole(n, "from", place), _whole(n, "to", place)) for n in node.findall("laneLink")),
            )


def _crosswalks(root: Element) -> Iterator[tuple[int, bool]]:
    for node in root.iter("object"):
        if node.get("type") == "crosswalk":
            for outline in node.findall("outline"):
                corners = [(c.get("u"), c.get("v")) for c in outline.findall("cornerLocal")]
                if len(corners) >= 3:
                    yield len(corners), corners[0] == corners[-1]
