"""A SUMO network out of an OpenDRIVE file, in the map's own coordinates: metres, right-handed, no offset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

from dcgen.errors import MapError, MissingExtra, WorldError

NETCONVERT_TIMEOUT_S = 180.0
_ROAD = "pedestrian tram rail rail_urban rail_electric rail_fast ship"
# Who may use a lane of each OpenDRIVE type; everything else is kept so that lane positions stay true, but empty.
_LANE_TYPES = {
    "driving": (13.89, 3.5, f'disallow="{_ROAD}"'),
    "entry": (22.22, 3.5, f'disallow="{_ROAD} bicycle"'),
    "exit": (22.22, 3.5, f'disallow="{_ROAD} bicycle"'),
    "onRamp": (22.22, 3.5, f'disallow="{_ROAD} bicycle"'),
    "offRamp": (22.22, 3.5, f'disallow="{_ROAD} bicycle"'),
    "sidewalk": (2.8, 2.0, 'allow="pedestrian"'),
    "biking": (6.0, 1.5, 'allow="bicycle"'),
}
_EMPTY_TYPES = (
    *("bidirectional", "stop", "shoulder", "parking", "border", "median", "restricted", "none"),
    *("special1", "special2", "special3", "roadWorks", "tram", "rail", "curb", "HOV", "mwyEntry", "mwyExit"),
)


def sumo_binary(name: str) -> Path:
    """The program `name` of the SUMO wheels. Raises MissingExtra without them."""
    try:
        import sumo
    except ImportError:
        raise MissingExtra("eclipse-sumo", "sumo", "traffic") from None
    binary = Path(sumo.SUMO_HOME) / "bin" / (name + (".exe" if sys.platform == "win32" else ""))
    if not binary.exists():
        raise MissingExtra("eclipse-sumo", "sumo", f"traffic ({name} is not in {binary.parent})")
    return binary


def write_lane_types(path: Path) -> None:
    """The type file that tells netconvert who may use which OpenDRIVE lane."""
    rows = [
        f'  <type id="{kind}" priority="1" speed="{speed}" width="{width}" {access}/>'
        for kind, (speed, width, access) in _LANE_TYPES.items()
    ]
    rows += [f'  <type id="{kind}" priority="0" speed="1" width="1" disallow="all"/>' for kind in _EMPTY_TYPES]
    path.write_text("<types>\n" + "\n".join(rows) + "\n</types>\n", encoding="utf-8")


def convert_map(map_path: Path, folder: Path) -> Path:
    """Write folder/net.xml from an OpenDRIVE file. Raises MapError where netconvert refuses the map."""
    if not map_path.is_file():
        raise MapError(f"{map_path}: no such map; give the path of an .xodr file")
    types, net = folder / "types.xml", folder / "net.xml"
    write_lane_types(types)
    # A map without signals (CARLA hangs some towns' lights only into its 3D scene) has lights where wide roads meet.
    raw = map_path.read_bytes()
    source = folder / "map.xodr"  # netconvert takes a comma in a path for the end of it
    source.write_bytes(raw)
    lights = () if b'type="1000001"' in raw else ("--tls.guess", "--tls.guess.threshold", "40")
    command = [
        *(str(sumo_binary("netconvert")), "--opendrive-files", str(source), "--type-files", str(types)),
        *("--opendrive.import-all-lanes", "--offset.disable-normalization", "true"),
        # Coarse arcs and nodes inside a bend are what makes netconvert cut a curved road wrongly.
        *("--opendrive.curve-resolution", "1", "--geometry.remove", "--ignore-errors.edge-type"),
        *("--crossings.guess", "--crossings.guess.speed-threshold", "20", "--walkingareas"),
        *("--junctions.limit-turn-speed", "2.5", "--junctions.internal-link-detail", "12", "--no-turnarounds"),
        *("--tls.cycle.time", "50", "--tls.default-type", "actuated"),
        *lights,
        *("--no-warnings", "--xml-validation", "never", "--output-file", str(net)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NETCONVERT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MapError(
            f"{map_path}: netconvert did not finish within {NETCONVERT_TIMEOUT_S:.0f} s; cut the map down"
        ) from None
    if done.returncode != 0 or not net.exists():
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise MapError(f"{map_path}: netconvert cannot read this map: {reason}; export it again")
    return net


def write_vehicle_types(path: Path, rows: list[dict[str, str]]) -> None:
    """An additional file with one vType a row (attribute -> text)."""
    if not rows:
        raise WorldError(f"{path}: traffic needs at least one vehicle type")
    lines = ["  <vType " + " ".join(f"{key}={quoteattr(text)}" for key, text in row.items()) + "/>" for row in rows]
    path.write_text("<additional>\n" + "\n".join(lines) + "\n</additional>\n", encoding="utf-8")
