"""Who is on the road: vehicle types, the edges each kind can reach, and trips without end. Needs a running SUMO."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

from dcgen.types import Doubles
from scenarios.world.traffic import TrafficPlan

TRIP_M = 600.0
CROWD_AVERSION = 6.0
BICYCLE_ROAD_MPS = 18.0
ASTRAY_RAD = 1.2
JAM_S = 70.0  # a vehicle that stands longer than this is taken out and another put in
LATERAL_MPS2 = 3.0
# kind: vClass, share, length, width, height (each from, to), top speed m/s
_KINDS: dict[str, tuple[str, float, tuple[float, float], tuple[float, float], tuple[float, float], float]] = {
    "car": ("passenger", 0.72, (3.6, 5.0), (1.68, 1.98), (1.42, 1.85), 42.0),
    "van": ("delivery", 0.09, (4.9, 6.2), (1.95, 2.1), (2.0, 2.7), 36.0),
    "truck": ("truck", 0.07, (7.0, 9.8), (2.3, 2.5), (2.9, 3.6), 25.0),
    "bus": ("bus", 0.05, (10.5, 12.5), (2.5, 2.55), (3.0, 3.3), 23.0),
    "motorcycle": ("motorcycle", 0.07, (2.0, 2.3), (0.75, 0.9), (1.45, 1.75), 38.0),
    "bicycle": ("bicycle", 0.0, (1.65, 1.85), (0.6, 0.7), (1.6, 1.85), 5.5),
    "pedestrian": ("pedestrian", 0.0, (0.45, 0.6), (0.5, 0.7), (1.5, 1.95), 1.4),
}
VARIANTS = 12


def vehicle_types(rng: np.random.Generator) -> list[dict[str, str]]:
    """VARIANTS sizes and temperaments of every kind."""
    rows = []
    for kind, (vclass, _, length, width, height, top) in _KINDS.items():
        for index in range(VARIANTS):
            share = rng.random(2)
            row = {
                "id": f"{kind}{index}",
                "vClass": vclass,
                "length": f"{length[0] + share[0] * (length[1] - length[0]):.2f}",
                "width": f"{width[0] + share[1] * (width[1] - width[0]):.2f}",
                "height": f"{rng.uniform(*height):.2f}",
                "maxSpeed": f"{top * rng.uniform(0.85, 1.15):.2f}",
            }
            if kind == "pedestrian":
                row["minGap"] = "0.25"
            else:
                factor = "normc(0.95,0.1,0.7,1.15)"
                row |= {"carFollowModel": "IDM", "tau": "1.2", "decel": "3.5", "speedFactor": factor}
                row |= {"accel": f"{rng.uniform(1.4, 2.4):.2f}", "minGap": f"{rng.uniform(1.5, 2.8):.2f}"}
                row |= {"lcKeepRight": "0.2", "jmIgnoreKeepClearTime": "30", "jmTimegapMinor": "1.5"}
            rows.append(row)
    return rows


def sharpest_turn(points_m: Doubles) -> float:
    """The largest change of heading over two metres of a polyline [n, 2 or 3], radians."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_m[:, :2], axis=0).T))])
    metres = np.arange(0.0, along[-1], 1.0)
    x, y = (np.interp(metres, along, points_m[:, axis]) for axis in (0, 1))
    heading = np.arctan2(np.diff(y), np.diff(x))
    turn = np.abs((heading[2:] - heading[:-2] + np.pi) % (2 * np.pi) - np.pi)
    return float(turn.max(initial=0.0))


