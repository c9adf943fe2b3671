"""OpenDRIVE file -> RoadMap, through carla.Map in a process of its own, kept on disk by the file's hash.

A Signal's yaw is the heading of the traffic it speaks to: its face looks the other way. Limits come from the lane,
else the road, else speed signs, else (inside junctions) the lanes before; 50 km/h where the file is silent.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from dcgen.errors import MapError
from scenarios.opendrive import parse_opendrive
from scenarios.reading import read_file, scratch_folder
from scenarios.road_cache import load_map, save_map
from scenarios.roadmap import RoadMap

READER_VERSION = 3
MAX_BYTES = 100_000_000
TIMEOUT_S = 300.0  # the reader itself is given less time of the processor


def read_map(path: Path) -> RoadMap:
    """The road network of an OpenDRIVE file in the right-handed world frame. Raises MapError."""
    path = Path(path)
    raw, text = _checked_text(path)
    kept = cache_folder() / f"map-{READER_VERSION}-{hashlib.sha256(raw).hexdigest()}.npz"
    road_map = _load(kept)
    if road_map is None:
        parse_opendrive(text, path.name)  # refuses what carla should not see
        road_map = _read_in_subprocess(raw, path.name)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            save_map(road_map, kept)
        except OSError:
            pass  # a read-only home costs time, not the result
    return replace(road_map, name=path.stem)


def cache_folder() -> Path:
    """$DCGEN_CACHE, else ~/.cache/dcgen."""
    chosen = os.environ.get("DCGEN_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "dcgen"


def _checked_text(path: Path) -> tuple[bytes, str]:
    name = path.name
    raw = read_file(path, MAX_BYTES, "an OpenDRIVE .xodr file", MapError)
    if not raw.strip():
        raise MapError(f"{name}: is empty; export the OpenDRIVE file again")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MapError(f"{name}: byte {error.start} is not UTF-8 text; pass an OpenDRIVE .xodr file") from None
    if "\0" in text:
        raise MapError(f"{name}: is binary; pass an OpenDRIVE .xodr file")
    return raw, text


def _load(kept: Path) -> RoadMap | None:
    try:
        return load_map(kept)
    except Exception:  # absent, or damaged in any of numpy's, zip's and json's ways: it is built again
        return None


def _read_in_subprocess(raw: bytes, name: str) -> RoadMap:
    with scratch_folder(name, MapError) as folder:
        source, target = folder / "map.xodr", folder / "map.npz"
        source.write_bytes(raw)
        home = str(Path(__file__).resolve().parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "scenarios.road_reader", str(source), str(target)],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise MapError(f"{name}: CARLA took more than {TIMEOUT_S:.0f} s; cut the map down or mend it") from None
        road_map = _load(target) if done.returncode == 0 else None
        if road_map is None:
            raise MapError(f"{name}: {_reason(done.returncode, done.stderr)}")
        return road_map


def _reason(code: int, stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    if -code in (getattr(signal, "SIGXCPU", None), getattr(signal, "SIGKILL", None)):
        return "takes CARLA's reader too much time or memory; cut the map down or mend it"
    for line in lines:
        if line.startswith("MapError: "):
            return line.removeprefix("MapError: ").removeprefix("map.xodr: ").removeprefix("map: ")[:300]
    if any("No module named 'carla'" in line for line in lines):
        return "reading OpenDRIVE needs carla: pip install 'dcgen[carla]'"
    if any(line.startswith("MemoryError") or "bad_alloc" in line for line in lines):
        return "takes CARLA's reader too much memory; cut the map down or mend it"
    if code < 0:
        return f"crashes CARLA's reader (signal {-code}); export the OpenDRIVE file again"
    last = lines[-1][:200] if lines else "no message"
    if last.startswith("OSError"):
        return f"CARLA's reader could not write ({last}); free the disk or set TMPDIR"
    return f"CARLA's reader ended on it (exit code {code}: {last}); export the OpenDRIVE file again"
