"""Who is on the road: vehicle types, the edges each kind can reach, and trips without end. Needs a running SUMO."""

from __future__ import annotations

from typing import Any

import numpy as np

from scenarios.roadmap import RoadMap
from scenarios.world.traffic.spec import TrafficSpec
from scenarios.world.traffic.sumo_pace import Pace
from scenarios.world.traffic.sumo_roads import Roads

TRIP_M = 600.0
CROWD_AVERSION = 6.0
BICYCLE_ROAD_MPS = 27.0
JAM_S = 70.0  # a vehicle that stands longer than this is taken out and another put in
METRES_A_VEHICLE, METRES_A_BICYCLE, METRES_A_WALKER = 76.0, 420.0, 60.0  # of lane, at a density of 1
MOST_VEHICLES, MOST_BICYCLES, MOST_WALKERS = 320.0, 40.0, 260.0  # at a density of 1
# kind: vClass, length, width, height (each from, to), top speed m/s
_KINDS: dict[str, tuple[str, tuple[float, float], tuple[float, float], tuple[float, float], float]] = {
    "car": ("passenger", (3.6, 5.0), (1.68, 1.98), (1.42, 1.85), 42.0),
    "van": ("delivery", (4.9, 6.2), (1.95, 2.1), (2.0, 2.7), 36.0),
    "truck": ("truck", (7.0, 9.8), (2.3, 2.5), (2.9, 3.6), 25.0),
    "bus": ("bus", (10.5, 12.5), (2.5, 2.55), (3.0, 3.3), 23.0),
    "motorcycle": ("motorcycle", (2.0, 2.3), (0.75, 0.9), (1.45, 1.75), 38.0),
    "bicycle": ("bicycle", (1.65, 1.85), (0.6, 0.7), (1.6, 1.85), 5.5),
    "pedestrian": ("pedestrian", (0.45, 0.6), (0.5, 0.7), (1.5, 1.95), 1.4),
}
VARIANTS = 12


def vehicle_types(rng: np.random.Generator, speed: float = 1.0) -> list[dict[str, str]]:
    """VARIANTS sizes and temperaments of every kind; walkers and riders are `speed` times as fast."""
    rows = []
    for kind, (vclass, length, width, height, top) in _KINDS.items():
        for index in range(VARIANTS):
            share = rng.random(2)
            pace = rng.uniform(0.85, 1.15) * (speed if kind in ("pedestrian", "bicycle") else 1.0)
            row = {
                "id": f"{kind}{index}",
                "vClass": vclass,
                "length": f"{length[0] + share[0] * (length[1] - length[0]):.2f}",
                "width": f"{width[0] + share[1] * (width[1] - width[0]):.2f}",
                "height": f"{rng.uniform(*height):.2f}",
                "maxSpeed": f"{top * pace:.2f}",
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


class Population:
    """A constant number of road users: trips are prolonged before they end, the stuck and the gone replaced."""

    def __init__(self, sumo: Any, spec: TrafficSpec, road_map: RoadMap, rng: np.random.Generator) -> None:
        self.sumo, self.spec, self.rng = sumo, spec, rng
        self.roads = Roads(sumo, {kind: row[0] for kind, row in _KINDS.items()})
        self.pace = Pace(sumo, self.roads, road_map, spec.speed)
        motors = [kind for kind in _KINDS if kind not in ("pedestrian", "bicycle")]
        self.graphs = {kind: self.roads.reachable(kind) for kind in motors}
        calm = self.roads.reachable("bicycle", slower_than_mps=BICYCLE_ROAD_MPS)
        self.graphs["bicycle"] = calm if len(calm) else self.roads.reachable("bicycle")  # some maps are all highway
        self.edges = {kind: sorted(graph) for kind, graph in self.graphs.items()}
        self.sidewalks = self.roads.walkable()
        self.vehicle_metres = self.roads.lane_metres("car", self.edges["car"])
        self.sidewalk_metres = self.roads.lane_metres("pedestrian", self.sidewalks)
        self.counter = 0
        self.kind_of: dict[str, str] = {}
        self.removed = 0

    def counts(self) -> dict[str, int]:
        """How many motor vehicles, bicycles and pedestrians to keep."""
        spec = self.spec
        vehicles = spec.vehicles * min(MOST_VEHICLES, self.vehicle_metres / METRES_A_VEHICLE)
        bicycles = spec.bicycles * min(MOST_BICYCLES, self.vehicle_metres / METRES_A_BICYCLE)
        walkers = spec.pedestrians * min(MOST_WALKERS, self.sidewalk_metres / METRES_A_WALKER)
        return {
            "vehicle": round(vehicles) if self.edges["car"] else 0,
            "bicycle": round(bicycles) if self.edges["bicycle"] else 0,
            "pedestrian": round(walkers) if self.sidewalks else 0,
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
        shares = {kind: share for kind, share in self.spec.shares().items() if self.edges[kind]}
        share = np.array(list(shares.values())) if sum(shares.values()) > 0 else np.ones(len(shares))
        return list(shares)[int(self.rng.choice(len(shares), p=share / share.sum()))]

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