class Roads:
    """What each vehicle class can reach: the largest strongly connected part, so that every trip has a route."""

    def __init__(self, sumo: Any) -> None:
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
                kind for kind, row in _KINDS.items() if (row[0] in allowed if allowed else row[0] not in forbidden)
            )
            self.lanes.setdefault(edge, []).append((lane, classes))
            self.length[edge] = sumo.lane.getLength(lane)
            self.speed[edge] = max(self.speed.get(edge, 0.0), sumo.lane.getMaxSpeed(lane) if "car" in classes else 0.0)
        self._links = {lane: sumo.lane.getLinks(lane) for rows in self.lanes.values() for lane, _ in rows}
        self._edge_of = {lane: edge for edge, rows in self.lanes.items() for lane, _ in rows}
        for lane in sorted(lane for lane in self._links if self._leads_astray(sumo, lane)):
            sumo.lane.setDisallowed(lane, [row[0] for row in _KINDS.values()])
            rows = self.lanes[self._edge_of[lane]]
            rows[[name for name, _ in rows].index(lane)] = (lane, ())

    def _leads_astray(self, sumo: Any, lane: str) -> bool:
        """Whether some link of a driving lane doubles back: netconvert cut a tight bend wrongly."""
        open_lanes = {name for rows in self.lanes.values() for name, classes in rows if "car" in classes}
        for link in self._links[lane] if lane in open_lanes else ():
            target, via, points = link[0], link[4], list(sumo.lane.getShape(lane)[-3:])
            while via:
                points += sumo.lane.getShape(via)
                onward = sumo.lane.getLinks(via)
                via = onward[0][4] if onward else ""
            if (
                target in open_lanes
                and sharpest_turn(np.array([*points, *sumo.lane.getShape(target)[:3]])) > ASTRAY_RAD
            ):
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
                for link in self._links[lane]:
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


def tame_curves(sumo: Any, roads: Roads) -> None:
    """Limit the speed on edges that bend: lateral acceleration stays comfortable."""
    for rows in roads.lanes.values():
        shape = np.array(sumo.lane.getShape(rows[-1][0]))[:, :2]
        step = np.diff(shape, axis=0)
        length = np.hypot(*step.T)
        if len(step) < 3:
            continue
        heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        along = np.concatenate([[0.0], np.cumsum((length[:-1] + length[1:]) / 2)])
        grid = np.arange(0, along[-1], 2.0)
        if len(grid) < 3:
            continue
        curvature = np.abs(np.gradient(np.interp(grid, along, heading), 2.0))
        limit = np.sqrt(LATERAL_MPS2 / max(1e-6, float(np.percentile(curvature, 95))))
        for lane, classes in rows:
            if "car" in classes and limit < sumo.lane.getMaxSpeed(lane):
                sumo.lane.setMaxSpeed(lane, max(4.0, limit))


