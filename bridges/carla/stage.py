"""Who takes part in a recording: the ego and its LiDARs, traffic, walkers. S sensor, N point."""

from __future__ import annotations

import queue
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bridges.carla.order import RecordOrder
from bridges.carla.session import Session
from dcgen.errors import CarlaError
from dcgen.types import Doubles
from scenarios.frames import world_to_carla

if TYPE_CHECKING:
    from scenarios.route import Route

EGO = "vehicle.tesla.model3"
LIDAR = "sensor.lidar.ray_cast_semantic"
HEIGHT_M = 1.8  # of the LiDARs
MOST_OFFSET_M = 20.0
UPPER_DEG, LOWER_DEG = 2.0, -25.0
PATH_STEP_M = 5.0
LIFT_M = 0.5  # a spawned car falls onto the road rather than stick in it


@dataclass
class Lidar:
    """A listening sensor and the sweeps that came from it."""

    actor: Any
    sweeps: queue.Queue[Any]

    def take(self, frame: int, timeout_s: float) -> Any | None:
        """The sweep of one frame; None where it does not come in time or a later one came first."""
        while True:
            try:
                sweep = self.sweeps.get(timeout=timeout_s)
            except queue.Empty:
                return None
            if sweep.frame >= frame:
                return sweep if sweep.frame == frame else None


@dataclass
class Cast:
    """Who was put on the stage. line: [N, 4] the way of the ego, x, y, z, yaw; minds: of walkers, with their pace."""

    ego: Any
    cars: list[Any]
    minds: list[tuple[Any, float]]
    lidars: list[Lidar]
    manager: Any
    line: Doubles | None


def set_the_stage(session: Session, route: Route | None, part: int, parts: int) -> Cast:
    """Everyone stands where the seed puts them, and nobody moves yet. Raises CarlaError."""
    rng = np.random.default_rng([session.order.seed, part])
    library = session.world.get_blueprint_library()
    manager = _traffic_manager(session, int(rng.integers(2**31 - 1)))
    spots = list(session.world.get_map().get_spawn_points())
    spots = [spots[n] for n in rng.permutation(len(spots))]
    line = None if route is None else _section(route, part, parts)
    ego, spots = _ego(session, library, spots, line)
    cars = _vehicles(session, library, spots, rng)
    minds = _walkers(session, library, rng)
    lidars = [_lidar(session, library, ego, place) for place in lidar_offsets(session.order, rng)]
    return Cast(ego, cars, minds, lidars, manager, line)


def set_in_motion(session: Session, cast: Cast) -> None:
    """Traffic lights, drivers and walkers begin anew, however long the stage took to set."""
    session.world.reset_all_traffic_lights()
    for car in [cast.ego, *cast.cars]:
        car.set_autopilot(True, cast.manager.get_port())
    if cast.line is not None:
        cast.manager.auto_lane_change(cast.ego, False)
        cast.manager.set_path(cast.ego, [_location(point) for point in cast.line[1:]])
    for mind, speed_mps in cast.minds:
        mind.start()
        target = session.world.get_random_location_from_navigation()
        if target is not None:
            mind.go_to_location(target)
        mind.set_max_speed(speed_mps)


def lidar_offsets(order: RecordOrder, rng: np.random.Generator) -> Doubles:
    """[S, 3] places in CARLA's vehicle frame: above the ego, then anywhere within MOST_OFFSET_M of it."""
    radius = MOST_OFFSET_M * np.sqrt(rng.random(order.lidars))
    angle = 2 * np.pi * rng.random(order.lidars)
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(order.lidars, HEIGHT_M)], axis=1)
    places[0] = -0.5, 0.0, HEIGHT_M
    return places


