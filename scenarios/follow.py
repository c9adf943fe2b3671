"""Routes that follow the lanes by a command: the first choice of ways is the command's, the rest goes straight on."""

from __future__ import annotations

import numpy as np

from dcgen.errors import MapError, ScenarioError
from dcgen.types import Doubles, wrap_angle
from scenarios.lane_graph import LaneGraph
from scenarios.roadmap import RoadMap
from scenarios.route import Route, plan_route

TURN_RAD = np.radians(33.0)  # a junction's turn by less is straight on, as in CARLA's planner
LOOK_AHEAD_M = 300.0
DRAWS = 32
WINDOW_M = 25.0
KEYPOINT_M = 6.0


def turn_of(graph: LaneGraph, key: str) -> str:
    """ "left", "right" or "forward": how a lane changes direction from its first point to its last."""
    yaw = graph.lanes[key].yaw_rad
    net = float(np.sum(wrap_angle(np.diff(yaw))))
    return "forward" if abs(net) < TURN_RAD else "left" if net > 0 else "right"


def command_route(
    road_map: RoadMap, graph: LaneGraph, command: str, length_m: float, seed: int,
    start: tuple[Doubles, float | None] | None, lead_m: float, place: str,
) -> Route:  # fmt: skip
    """A route of about length_m that does what the command says.

    start (point [3], yaw or None): the lanes are followed from there. Without it a place is drawn by seed from which
    the turn comes after lead_m. Raises ScenarioError where no such turn is in reach, naming place.
    """
    if start is not None:
        match = graph.matches(start[0], start[1], place)[0]
        lanes, begin_m = [match.lane], match.s_m
        turned = _go_on(graph, lanes, begin_m, command, length_m)
        if not turned and command in ("left", "right"):
            raise ScenarioError(f"{place}: no {command} turn within {LOOK_AHEAD_M:.0f} m; start on a lane that turns")
    else:
        lanes, begin_m = _drawn(graph, command, seed, length_m, lead_m)
    return route_along(road_map, graph, lanes, begin_m, length_m, place)


def _drawn(graph: LaneGraph, command: str, seed: int, length_m: float, lead_m: float) -> tuple[list[str], float]:
    """Lanes that do what the command says and no other turn, where the map has any, and the place to begin on them."""
    rng = np.random.default_rng(seed)
    turning = command in ("left", "right")
    wanted = [
        key
        for key, lane in graph.lanes.items()
        if (lane.junction_id >= 0 or not turning)
        and (command == "static" or turn_of(graph, key) == command)
        and graph.length_m(key) > 4.0
    ]
    if not wanted:
        raise MapError(f"map: has no lane that goes {command}; give another command or another map")
    best: tuple[float, list[str], float] = (np.inf, [], 0.0)
    for _ in range(DRAWS):
        lanes = [wanted[int(rng.integers(len(wanted)))]]
        begin_m = _lead_in(graph, lanes, lead_m, rng) if turning else 0.0
        _go_on(graph, lanes, begin_m, "forward", length_m)
        cost = length_m - _as_told_m(graph, lanes, begin_m, command, length_m)
        if cost < best[0]:
            best = (cost, lanes, begin_m)
        if cost == 0.0:
            break
    return best[1], best[2]


def _as_told_m(graph: LaneGraph, lanes: list[str], begin_m: float, command: str, length_m: float) -> float:
    """For how many metres, up to length_m, the lanes hold the commanded turn and are else straight."""
    turns = [index for index, key in enumerate(lanes) if turn_of(graph, key) == command != "forward"]
    cut = turns[0] if turns else len(lanes)
    before_m = sum(graph.length_m(key) for key in lanes[:cut])
    driven = _straight_m(graph, lanes[:cut])
    if driven >= before_m and turns:
        driven += graph.length_m(lanes[cut]) + _straight_m(graph, lanes[cut + 1 :])
    return min(driven - begin_m, length_m)


