"""A CARLA server of a few hundred lines for tests: the wire protocol of 0.9.16 in front of a synthetic street.

It answers what the real client asks, ticks on request and casts the rays of semantic LiDARs. Cars with an autopilot
drive straight on. What is to go wrong is a field of `Faults`; what the client asked stands in `calls`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.bridges import carla_wire as wire
from tests.bridges.carla_town import CAR, CAR_EXTENT_M, MAP, WALKER, Box, Town, lidar_rays

ATTRIBUTE = {"int": 2, "float": 3, "string": 4}
FIRST_ID = 200  # of what clients spawn
DESTROY, STEER = 1, 2  # among the commands of a batch
LIDAR = {
    "role_name": ("string", "front"), "channels": ("int", "32"), "range": ("float", "10.0"),
    "points_per_second": ("int", "56000"), "rotation_frequency": ("float", "10.0"), "upper_fov": ("float", "10.0"),
    "lower_fov": ("float", "-30.0"), "sensor_tick": ("float", "0.0"),
}  # fmt: skip
CARS = {"role_name": ("string", "autopilot"), "base_type": ("string", "car"), "number_of_wheels": ("int", "4")}
WALKERS = {"role_name": ("string", "pedestrian"), "is_invincible": ("string", "true"), "speed": ("float", "1.4")}
BLUEPRINTS = {
    "sensor.lidar.ray_cast_semantic": LIDAR, "vehicle.tesla.model3": CARS, "vehicle.audi.tt": CARS,
    "walker.pedestrian.0001": WALKERS, "controller.ai.walker": {"role_name": ("string", "default")},
}  # fmt: skip


@dataclass
class Faults:
    """What goes wrong. Ticks count from 1, and only while cars drive: a recording begins after its run-up."""

    version: str = "0.9.16"
    dead_at_tick: int | None = None  # the connection breaks
    deaf_at_tick: int | None = None  # a tick is asked for and never comes
    drop_at_ticks: tuple[int, ...] = ()  # no LiDAR frame is sent
    late_streams: int = 0  # so many first ticks send no LiDAR frame
    refuse: str = ""  # the call that is answered by an error
    abort_at_tick: int | None = None  # an error in the traffic manager's thread, which ends the client's process


@dataclass
class Actor:
    id: int
    type: str
    attributes: dict[str, str]
    transform: list[float]
    parent: int
    speed_mps: float = 0.0

    @property
    def extent_m(self) -> tuple[float, float, float]:
        if self.type.startswith("vehicle."):
            return CAR_EXTENT_M
        return (0.3, 0.3, 0.9) if self.type.startswith("walker.") else (0.0, 0.0, 0.0)

    @property
    def velocity(self) -> list[float]:
        yaw = np.radians(self.transform[4])
        return [float(self.speed_mps * np.cos(yaw)), float(self.speed_mps * np.sin(yaw)), 0.0]


@dataclass
class CarlaServer:
    """`with CarlaServer() as server:` listens on server.port until the block ends."""

    faults: Faults = field(default_factory=Faults)
    town: Town = field(default_factory=Town)
    speeds_mps: tuple[float, ...] = (5.0, 8.0)  # of the cars, in the order they come
    settings: list[Any] = field(
        default_factory=lambda: [False, False, None, True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True]
    )
    calls: Counter[str] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)
    settings_seen: list[list[Any]] = field(default_factory=list)
    actors: dict[int, Actor] = field(default_factory=dict)
    spots: tuple[tuple[float, float], ...] = tuple((float(x), 1.75) for x in range(0, 120, 15))
    map_name: str = "Carla/Maps/Street"
    frame: int = 100
    episode: int = 7
    ticks: int = 0  # while cars drive
    begun: int = 0  # while LiDARs listen
    in_motion: bool = False  # since the first car is steered: until then all stand, so that tests know where

    def __enter__(self) -> CarlaServer:
        self.lock = threading.RLock()
        self.sessions: dict[int, list[socket.socket]] = {}
        self.open: list[socket.socket] = []
        self.next_id, self.closed = FIRST_ID, False
        self.rpc, self.stream = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        self.port, self.stream_port = (s.getsockname()[1] for s in (self.rpc, self.stream))
        for listener, serve in ((self.rpc, self._serve), (self.stream, self._subscribe)):
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()
        threading.Thread(target=self._run_free, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True
        for part in [self.rpc, self.stream, *self.open]:
            with contextlib.suppress(OSError):
                part.shutdown(socket.SHUT_RDWR)
            part.close()

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        while not self.closed:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Answer the calls of one connection: [0, id, method, [[is async], arguments...]]."""
        waiting = b""
        while not self.closed:
            try:
                (_, number, method, arguments), end = wire.unpack(waiting)
                waiting = waiting[end:]
            except wire.Truncated:
                try:
                    more = connection.recv(1 << 20)
                except OSError:
                    return
                if not more:
                    return
                waiting += more
                continue
            answer = self._answer(method, arguments[1:])
            if answer is NotImplemented:
                continue
            try:
                connection.sendall(wire.pack([1, number, None, answer]))
            except OSError:
                return

    def _answer(self, method: str, arguments: list[Any]) -> Any:
        with self.lock:
            self.calls[method] += 1
            handler = getattr(self, f"do_{method}", None)
            if method == self.faults.refuse:
                return [[0, ["not today"]]]
            if handler is None:
                self.unknown.add(method)
                return [[0, [f"the test server knows no {method}"]]]
            try:
                answer = handler(*arguments)
            except ValueError as fault:
                return [[0, [str(fault)]]]
            except Exception as fault:  # the server's own: a test sees it in `unknown`
                self.unknown.add(f"{method}: {fault!r}")
                return [[0, [repr(fault)]]]
        bare = answer is NotImplemented or method == "apply_batch"
        return answer if bare else [[False]] if answer is None else [[1, answer]]

    def _subscribe(self, connection: socket.socket) -> None:
        try:
            (stream,) = struct.unpack("<I", connection.recv(4))
        except (OSError, struct.error):
            return
        with self.lock:
            self.sessions.setdefault(stream, []).append(connection)

    def _send(self, stream: int, payload: bytes) -> None:
        for session in list(self.sessions.get(stream, ())):
            try:
                session.sendall(struct.pack("<I", len(payload)) + payload)
            except OSError:
                self.sessions[stream].remove(session)

    def _run_free(self) -> None:
        """Without synchronous mode frames come by themselves."""
        while not self.closed:
            time.sleep(0.02)
            with self.lock:
                if not self.settings[0]:
                    self._step(0.02)

    @property
    def delta_s(self) -> float:
        return self.settings[2] or 0.02

    def _step(self, delta_s: float) -> None:
        self.frame += 1
        for actor in self.actors.values():
            moved = np.array(actor.velocity) * (delta_s if self.in_motion and self.settings[0] else 0.0)
            actor.transform[:3] = [float(a + b) for a, b in zip(actor.transform, moved, strict=False)]
        states = [(a.id, self._placed(a), a.velocity) for a in self.actors.values()]
        dropped = self.in_motion and self.ticks in self.faults.drop_at_ticks
        if not dropped and self.begun > self.faults.late_streams:
            for actor in self.actors.values():
                if actor.type.startswith("sensor.") and self.sessions.get(actor.id):
                    self._send(actor.id, self._sweep(actor))
        self._send(0, wire.world_state(self.episode, self.frame, delta_s, states))

    def _placed(self, actor: Actor) -> list[float]:
        """The transform in the world: what hangs on another actor moves and turns with it."""
        if actor.parent not in self.actors:
            return actor.transform
        holder, (x, y, z) = self.actors[actor.parent].transform, actor.transform[:3]
        yaw = np.radians(holder[4])
        turned = [x * np.cos(yaw) - y * np.sin(yaw), x * np.sin(yaw) + y * np.cos(yaw), z]
        angles = [a + b for a, b in zip(holder[3:], actor.transform[3:], strict=True)]
        return [float(a + b) for a, b in zip(holder[:3], turned, strict=True)] + angles

    def _sweep(self, sensor: Actor) -> bytes:
        form = sensor.attributes
        rate = float(form["points_per_second"]) / float(form["rotation_frequency"])
        channels = int(form["channels"])
        rays = lidar_rays(channels, int(rate / channels), float(form["lower_fov"]), float(form["upper_fov"]))
        placed = self._placed(sensor)
        c, s = np.cos(np.radians(placed[4])), np.sin(np.radians(placed[4]))
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        start = np.array(placed[:3])
        tags = {"vehicle": CAR, "walker": WALKER}
        users = [(tags.get(a.type.partition(".")[0]), a) for a in self.actors.values()]
        boxes = [Box(a.id, tag, a.transform, a.extent_m) for tag, a in users if tag is not None]
        hits, real = self.town.cast(start, rays.reshape(-1, 3) @ turn.T, float(form["range"]), boxes)
        hits["xyz"] = (hits["xyz"] - start) @ turn
        sides = zip(hits.reshape(channels, -1), real.reshape(channels, -1), strict=True)
        found = [hit[there] for hit, there in sides]
        return wire.lidar_frame(self.frame, self.frame * self.delta_s, placed, found)

    # What the client asks, by the name of the call.
    def do_version(self) -> str:
        return self.faults.version

    def do_get_episode_info(self) -> Any:
        return [self.episode, [wire.token(0, self.stream_port)]]

    def do_get_sensor_token(self, stream: int) -> Any:
        return [wire.token(stream, self.stream_port)]

    def do_get_episode_settings(self) -> Any:
        return [[True, s] if i == 2 and s else [False] if i == 2 else s for i, s in enumerate(self.settings)]

    def do_set_episode_settings(self, settings: list[Any]) -> int:
        self.settings = [(s[1] if s[0] else None) if isinstance(s, list) else s for s in settings]
        self.settings_seen.append(self.settings)
        return self.frame

    def do_query_lights_state(self, client: str) -> Any:
        return []

    def do_update_lights_state(self, client: str, lights: Any, discard: bool) -> None:
        return None

    def do_get_map_info(self) -> Any:
        return [self.map_name, [[[x, y, 0.3], [0.0, 0.0, 0.0]] for x, y in self.spots]]

    def do_get_map_data(self) -> str:
        return MAP

    def do_get_required_files(self, folder: str) -> Any:
        return []

    def do_get_navigation_mesh(self) -> bytes:
        return b""

    def do_get_available_maps(self) -> Any:
        return [self.map_name, "Carla/Maps/Other"]

    def do_load_new_episode(self, name: str, reset_settings: bool, layers: int) -> None:
        self.map_name, self.episode = f"Carla/Maps/{name.rsplit('/', 1)[-1]}", self.episode + 1
        self.actors.clear()
        if reset_settings:
            self.settings = [False, False, None, *self.settings[3:]]

    def do_get_actor_definitions(self) -> Any:
        return [
            [n, name, name.replace(".", ","), [[k, ATTRIBUTE[t], v, [v], True, False] for k, (t, v) in form.items()]]
            for n, (name, form) in enumerate(BLUEPRINTS.items(), 1)
        ]

    def do_spawn_actor(self, description: Any, transform: Any, parent: int = 0, *_: Any) -> Any:
        number, self.next_id = self.next_id, self.next_id + 1
        values = {name: value for name, _, value in description[2]}
        actor = Actor(number, description[1], values, [float(v) for part in transform for v in part], parent)
        vehicles = [a for a in self.actors.values() if a.type.startswith("vehicle.")]
        if actor.type.startswith("vehicle."):
            if any(np.hypot(*np.subtract(a.transform[:2], actor.transform[:2])) < 4.0 for a in vehicles):
                raise ValueError("Spawn failed because of collision at spawn position")
            actor.transform[2] = 0.0  # it has fallen onto its wheels
            actor.speed_mps = self.speeds_mps[sum(a.id >= FIRST_ID for a in vehicles) % len(self.speeds_mps)]
        self.actors[number] = actor
        return self._wire_actor(actor)

    do_spawn_actor_with_parent = do_spawn_actor

    def _wire_actor(self, actor: Actor) -> Any:
        x = actor.extent_m[0]
        kinds = [[name, ATTRIBUTE[BLUEPRINTS[actor.type][name][0]], v] for name, v in actor.attributes.items()]
        stream = wire.token(actor.id, self.stream_port) if actor.type.startswith("sensor.") else b""
        return [actor.id, actor.parent, [1, actor.type, kinds], self._box(actor), b"\x0e" if x else b"", stream]

    def _box(self, actor: Actor) -> Any:
        x, y, z = actor.extent_m
        return [[0.0, 0.0, z], [x, y, z], [0.0, 0.0, 0.0], actor.id]

    def do_get_actor_bounding_box(self, number: int) -> Any:
        return self._box(self.actors[number])

    def do_get_actors_by_id(self, ids: list[int]) -> Any:
        return [self._wire_actor(self.actors[i]) for i in ids if i in self.actors]

    def do_destroy_actor(self, number: int) -> bool:
        return self.actors.pop(number, None) is not None

    def do_tick_cue(self) -> Any:
        self.ticks += self.in_motion
        self.begun += any(self.sessions.get(number) for number in self.actors)
        if self.ticks == self.faults.dead_at_tick:
            self.close()
            return NotImplemented
        if self.ticks == self.faults.deaf_at_tick:
            return self.frame + 1
        self._step(self.delta_s)
        return self.frame

    def do_apply_batch(self, commands: list[Any], tick: bool) -> Any:
        for kind, values in ((command[0][0], command[0][1]) for command in commands):
            if kind == DESTROY:
                self.actors.pop(values[0], None)
            self.in_motion |= kind == STEER
        self.in_motion &= any(number >= FIRST_ID for number in self.actors)
        return [[[1, 0]] for _ in commands]

    def do_is_traffic_manager_running(self, port: int) -> bool:
        return False

    def do_add_traffic_manager_running(self, place: Any) -> bool:
        return True

    def do_destroy_traffic_manager(self, port: int) -> bool:
        return True

    def do_set_actor_autopilot(self, number: int, on: bool) -> None:
        return None

    def do_set_actor_simulate_physics(self, number: int, on: bool) -> None:
        return None

    def do_reset_all_traffic_lights(self) -> None:
        return None

    def do_get_vehicle_light_states(self) -> Any:
        if self.ticks == self.faults.abort_at_tick:
            self.faults.abort_at_tick = None
            raise ValueError("no lights today")
        return []

    def do_get_weather_parameters(self) -> Any:
        return [0.0] * 14
