"""The route that an order names, on the lanes of the server's own map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.carla.order import RecordOrder
from dcgen.errors import CarlaError
from scenarios.roadmap import RoadMap
from scenarios.routes import RouteSpec, read_routes, select_routes

if TYPE_CHECKING:
    from scenarios.route import Route


def chosen_route(order: RecordOrder) -> RouteSpec | None:
    """The one route of order.route, or None without one. Raises ScenarioError and CarlaError."""
    if order.route is None:
        return None
    found = select_routes(read_routes(order.route), order.route_id)
    if len(found) > 1:
        raise CarlaError(f"{order.route.name}: holds {len(found)} routes; choose one with --route-id")
    return found[0]


def route_of(order: RecordOrder, road_map: RoadMap) -> Route | None:
    """The route over the lanes of a map, or None where the order names none. Raises ScenarioError."""
    from scenarios.route import plan_route

    spec = chosen_route(order)
    if spec is None:
        return None
    name = f"{spec.source}: route {spec.id}"
    return plan_route(road_map, spec.keypoints_m, spec.yaw_rad, name, spec.town)