def _straight_m(graph: LaneGraph, lanes: list[str]) -> float:
    """Metres along the lanes until they bend by more than a turn within WINDOW_M."""
    if not lanes:
        return 0.0
    yaw = np.unwrap(np.concatenate([graph.lanes[key].yaw_rad for key in lanes]))
    starts = np.cumsum([0.0, *(graph.length_m(key) for key in lanes)])
    s = np.concatenate([graph.along_m[key] + start for key, start in zip(lanes, starts, strict=False)])
    before = yaw[np.searchsorted(s, s - WINDOW_M)]
    bent = np.flatnonzero(np.abs(yaw - before) > TURN_RAD)
    return float(s[bent[0]] if len(bent) else starts[-1])


def _lead_in(graph: LaneGraph, lanes: list[str], lead_m: float, rng: np.random.Generator) -> float:
    """Put lanes before the first one until lead_m of way lie before it; where on the first of them that begins."""
    missing = lead_m
    while missing > 0.0:
        before = [key for key in graph.lanes[lanes[0]].predecessors if key in graph.lanes and key not in lanes]
        if not before:
            return 0.0
        lanes.insert(0, before[int(rng.integers(len(before)))])
        missing -= graph.length_m(lanes[0])
    return -missing


def _go_on(graph: LaneGraph, lanes: list[str], begin_m: float, command: str, length_m: float) -> bool:
    """Append lanes until the way is long enough; true once a turn as commanded is among them."""
    driven = sum(graph.length_m(key) for key in lanes) - begin_m
    turned = command not in ("left", "right") or any(turn_of(graph, key) == command for key in lanes)
    while driven < length_m or (not turned and driven < LOOK_AHEAD_M):
        ahead = [key for key in graph.lanes[lanes[-1]].successors if key in graph.lanes and lanes.count(key) < 2]
        if not ahead:
            break
        want = "forward" if turned else command
        by_turn = {turn_of(graph, key): key for key in reversed(ahead)}
        best = by_turn.get(want) or by_turn.get("forward") or ahead[0]
        turned = turned or turn_of(graph, best) == command
        lanes.append(best)
        driven += graph.length_m(best)
    return turned


def route_along(
    road_map: RoadMap, graph: LaneGraph, lanes: list[str], begin_m: float, length_m: float, place: str
) -> Route:
    """The route over these lanes from begin_m on the first one on."""
    points = np.concatenate([graph.lanes[key].centre_m for key in lanes])
    yaw = np.concatenate([graph.lanes[key].yaw_rad for key in lanes])
    step = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    moved = np.concatenate([[True], step > 1e-3])
    s = np.concatenate([[0.0], np.cumsum(step)])[moved]
    points, yaw = points[moved], np.unwrap(yaw[moved])
    end_m = min(float(s[-1]), begin_m + max(length_m, 2.0))
    begin_m = min(begin_m, end_m - 1.0)
    at = np.linspace(begin_m, end_m, max(2, int(np.ceil((end_m - begin_m) / KEYPOINT_M)) + 1))
    keypoints = np.stack([np.interp(at, s, points[:, axis]) for axis in range(3)], axis=1)
    return plan_route(road_map, keypoints, np.interp(at, s, yaw), place, graph=graph)


def way_to(graph: LaneGraph, lane_id: str, point_m: Doubles, back_m: float) -> Doubles:
    """[N, 3] the last back_m of lanes that lead to a place on a lane, straight on where there is a choice."""
    if lane_id not in graph.lanes:
        return np.zeros((0, 3))
    centre = graph.lanes[lane_id].centre_m
    here = int(np.argmin(np.linalg.norm(centre[:, :2] - point_m[:2], axis=1)))
    parts, missing, key = [centre[:here]], back_m - float(graph.along_m[lane_id][here]), lane_id
    while missing > 0.0 and len(parts) < 64:
        before = [each for each in graph.lanes[key].predecessors if each in graph.lanes]
        if not before:
            break
        key = min(before, key=lambda each: turn_of(graph, each) != "forward")
        parts.insert(0, graph.lanes[key].centre_m)
        missing -= graph.length_m(key)
    points = np.concatenate(parts)
    left_m = np.cumsum(np.linalg.norm(np.diff(points[:, :2], axis=0, append=point_m[None, :2]), axis=1)[::-1])[::-1]
    return np.asarray(points[(left_m <= back_m) & (left_m > 0.5)])
