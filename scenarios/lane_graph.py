"""Driving lanes as a graph, and the matching of keypoints to lanes. K keypoints; u fractional index along a lane."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from dcgen.errors import ScenarioError
from dcgen.types import Doubles, wrap_angle
from scenarios.roadmap import Lane, RoadMap

OFF_MAP_M = 12.0  # a keypoint farther from every driving lane is an error
SEARCH_M = 18.0  # lanes this far away may still be meant: the other carriageway
CANDIDATES = 8
CHANGE_COST_M = 12.0
CHANGE_ROOM_M = 12.0
BACKWARD_M = 1.5  # keypoints may lie a little out of order


@dataclass(frozen=True)
class Match:
    """A place on a lane that a keypoint may mean, and what it costs to mean it."""

    lane: str
    u: float
    s_m: float
    cost: float
    distance_m: float


@dataclass(frozen=True)
class Reach:
    """What can be reached from the start of one lane: cost [lanes], inf beyond limit_m, and the lane before [lanes]."""

    limit_m: float
    cost: Doubles
    before: NDArray[np.int32]


class LaneGraph:
    """Lanes as nodes; an edge to a successor costs the lane's length, to a neighbour the price of a lane change."""

    def __init__(self, road_map: RoadMap) -> None:
        self.lanes = {key: lane for key, lane in road_map.lanes.items() if is_routable(lane)}
        self.along_m = {key: stations_m(lane) for key, lane in self.lanes.items()}
        self.graph: nx.DiGraph[str] = nx.DiGraph()
        for key, lane in self.lanes.items():
            length = self.length_m(key)
            self.graph.add_node(key)
            for other in (lane.left_change, lane.right_change):
                if other in self.lanes:
                    self.graph.add_edge(key, other, cost=CHANGE_COST_M + max(0.0, CHANGE_ROOM_M - length))
            for other in lane.successors:
                if other in self.lanes:
                    self.graph.add_edge(key, other, cost=length)
        self._keys = list(self.lanes)
        sizes = [len(lane.width_m) for lane in self.lanes.values()]
        self._owner = np.repeat(np.arange(len(sizes)), sizes)
        self._first = np.cumsum([0, *sizes])
        points = [lane.centre_m for lane in self.lanes.values()]
        self._points = np.concatenate(points) if points else np.zeros((0, 3))
        self._tree = cKDTree(self._points[:, :2])
        self._index = {key: index for index, key in enumerate(self._keys)}
        self._costs = nx.to_scipy_sparse_array(self.graph, self._keys, weight="cost", format="csr") if sizes else None
        self._reach: dict[str, Reach] = {}
        self._beside: dict[str, dict[str, list[str]]] = {}

    def length_m(self, key: str) -> float:
        return float(self.along_m[key][-1])

    def matches(self, point: Doubles, yaw_rad: float | None, place: str, town: str = "") -> list[Match]:
        """The lanes a keypoint [3] may mean, likeliest first. Raises ScenarioError where it lies off every road.

        town, where the keypoint's own is known, serves the message.
        """
        near = np.asarray(self._tree.query_ball_point(point[:2], SEARCH_M), dtype=np.int64)
        best: dict[int, tuple[float, int]] = {}
        for index, gap in zip(near, np.linalg.norm(self._points[near, :2] - point[:2], axis=1), strict=True):
            owner = int(self._owner[index])
            if owner not in best or gap < best[owner][0]:
                best[owner] = (float(gap), int(index - self._first[owner]))
        found = [self._match(self._keys[owner], at, point, yaw_rad) for owner, (_, at) in best.items()]
        if not found or min(match.distance_m for match in found) > OFF_MAP_M:
            gap = float(self._tree.query(point[:2])[0]) if len(self._points) else float("inf")
            raise ScenarioError(
                f"{place} (x={point[0]:.1f}, y={point[1]:.1f} in the map's frame) lies {gap:.0f} m from the nearest "
                f"driving lane, more than {OFF_MAP_M:.0f} m; pass {_map_of(town)} and y in its frame"
            )
        return sorted(found, key=lambda match: match.cost)[:CANDIDATES]

    def _match(self, key: str, at: int, point: Doubles, yaw_rad: float | None) -> Match:
        lane, along = self.lanes[key], self.along_m[key]
        best, where = np.inf, float(at)
        for i in (at - 1, at):
            if 0 <= i < len(along) - 1:
                start, step = lane.centre_m[i, :2], lane.centre_m[i + 1, :2] - lane.centre_m[i, :2]
                part = float(np.clip(np.dot(point[:2] - start, step) / max(np.dot(step, step), 1e-12), 0.0, 1.0))
                gap = float(np.linalg.norm(start + part * step - point[:2]))
                if gap < best:
                    best, where = gap, i + part
        index = min(round(where), len(along) - 1)
        cost = 2 * best**2 + 0.5 * min(abs(point[2] - lane.centre_m[index, 2]), 10.0) ** 2
        if yaw_rad is not None:
            cost += 40.0 * (1.0 - float(np.cos(lane.yaw_rad[index] - yaw_rad)))
        return Match(key, where, float(np.interp(where, np.arange(len(along)), along)), cost, best)

    def reach(self, key: str, limit_m: float) -> Reach:
        known = self._reach.get(key)
        if known is None or known.limit_m < limit_m:
            cost, before = dijkstra(self._costs, indices=self._index[key], limit=limit_m, return_predecessors=True)
            known = self._reach[key] = Reach(limit_m, cost, before)
        return known

    def beside(self, key: str) -> dict[str, list[str]]:
        """Lanes of the same stretch that lane changes lead to, with the way there; itself included."""
        if key in self._beside:
            return self._beside[key]
        ways, todo = {key: [key]}, deque([key])
        while todo:
            here = todo.popleft()
            for other in (self.lanes[here].left_change, self.lanes[here].right_change):
                if other in self.lanes and other is not None and other not in ways:
                    ways[other] = [*ways[here], other]
                    todo.append(other)
        self._beside[key] = ways
        return ways

    def cost(self, a: Match, b: Match, limit_m: float) -> float:
        """Of the cheapest way from one place to another; inf where it is dearer than the limit or there is none."""
        ahead = self._ahead_m(a, b)
        if ahead is not None:
            changes = len(self.beside(a.lane)[b.lane]) - 1
            return abs(ahead) + CHANGE_COST_M * changes + max(0.0, CHANGE_ROOM_M * changes - ahead)
        reach = self.reach(a.lane, limit_m + self.length_m(a.lane))
        if b.lane in self.beside(a.lane):
            last = self._last_before(b.lane, reach)
            found = np.inf if last is None else reach.cost[self._index[last]] + self.length_m(last)
        else:
            found = reach.cost[self._index[b.lane]]
        found = max(0.0, float(found) - a.s_m + b.s_m)
        return found if found <= limit_m else np.inf

    def way(self, a: Match, b: Match) -> list[str]:
        """The lanes of the cheapest way; the places must be known to be joined."""
        if self._ahead_m(a, b) is not None:
            return self.beside(a.lane)[b.lane]
        reach = self._reach[a.lane]
        tail, last = [], b.lane
        if b.lane in self.beside(a.lane):
            tail, last = [b.lane], str(self._last_before(b.lane, reach))
        index = self._index[last]
        while index >= 0:
            tail.append(self._keys[index])
            index = int(reach.before[index])
        return tail[::-1]

    def _ahead_m(self, a: Match, b: Match) -> float | None:
        """Metres to a place on the same stretch of road, by lane changes alone; None where it lies elsewhere."""
        if b.lane not in self.beside(a.lane):
            return None
        ahead = self._fraction(b) * self.length_m(a.lane) - a.s_m
        return ahead if ahead >= -BACKWARD_M else None

    def _last_before(self, key: str, reach: Reach) -> str | None:
        """The lane from which one is entered, once round the block."""
        back = [p for p in self.lanes[key].predecessors if p in self._index]
        back = [p for p in back if np.isfinite(reach.cost[self._index[p]])]
        return min(back, key=lambda p: reach.cost[self._index[p]] + self.length_m(p)) if back else None

    def _fraction(self, match: Match) -> float:
        return match.s_m / max(self.length_m(match.lane), 1e-9)