class Population:
    """A constant number of road users: trips are prolonged before they end, the stuck and the gone replaced."""

    def __init__(self, sumo: Any, plan: TrafficPlan, rng: np.random.Generator) -> None:
        self.sumo, self.plan, self.rng = sumo, plan, rng
        self.roads = Roads(sumo)
        tame_curves(sumo, self.roads)
        motors = [kind for kind in _KINDS if kind not in ("pedestrian", "bicycle")]
        self.graphs = {kind: self.roads.reachable(kind) for kind in motors}
        self.graphs["bicycle"] = self.roads.reachable("bicycle", slower_than_mps=BICYCLE_ROAD_MPS)
        self.edges = {kind: sorted(graph) for kind, graph in self.graphs.items()}
        self.sidewalks = self.roads.walkable()
        self.vehicle_metres = self.roads.lane_metres("car", self.edges["car"])
        self.sidewalk_metres = self.roads.lane_metres("pedestrian", self.sidewalks)
        self.counter = 0
        self.kind_of: dict[str, str] = {}
        self.removed = 0

    def counts(self) -> dict[str, int]:
        """How many motor vehicles, bicycles and pedestrians to keep."""
        plan = self.plan
        vehicles = min(320, round(self.vehicle_metres / 52)) if plan.vehicles is None else plan.vehicles
        bicycles = min(40, round(self.vehicle_metres / 420)) if plan.bicycles is None else plan.bicycles
        pedestrians = min(260, round(self.sidewalk_metres / 40)) if plan.pedestrians is None else plan.pedestrians
        return {
            "vehicle": vehicles if self.edges["car"] else 0,
            "bicycle": bicycles if self.edges["bicycle"] else 0,
            "pedestrian": pedestrians if self.sidewalks else 0,
        }

    def _pick(self, edges: list[str]) -> str:
        weight = np.array([max(self.roads.length[e], 1.0) for e in edges])
        return edges[int(self.rng.choice(len(edges), p=weight / weight.sum()))]

    def _wander(self, kind: str, start: str, length_m: float) -> list[str]:
        """Edges after `start`, at least length_m of them; crowded ones are chosen less, which keeps jams short."""
        graph, path, edge, done = self.graphs[kind], [], start, 0.0
        while done < length_m:
            ahead = sorted(graph.successors(edge))
            lanes = np.array([len(self.roads.lanes[e]) for e in ahead], np.float64)
            crowd = np.array([self.sumo.edge.getLastStepOccupancy(e) for e in ahead])
            weight = lanes * np.exp(-CROWD_AVERSION * crowd)
            edge = ahead[int(self.rng.choice(len(ahead), p=weight / weight.sum()))]
            path.append(edge)
            done += self.roads.length[edge]
        return path

    def _draw_kind(self) -> str:
        kinds = [k for k, row in _KINDS.items() if row[1] > 0 and self.edges[k]]
        share = np.array([_KINDS[k][1] for k in kinds])
        return kinds[int(self.rng.choice(len(kinds), p=share / share.sum()))]

    def add_vehicle(self, kind: str) -> None:
        type_id = f"{kind}{self.rng.integers(VARIANTS)}"
        start = self._pick(self.edges[kind])
        route = [start, *self._wander(kind, start, TRIP_M)]
        name = f"v{self.counter}"
        self.counter += 1
        self.sumo.route.add(f"r{name}", route)
        self.sumo.vehicle.add(
            name, f"r{name}", typeID=type_id, departLane="best", departPos="random_free", departSpeed="avg"
        )
        self.kind_of[name] = kind

    def add_pedestrian(self) -> None:
        type_id = f"pedestrian{self.rng.integers(VARIANTS)}"
        edge = self._pick(self.sidewalks)
        name = f"p{self.counter}"
        self.counter += 1
        length = self.roads.length[edge]
        self.sumo.person.add(name, edge, self.rng.uniform(0.05, 0.95) * length, typeID=type_id)
        self.kind_of[name] = "pedestrian"
        self._walk_on(name, edge)

    def _walk_on(self, name: str, edge: str) -> None:
        """Another walk from this edge: over crossings where there are any, else to and fro on the same sidewalk."""
        for _ in range(4):
            target = self._pick(self.sidewalks)
            stages = self.sumo.simulation.findIntermodalRoute(edge, target, modes="") if target != edge else ()
            if stages and len(stages[0].edges) > 1:
                end = self.rng.uniform(0.1, 0.9) * self.roads.length[target]
                self.sumo.person.appendWalkingStage(name, list(stages[0].edges), end)
                return
        self.sumo.person.appendWalkingStage(name, [edge], self.rng.uniform(0.1, 0.9) * self.roads.length[edge])

    def keep_up(self) -> None:
        """Prolong what is about to end, take out what is stuck, and fill the ranks."""
        sumo = self.sumo
        alive = {"vehicle": 0, "bicycle": 0, "pedestrian": 0}
        pending = set(sumo.simulation.getPendingVehicles())
        on_road = sumo.vehicle.getIDList()
        for name in on_road:
            kind = self.kind_of[name]
            if sumo.vehicle.getWaitingTime(name) > JAM_S:
                sumo.vehicle.remove(name)
                self.removed += 1
                continue
            alive["bicycle" if kind == "bicycle" else "vehicle"] += 1
            route = sumo.vehicle.getRoute(name)
            index = sumo.vehicle.getRouteIndex(name)
            left_m = sum(self.roads.length[e] for e in route[max(index, 0) + 1 :])
            if index >= 0 and left_m < TRIP_M / 2:
                sumo.vehicle.setRoute(name, [*route[index:], *self._wander(kind, route[-1], TRIP_M)])
        for name in pending - set(on_road):
            alive["bicycle" if self.kind_of[name] == "bicycle" else "vehicle"] += 1
        for name in sumo.person.getIDList():
            alive["pedestrian"] += 1
            if sumo.person.getRemainingStages(name) <= 1:
                last = sumo.person.getStage(name, 0).edges
                if last:
                    self._walk_on(name, last[-1])
        for group, want in self.counts().items():
            for _ in range(want - alive[group]):
                if group == "pedestrian":
                    self.add_pedestrian()
                else:
                    self.add_vehicle("bicycle" if group == "bicycle" else self._draw_kind())