def _traffic_manager(session: Session, seed: int) -> Any:
    """One of this process's own, at a free port, in step with the world."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    manager = session.client.get_trafficmanager(port)
    session.managers.append(manager)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(seed)
    manager.set_global_distance_to_leading_vehicle(2.5)
    return manager


def _section(route: Route, part: int, parts: int) -> Doubles:
    """[N, 4] x, y, z, yaw of the route from where this part begins, PATH_STEP_M apart: parts share a route evenly."""
    s = route.s_m
    at = np.arange(s[-1] * part / parts, s[-1], PATH_STEP_M)
    rows = np.minimum(np.searchsorted(s, at), len(s) - 1)
    return np.column_stack([route.points_m[rows], route.yaw_rad[rows]])


def _location(point: Doubles) -> Any:
    import carla

    x, y, z, _ = world_to_carla(*point)
    return carla.Location(x, y, z)


def _ego(session: Session, library: Any, spots: list[Any], line: Doubles | None) -> tuple[Any, list[Any]]:
    """The ego, and the places that are left."""
    import carla

    kinds = [each for each in _sorted(library, "vehicle.*") if _wheels(each) == 4]
    if not kinds:
        raise CarlaError(f"{session.order.place}: has no vehicles; use a server with CARLA's blueprints")
    blueprint = next((each for each in kinds if each.id == EGO), kinds[0])
    starts = spots
    if line is not None:
        x, y, z, yaw_deg = world_to_carla(*line[0])
        starts = [carla.Transform(carla.Location(x, y, z + LIFT_M), carla.Rotation(yaw=yaw_deg))]
    for n, start in enumerate(starts):
        ego = session.spawn(blueprint, start)
        if ego is not None:
            return ego, spots if line is not None else starts[n + 1 :]
    raise CarlaError(
        f"{session.order.place}: found no room for the ego at {len(starts)} places; "
        "choose another map or route, or remove the actors of other clients"
    )


def _vehicles(session: Session, library: Any, spots: list[Any], rng: np.random.Generator) -> list[Any]:
    kinds, wanted = _sorted(library, "vehicle.*"), session.order.vehicles
    found: list[Any] = []
    for spot in spots:
        if len(found) == wanted:
            break
        car = session.spawn(kinds[int(rng.integers(len(kinds)))], spot)
        if car is not None:
            found.append(car)
    if len(found) < wanted:
        session.tell(f"{len(found)} of {wanted} vehicles found room")
    return found


def _walkers(session: Session, library: Any, rng: np.random.Generator) -> list[tuple[Any, float]]:
    """Minds of walkers that the client's own crowd steers, with their pace. They need the map's navigation mesh."""
    import carla

    world, wanted = session.world, session.order.walkers
    world.set_pedestrians_seed(int(rng.integers(2**31 - 1)))
    kinds, controller = _sorted(library, "walker.pedestrian.*"), library.find("controller.ai.walker")
    minds: list[tuple[Any, float]] = []
    for _ in range(wanted):
        place = world.get_random_location_from_navigation()
        if place is None:
            break
        walker = session.spawn(kinds[int(rng.integers(len(kinds)))], carla.Transform(place))
        mind = None if walker is None else session.spawn(controller, carla.Transform(), walker)
        if mind is not None:
            minds.append((mind, 0.8 + float(rng.random())))
    if len(minds) < wanted:
        session.tell(f"{len(minds)} of {wanted} walkers found a way to walk on")
    return minds


def _lidar(session: Session, library: Any, ego: Any, place: Doubles) -> Lidar:
    import carla

    order = session.order
    blueprint = library.find(LIDAR)
    form = {
        "channels": order.channels, "range": order.range_m, "points_per_second": order.points_per_second,
        "rotation_frequency": 1 / order.tick_dt_s, "upper_fov": UPPER_DEG, "lower_fov": LOWER_DEG, "sensor_tick": 0.0,
    }  # fmt: skip
    for name, value in form.items():
        blueprint.set_attribute(name, f"{value:g}" if isinstance(value, float) else str(value))
    x, y, z = (float(each) for each in place)
    actor = session.spawn(blueprint, carla.Transform(carla.Location(x, y, z)), ego)
    if actor is None:
        raise CarlaError(f"{order.place}: no LiDAR can be attached; use a server with CARLA's sensors")
    lidar = Lidar(actor, queue.Queue())
    actor.listen(lidar.sweeps.put)
    return lidar


def _sorted(library: Any, pattern: str) -> list[Any]:
    return sorted(library.filter(pattern), key=lambda blueprint: blueprint.id)


def _wheels(blueprint: Any) -> int:
    return int(blueprint.get_attribute("number_of_wheels")) if blueprint.has_attribute("number_of_wheels") else 4
