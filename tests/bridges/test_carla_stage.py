"""Where LiDARs hang, how a route is shared, and that walkers get minds: without a server."""

from __future__ import annotations

import queue
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bridges.carla import stage
from bridges.carla.order import RecordOrder
from bridges.carla.session import remove, town_of
from scenarios.route import plan_route

ORDER = RecordOrder(Path("nowhere"), lidars=20, walkers=3)


def test_lidars_hang_as_carlasc_hung_them() -> None:
    places = stage.lidar_offsets(ORDER, np.random.default_rng(3))
    assert places[0] == pytest.approx([-0.5, 0.0, 1.8]) and places.shape == (20, 3)
    far = np.hypot(*places[1:, :2].T)
    assert far.max() <= 20.0 and far.max() > 15.0 and len(np.unique(far)) == 19
    assert np.array_equal(places, stage.lidar_offsets(ORDER, np.random.default_rng(3)))
    assert len(stage.lidar_offsets(replace(ORDER, lidars=1), np.random.default_rng(3))) == 1


def test_parts_share_a_route_evenly_and_drive_it_to_its_end() -> None:
    route = plan_route(None, np.array([[4.0 * k, 0.03 * k * k, 0.0] for k in range(40)]))
    starts = []
    for part in range(3):
        line = stage._section(route, part, 3)
        starts.append(np.hypot(*(line[0, :2] - route.points_m[0, :2])))
        steps = np.hypot(*np.diff(line[:, :2], axis=0).T)
        assert np.abs(steps - stage.PATH_STEP_M).max() < 0.6
        assert np.hypot(*(line[-1, :2] - route.points_m[-1, :2])) <= stage.PATH_STEP_M + 0.6
    assert starts[0] == 0 and 0 < starts[1] < starts[2] < route.length_m


def test_a_sweep_is_matched_by_its_frame() -> None:
    lidar = stage.Lidar(None, queue.Queue())
    for frame in (3, 4, 6):
        lidar.sweeps.put(SimpleNamespace(frame=frame))
    found = lidar.take(4, 0.01)
    assert found is not None and found.frame == 4
    assert lidar.take(5, 0.01) is None and lidar.take(7, 0.01) is None


class Player:
    """An actor that remembers what it was told."""

    def __init__(self, number: int, type_id: str, log: list[tuple[int, str]]) -> None:
        self.id, self.type_id, self.log = number, type_id, log

    def is_listening(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.log.append((self.id, name))


def test_walkers_get_minds_that_start_when_all_is_set() -> None:
    """Against stand-ins: the test server has no navigation mesh."""
    pytest.importorskip("carla")
    import carla

    log: list[tuple[int, str]] = []
    places = iter([carla.Location(1, 2, 3), carla.Location(4, 5, 6), *[carla.Location(7, 8, 9)] * 9])
    made: list[Player] = []

    def spawn(blueprint: Any, transform: Any, parent: Any = None) -> Player | None:
        if len(made) == 2 and parent is None:
            made.append(Player(0, "none", log))
            return None  # no room for the second
        made.append(Player(len(made), blueprint.id, log))
        assert parent is None or parent is made[-2]
        return made[-1]

    world = SimpleNamespace(
        set_pedestrians_seed=lambda seed: log.append((-1, "seed")),
        get_random_location_from_navigation=lambda: next(places),
        reset_all_traffic_lights=lambda: None,
    )
    library = SimpleNamespace(
        filter=lambda pattern: [SimpleNamespace(id="walker.pedestrian.0001")],
        find=lambda name: SimpleNamespace(id=name),
    )
    said: list[str] = []
    session = SimpleNamespace(world=world, order=ORDER, spawn=spawn, tell=said.append)
    minds = stage._walkers(session, library, np.random.default_rng(0))  # type: ignore[arg-type]
    assert len(minds) == 2 and said == ["2 of 3 walkers found a way to walk on"] and log == [(-1, "seed")]
    assert all(0.8 <= pace <= 1.8 and mind.type_id == "controller.ai.walker" for mind, pace in minds)
    ego = Player(90, "vehicle.x", log)
    manager = SimpleNamespace(get_port=lambda: 1)
    stage.set_in_motion(session, stage.Cast(ego, [], minds, [], manager, None))  # type: ignore[arg-type]
    assert [what for _, what in log[1:]] == ["set_autopilot", *["start", "go_to_location", "set_max_speed"] * 2]


def test_what_runs_is_stopped_before_it_is_destroyed_and_bodies_go_last() -> None:
    pytest.importorskip("carla")
    log: list[tuple[int, str]] = []
    kinds = ("vehicle.a", "walker.b", "controller.ai.walker", "sensor.lidar.x")
    batches: list[Any] = []
    client = SimpleNamespace(apply_batch_sync=lambda commands, tick: batches.append((commands, list(log), tick)))
    remove(client, [Player(n, kind, log) for n, kind in enumerate(kinds)])
    ((commands, stopped_before, tick),) = batches
    assert stopped_before == [(3, "stop"), (2, "stop")] and tick is False
    assert [command.actor_id for command in commands] == [3, 2, 0, 1]


def test_towns_go_by_their_short_names() -> None:
    assert town_of("Carla/Maps/Town01_Opt") == town_of("/Game/Town01") == town_of("Town01") == "Town01"
