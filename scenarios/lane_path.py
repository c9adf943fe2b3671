"""A chain of lanes -> one smooth line with lane changes blended in. N points; u fractional index along a lane."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dcgen.types import Doubles, wrap_angle
from scenarios.lane_graph import LaneGraph, Match
from scenarios.roadmap import Lane

CHANGE_S = 3.2  # a lane change takes this long at the speed limit
CHANGE_SHORTEST_M, CHANGE_LONGEST_M = 20.0, 120.0
CHANGE_LEAST_M = 13.0  # not even a keypoint makes it more abrupt
STRAIGHT_RAD = np.radians(33.0)
LEFT, RIGHT, STRAIGHT, LANEFOLLOW, CHANGELANELEFT, CHANGELANERIGHT = range(1, 7)


@dataclass(frozen=True)
class Piece:
    """A stretch of one lane. change: how the lane was entered: 0 from behind, -1 from its right, +1 from its left."""

    lane: str
    start_u: float
    end_u: float
    change: int = 0


@dataclass(frozen=True)
class Chain:
    """Pieces in the order they are driven, and where on them (index of a piece, u) the keypoints lie."""

    pieces: list[Piece]
    keypoints: list[tuple[int, float]]


@dataclass(frozen=True)
class Line:
    """Points along a chain of pieces, before resampling."""

    points_m: Doubles  # [N, 3]
    option: np.ndarray  # [N] RoadOption
    piece: np.ndarray  # [N] index of the piece


def chain_of(graph: LaneGraph, matches: list[Match], ways: list[list[str]]) -> Chain:
    """The stretches driven from the first match to the last."""
    pieces = [Piece(matches[0].lane, matches[0].u, matches[0].u)]
    keypoints = [(0, matches[0].u)]
    for target, way in zip(matches[1:], ways, strict=True):
        groups = _groups(graph, way)
        for index, group in enumerate(groups):
            if index:
                pieces.append(Piece(group[0], 0.0, 0.0))
            entry = pieces[-1].start_u if index else pieces[-1].end_u
            last = float(len(graph.lanes[group[0]].width_m) - 1)
            leave = max(entry, target.u) if index == len(groups) - 1 else last
            cuts = np.linspace(entry, leave, 2 * len(group) - 1)[1::2]  # changes spread evenly
            for lane, cut in zip(group[1:], cuts, strict=True):
                pieces[-1] = _until(pieces[-1], float(cut))
                side = 1 if graph.lanes[pieces[-1].lane].right_change == lane else -1
                pieces.append(Piece(lane, float(cut), float(cut), side))
            pieces[-1] = _until(pieces[-1], leave)
        keypoints.append((len(pieces) - 1, leave))
    return Chain(pieces, keypoints)


def _groups(graph: LaneGraph, way: list[str]) -> list[list[str]]:
    """Cuts a way where it passes from one lane section to the next: within a group are lane changes."""
    groups = [[way[0]]]
    for before, after in pairwise(way):
        lane = graph.lanes[before]
        if after in (lane.left_change, lane.right_change) and after not in lane.successors:
            groups[-1].append(after)
        else:
            groups.append([after])
    return groups


def _until(piece: Piece, end_u: float) -> Piece:
    return Piece(piece.lane, piece.start_u, max(piece.start_u, end_u), piece.change)


def draw_line(graph: LaneGraph, chain: Chain) -> Line:
    """Points about 1 m apart along the chain, with lane changes blended and road options."""
    pieces = chain.pieces
    owner, us = [], []
    for index, piece in enumerate(pieces):
        inner = np.arange(np.floor(piece.start_u) + 1, np.ceil(piece.end_u))
        u = np.concatenate([[piece.start_u], inner, [piece.end_u]])
        owner.append(np.full(len(u), index))
        us.append(u)
    piece_of, u_of = np.concatenate(owner), np.concatenate(us)
    plain = np.concatenate([at(graph.lanes[p.lane], u) for p, u in zip(pieces, us, strict=True)])
    option = np.array(turn_options(graph, pieces))[piece_of]
    points = plain.copy()
    along = np.concatenate([[0.0], np.cumsum(_steps(plain, piece_of, pieces))])
    starts = {i: float(along[np.argmax(piece_of == i)]) for i, piece in enumerate(pieces) if piece.change}
    keys = [float(np.interp(u, u_of[piece_of == i], along[piece_of == i])) for i, u in chain.keypoints]
    groups = _change_groups(starts)
    for place, group in enumerate(groups):
        beside = _beside(graph, pieces, group)
        inside = along[np.isin(piece_of, list(beside))]
        before = starts[groups[place - 1][-1]] if place else -np.inf
        after = starts[groups[place + 1][0]] if place + 1 < len(groups) else np.inf
        first, last = starts[group[0]], starts[group[-1]]
        room = (max((before + first) / 2, inside.min()), min((after + last) / 2, inside.max()))
        start, stop = _window(graph.lanes[pieces[group[0]].lane], len(group), (first + last) / 2, room, keys)
        net = sum(pieces[i].change for i in group)
        for i in np.flatnonzero((along >= start) & (along <= stop)) if stop > start else ():
            sides = beside.get(int(piece_of[i]))
            if sides is not None:
                part = (along[i] - start) / (stop - start)
                weight = part**3 * (part * (part * 6 - 15) + 10)
                here, there = (at(graph.lanes[side], u_of[i : i + 1])[0] for side in sides)
                points[i] = here + weight * (there - here)
                option[i] = (CHANGELANERIGHT if net > 0 else CHANGELANELEFT) if net else option[i]
    return Line(points, option, piece_of)


def _change_groups(starts: dict[int, float]) -> list[list[int]]:
    """Lane changes that follow each other closely are made in one go."""
    groups: list[list[int]] = []
    for index in starts:
        if groups and starts[index] - starts[groups[-1][-1]] < CHANGE_SHORTEST_M:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _window(lane: Lane, lanes: int, centre: float, room: tuple[float, float], keys: list[float]) -> tuple[float, float]:
    """From where to where a lane change lasts: by speed, where both lanes are, and mostly done at the keypoints."""
    wide = np.sqrt(lanes)  # the same sideways acceleration
    length = CHANGE_S * (lane.speed_limit_mps or 14.0)
    half = wide * float(np.clip(length, CHANGE_SHORTEST_M, CHANGE_LONGEST_M)) / 2
    start, stop = max(centre - half, room[0]), min(centre + half, room[1])
    early = {1: 0.55, 2: 0.43}.get(lanes, 0.36)  # until then at most 2.4 m of the way across are done
    for key in keys:
        if start < key <= centre:
            start = max(start, (key - early * stop) / (1 - early))
        elif centre < key < stop:
            stop = min(stop, start + (key - start) / (1 - early))
    short = max(0.0, wide * CHANGE_LEAST_M - (stop - start))
    before, after = max(start - room[0], 0.0), max(room[1] - stop, 0.0)
    back = min(before, max(short / 2, short - after))
    return start - back, stop + min(after, short - back)


def at(lane: Lane, u: Doubles) -> Doubles:
    """[N, 3] points on the lane's centre line at fractional indices."""
    index = np.arange(len(lane.width_m))
    return np.stack([np.interp(u, index, lane.centre_m[:, axis]) for axis in range(3)], axis=-1)


