"""A visit to a CARLA server: versions compared, the clock taken over, and everything put back as it was found.

Actors of dcgen carry a role name that begins with ROLE, so that what a broken run left can be told and removed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

from bridges.carla.order import RecordOrder
from bridges.carla.tags import release
from dcgen.errors import CarlaError

ROLE = "dcgen"
SETTINGS = (
    "synchronous_mode", "no_rendering_mode", "fixed_delta_seconds", "substepping", "max_substep_delta_time",
    "max_substeps", "max_culling_distance", "deterministic_ragdolls", "tile_stream_distance", "actor_active_distance",
    "spectator_as_ego",
)  # fmt: skip
CLEANUP_S = 5.0
GLANCES, GLANCE_S = 4, 1.0
Note = Callable[[dict[str, Any]], None]  # a message to the process that watches


def answers(host: str, port: int, timeout_s: float = 2.0) -> str:
    """Why nobody can be reached at a TCP port; empty where somebody can."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError as error:
        return (error.strerror or str(error) or type(error).__name__).lower()
    return ""


def wait_for_server(order: RecordOrder) -> None:
    """Try the server's port with growing pauses for at most order.connect_s. Raises CarlaError."""
    until, pause_s = time.monotonic() + order.connect_s, 0.2
    while reason := answers(order.host, order.port):
        if time.monotonic() + pause_s > until:
            raise CarlaError(
                f"{order.place}: no CARLA server answers within {order.connect_s:g} s ({reason}); "
                "give it time to come up, or pass --host and --port of another"
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def connect(order: RecordOrder) -> Any:
    """A client of a server of the client's own release. Raises CarlaError."""
    import carla

    wait_for_server(order)
    client = carla.Client(order.host, order.port)
    client.set_timeout(order.connect_s)
    try:
        mine, its = client.get_client_version(), client.get_server_version()
    except RuntimeError as error:
        raise CarlaError(
            f"{order.place}: does not answer as a CARLA server ({first_line(error)}); check the port, or pass --port"
        ) from error
    if release(mine) != release(its):
        raise CarlaError(
            f"{order.place}: the server is CARLA {its}, the client {mine}; "
            f"pip install carla=={its} if there is one for this Python, or use a server of {mine}"
        )
    client.set_timeout(order.tick_s)
    return client


def first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class Session:
    """`with Session(order, note) as session:` the world ticks when it is told to. All is undone at the end."""

    def __init__(self, order: RecordOrder, note: Note, found: dict[str, Any] | None = None) -> None:
        """found: the settings to put back, where an earlier visit has read them."""
        self.order, self._note, self.found = order, note, found
        self.managers: list[Any] = []
        self._mine: list[Any] = []

    def __enter__(self) -> Session:
        self.client = connect(self.order)
        try:
            self.world = self.client.get_world()
            self._read_settings()
            self._load_map()
        except RuntimeError as error:
            raise CarlaError(f"{self.order.place}: {first_line(error)}; check the server and run again") from error
        return self

    def _read_settings(self) -> None:
        now = settings_of(self.world.get_settings())
        if now["synchronous_mode"]:
            self._look_up()
        left = leftovers(self.world)
        if self.found is None:
            self.found = now
            if left:  # a run of ours was killed: the clock it had taken over is nobody's
                self.found |= {"synchronous_mode": False, "fixed_delta_seconds": None}
        self._note({"settings": self.found})
        if left:
            remove(self.client, left)
            self._note({"tell": f"removed {len(left)} actors that a broken run had left"})

    def _look_up(self) -> None:
        """See one frame: who is there is known only then, and nobody else may be ticking a world that waits.

        The first frame can be over before this client's stream has begun.
        """
        for _ in range(GLANCES):
            with suppress(RuntimeError):
                self.world.tick(min(GLANCE_S, self.order.tick_s))
                return

    def _load_map(self) -> None:
        wanted = self.order.map
        if wanted is None or town_of(self.world.get_map().name) == town_of(wanted):
            return
        names = sorted(self.client.get_available_maps())
        if town_of(wanted) not in {town_of(name) for name in names}:
            listed = ", ".join(sorted({town_of(name) for name in names}))[:300]
            raise CarlaError(f"{self.order.place}: has no map {wanted!r}; choose one of {listed}")
        self._note({"tell": f"loading {wanted}", "patience_s": self.order.load_s})
        self.client.set_timeout(max(self.order.load_s, 60.0))
        self.world = self.client.load_world(wanted, reset_settings=False)
        self.client.set_timeout(self.order.tick_s)

    def take_the_clock(self) -> None:
        """Synchronous mode, ticks of order.tick_dt_s; applied anew after every change of the map."""
        settings = self.world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, self.order.tick_dt_s
        settings.substepping, settings.max_substep_delta_time = True, 0.01
        settings.max_substeps = 10  # 0.01 s x 10 covers the longest tick
        self.world.apply_settings(settings)

    def tell(self, line: str) -> None:
        self._note({"tell": line})

    def spawn(self, blueprint: Any, transform: Any, parent: Any = None) -> Any | None:
        """An actor that carries ROLE, or None where there is no room for it."""
        if blueprint.has_attribute("role_name"):
            blueprint.set_attribute("role_name", f"{ROLE}-{blueprint.id}")
        actor = self.world.try_spawn_actor(blueprint, transform, attach_to=parent)
        if actor is not None:
            self._mine.append(actor)
        return actor

    def tick(self) -> int:
        """The number of the new frame. Raises CarlaError where it does not come in time."""
        try:
            frame = int(self.world.tick(self.order.tick_s))
        except RuntimeError as error:
            gone = answers(self.order.host, self.order.port)
            why = f"is gone ({gone})" if gone else f"did not tick within {self.order.tick_s:g} s"
            raise CarlaError(
                f"{self.order.place}: the server {why}; what is recorded is kept, "
                "check the server and run the same command again: it goes on there"
            ) from error
        self._note({"alive": frame})
        return frame

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing raises here: what went wrong before is what the user has to know."""
        if answers(self.order.host, self.order.port):
            return
        with suppress(RuntimeError):
            self.client.set_timeout(CLEANUP_S)
            for manager in self.managers:  # first: its thread ends the process where an actor is missing
                manager.shut_down()
            remove(self.client, self._mine)
        with suppress(RuntimeError, OSError):  # nobody may be there to hear it
            put_back(self.world, self.found or {})
            self._note({"restored": True})


def settings_of(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in SETTINGS if hasattr(settings, name)}


def put_back(world: Any, found: dict[str, Any]) -> None:
    settings = world.get_settings()
    for name, value in found.items():
        setattr(settings, name, value)
    world.apply_settings(settings)


def leftovers(world: Any) -> list[Any]:
    """Actors that carry ROLE."""
    return [actor for actor in world.get_actors() if actor.attributes.get("role_name", "").startswith(ROLE)]


def remove(client: Any, actors: Iterable[Any]) -> None:
    """Stop what runs by itself, then destroy, what is attached first."""
    import carla

    actors = sorted(actors, key=lambda actor: (not _runs(actor, "sensor."), not _runs(actor, "controller.")))
    for actor in actors:
        if _runs(actor, "controller.") or (_runs(actor, "sensor.") and actor.is_listening()):
            with suppress(RuntimeError):
                actor.stop()
    client.apply_batch_sync([carla.command.DestroyActor(actor.id) for actor in actors], False)


def _runs(actor: Any, kind: str) -> bool:
    return bool(actor.type_id.startswith(kind))


def town_of(name: str) -> str:
    """Town01 of "Carla/Maps/Town01_Opt"."""
    return name.rsplit("/", 1)[-1].removesuffix("_Opt")
