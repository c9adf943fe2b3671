"""Streets of arcs and lines that meet in junctions: the geometry behind the library's maps. Metres, radians."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(frozen=True)
class Strip:
    """One lane of a cross-section, from the middle of the road outwards."""

    kind: str  # OpenDRIVE lane type
    width_m: float


@dataclass(frozen=True)
class Profile:
    """Half a cross-section; the other half mirrors it. Lanes are numbered from 1 outwards."""

    strips: tuple[Strip, ...]
    limit_kmh: float = 40.0

    @property
    def driving(self) -> tuple[int, ...]:
        """Numbers of the driving lanes, the inner one first."""
        return tuple(k for k, strip in enumerate(self.strips, 1) if strip.kind == "driving")

    @property
    def beside(self) -> tuple[Strip, ...]:
        """What lies outside the driving lanes and reaches round the corners: verge and sidewalk, no parking."""
        return tuple(strip for strip in self.strips[self.driving[-1] :] if strip.kind != "parking")

    def inner_m(self, number: int) -> float:
        """Distance of the inner edge of a lane from the middle, where parking has tapered out."""
        return sum(strip.width_m for strip in self.strips[: number - 1] if strip.kind != "parking")

    @property
    def kerb_m(self) -> float:
        """Distance of the outer edge of the outer driving lane from the middle."""
        return self.inner_m(self.driving[-1]) + self.strips[self.driving[-1] - 1].width_m


@dataclass(frozen=True)
class Piece:
    """A line (curvature 0) or an arc of the reference line."""

    x: float
    y: float
    heading_rad: float
    length_m: float
    curvature: float = 0.0

    def end(self) -> tuple[float, float, float]:
        """x, y, heading where it stops."""
        h, k, n = self.heading_rad, self.curvature, self.length_m
        if k == 0.0:
            return self.x + n * math.cos(h), self.y + n * math.sin(h), h
        turned = h + k * n
        return self.x + (math.sin(turned) - math.sin(h)) / k, self.y - (math.cos(turned) - math.cos(h)) / k, turned


@dataclass(frozen=True)
class Node:
    """A junction: how far its arms stop from its centre, its height and how it is controlled."""

    x: float
    y: float
    setback_m: float = 12.0
    z: float = 0.0
    control: str = "traffic_light"  # or "stop", "yield", "none"


@dataclass(frozen=True)
class Street:
    """A road between two junctions, round the given corners with the given radius."""

    start: str
    end: str
    profile: Profile
    via: tuple[Point, ...] = ()
    radius_m: float = 20.0
    crosswalks: bool = True


@dataclass(frozen=True)
class Town:
    name: str
    nodes: dict[str, Node]
    streets: tuple[Street, ...]


@dataclass(frozen=True)
class Arm:
    """An end of a street at a junction. heading_rad looks into the junction."""

    street: int
    at_start: bool
    x: float
    y: float
    heading_rad: float
    profile: Profile

    def edge_point(self, number: int, outgoing: bool) -> Point:
        """Inner edge of lane `number` of the traffic that enters (or leaves) the junction here."""
        side = 1.0 if outgoing else -1.0  # to the left of the way in
        offset = side * self.profile.inner_m(number)
        return self.x - offset * math.sin(self.heading_rad), self.y + offset * math.cos(self.heading_rad)

    def lane(self, number: int, outgoing: bool) -> int:
        """OpenDRIVE id on the street of the lane that enters (or leaves) the junction here."""
        return number if self.at_start != outgoing else -number


@dataclass(frozen=True)
class Turn:
    """One lane through a junction; with_sidewalk where it runs along the outside."""

    from_arm: Arm
    to_arm: Arm
    from_lane: int  # number from the middle
    to_lane: int
    pieces: tuple[Piece, ...]
    with_sidewalk: bool


@dataclass
class Layout:
    """A town worked out: pieces of every street, arms and turns of every junction."""

    pieces: list[tuple[Piece, ...]] = field(default_factory=list)
    arms: dict[str, list[Arm]] = field(default_factory=dict)
    turns: dict[str, list[Turn]] = field(default_factory=dict)


def wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi


def rounded(corners: list[Point], radius_m: float) -> tuple[Piece, ...]:
    """Lines through the corners, each inner corner rounded by an arc. Raises ValueError where an arc has no room."""
    pieces: list[Piece] = []
    x, y = corners[0]
    for index in range(1, len(corners)):
        bx, by = corners[index]
        heading = math.atan2(by - y, bx - x)
        left = math.hypot(bx - x, by - y)
        if index == len(corners) - 1:
            pieces.append(Piece(x, y, heading, left))
            break
        cx, cy = corners[index + 1]
        turn = wrap(math.atan2(cy - by, cx - bx) - heading)
        cut = radius_m * math.tan(abs(turn) / 2)
        if cut > left or cut > math.hypot(cx - bx, cy - by):
            raise ValueError(f"no room for an arc of {radius_m} m at {corners[index]}")
        if left - cut > 1e-6:
            pieces.append(Piece(x, y, heading, left - cut))
            x, y, _ = pieces[-1].end()
        pieces.append(Piece(x, y, heading, radius_m * abs(turn), math.copysign(1 / radius_m, turn)))
        x, y, _ = pieces[-1].end()
    return tuple(pieces)


def joined(start: Point, heading: float, end: Point, end_heading: float) -> tuple[Piece, ...]:
    """Line, arc, line from one ray into another; a single line where they are the same."""
    turn = wrap(end_heading - heading)
    dx, dy = end[0] - start[0], end[1] - start[1]
    along, aside = dx * math.cos(heading) + dy * math.sin(heading), dy * math.cos(heading) - dx * math.sin(heading)
    if abs(turn) < 1e-6:
        if abs(aside) > 1e-3:
            raise ValueError(f"parallel rays {aside:.3f} m apart at {start}")
        return (Piece(*start, heading, along),)
    after = aside / math.sin(turn)
    before = along - after * math.cos(turn)
    reach = min(before, after)
    if reach <= 0:
        raise ValueError(f"the rays from {start} and into {end} do not meet between them")
    radius = reach / math.tan(abs(turn) / 2)
    pieces = [Piece(*start, heading, before - reach)] if before - reach > 1e-6 else []
    x, y = (pieces[-1].end() if pieces else (*start, heading))[:2]
    pieces.append(Piece(x, y, heading, radius * abs(turn), math.copysign(1 / radius, turn)))
    if after - reach > 1e-6:
        pieces.append(Piece(*pieces[-1].end()[:2], end_heading, after - reach))
    return tuple(pieces)


def lay_out(town: Town) -> Layout:
    """Cut the streets back from their junctions and draw every lane through them."""
    layout = Layout(arms={name: [] for name in town.nodes})
    for index, street in enumerate(town.streets):
        first, last = town.nodes[street.start], town.nodes[street.end]
        corners = [(first.x, first.y), *street.via, (last.x, last.y)]
        corners[0] = _towards(corners[0], corners[1], first.setback_m)
        corners[-1] = _towards(corners[-1], corners[-2], last.setback_m)
        pieces = rounded(corners, street.radius_m)
        layout.pieces.append(pieces)
        head = pieces[0]
        x, y, heading = pieces[-1].end()
        arms = layout.arms
        arms[street.start].append(Arm(index, True, head.x, head.y, wrap(head.heading_rad + math.pi), street.profile))
        arms[street.end].append(Arm(index, False, x, y, heading, street.profile))
    for name, meeting in layout.arms.items():
        layout.turns[name] = [turn for arm in meeting for turn in _turns_from(arm, meeting)]
    return layout


def _towards(start: Point, aim: Point, distance: float) -> Point:
    length = math.hypot(aim[0] - start[0], aim[1] - start[1])
    return start[0] + (aim[0] - start[0]) * distance / length, start[1] + (aim[1] - start[1]) * distance / length


def _turns_from(arm: Arm, meeting: list[Arm]) -> list[Turn]:
    """Right from the outer lane, left from the inner one, straight on from each lane."""
    others = {id(other): wrap(other.heading_rad + math.pi - arm.heading_rad) for other in meeting if other is not arm}
    rightmost = min(others.values())
    turns = []
    for other in meeting:
        if other is arm:
            continue
        angle = others[id(other)]
        mine, theirs = arm.profile.driving, other.profile.driving
        if angle > math.radians(50):
            pairs = [(mine[0], theirs[0])]
        elif angle < -math.radians(50):
            pairs = [(mine[-1], theirs[-1])]
        else:
            pairs = list(zip(mine, theirs, strict=False))
        for source, target in pairs:
            start, end = arm.edge_point(source, False), other.edge_point(target, True)
            pieces = joined(start, arm.heading_rad, end, wrap(other.heading_rad + math.pi))
            outside = angle == rightmost and source == mine[-1] and target == theirs[-1]
            turns.append(Turn(arm, other, source, target, pieces, outside))
    return turns
