"""Which lane follows which: OpenDRIVE links, checked against geometry, and lane changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dcgen.types import wrap_angle
from scenarios.opendrive import OpenDrive, RoadLink, RoadRow
from scenarios.roadmap import Lane

GAP_M = 2.6  # ends of linked lanes lie closer: half a lane where a lane tapers to nothing
SNAP_M = 0.75  # ends this close are joined where the file forgot the link
LaneKey = tuple[int, int, int]  # road, section, lane
End = tuple[LaneKey, bool]  # a lane and whether its end in s (not its start) is meant


def lane_name(key: LaneKey) -> str:
    return f"{key[0]}:{key[1]}:{key[2]}"


def link_lanes(odr: OpenDrive, lanes: dict[str, Lane]) -> dict[str, Lane]:
    """The same lanes with successors, predecessors, lane changes and inherited speed limits."""
    follows: dict[str, set[str]] = {key: set() for key in lanes}
    for (a, a_end), (b, b_end) in _touching(odr):
        for tail, tail_end, head, head_end in ((a, a_end, b, b_end), (b, b_end, a, a_end)):
            # Lanes with id > 0 are driven against s: they are left where s is smallest.
            if tail_end == (tail[2] < 0) and head_end == (head[2] > 0):
                one, two = lanes.get(lane_name(tail)), lanes.get(lane_name(head))
                if one and two and one.id != two.id and _gap_m(one, two) < GAP_M and _bend(one, two) < np.pi / 2:
                    follows[one.id].add(two.id)
    _snap(lanes, follows)
    before: dict[str, set[str]] = {key: set() for key in lanes}
    for tail_id, head_ids in follows.items():
        for head_id in head_ids:
            before[head_id].add(tail_id)
    linked = {}
    for key, lane in lanes.items():
        left, right = _changes(odr, lanes, lane)
        linked[key] = replace(
            lane,
            successors=tuple(sorted(follows[key])),
            predecessors=tuple(sorted(before[key])),
            left_change=left,
            right_change=right,
        )
    return _inherit_speed(linked)


def _touching(odr: OpenDrive) -> Iterator[tuple[End, End]]:
    """Pairs of lane ends that the file says are one place."""
    for road in odr.roads.values():
        for place, section in enumerate(road.sections):
            before = road.sections[place - 1] if place > 0 else None
            after = road.sections[place + 1] if place + 1 < len(road.sections) else None
            for lane in section.lanes.values():
                here = (road.id, section.index, lane.id)
                if lane.successor is not None and after is not None:
                    yield (here, True), ((road.id, after.index, lane.successor), False)
                elif lane.successor is not None:
                    yield from _across(odr, here, True, road.successor, lane.successor)
                if lane.predecessor is not None and before is not None:
                    yield (here, False), ((road.id, before.index, lane.predecessor), True)
                elif lane.predecessor is not None:
                    yield from _across(odr, here, False, road.predecessor, lane.predecessor)
    for link in odr.connections:
        incoming, connecting = odr.roads.get(link.incoming), odr.roads.get(link.connecting)
        if incoming is None or connecting is None or not incoming.sections or not connecting.sections:
            continue
        inner = connecting.sections[-1 if link.at_end else 0].index
        for outer_end in _junction_ends(incoming, link.junction):
            outer = incoming.sections[-1 if outer_end else 0].index
            for source, target in link.lanes:
                yield ((incoming.id, outer, source), outer_end), ((connecting.id, inner, target), link.at_end)


def _across(odr: OpenDrive, here: LaneKey, end: bool, link: RoadLink | None, lane: int) -> Iterator[tuple[End, End]]:
    other = odr.roads.get(link.id) if link is not None and not link.is_junction else None
    if link is not None and other is not None and other.sections:
        there = (other.id, other.sections[-1 if link.at_end else 0].index, lane)
        yield (here, end), (there, link.at_end)


def _junction_ends(road: RoadRow, junction: int) -> Iterator[bool]:
    """The ends of a road that lie at the junction. A road may touch it twice: geometry decides then."""
    for link, end in ((road.successor, True), (road.predecessor, False)):
        if link is not None and link.is_junction and link.id == junction:
            yield end


def _gap_m(tail: Lane, head: Lane) -> float:
    return float(np.linalg.norm(tail.centre_m[-1] - head.centre_m[0]))


def _bend(tail: Lane, head: Lane) -> float:
    return float(abs(wrap_angle(head.yaw_rad[0] - tail.yaw_rad[-1])))


def _snap(lanes: dict[str, Lane], follows: dict[str, set[str]]) -> None:
    """Joins driving lanes whose ends meet although the file holds no link."""
    starts = [lane for lane in lanes.values() if lane.is_driving]
    if not starts:
        return
    points = np.array([lane.centre_m[0] for lane in starts])
    for tail in starts:
        if not follows[tail.id]:
            near = np.flatnonzero(np.linalg.norm(points - tail.centre_m[-1], axis=1) < SNAP_M)
            heads = [starts[int(i)] for i in near if starts[int(i)].road_id != tail.road_id]
            follows[tail.id].update(head.id for head in heads if _bend(tail, head) < 0.5)


def _changes(odr: OpenDrive, lanes: dict[str, Lane], lane: Lane) -> tuple[str | None, str | None]:
    """The lanes to the left and right of travel that marks allow a vehicle to change into."""
    if not lane.is_driving or lane.junction_id >= 0:
        return None, None
    road_id, section, lane_id = (int(part) for part in lane.id.split(":"))
    rows = next(row.lanes for row in odr.roads[road_id].sections if row.index == section)
    side = 1 if lane_id > 0 else -1
    found: list[str | None] = []
    for neighbour, border in ((lane_id - side, lane_id - side), (lane_id + side, lane_id)):
        other = lanes.get(lane_name((road_id, section, neighbour)))
        # "increase" lets traffic move towards larger lane ids.
        allowed = {"both", "increase" if neighbour > lane_id else "decrease"}
        open_ = other is not None and other.is_driving and border in rows and rows[border].change in allowed
        found.append(other.id if open_ and other is not None else None)
    return found[0], found[1]


def _inherit_speed(lanes: dict[str, Lane]) -> dict[str, Lane]:
    """Lanes without a limit (mostly inside junctions) take the lowest of the lanes before, else after, them."""
    limits = {key: lane.speed_limit_mps for key, lane in lanes.items()}
    for _ in range(8):
        changed = {}
        for key, lane in lanes.items():
            if limits[key] is None and lane.is_driving:
                for side in (lane.predecessors, lane.successors):
                    known = [v for v in (limits[other] for other in side) if v is not None]
                    if known:
                        changed[key] = min(known)
                        break
        if not changed:
            break
        limits.update(changed)
    return {key: replace(lane, speed_limit_mps=limits[key]) for key, lane in lanes.items()}
