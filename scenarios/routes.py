"""Route XML of both CARLA leaderboards and ScenarioRunner -> RouteSpec. N keypoints, world frame, metres, radians.

The dialect is seen in the content: `<waypoint>` below `<route>` (leaderboard 1) or `<position>` below `<waypoints>`
(leaderboard 2, ScenarioRunner, Bench2Drive). Scenarios and their parameters are kept as data, whatever their type.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml import DefusedXmlException

from dcgen.errors import ScenarioError
from dcgen.types import Doubles
from scenarios.frames import carla_points_to_world, carla_to_world, carla_yaw_to_world
from scenarios.reading import read_file
from scenarios.trajectory import LoggedTrajectory, read_trajectory

__all__ = ["LoggedTrajectory", "RouteSpec", "ScenarioTrigger", "read_routes", "read_trajectory", "select_routes"]

MAX_BYTES = 50_000_000
MAX_COORDINATE_M = 1e6
SHORTEST_ROUTE_M = 0.5
MOST_WAYPOINTS = 20_000


@dataclass(frozen=True)
class ScenarioTrigger:
    """A scenario of a route. parameters: tag -> attributes of each element of that tag, as written (CARLA frame)."""

    name: str
    type: str
    position_m: tuple[float, float, float] | None  # world frame
    yaw_rad: float | None
    parameters: dict[str, tuple[dict[str, str], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RouteSpec:
    """One route of a file. weather: route percentage -> CARLA's weather parameters."""

    id: str
    town: str  # without _Opt
    keypoints_m: Doubles  # [N, 3]
    yaw_rad: Doubles | None  # [N], where every waypoint has one
    scenarios: tuple[ScenarioTrigger, ...] = ()
    weather: dict[float, dict[str, float]] = field(default_factory=dict)
    road_id: str | None = None
    source: str = ""  # name of the file


def read_routes(path: Path) -> list[RouteSpec]:
    """Every route of a route file. Raises ScenarioError naming file, route, waypoint and remedy."""
    path = Path(path)
    root = _parse(path)
    nodes = [root] if root.tag == "route" else root.findall("route")
    if root.tag not in ("routes", "route"):
        raise ScenarioError(f"{path.name}: the root is <{root.tag[:40]}>, not <routes>; pass a CARLA route file")
    if not nodes:
        raise ScenarioError(f"{path.name}: holds no <route>; add one")
    return [_route(node, f"{path.name}: route[{index}]", path.name) for index, node in enumerate(nodes)]


def select_routes(
    routes: Sequence[RouteSpec], route_id: str | int | None = None, subset: str | None = None
) -> list[RouteSpec]:
    """The routes that --route-id or --routes-subset name, in the file's order; all without either."""
    if route_id is not None and subset is not None:
        raise ScenarioError("--route-id and --routes-subset exclude each other; give one")
    if route_id is not None:
        return [routes[_index_of(routes, str(route_id).strip(), "--route-id")]]
    if subset is None:
        return list(routes)
    wanted: set[int] = set()
    ids = {route.id for route in routes}
    for group in subset.split(","):
        group = group.strip()
        first, dash, last = group.partition("-")
        if not dash or group in ids:
            wanted.add(_index_of(routes, group, "--routes-subset"))
            continue
        start = _index_of(routes, first.strip(), "--routes-subset")
        stop = _index_of(routes, last.strip(), "--routes-subset")
        if stop < start:
            raise ScenarioError(f"--routes-subset {group}: route {last} stands before {first} in the file; swap them")
        wanted.update(range(start, stop + 1))
    return [routes[index] for index in sorted(wanted)]


