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
    centres = {i: float(along[np.argmax(piece_of == i)]) for i, piece in enumerate(pieces) if piece.change}
    keys = [float(np.interp(u, u_of[piece_of == i], along[piece_of == i])) for i, u in chain.keypoints]
    for index in centres:
        ahead = _neighbours(graph, pieces, index, 1, -pieces[index].change)
        back = _neighbours(graph, pieces, index - 1, -1, pieces[index].change)
        span = (float(along[np.isin(piece_of, list(back))].min()), float(along[np.isin(piece_of, list(ahead))].max()))
        start, stop = _window(graph.lanes[pieces[index].lane], index, centres, span, keys)
        turned = CHANGELANERIGHT if pieces[index].change > 0 else CHANGELANELEFT
        for i in np.flatnonzero((along >= start) & (along <= stop)) if stop > start else ():
            key = int(piece_of[i])
            beside = (back if key < index else ahead).get(key)
            if beside is not None:
                part = (along[i] - start) / (stop - start)
                weight = part**3 * (part * (part * 6 - 15) + 10)
                share = weight if key < index else 1 - weight
                points[i] += share * (at(graph.lanes[beside], u_of[i : i + 1])[0] - points[i])
                option[i] = turned
    return Line(points, option, piece_of)


def _window(
    lane: Lane, index: int, centres: dict[int, float], span: tuple[float, float], keys: list[float]
) -> tuple[float, float]:
    """From where to where a lane change lasts: by speed, where both lanes are, and mostly done at the keypoints."""
    centre = centres[index]
    half = float(np.clip(CHANGE_S * (lane.speed_limit_mps or 14.0), CHANGE_SHORTEST_M, CHANGE_LONGEST_M)) / 2
    before = max([c for i, c in centres.items() if i < index], default=-np.inf)
    after = min([c for i, c in centres.items() if i > index], default=np.inf)
    start = max(centre - half, (before + centre) / 2, span[0])
    stop = min(centre + half, (after + centre) / 2, span[1])
    for key in keys:
        if start < key <= centre:
            start = max(start, (key - 0.54 * stop) / 0.46)
        elif centre < key < stop:
            stop = min(stop, start + (key - start) / 0.46)
    return start, stop


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


def _neighbours(graph: LaneGraph, pieces: list[Piece], index: int, step: int, side: int) -> dict[int, str]:
    """piece -> the lane beside it, walking from a change as far as both lanes go on. side: +1 right, -1 left."""
    found: dict[int, str] = {}
    while 0 <= index < len(pieces):
        lane = graph.lanes[pieces[index].lane]
        beside = f"{lane.id.rsplit(':', 1)[0]}:{lane.lane_id + side * (1 if lane.lane_id > 0 else -1)}"
        if beside not in graph.lanes or graph.lanes[beside].lane_id * lane.lane_id < 0:
            break
        if found:
            last = found[index - step]
            tail, head = (beside, last) if step < 0 else (last, beside)
            if head not in graph.lanes[tail].successors:
                break
        found[index] = beside
        crossing = index if step < 0 else index + 1
        if crossing < len(pieces) and pieces[crossing].change:
            break
        index += step
    return found


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
