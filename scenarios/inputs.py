"""Any file that can start a scene, told apart by what is in it, as scenarios.

Scenario YAML, CARLA route XML, OpenDRIVE map, KITTI poses.txt, CSV of t,x,y,yaw. Suffixes are not looked at.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from dcgen.errors import ScenarioError
from scenarios.reading import read_head
from scenarios.routes import read_routes, select_routes
from scenarios.schema import Scenario, make_scenario
from scenarios.sources import library_maps, library_scenarios
from scenarios.yaml_file import parse_yaml, read_text

Kind = Literal["scenario", "routes", "map", "trajectory"]
HEAD_BYTES = 65536
_MAGIC = {
    b"\x89HDF": "an HDF5 scene; pass it with --edit beside a scenario file",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x80\x04": "a pickle, which is never opened",
    b"\x1f\x8b": "compressed; unpack it first",
    b"\x89PNG": "a picture",
}
_COLUMN = re.compile(r"[\w .()/-]*")


def kind_of(path: Path) -> Kind:
    """What a file is, by its content. Raises ScenarioError for what can be none of the four."""
    known = ", ".join(library_scenarios()) or "none"
    head = read_head(path, HEAD_BYTES, f"a scenario, route, map or trajectory file, or a library scenario ({known})")
    for magic, meaning in _MAGIC.items():
        if head.startswith(magic):
            raise ScenarioError(f"{path}: is {meaning}; pass a scenario, route, map or trajectory file")
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    if not text:
        raise ScenarioError(f"{path}: is empty; pass a scenario, route, map or trajectory file")
    if "\0" in text:
        raise ScenarioError(f"{path}: is binary; pass a scenario, route, map or trajectory file")
    if text.startswith("<"):
        return _kind_of_xml(path, text)
    return "trajectory" if _is_table(text) else "scenario"


def _kind_of_xml(path: Path, text: str) -> Kind:
    root = _root_of(path, text)
    if root.lower() == "opendrive":
        return "map"
    if root in ("routes", "route"):
        return "routes"
    shown = f"<{root[:40]}> at its root" if root else f"no element in its first {HEAD_BYTES // 1024} kB"
    raise ScenarioError(f"{path}: XML with {shown}; pass <routes> or <OpenDRIVE>")


def _root_of(path: Path, text: str) -> str:
    """The name of the first element after declarations and comments, "" where none is in sight."""
    at = 0
    while True:
        at = len(text) - len(text[at:].lstrip())
        closing = next((end for start, end in (("<?", "?>"), ("<!--", "-->")) if text.startswith(start, at)), None)
        if closing is None:
            break
        at = text.find(closing, at)
        if at < 0:
            return ""
        at += len(closing)
    if text.startswith("<!DOCTYPE", at):
        raise ScenarioError(f"{path}: holds a DTD, which may hide XML entities; remove it")
    found = re.compile(r"<\s*(?:\w+:)?(\w+)").match(text, at)
    return found.group(1) if found else ""


def _is_table(text: str) -> bool:
    """Whether the first lines are numbers in columns, with or without a header of CSV names."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")][:2]
    if not lines:
        return False
    names = [name.strip().strip('"').lower() for name in lines[0].split(",")]
    if len(names) >= 4 and {"x", "x_m", "pos_x"} & set(names) and all(map(_COLUMN.fullmatch, names)):
        return True
    fields = re.split(r"[,\s]+", lines[0].strip(","))
    return len(fields) >= 4 and all(_is_number(field) for field in fields)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_scenarios(
    path: Path | str,
    *,
    map: str | None = None,
    route_id: str | None = None,
    routes_subset: str | None = None,
    scene: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> list[Scenario]:
    """The scenarios that a file and the flags beside it mean; more than one only for a route file.

    path may also be the name of a library scenario or map. map and scene are paths as typed (a library name for map,
    too). overrides are further fields of the scenario (frames, seed, command ...), put in place of the file's own;
    those that are None change nothing. Raises ScenarioError.
    """
    path = Path(path)
    if not path.exists():
        path = {**library_maps(), **library_scenarios()}.get(str(path), path)
    kind = kind_of(path)
    extra = {key: value for key, value in (overrides or {}).items() if value is not None}
    if map is not None:
        extra["map"] = map if map in library_maps() and not Path(map).exists() else str(Path(map).absolute())
    if scene is not None:
        extra["scene"] = str(Path(scene).absolute())
    here = str(path.absolute())
    if kind == "routes":
        chosen = select_routes(read_routes(path), route_id, routes_subset)
        return [make_scenario({"route": {"file": here, "id": route.id}, **extra}, path) for route in chosen]
    if route_id is not None or routes_subset is not None:
        flag = "--route-id" if route_id is not None else "--routes-subset"
        if kind != "scenario" or routes_subset is not None:
            raise ScenarioError(f"{path}: {flag} chooses from a route file, and this is a {kind} file; remove the flag")
    if kind == "map":
        return [make_scenario({"map": here, **extra}, path)]
    if kind == "trajectory":
        return [make_scenario({"trajectory": {"file": here}, **extra}, path)]
    text = read_text(path)
    data = parse_yaml(text, path)
    if route_id is not None:
        if not isinstance(data.get("route"), dict) or "file" not in data["route"]:
            raise ScenarioError(f"{path}: --route-id chooses from route.file, which is missing; remove the flag")
        data["route"] = {**data["route"], "id": route_id}
    return [make_scenario({**data, **extra}, path, text)]