def _steps(points: Doubles, piece_of: np.ndarray, pieces: list[Piece]) -> Doubles:
    """Distances between points along the road; the sideways jump of a lane change counts nothing."""
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    jump = np.diff(piece_of) > 0
    changed = np.array([piece.change != 0 for piece in pieces])
    steps[jump & changed[piece_of[1:]]] = 0.0
    return np.asarray(steps)


def _beside(graph: LaneGraph, pieces: list[Piece], group: list[int]) -> dict[int, tuple[str, str]]:
    """piece -> the lane a change comes from and the one it goes to, beside that piece, as far as both go on."""
    net, done = sum(pieces[i].change for i in group), 0
    found: dict[int, tuple[str, str]] = {}
    for index in range(group[0], group[-1] + 1):
        done += pieces[index].change
        sides = _pair(graph, pieces[index].lane, -done, net - done)
        if sides is not None:
            found[index] = sides
    for index, step in ((group[0] - 1, -1), (group[-1] + (group[-1] in found), 1)):
        while 0 <= index < len(pieces):
            sides = _pair(graph, pieces[index].lane, *((0, net) if step < 0 else (-net, 0)))
            beyond = found.get(index - step)
            if sides is None or (beyond is not None and not _linked(graph, sides, beyond, step)):
                break
            if step > 0 and index > group[-1] and pieces[index].change:
                break  # the next change begins
            found[index] = sides
            if step < 0 and pieces[index].change:
                break
            index += step
    return found or {group[0]: (pieces[group[0]].lane, pieces[group[0]].lane)}


def _pair(graph: LaneGraph, lane: str, first: int, second: int) -> tuple[str, str] | None:
    """The lanes so many places to the right (< 0: left) of one, in the same direction; None unless both exist."""
    section, number = lane.rsplit(":", 1)
    sign = 1 if int(number) > 0 else -1
    found = []
    for shift in (first, second):
        other = int(number) + shift * sign
        key = f"{section}:{other}"
        if other * sign <= 0 or key not in graph.lanes:
            return None
        found.append(key)
    return found[0], found[1]


def _linked(graph: LaneGraph, here: tuple[str, str], there: tuple[str, str], step: int) -> bool:
    """Whether both lanes go on from one piece to the next, or the piece is a stretch of the same section."""
    pairs = zip(here, there, strict=True) if step > 0 else zip(there, here, strict=True)
    return all(a == b or (a in graph.lanes[b].successors) for a, b in pairs)


def turn_options(graph: LaneGraph, pieces: list[Piece]) -> list[int]:
    """RoadOption of every piece: a run of junction lanes takes the turn it makes as a whole (GlobalRoutePlanner)."""
    options, index = [LANEFOLLOW] * len(pieces), 0
    while index < len(pieces):
        stop = index
        while stop < len(pieces) and graph.lanes[pieces[stop].lane].junction_id >= 0:
            stop += 1
        if stop > index:
            options[index:stop] = [_turn(graph, pieces, index, stop)] * (stop - index)
        index = max(stop, index + 1)
    return options


def _turn(graph: LaneGraph, pieces: list[Piece], start: int, stop: int) -> int:
    first, last = graph.lanes[pieces[start].lane], graph.lanes[pieces[stop - 1].lane]
    approach = graph.lanes[pieces[start - 1].lane] if start else None
    heading = float(approach.yaw_rad[-1] if approach else first.yaw_rad[0])
    deviation = float(wrap_angle(last.yaw_rad[-1] - heading))
    if abs(deviation) < STRAIGHT_RAD:
        return STRAIGHT
    others = []
    for key in approach.successors if approach else ():
        if key in graph.lanes and key != first.id:
            net = graph.lanes[key].centre_m[-1] - graph.lanes[key].centre_m[0]
            others.append(float(np.cos(heading) * net[1] - np.sin(heading) * net[0]))
    cross = float(np.sin(deviation))
    if others and cross > max(others):
        return LEFT
    if others and cross < min(others):
        return RIGHT
    return LEFT if cross > 0 else RIGHT
