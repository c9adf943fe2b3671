"""Tasks run by other processes: every result once, faults in one line, and a killed worker is no lost task."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bridges.workers import InProcess, LocalProcesses, RayCluster, choose_workers
from dcgen.errors import DatasetError, WorldError


def square(n: int) -> int:
    if n < 0:
        raise WorldError(f"n: {n} is negative; change it")
    return n * n


def mark(folder: str, n: int, pause_s: float) -> int:
    """Leaves a file that says which process is at work, then one that says that it is done."""
    (Path(folder) / f"pid-{n}-{os.getpid()}").touch()
    time.sleep(pause_s)
    (Path(folder) / f"done-{n}").touch()
    return n


def die(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("workers", [InProcess(), LocalProcesses(2)])
def test_every_result_once(workers: InProcess | LocalProcesses) -> None:
    assert sorted(workers.run(square, [(n,) for n in range(7)])) == [n * n for n in range(7)]
    assert list(workers.run(square, [])) == []
    with pytest.raises((WorldError, DatasetError), match="n: -3 is negative; change it"):
        list(workers.run(square, [(1,), (-3,), (2,)]))


def test_the_command_line_chooses() -> None:
    assert isinstance(choose_workers(1, None), InProcess) and isinstance(choose_workers(3, None), LocalProcesses)
    assert isinstance(choose_workers(3, "auto"), RayCluster)


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_killed_process_of_the_pool_is_said() -> None:
    with pytest.raises(DatasetError, match=r"a worker was killed.*run the build again"):
        list(LocalProcesses(2).run(die, [(n,) for n in range(5)]))


ORPHANS = """
from bridges.workers import LocalProcesses
from tests.bridges.test_workers import mark
list(LocalProcesses(2).run(mark, [({folder!r}, n, 60.0) for n in range(2)]))
"""


def pids(folder: Path) -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in folder.glob("pid-*")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(what, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text("import sys\nif __name__ == '__main__':\n" + "".join(
        f"    {line}\n" for line in ORPHANS.format(folder=str(tmp_path)).strip().splitlines()))  # fmt: skip
    with subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": os.getcwd()}) as parent:
        wait_for(lambda: len(pids(tmp_path)) == 2, 60)
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids(tmp_path))), 20)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with ray_head() as (address, _):
        yield address


@contextmanager
def ray_head() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Ray cluster of this machine on a port of its own; its own processes alone are ended."""
    pytest.importorskip("ray")
    ray = Path(sys.executable).with_name("ray")
    if not ray.exists() or not Path("/proc").exists():
        pytest.skip("needs the ray command")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path("/tmp") / f"dcgen-ray-{os.getpid()}-{port}"  # a socket's path must be short
    command = [str(ray), "start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block",
               "--node-ip-address=127.0.0.1", "--disable-usage-stats", f"--temp-dir={folder}",
               "--object-store-memory=100000000"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RAY_DISABLE_DOCKER_CPU_WARNING": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
                          start_new_session=True) as head:  # fmt: skip
        try:
            wait_for(lambda: _answers(port), 60)
            yield f"127.0.0.1:{port}", head
        finally:
            head.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                head.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_ray_worker_that_is_killed_in_the_middle(cluster: str, tmp_path: Path) -> None:
    killed: list[int] = []
    done = []
    jobs = [(str(tmp_path), n, 1.0 if n == 0 else 0.05) for n in range(6)]
    source = RayCluster(cluster).run(mark, jobs)
    from threading import Thread

    def kill() -> None:
        wait_for(lambda: list(tmp_path.glob("pid-0-*")), 60)
        killed.extend(int(path.name.rpartition("-")[2]) for path in tmp_path.glob("pid-0-*"))
        os.kill(killed[0], signal.SIGKILL)

    thread = Thread(target=kill)
    thread.start()
    done.extend(source)
    thread.join()
    assert sorted(done) == list(range(6)) and len(list(tmp_path.glob("done-*"))) == 6
    assert len(killed) == 1 and len(list(tmp_path.glob("pid-0-*"))) == 2  # it was run twice


@pytest.mark.slow
def test_a_fault_of_a_ray_task_is_one_line(cluster: str) -> None:
    with pytest.raises(DatasetError, match="n: -3 is negative; change it"):
        list(RayCluster(cluster).run(square, [(2,), (-3,)]))


@pytest.mark.slow
def test_a_cluster_that_goes_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")
    with ray_head() as (address, head):
        source = RayCluster(address).run(mark, [(str(tmp_path), n, 0.2 if n < 2 else 600.0) for n in range(4)])
        assert {next(source), next(source)} == {0, 1}
        os.killpg(head.pid, signal.SIGKILL)
        with pytest.raises(DatasetError, match=rf"--ray {address}: the cluster failed .*run the build again"):
            list(source)


def test_an_address_where_nothing_listens() -> None:
    pytest.importorskip("ray")
    with pytest.raises(DatasetError, match=r"--ray 127\.0\.0\.1:1: no cluster answers .*check the address"):
        list(RayCluster("127.0.0.1:1").run(square, [(1,)]))