def is_routable(lane: Lane) -> bool:
    """Whether routes may use it: turning lanes for both directions are left out."""
    return lane.is_driving and lane.kind != "bidirectional"


def _map_of(town: str) -> str:
    return f"the map of {town} (--map {town}.xodr)" if town else "its town's map (--map)"


def stations_m(lane: Lane) -> Doubles:
    """[N] metres along the lane's centre, seen from above."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(lane.centre_m[:, :2], axis=0), axis=1))])


def match_keypoints(
    graph: LaneGraph, keypoints_m: Doubles, yaw_rad: Doubles | None, place: str, town: str = ""
) -> tuple[list[Match], list[list[str]]]:
    """The cheapest choice of a place for every keypoint, and the K - 1 ways between them (Viterbi).

    A keypoint on the wrong side of the road costs less moved over than reached by a detour.
    """
    layers = [
        graph.matches(point, None if yaw_rad is None else float(wrap_angle(yaw_rad[i])), f"{place}: keypoint {i}", town)
        for i, point in enumerate(keypoints_m)
    ]
    total = np.array([match.cost for match in layers[0]])
    steps: list[NDArray[np.int64]] = []
    for index, (before, after) in enumerate(pairwise(layers)):
        straight = float(np.linalg.norm(keypoints_m[index + 1, :2] - keypoints_m[index, :2]))
        for limit_m in (2 * straight + 400.0, 1e9):
            cost = np.array([[graph.cost(a, b, limit_m) for a in before] for b in after]) + total
            if np.isfinite(cost).any():
                break
        else:
            raise ScenarioError(
                f"{place}: no lanes lead from keypoint {index} to keypoint {index + 1} "
                f"({straight:.0f} m apart); move one of them, check its direction or pass {_map_of(town)}"
            )
        steps.append(np.argmin(cost, axis=1))
        total = cost.min(axis=1) + [match.cost for match in after]
    best = int(np.argmin(total))
    chosen = [layers[-1][best]]
    for layer, step in zip(reversed(layers[:-1]), reversed(steps), strict=True):
        best = int(step[best])
        chosen.append(layer[best])
    chosen.reverse()
    return chosen, [graph.way(a, b) for a, b in pairwise(chosen)]
