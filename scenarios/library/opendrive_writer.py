"""A Town as OpenDRIVE text: the same town, the same bytes. s along, t to the left of a road."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from scenarios.library.plan import Layout, Node, Piece, Street, Strip, Town, Turn, lay_out

HEADER = """\
<header revMajor="1" revMinor="4" name={name} version="1" date="2026-01-01T00:00:00" {bounds} vendor="dcgen">
<geoReference><![CDATA[+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs]]></geoReference>
</header>"""
CROSSWALK_FROM_END_M = 4.5
CROSSWALK_DEPTH_M = 3.2
PARKING_STARTS_M = 14.0
PARKING_TAPER_M = 5.0
SIGNAL_TYPES = {"traffic_light": "1000001", "yield": "205", "stop": "206"}


def number(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:.9g}"


def tag(element: str, inside: list[str] | None = None, /, **attributes: object) -> list[str]:
    """Lines of an element; floats keep nine digits, which hides what differs between machines."""
    shown = "".join(
        f" {key.rstrip('_')}={quoteattr(number(value) if isinstance(value, float) else str(value))}"
        for key, value in attributes.items()
    )
    if inside is None:
        return [f"<{element}{shown}/>"]
    return [f"<{element}{shown}>", *inside, f"</{element}>"]


def write_town(town: Town) -> str:
    """The OpenDRIVE document. Streets are roads 0.., lanes through junctions roads 1000.., junctions 100.."""
    layout = lay_out(town)
    junction_ids = {name: 100 + index for index, name in enumerate(sorted(town.nodes))}
    roads: list[str] = []
    for index, street in enumerate(town.streets):
        roads += _street(index, street, town, layout, junction_ids)
    junctions: list[str] = []
    next_id = 1000
    for name in sorted(town.nodes):
        connections: list[str] = []
        for turn in layout.turns[name]:
            roads += _turn(next_id, turn, junction_ids[name], town.nodes[name])
            connections += _connection(len(connections) // 3, next_id, turn)
            next_id += 1
        junctions += tag("junction", connections, name=f"Junction {name}", id=junction_ids[name])
    corners = [(piece.x, piece.y) for pieces in layout.pieces for piece in pieces]
    xs, ys = zip(*corners, strict=True)
    bounds = f'north="{max(ys):.1f}" south="{min(ys):.1f}" east="{max(xs):.1f}" west="{min(xs):.1f}"'
    lines = [HEADER.format(name=quoteattr(town.name), bounds=bounds), *roads, *junctions]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<OpenDRIVE>", *lines, "</OpenDRIVE>"]) + "\n"


def _geometry(pieces: tuple[Piece, ...]) -> list[str]:
    lines, s = [], 0.0
    for piece in pieces:
        shape = tag("arc", curvature=piece.curvature) if piece.curvature else tag("line")
        place = {"s": s, "x": piece.x, "y": piece.y, "hdg": piece.heading_rad, "length": piece.length_m}
        lines += tag("geometry", shape, **place)
        s += piece.length_m
    return tag("planView", lines)


def _elevation(start_m: float, end_m: float, length_m: float) -> list[str]:
    """A rise that is level at both ends."""
    rise = end_m - start_m
    cubic = {"a": start_m, "b": 0.0, "c": 3 * rise / length_m**2, "d": -2 * rise / length_m**3}
    return tag("elevationProfile", tag("elevation", s=0.0, **cubic))


def _widths(strip: Strip, length_m: float) -> list[str]:
    """Constant, but parking tapers to nothing before the junctions."""
    if strip.kind != "parking":
        return tag("width", sOffset=0.0, a=strip.width_m, b=0.0, c=0.0, d=0.0)
    a, b, w = PARKING_STARTS_M, PARKING_TAPER_M, strip.width_m
    rise = {"c": 3 * w / b**2, "d": -2 * w / b**3}
    fall = {"c": -3 * w / b**2, "d": 2 * w / b**3}
    if length_m < 2 * (a + b) + 10:
        return tag("width", sOffset=0.0, a=0.0, b=0.0, c=0.0, d=0.0)
    return [
        *tag("width", sOffset=0.0, a=0.0, b=0.0, c=0.0, d=0.0),
        *tag("width", sOffset=a, a=0.0, b=0.0, **rise),
        *tag("width", sOffset=a + b, a=w, b=0.0, c=0.0, d=0.0),
        *tag("width", sOffset=length_m - a - b, a=w, b=0.0, **fall),
        *tag("width", sOffset=length_m - a, a=0.0, b=0.0, c=0.0, d=0.0),
    ]


def _mark(strips: tuple[Strip, ...], index: int) -> list[str]:
    """The marking on the outer edge of strip `index`."""
    here, after = strips[index].kind, strips[index + 1].kind if index + 1 < len(strips) else "none"
    if here == "driving" and after == "driving":
        return tag("roadMark", sOffset=0.0, type="broken", color="white", width=0.12, laneChange="both")
    if here in ("driving", "median") and after != here:
        return tag("roadMark", sOffset=0.0, type="solid", color="white", width=0.12, laneChange="none")
    return tag("roadMark", sOffset=0.0, type="none", color="white", laneChange="none")


def _middle_mark(strips: tuple[Strip, ...]) -> list[str]:
    kind = "broken" if strips[0].kind == "driving" else "none"
    return tag("roadMark", sOffset=0.0, type=kind, color="yellow", width=0.12, laneChange="none")


def _lane(
    lane_id: int, strips: tuple[Strip, ...], length_m: float, limit_kmh: float, links: list[str], marked: bool = True
) -> list[str]:
    strip = strips[abs(lane_id) - 1]
    inside = tag("link", links) + _widths(strip, length_m)
    inside += (
        _mark(strips, abs(lane_id) - 1) if marked else tag("roadMark", sOffset=0.0, type="none", laneChange="none")
    )
    if strip.kind == "driving":
        inside += tag("speed", sOffset=0.0, max=limit_kmh / 3.6, unit="m/s")
    return tag("lane", inside, id=lane_id, type=strip.kind, level="false")


def _street(index: int, street: Street, town: Town, layout: Layout, junction_ids: dict[str, int]) -> list[str]:
    pieces, profile = layout.pieces[index], street.profile
    length, strips = sum(piece.length_m for piece in pieces), profile.strips
    first, last = town.nodes[street.start], town.nodes[street.end]
    numbers = range(1, len(strips) + 1)
    left = [line for n in reversed(numbers) for line in _lane(n, strips, length, profile.limit_kmh, [])]
    right = [line for n in numbers for line in _lane(-n, strips, length, profile.limit_kmh, [])]
    middle = tag("lane", _middle_mark(strips), id=0, type="none", level="false")
    section = tag("left", left) + tag("center", middle) + tag("right", right)
    ends = {"predecessor": junction_ids[street.start], "successor": junction_ids[street.end]}
    link = [line for name, to in ends.items() for line in tag(name, elementType="junction", elementId=to)]
    limit = tag("speed", max=profile.limit_kmh, unit="km/h")
    inside = tag("link", link) + tag("type", limit, s=0.0, type="town") + _geometry(pieces)
    inside += _elevation(first.z, last.z, length) + tag("lanes", tag("laneSection", section, s=0.0))
    inside += tag("objects", _crosswalks(index, street, length) if street.crosswalks else [])
    inside += tag("signals", _signals(index, street, length, first, last))
    return tag("road", inside, name=f"Street {index}", length=length, id=index, junction=-1)


def _crosswalks(index: int, street: Street, length_m: float) -> list[str]:
    """A zebra across all lanes near both ends."""
    half, depth, lines = street.profile.kerb_m, CROSSWALK_DEPTH_M / 2, []
    for end, s in enumerate((CROSSWALK_FROM_END_M, length_m - CROSSWALK_FROM_END_M)):
        corners = ((-depth, -half), (depth, -half), (depth, half), (-depth, half), (-depth, -half))
        outline = [line for u, v in corners for line in tag("cornerLocal", u=u, v=v, z=0.0)]
        place = {"s": s, "t": 0.0, "zOffset": 0.0, "hdg": 0.0, "roll": 0.0, "pitch": 0.0}
        size = {"orientation": "none", "length": CROSSWALK_DEPTH_M, "width": 2 * half}
        names = {"type": "crosswalk", "id": 5000 + 2 * index + end, "name": "crosswalk"}
        lines += tag("object", tag("outline", outline), **names, **place, **size)
    return lines


def _signals(index: int, street: Street, length_m: float, first: Node, last: Node) -> list[str]:
    """What controls the junctions at both ends, and a speed limit on the way."""
    kerb, lines = street.profile.kerb_m + 0.6, []
    # "+" is for traffic along s, which enters the junction at the end of the road.
    for end, (node, s, side, sense) in enumerate(((first, 1.0, 1.0, "-"), (last, length_m - 1.0, -1.0, "+"))):
        if node.control in SIGNAL_TYPES:
            lights = node.control == "traffic_light"
            kind = {"type": SIGNAL_TYPES[node.control], "subtype": "-1", "dynamic": "yes" if lights else "no"}
            place = {"s": s, "t": side * kerb, "zOffset": 3.0 if lights else 2.0, "orientation": sense}
            lines += tag(
                "signal", [], id=6000 + 2 * index + end, name=node.control, country="OpenDRIVE", **kind, **place
            )
    limit = {"type": "274", "subtype": "-1", "value": street.profile.limit_kmh, "unit": "km/h", "dynamic": "no"}
    for end, (s, side, sense) in enumerate(((length_m * 0.75, 1.0, "-"), (length_m * 0.25, -1.0, "+"))):
        place = {"s": s, "t": side * kerb, "zOffset": 2.0, "orientation": sense}
        lines += tag("signal", [], id=7000 + 2 * index + end, name="limit", country="OpenDRIVE", **limit, **place)
    return lines


def _turn(road_id: int, turn: Turn, junction_id: int, node: Node) -> list[str]:
    source, target = turn.from_arm, turn.to_arm
    strips: tuple[Strip, ...] = (Strip("driving", source.profile.strips[turn.from_lane - 1].width_m),)
    if turn.with_sidewalk and [s.kind for s in source.profile.beside] == [s.kind for s in target.profile.beside]:
        strips += source.profile.beside
    length = sum(piece.length_m for piece in turn.pieces)
    lanes: list[str] = []
    for n, strip in enumerate(strips, 1):
        kinds = [(arm.profile.strips, arm) for arm in (source, target)]
        ends = [turn.from_lane, turn.to_lane]
        if n > 1:
            ends = [1 + [s.kind for s in all_].index(strip.kind) for all_, _ in kinds]
        links = tag("predecessor", id=source.lane(ends[0], False)) + tag("successor", id=target.lane(ends[1], True))
        lanes += _lane(-n, strips, length, source.profile.limit_kmh * 0.75, links, marked=False)
    middle = tag("lane", tag("roadMark", sOffset=0.0, type="none", laneChange="none"), id=0, type="none", level="false")
    link = tag("predecessor", elementType="road", elementId=source.street, contactPoint=_contact(source.at_start))
    link += tag("successor", elementType="road", elementId=target.street, contactPoint=_contact(target.at_start))
    inside = tag("link", link) + _geometry(turn.pieces) + _elevation(node.z, node.z, length)
    section = tag("center", middle) + tag("right", lanes)
    inside += tag("lanes", tag("laneSection", section, s=0.0))
    return tag("road", inside, name=f"Turn {road_id}", length=length, id=road_id, junction=junction_id)


def _contact(at_start: bool) -> str:
    return "start" if at_start else "end"


def _connection(index: int, road_id: int, turn: Turn) -> list[str]:
    link = {"from_": turn.from_arm.lane(turn.from_lane, False), "to": -1}
    ends = {"incomingRoad": turn.from_arm.street, "connectingRoad": road_id, "contactPoint": "start"}
    return tag("connection", tag("laneLink", **link), id=index, **ends)