def _index_of(routes: Sequence[RouteSpec], wanted: str, flag: str) -> int:
    ids = [route.id for route in routes]
    source = f"{routes[0].source}: " if routes and routes[0].source else ""
    found = [index for index, name in enumerate(ids) if name == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise ScenarioError(f"{source}route id {wanted} is used {len(found)} times; give each route its own id")
    near = [ids[0]] if len(ids) == 1 else difflib.get_close_matches(wanted, ids, 3, 0.0)
    listed = ", ".join(ids[:12]) + (f" ... {ids[-1]} ({len(ids)} routes)" if len(ids) > 12 else "")
    found_not = f"{source}{flag} {wanted[:40]!r}: no such route"
    raise ScenarioError(f"{found_not}; nearest {', '.join(near)}; it has {listed}; choose one")


def _parse(path: Path) -> Element:
    raw = read_file(path, MAX_BYTES, "a route file")
    if not raw.strip():
        raise ScenarioError(f"{path.name}: is empty; pass a CARLA route file")
    try:
        root = defusedxml.ElementTree.fromstring(raw, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ScenarioError(f"{path.name}: holds a DTD or XML entities; remove them ({type(error).__name__})") from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise ScenarioError(f"{path.name}: not well-formed XML ({error}); mend it or export it again") from None
    assert isinstance(root, Element)
    return root


def _route(node: Element, place: str, source: str) -> RouteSpec:
    name = (node.get("id") or "").strip()
    if not name:
        raise ScenarioError(f'{place}: has no id; add id="0"')
    place = f"{place} (id {name[:40]})"
    town = (node.get("town") or node.get("map") or "").strip().rsplit("/", 1)[-1]
    if not town:
        raise ScenarioError(f'{place}: has no town; add town="Town01"')
    points = node.findall("waypoints/position") or node.findall("waypoint")
    if len(points) < 2:
        raise ScenarioError(f"{place}: a route needs at least 2 waypoints, got {len(points)}; add the missing ones")
    if len(points) > MOST_WAYPOINTS:
        raise ScenarioError(f"{place}: {len(points)} waypoints, at most {MOST_WAYPOINTS}; split the route")
    keypoints = np.array([_point(p, f"{place}: waypoint[{i}]") for i, p in enumerate(points)])
    length = float(np.linalg.norm(np.diff(keypoints[:, :2], axis=0), axis=1).sum())
    if length < SHORTEST_ROUTE_M:
        raise ScenarioError(f"{place}: is {length:.2f} m long from first to last waypoint; give it different waypoints")
    yaw = None
    if all(p.get("yaw") is not None for p in points):
        yaw = carla_yaw_to_world([_number(p, "yaw", f"{place}: waypoint[{i}]") for i, p in enumerate(points)])
    triggers = node.findall("scenarios/scenario")
    return RouteSpec(
        name,
        town.removesuffix("_Opt"),
        carla_points_to_world(keypoints),
        yaw,
        tuple(_trigger(s, f"{place}: scenario[{i}]") for i, s in enumerate(triggers)),
        _weather(node, place),
        node.get("road_id"),
        source,
    )


def _point(node: Element, place: str) -> tuple[float, float, float]:
    return _number(node, "x", place), _number(node, "y", place), _number(node, "z", place, 0.0)


def _number(node: Element, key: str, place: str, default: float | None = None) -> float:
    text = node.get(key)
    if text is None:
        if default is not None:
            return default
        raise ScenarioError(f'{place}: has no {key}; add {key}="..."')
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > MAX_COORDINATE_M:
        limit = f"a number within +-{MAX_COORDINATE_M:.0e}"
        raise ScenarioError(f"{place}: {key}={text[:40]!r} is not {limit}; correct it")
    return value


def _weather(node: Element, place: str) -> dict[float, dict[str, float]]:
    found: dict[float, dict[str, float]] = {}
    for index, weather in enumerate([*node.findall("weather"), *node.findall("weathers/weather")]):
        where = f"{place}: weather[{index}]"
        values = {key: _number(weather, key, where) for key, _ in weather.items() if key != "id"}
        found[values.pop("route_percentage", 0.0)] = values
    return dict(sorted(found.items()))


def _trigger(node: Element, place: str) -> ScenarioTrigger:
    """A scenario of any type; one without a trigger point is kept, too."""
    position, yaw = None, None
    parameters: dict[str, tuple[dict[str, str], ...]] = {}
    for child in node:
        if not isinstance(child.tag, str):
            continue  # a comment
        if child.tag == "trigger_point" and position is None:
            x, y, z = _point(child, f"{place}: trigger_point")
            px, py, pz, yaw = carla_to_world(x, y, z, _number(child, "yaw", f"{place}: trigger_point", 0.0))
            position = (px, py, pz)
        else:
            parameters[child.tag] = (*parameters.get(child.tag, ()), dict(child.attrib))
    return ScenarioTrigger(node.get("name", ""), node.get("type", ""), position, yaw, parameters)
