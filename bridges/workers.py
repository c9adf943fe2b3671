"""The same tasks on this machine's processes or on a Ray cluster. A task is a function of plain arguments.

Results come in any order; tasks write files that do not depend on who writes them, so a task may run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any, Protocol

from dcgen.errors import DatasetError, DcgenError, MissingExtra

AGAIN = "run the build again, it goes on where it stopped"
RAY_RETRIES = 5  # of a task whose worker was killed
Task = Callable[..., Any]


class Workers(Protocol):
    """Runs task(*arguments) for each of many arguments; yields their results as they come."""

    def run(self, task: Task, jobs: Sequence[tuple[Any, ...]]) -> Iterator[Any]: ...


class InProcess:
    """One after another, here."""

    def run(self, task: Task, jobs: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        for job in jobs:
            yield task(*job)


class LocalProcesses:
    """A pool of processes of this machine, started afresh: nothing of this one is shared with them."""

    def __init__(self, count: int) -> None:
        self.count = count

    def run(self, task: Task, jobs: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        with ExitStack() as held:
            pool = ProcessPoolExecutor(min(self.count, max(len(jobs), 1)), get_context("spawn"), _begin_worker)
            held.callback(pool.shutdown, wait=True, cancel_futures=True)
            try:
                for done in as_completed([pool.submit(_guarded, task, job) for job in jobs]):
                    yield _opened(done.result())
            except BrokenProcessPool as error:
                raise DatasetError(
                    f"a worker was killed, perhaps for want of memory; take fewer --workers and {AGAIN}"
                ) from error
            except (KeyboardInterrupt, SystemExit):
                for process in (pool._processes or {}).values():
                    process.terminate()
                raise


class RayCluster:
    """The workers of a Ray cluster, which have to see the same folder. A killed worker's task is run again.

    Ray's client ends its own process where the cluster goes away, so a process of its own talks to the cluster.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def run(self, task: Task, jobs: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        from multiprocessing import get_context

        if find_spec("ray") is None:
            raise MissingExtra("ray", "ray", "--ray")
        self._probe()
        context = get_context("spawn")
        here, there = context.Pipe(duplex=False)
        client = context.Process(target=_drive_ray, args=(self.address, task, list(jobs), there), daemon=True)
        client.start()
        there.close()
        try:
            while True:
                try:
                    kind, value = here.recv()
                except EOFError:
                    raise self._failed("it went away") from None
                if kind == "end":
                    return
                if kind == "failed":
                    raise self._failed(value)
                yield _opened(value)
        finally:
            client.terminate()
            client.join()

    def _probe(self) -> None:
        """Raises DatasetError where nothing listens at host:port, which Ray takes minutes to find out."""
        import socket

        host, colon, port = self.address.removeprefix("ray://").rpartition(":")
        if not colon or not port.isdigit():
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
        except (OSError, OverflowError) as error:
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise DatasetError(
                f"--ray {self.address}: no cluster answers ({reason}); check the address, or start one with ray start"
            ) from error

    def _failed(self, reason: str) -> DatasetError:
        return DatasetError(f"--ray {self.address}: the cluster failed ({reason}); {AGAIN}")


def _drive_ray(address: str, task: Task, jobs: list[tuple[Any, ...]], results: Any) -> None:
    """The process that talks to the cluster: ("done", answer) for each job, then ("end", None)."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "30")
    try:
        import ray

        ray.init(address=address, logging_level=40, log_to_driver=False)
        remote = ray.remote(num_cpus=1, max_retries=RAY_RETRIES)(_guarded)
        waiting = [remote.remote(task, job) for job in jobs]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            results.send(("done", ray.get(done[0])))
        results.send(("end", None))
        ray.shutdown()
    except BrokenPipeError:  # nobody waits any more
        pass
    except Exception as error:  # Ray's own, and whatever its libraries raise
        results.send(("failed", " ".join(str(error).split())[:160] or type(error).__name__))


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to the process that was asked, and ends when that one is killed."""
    import os
    import signal
    from multiprocessing import parent_process
    from threading import Thread

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=follow, daemon=True).start()


def _guarded(task: Task, job: tuple[Any, ...]) -> tuple[Any, tuple[type[DcgenError], str] | None]:
    """A task's result, or what a user can mend of it: exceptions with arguments of their own do not all travel."""
    try:
        return task(*job), None
    except DcgenError as error:
        return None, (DatasetError, str(error))
    except MemoryError:
        return None, (DatasetError, f"a worker ran out of memory; take fewer --workers and {AGAIN}")


def _opened(answer: tuple[Any, tuple[type[DcgenError], str] | None]) -> Any:
    result, fault = answer
    if fault is not None:
        raise fault[0](fault[1])
    return result


def choose_workers(count: int, ray_address: str | None) -> Workers:
    """The workers that the command line asks for."""
    if ray_address is not None:
        return RayCluster(ray_address)
    return LocalProcesses(count) if count > 1 else InProcess()
