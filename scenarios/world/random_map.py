"""Road networks without end: SUMO's netgenerate draws one, its streets get characters, netconvert writes OpenDRIVE.

Heights are metres, angles radians. The same seed writes the same bytes.
"""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcgen.errors import MapError, WorldError
from scenarios.reading import scratch_folder
from scenarios.roadmap import RoadMap
from scenarios.roads import read_map
from scenarios.world.street_plan import Network, characterise, write_plain
from scenarios.world.traffic.sumo_net import sumo_binary

KINDS = ("grid", "spider", "random")
ANY = "any"
TIMEOUT_S = 120.0
TRIES = 5
MOST_SEED = 2**31 - 1


@dataclass(frozen=True)
class _Draw:
    """One attempt: what netgenerate is told, and the randomness of everything after it."""

    kind: str
    arguments: tuple[str, ...]
    rng: np.random.Generator


def random_map(out_path: Path, seed: int, kind: str = ANY) -> RoadMap:
    """Write a random network with sidewalks, crossings and lights to out_path, whole or not at all; what it reads as.

    kind is "grid", "spider", "random" or "any". Raises WorldError (kind, seed, place), MissingExtra without SUMO.
    """
    out_path = Path(out_path)
    if kind not in (*KINDS, ANY):
        raise WorldError(f"map.kind: {kind!r} is no kind of network; choose from {', '.join((*KINDS, ANY))}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed <= MOST_SEED:
        raise WorldError(f"map.seed: {seed!r} is not a whole number from 0 to {MOST_SEED}; change it")
    chosen = KINDS[seed % len(KINDS)] if kind == ANY else kind
    reason = ""
    for attempt in range(TRIES):
        try:
            with scratch_folder(out_path.name, WorldError) as folder:
                text = _open_drive(_draw(chosen, int(seed), attempt), folder)
                (folder / "map.xodr").write_bytes(text)
                road_map = read_map(folder / "map.xodr")
                _check(road_map)
        except (_Unusable, MapError) as error:
            reason = str(error)
            continue
        _write(out_path, text)
        return read_map(out_path)
    raise WorldError(f"{out_path}: no {chosen} network came of seed {seed} ({reason}); choose another seed")


class _Unusable(Exception):
    """An attempt that did not end in a town's network."""


def _draw(kind: str, seed: int, attempt: int) -> _Draw:
    rng = np.random.default_rng([seed, KINDS.index(kind), attempt])
    common = ("--seed", str(int(rng.integers(MOST_SEED))), "--no-warnings", "--xml-validation", "never")
    if kind == "grid":
        attach = 0 if rng.random() < 0.65 else int(rng.integers(50, 90))
        sides = (str(int(rng.integers(3, 6))), str(int(rng.integers(3, 6))))
        own: tuple[str, ...] = (
            "--grid",
            "--grid.x-number",
            sides[0],
            "--grid.y-number",
            sides[1],
            "--grid.attach-length",
            str(attach),
        )
    elif kind == "spider":
        own = (
            *("--spider", "--spider.arm-number", str(int(rng.integers(4, 8)))),
            *("--spider.circle-number", str(int(rng.integers(2, 4))), "--spider.omit-center"),
            *("--spider.space-radius", f"{rng.uniform(75, 120):.1f}"),
        )
    else:
        own = (
            *("--rand", "--rand.iterations", str(int(rng.integers(18, 36))), "--rand.connectivity", "0.99"),
            *("--rand.min-distance", "75", "--rand.max-distance", f"{rng.uniform(110, 150):.1f}"),
            *("--rand.min-angle", "55", "--rand.neighbor-dist1", "0", "--rand.neighbor-dist2", "1"),
            *("--rand.neighbor-dist3", "8", "--rand.neighbor-dist4", "8"),
        )
    return _Draw(kind, (*common, *own), rng)


def _open_drive(draw: _Draw, folder: Path) -> bytes:
    """The OpenDRIVE text of one attempt, without what changes from run to run. Raises _Unusable."""
    _run("netgenerate", (*draw.arguments, "--plain-output-prefix", str(folder / "drawn")))
    network = characterise(_read(folder), draw.kind, draw.rng)
    write_plain(network, folder / "town.nod.xml", folder / "town.edg.xml")
    _run(
        "netconvert",
        (
            *("--node-files", str(folder / "town.nod.xml"), "--edge-files", str(folder / "town.edg.xml")),
            *("--crossings.guess", "--crossings.guess.speed-threshold", "20", "--walkingareas"),
            *("--default.crossing-width", "3.5", "--default.junctions.radius", "7", "--no-turnarounds.except-deadend"),
            *("--junctions.corner-detail", "8", "--junctions.internal-link-detail", "8"),
            *("--no-warnings", "--xml-validation", "never", "--opendrive-output", str(folder / "town.xodr")),
        ),
    )
    text = (folder / "town.xodr").read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)  # date, paths and options
    return re.sub(r'(<header\b[^>]*?\bdate=")[^"]*"', r'\g<1>1970-01-01T00:00:00"', text).encode()


def _run(program: str, arguments: tuple[str, ...]) -> None:
    binary = sumo_binary(program)
    environment = {**os.environ, "SUMO_HOME": str(binary.parent.parent)}
    try:
        done = subprocess.run(
            [str(binary), *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise _Unusable(f"{program} took more than {TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise _Unusable(f"{program}: {lines[0]}")


def _read(folder: Path) -> Network:
    """The nodes and streets that netgenerate drew."""
    try:
        nodes = ET.parse(folder / "drawn.nod.xml").getroot().iter("node")
        edges = ET.parse(folder / "drawn.edg.xml").getroot().iter("edge")
        position = {node.attrib["id"]: (float(node.attrib["x"]), float(node.attrib["y"])) for node in nodes}
        pairs = {tuple(sorted((edge.attrib["from"], edge.attrib["to"]))) for edge in edges}
    except (OSError, ET.ParseError, KeyError, ValueError) as error:
        raise _Unusable(f"netgenerate wrote no network ({error})") from None
    return Network.of(position, sorted((a, b) for a, b in pairs))


def _check(road_map: RoadMap) -> None:
    """What a town needs. Raises _Unusable."""
    kinds = {lane.kind for lane in road_map.lanes.values()}
    if not any(lane.is_driving for lane in road_map.lanes.values()) or "sidewalk" not in kinds:
        raise _Unusable("it has no street with a sidewalk")
    if not road_map.junctions:
        raise _Unusable("it has no junction")


def _write(path: Path, text: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise WorldError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
