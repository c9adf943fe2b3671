"""Where nothing can be kept, and runs that are stopped: one line, a fitting exit code and nothing half written."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcgen.scene_file import save_scene
from scenarios.layout import rasterise
from scenarios.roads import read_map
from scenarios.world.store import assemble_world, save_world
from tests.conftest import LIBRARY, ROOT, Run, refused, small_scene
from tests.scenarios.world.conftest import street_map, street_traffic

SMALL = ["--frames", 8, "--steps", 1, "--guidance", 1]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street with traffic, in a folder."""
    folder, road_map = tmp_path_factory.mktemp("world"), street_map()
    save_world(assemble_world(road_map, rasterise(road_map), street_traffic(), seed=5), folder)
    return folder


@pytest.fixture
def writers(scene_path: Path, world: Path, untrained: Path) -> dict[str, list[object]]:
    """Every command that writes, up to where."""
    return {
        "scenario": ["scenario", "straight", *SMALL, "--model", untrained, "-o"],
        "picture": ["scenario", "straight", *SMALL, "--model", untrained, "-o", "x.h5", "--picture"],
        "render": ["render", scene_path, "-o"],
        "world build": ["world", "build", LIBRARY / "maps" / "ring.xodr", "--seconds", 5, "-o"],
        "world preview": ["world", "preview", world, "-o"],
        "dataset build": ["dataset", "build", "--maps", "ring", "--clips", 3, "--seconds", 5, "-o"],
        "train": ["train", "vae", world, "--steps", 1, "--batch", 1, "-o"],
    }


SUFFIX = {"scenario": ".h5", "picture": ".png", "render": ".gif"}
COMMANDS = ("scenario", "picture", "render", "world build", "world preview", "dataset build", "train")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be(command: str, run: Run, writers: dict[str, list[object]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    name = f"out{SUFFIX.get(command, '')}"
    for place in (tmp_path / "file" / name, Path("/proc/1/none") / name, tmp_path / ("x" * 300 + name)):
        fault = refused(run, tmp_path, *writers[command], place)
        assert any(part in fault for part in (str(tmp_path / "file"), "/proc/1/none", "x" * 40)), fault


@pytest.mark.parametrize("command", ["scenario", "picture", "render"])
def test_a_folder_or_a_suffix_that_is_no_output(
    command: str, run: Run, writers: dict[str, list[object]], tmp_path: Path
) -> None:
    (tmp_path / f"dir{SUFFIX[command]}").mkdir()
    (tmp_path / f"dir{SUFFIX[command]}" / "straight.h5").mkdir()
    for place in (tmp_path / f"dir{SUFFIX[command]}", tmp_path / "x.bmp"):
        assert place.name in refused(run, tmp_path, *writers[command], place)


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """Files of this process, and of those it starts, end at a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("scenario", "x.h5"),
        ("render", "x.png"),
        ("render", "x.gif"),
        ("render", "x.mp4"),
        ("train", "out"),
    ],
)
def test_a_full_disk(
    command: str, name: str, run: Run, writers: dict[str, list[object]], tmp_path: Path, scene_path: Path
) -> None:
    save_scene(small_scene(frames=8, shape=(31, 33, 17)), scene_path)  # a film of some size
    before = {path.name for path in tmp_path.iterdir()}
    read_map(LIBRARY / "maps" / "avenue.xodr")  # which the scenario drives on, and which is kept from now on
    with full_disk(4000):
        result = run(*writers[command], tmp_path / name)
    assert name in result.fault.replace(str(scene_path), "") and "cannot be written" in result.fault
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} - before
    assert left <= {"out", "out/log.jsonl"}, left  # a run's folder is there to be resumed


def test_a_full_disk_for_temporary_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.xodr").write_bytes((LIBRARY / "maps" / "ring.xodr").read_bytes() + b"<!-- not kept yet -->")
    with full_disk(4000):
        assert "m.xodr" in refused(run, tmp_path, "scenario", tmp_path / "m.xodr", "--model", "none")


@pytest.mark.parametrize(
    ("command", "at", "left"),
    [
        ("scenario", 0, set()),
        *(("world build", at, set()) for at in range(5)),  # one of its five files each
        ("train", 0, {"out", "out/log.jsonl"}),
        ("train", 1, {"out", "out/log.jsonl"}),  # numbers without their index are no checkpoint
        ("train", 2, {"out", "out/log.jsonl", "out/log.png", "out/state.json", "out/state-0000001-00.safetensors"}),
    ],
)
def test_an_interrupt_while_a_file_is_written(
    command: str, at: int, left: set[str], run: Run, writers: dict[str, list[object]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("avenue", "ring"):
        read_map(LIBRARY / "maps" / f"{name}.xodr")  # kept from now on
    calls = iter(range(100))

    def fsync(handle: int) -> None:
        if next(calls) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("scenarios.world.store.simulate", lambda *_: street_traffic())
    before = set(tmp_path.rglob("*"))
    result = run(*writers[command], tmp_path / f"out{SUFFIX.get(command, '')}")
    assert result.code == 130 and "nothing was left half written" in result.err, result
    assert {str(path.relative_to(tmp_path)) for path in set(tmp_path.rglob("*")) - before} == left


STOP = """
import signal, sys, cli
import {module} as module
def stop(*a, **k):
    print("ready", file=sys.stderr, flush=True)
    import time
    time.sleep(60)
module.{function} = stop
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background lacks
sys.argv = {argv!r}
cli.main()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("module", "function", "command"),
    [
        ("bridges.scenes", "_load", "scenario"),
        ("dcgen.export.render", "compose", "render"),
    ],
)
def test_a_run_that_is_stopped_leaves_nothing(
    sent: signal.Signals, code: int, module: str, function: str, command: str,
    writers: dict[str, list[object]], tmp_path: Path,
) -> None:  # fmt: skip
    argv = ["dcgen", *map(str, writers[command]), str(tmp_path / f"x{SUFFIX.get(command, '')}")]
    before = list(tmp_path.iterdir())
    script = STOP.format(module=module, function=function, argv=argv)
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None and process.stderr.readline() == "ready\n"
        process.send_signal(sent)
        said = process.stderr.read()
    assert process.returncode == code and "Traceback" not in said, said
    assert list(tmp_path.iterdir()) == before


MISSING = [
    ("carla", ["scenario", "{map}", "--model", "none"], "carla"),
    ("carla", ["world", "build", "{map}", "-o", "{out}"], "carla"),
    ("sumo", ["world", "build", "crossroads.xodr", "-o", "{out}"], "sumo"),
    ("libsumo", ["world", "build", "crossroads.xodr", "-o", "{out}"], "sumo"),
    ("imageio_ffmpeg", ["render", "{scene}", "-o", "{out}.mp4"], "render"),
]


@pytest.mark.parametrize(("package", "words", "extra"), MISSING)
def test_a_missing_package_names_its_extra(
    package: str,
    words: list[str],
    extra: str,
    run: Run,
    scene_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / f"{package}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{package}'\")\n")
    monkeypatch.setenv("PYTHONPATH", str(lost))  # for the processes that this one starts
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "m.xodr").write_bytes((LIBRARY / "maps" / "ring.xodr").read_bytes() + f"<!-- {package} -->".encode())
    known = {
        "{map}": tmp_path / "m.xodr",
        "crossroads.xodr": LIBRARY / "maps" / "crossroads.xodr",
        "{scene}": scene_path,
    }
    filled = [str(known.get(word, word)).replace("{out}", str(tmp_path / "out")) for word in words]
    assert f"pip install 'dcgen[{extra}]'" in refused(run, tmp_path, *filled)
