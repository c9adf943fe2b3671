"""Where the files that a scenario names are: maps by path, by library name or by town."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path

from dcgen.errors import MapError, ScenarioError
from scenarios.routes import RouteSpec, read_routes, select_routes
from scenarios.schema import Scenario


def library_folder() -> Path:
    """The folder of the project's own scenario files; its maps lie in maps/."""
    return Path(str(resources.files("scenarios.library")))


def library_maps() -> dict[str, Path]:
    return {path.stem: path for path in sorted((library_folder() / "maps").glob("*.xodr"))}


def library_scenarios() -> dict[str, Path]:
    return {path.stem: path for path in sorted(library_folder().glob("*.yaml"))}


def name_of(scenario: Scenario) -> str:
    """How messages call a scenario: its file, or "scenario"."""
    return str(scenario.source) if scenario.source else "scenario"


def map_path(scenario: Scenario, town: str = "") -> Path | None:
    """The map file that a scenario names, or that of the town of its route where one can be found; else None.

    A town's map is looked for beside the route file, in $DCGEN_MAPS and in the CARLA install at $CARLA_ROOT.
    """
    if scenario.map is None:
        return _map_of_town(scenario, town) if town else None
    ours = library_maps()
    given = scenario.place(scenario.map)
    if given.is_file():
        return given
    if scenario.map in ours:
        return ours[scenario.map]
    known = ", ".join(ours) or "none"
    raise MapError(
        f"{name_of(scenario)}: map: no file {given} and no library map of that name (there are: {known}); mend the path"
    )


def _map_of_town(scenario: Scenario, town: str) -> Path | None:
    folders = []
    if scenario.route and scenario.route.file:
        folders.append(scenario.place(scenario.route.file).parent)
    if os.environ.get("DCGEN_MAPS"):
        folders.append(Path(os.environ["DCGEN_MAPS"]))
    if os.environ.get("CARLA_ROOT"):
        folders.append(Path(os.environ["CARLA_ROOT"]) / "CarlaUE4/Content/Carla/Maps/OpenDrive")
    for folder in folders:
        found = folder / f"{Path(town).name}.xodr"
        if found.is_file():
            return found
    return None


@lru_cache(maxsize=2)
def _routes_of(path: Path, changed_ns: int) -> list[RouteSpec]:
    """read_routes, once for all the routes that are asked of a file."""
    return read_routes(path)


def route_spec(scenario: Scenario) -> RouteSpec | None:
    """The one route of a route file that a scenario names."""
    if scenario.route is None or scenario.route.file is None:
        return None
    path = scenario.place(scenario.route.file)
    routes = _routes_of(path, path.stat().st_mtime_ns if path.is_file() else 0)
    if scenario.route.id is not None:
        return select_routes(routes, scenario.route.id)[0]
    if len(routes) > 1:
        some = ", ".join(route.id for route in routes[:8]) + (" ..." if len(routes) > 8 else "")
        raise ScenarioError(
            f"{scenario.route.file}: holds {len(routes)} routes; choose one with route.id or --route-id ({some})"
        )
    return routes[0]
