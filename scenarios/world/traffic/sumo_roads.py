"""The lanes of a running SUMO: who may use them, and what each kind can reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from dcgen.types import Doubles

ASTRAY_RAD = 1.2


def sharpest_turn(points_m: Doubles) -> float:
    """The largest change of heading over two metres of a polyline [n, 2 or 3], radians."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_m[:, :2], axis=0).T))])
    metres = np.arange(0.0, along[-1], 1.0)
    x, y = (np.interp(metres, along, points_m[:, axis]) for axis in (0, 1))
    heading = np.arctan2(np.diff(y), np.diff(x))
    turn = np.abs((heading[2:] - heading[:-2] + np.pi) % (2 * np.pi) - np.pi)
    return float(turn.max(initial=0.0))


def misdrawn(sumo: Any, lane: str) -> bool:
    """Whether who drives a lane would crawl or leap before our eyes: it is not drawn as long as it counts."""
    drawn_m = float(np.hypot(*np.diff([point[:2] for point in sumo.lane.getShape(lane)], axis=0).T).sum())
    length_m = sumo.lane.getLength(lane)
    return abs(drawn_m - length_m) > 1.0 and not 0.6 < drawn_m / length_m < 1.5


class Roads:
    """What each vehicle class can reach: the largest strongly connected part, so that every trip has a route.

    vclass_of maps a kind of road user to SUMO's vehicle class.
    """

    def __init__(self, sumo: Any, vclass_of: Mapping[str, str]) -> None:
        self.length: dict[str, float] = {}
        self.speed: dict[str, float] = {}
        self.lanes: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for lane in sumo.lane.getIDList():
            edge = sumo.lane.getEdgeID(lane)
            if edge.startswith(":"):
                continue
            allowed = sumo.lane.getAllowed(lane)
            forbidden = sumo.lane.getDisallowed(lane)
            classes = tuple(
                kind
                for kind, vclass in vclass_of.items()
                if (vclass in allowed if allowed else vclass not in forbidden)
            )
            self.lanes.setdefault(edge, []).append((lane, classes))
            self.length[edge] = sumo.lane.getLength(lane)
            self.speed[edge] = max(self.speed.get(edge, 0.0), sumo.lane.getMaxSpeed(lane) if "car" in classes else 0.0)
        self.links = {lane: sumo.lane.getLinks(lane) for rows in self.lanes.values() for lane, _ in rows}
        self._edge_of = {lane: edge for edge, rows in self.lanes.items() for lane, _ in rows}
        for lane in sorted(lane for lane in self.links if self._leads_astray(sumo, lane)):
            sumo.lane.setDisallowed(lane, list(vclass_of.values()))
            rows = self.lanes[self._edge_of[lane]]
            rows[[name for name, _ in rows].index(lane)] = (lane, ())

    def _leads_astray(self, sumo: Any, lane: str) -> bool:
        """Whether a driving lane, or a link of it, doubles back or is not as long as it is drawn: badly converted."""
        open_lanes = {name for rows in self.lanes.values() for name, classes in rows if "car" in classes}
        if lane not in open_lanes:
            return False
        if misdrawn(sumo, lane):
            return True
        for link in self.links[lane]:
            target, via, points = link[0], link[4], list(sumo.lane.getShape(lane)[-3:])
            if target not in open_lanes:
                continue
            while via:
                if misdrawn(sumo, via):
                    return True
                points += sumo.lane.getShape(via)
                onward = sumo.lane.getLinks(via)
                via = onward[0][4] if onward else ""
            flat = np.array([point[:2] for point in (*points, *sumo.lane.getShape(target)[:3])])
            if sharpest_turn(flat) > ASTRAY_RAD:
                return True
        return False

    def reachable(self, kind: str, slower_than_mps: float = float("inf")) -> nx.DiGraph[str]:
        """The largest strongly connected component of the edges for this kind; perhaps empty."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for edge, rows in self.lanes.items():
            if self.speed[edge] >= slower_than_mps:
                continue
            for lane, classes in rows:
                if kind not in classes:
                    continue
                graph.add_node(edge)
                for link in self.links[lane]:
                    target = self._edge_of.get(link[0])
                    if target is not None and self._open(target, kind, slower_than_mps):
                        graph.add_edge(edge, target)
        parts = [part for part in nx.strongly_connected_components(graph) if len(part) > 1]
        best = max(parts, key=lambda part: (sum(self.length[e] for e in part), min(part)), default=set())
        return graph.subgraph(best).copy()

    def _open(self, edge: str, kind: str, slower_than_mps: float) -> bool:
        return self.speed[edge] < slower_than_mps and any(kind in classes for _, classes in self.lanes[edge])

    def walkable(self) -> list[str]:
        """Edges with a sidewalk, sorted."""
        return sorted(e for e, rows in self.lanes.items() if any("pedestrian" in cs for _, cs in rows))

    def lane_metres(self, kind: str, edges: list[str]) -> float:
        return sum(self.length[e] * sum(kind in cs for _, cs in self.lanes[e]) for e in edges)
