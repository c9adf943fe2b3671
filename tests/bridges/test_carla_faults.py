"""What goes wrong with a server, made to go wrong: each ends with one line, a clean server and whole parts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.carla import watch
from dcgen.dataset.store import open_dataset
from dcgen.errors import CarlaError, DatasetError
from tests.bridges.carla_server import Actor, Faults
from tests.bridges.test_carla_record import Told, assert_left_as_found, order_for, street
from tests.conftest import REMEDY, ROOT

pytest.importorskip("carla")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("DCGEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def fault_of(told: Told, order: object) -> str:
    with pytest.raises(CarlaError) as caught:
        told.run(order)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line and REMEDY.search(line), line
    return line


def test_an_absent_server_is_named(tmp_path: Path) -> None:
    with street() as server:
        order = order_for(server, tmp_path / "set", connect_s=0.6)
    began = time.monotonic()
    line = fault_of(Told(), order)
    assert f"127.0.0.1:{order.port}" in line and "refused" in line and "0.6 s" in line
    assert time.monotonic() - began < 15 and not order.folder.exists()


def test_a_server_that_is_none_is_named(tmp_path: Path) -> None:
    with street() as server, socket.create_server(("127.0.0.1", 0)) as deaf:
        order = order_for(server, tmp_path / "set", port=deaf.getsockname()[1], connect_s=0.6)
        assert "does not answer as a CARLA server" in fault_of(Told(), order)


def test_another_release_is_refused_with_both_versions(tmp_path: Path) -> None:
    with street(faults=Faults(version="0.9.14")) as server:
        line = fault_of(Told(), order_for(server, tmp_path / "set"))
        assert "0.9.14" in line and "0.9.16" in line
        assert not server.settings_seen and not server.calls["spawn_actor"] and not (tmp_path / "set").exists()


def test_what_the_server_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    with street(faults=Faults(refuse="get_actor_definitions")) as server:
        line = fault_of(Told(), order_for(server, tmp_path / "set"))
        assert "not today" in line and str(server.port) in line
        assert_left_as_found(server)


def test_a_clip_begins_anew_where_a_sweep_is_lost(tmp_path: Path) -> None:
    told = Told()
    with street(faults=Faults(drop_at_ticks=(24, 25))) as server:
        data = told.run(order_for(server, tmp_path / "set", sensor_s=0.8))
        assert_left_as_found(server)
    assert data.complete and sum("begins anew" in line for line in told.lines) >= 1
    assert [len(sweep) > 500 for sweep in data[0].points or ()] == [True] * data.spec.frames


def test_a_tick_that_never_comes_ends_the_run_and_frees_the_server(tmp_path: Path) -> None:
    with street(faults=Faults(deaf_at_tick=22)) as server:
        line = fault_of(Told(), order_for(server, tmp_path / "set", tick_s=1.0))
        assert "did not tick within 1 s" in line
        assert_left_as_found(server)


def test_a_second_run_goes_on_where_the_server_died(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with street(faults=Faults(dead_at_tick=50)) as server:
        line = fault_of(Told(), order_for(server, folder, clips=2, tick_s=3.0))
    assert "is gone" in line
    before = open_dataset(folder)
    kept = {path: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()}
    assert len(before) == 1 and not before.complete and len(kept) == 2
    told = Told()
    with street() as server:
        after = told.run(order_for(server, folder, clips=2))
        assert_left_as_found(server)
    assert after.complete and told.done[0] == 1 and after.rows[0] == before.rows[0]
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())
    with street() as server, pytest.raises(DatasetError, match="seed 0, asked for 5"):
        Told().run(order_for(server, folder, clips=2, seed=5))


def test_a_client_that_aborts_is_told_and_tried_once_more(tmp_path: Path) -> None:
    """An error in the thread of the traffic manager ends the client's process, whatever Python does."""
    told = Told()
    with street(faults=Faults(abort_at_tick=5)) as server:
        data = told.run(order_for(server, tmp_path / "set"))
        assert_left_as_found(server)
    assert data.complete
    assert any("SIGABRT" in line and "no lights today" in line and "once more" in line for line in told.lines)


def test_what_a_killed_run_has_left_is_removed(tmp_path: Path) -> None:
    """Its clock, too: the settings that it left behind are nobody's wish."""
    with street() as server:
        server.actors[60] = Actor(60, "vehicle.audi.tt", {"role_name": "dcgen-old"}, [90.0, 1.75, 0, 0, 0, 0], 0)
        server.settings[:3] = [True, False, 0.1]
        told = Told()
        told.run(order_for(server, tmp_path / "set"))
        assert_left_as_found(server)
        assert any("removed 1 actors" in line for line in told.lines)


def test_a_client_that_hangs_is_ended_and_another_puts_the_server_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    frozen: list[int] = []
    listen = watch.Watch._listen

    def listen_to_one_that_freezes(self: watch.Watch, worker: watch._Worker, task: str, heard: Any) -> Any:
        """After its first tick the process stands still, as in a lock that nobody opens."""
        if task != "part" or frozen:
            return listen(self, worker, task, heard)
        while "alive" not in (worker.notes.get(timeout=60) or {"alive": 0}):
            pass
        frozen.append(worker.process.pid)
        os.kill(worker.process.pid, signal.SIGSTOP)
        self._restored = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watch, "LATE_S", 0.2)
            patch.setattr(watch, "SLACK_S", 0.2)
            patch.setattr(self, "order", replace(self.order, connect_s=0.5, tick_s=0.5, sensor_s=0.5))
            return listen(self, worker, task, heard)

    monkeypatch.setattr(watch, "GRACE_S", 1.0)
    monkeypatch.setattr(watch.Watch, "_listen", listen_to_one_that_freezes)
    with street() as server:
        data = told.run(order_for(server, tmp_path / "set"))
        assert_left_as_found(server)
    assert data.complete and frozen
    assert any("gave no sign" in line and "once more" in line for line in told.lines)


SCRIPT = """
import sys
from pathlib import Path
from bridges.carla.order import RecordOrder
from bridges.carla.record import record
try:
    record(RecordOrder(Path(sys.argv[2]), 50, port=int(sys.argv[1]), frames=4, vehicles=1, walkers=0, lidars=1,
        channels=8, points_per_second=8000), print, lambda done, total: print("done", done, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_an_interrupt_leaves_the_server_as_it_was(tmp_path: Path, name: str) -> None:
    with street(spots=((0.0, 1.75), (40.0, -1.75))) as server:
        prefix = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))"
        prefix += "; signal.signal(signal.SIGINT, signal.default_int_handler)"  # which a job in the background lacks
        process = subprocess.Popen(
            [sys.executable, "-c", f"{SCRIPT.replace('import sys', f'import sys; {prefix}', 1)}"]
            + [str(server.port), str(tmp_path / "set")],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            until = time.monotonic() + 60
            while server.ticks < 6 and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            process.send_signal(getattr(signal, name))
            said, _ = process.communicate(timeout=40)
        finally:
            process.kill()
        assert process.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}[name], said
        until = time.monotonic() + (10 if name == "SIGKILL" else 0)
        while server.settings[0] and time.monotonic() < until:
            time.sleep(0.05)  # its worker hears nobody listen any more
        assert_left_as_found(server)
        assert any(seen[0] for seen in server.settings_seen) and not list((tmp_path / "set" / "parts").glob("*"))
