"""The scenario file: what may stand in it, checked strictly, every complaint naming the file and the field.

Lengths are metres, times seconds, speeds m/s, angles degrees. Points are given in a declared frame: `world` is the
map's right-handed frame (x, y as in its .xodr, yaw counter-clockwise), `carla` CARLA's left-handed one (y and yaw
turned over), `ego` that of the ego's first pose (x forward, y left).
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from dcgen.errors import ScenarioError
from dcgen.types import GridSpec, carlasc_grid, nano_grid, wide_grid
from scenarios.parts import (
    Agent,
    Box,
    CommandName,
    Continue,
    Edit,
    Follow,
    Frame,
    Grid,
    Inpaint,
    Move,
    Outpaint,
    Part,
    Pose,
    RouteSource,
    Speed,
    SpeedPoint,
    TimedPose,
    Traffic,
    TrajectorySource,
)
from scenarios.yaml_file import parse_yaml, read_text

__all__ = [
    "Agent", "Box", "Follow", "Frame", "Grid", "Move", "Pose", "Scenario", "TimedPose", "Traffic",
    "load_scenario", "make_scenario",
]  # fmt: skip

GRIDS = {"nano": nano_grid, "carlasc": carlasc_grid, "wide": wide_grid}
DOC = "docs/scenario.md"


class Scenario(Part):
    """One scene to be made. Which of the applications it is follows from the fields that are given."""

    map: str | None = None
    route: RouteSource | None = None
    start: Pose | None = None
    goal: Pose | None = None
    trajectory: TrajectorySource | None = None
    target_speed_mps: Speed | None = None
    speed_profile: Annotated[tuple[SpeedPoint, ...], Field(min_length=1, max_length=10_000)] | None = None
    start_s_m: Annotated[float, Field(ge=0.0, le=1e6)] = 0.0
    frames: Annotated[int, Field(ge=1, le=100_000)] = 16
    dt_s: Annotated[float, Field(ge=0.02, le=2.0)] = 0.2
    command: CommandName | None = None
    agents: Annotated[tuple[Agent, ...], Field(max_length=2000)] = ()
    traffic: Traffic | None = None
    scene: str | None = None
    edit: Edit | None = None
    inpaint: Inpaint | None = None
    outpaint: Outpaint | None = None
    continue_from: Continue | None = None
    without_map: Literal["street", "nothing"] = "street"
    grid: Grid | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    metadata: dict[str, Any] = Field(default_factory=dict)

    _source: Path | None = PrivateAttr(default=None)
    _text: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        if self.trajectory and (self.route or self.goal or self.target_speed_mps is not None or self.speed_profile):
            raise ValueError("trajectory already says where the ego is when; remove route, goal and speeds")
        if self.route and (self.start or self.goal):
            raise ValueError("route has its own ends; remove start and goal, or the route")
        if self.goal and not self.start:
            raise ValueError("goal needs a start; add it")
        if self.speed_profile and self.target_speed_mps is not None:
            raise ValueError("give target_speed_mps or speed_profile, not both")
        places = [point.s_m for point in self.speed_profile or ()]
        if places != sorted(set(places)):
            raise ValueError("speed_profile must have growing s_m; sort it")
        uses = [name for name in ("edit", "outpaint", "continue_from") if getattr(self, name) is not None]
        if len(uses) > 1:
            raise ValueError(f"{' and '.join(uses)} exclude each other; keep one")
        if self.inpaint and (self.outpaint or self.continue_from):
            raise ValueError("inpaint goes with edit alone; do one after the other")
        if self.scene and self.trajectory:
            raise ValueError("scene has its ego's path already; remove trajectory")
        ids = [agent.id for agent in self.agents if agent.id is not None]
        if len(ids) != len(set(ids)):
            raise ValueError("two agents have the same id; give each its own")
        return self

    @property
    def source(self) -> Path | None:
        """The file this came from, to name in messages and to start relative paths from."""
        return self._source

    @property
    def text(self) -> str:
        """The file as it was written, or the same meaning as JSON."""
        return self._text or self.model_dump_json(by_alias=True, exclude_defaults=True)

    @property
    def scene_path(self) -> Path | None:
        """The finished scene to start from."""
        return None if self.scene is None else self.place(self.scene)

    @property
    def needs_scene(self) -> str | None:
        """The first field given that means nothing without a finished scene."""
        for name in ("edit", "inpaint", "outpaint", "continue_from"):
            if getattr(self, name) is not None:
                return name
        return None

    @property
    def grid_spec(self) -> GridSpec:
        return self.grid.spec() if self.grid else nano_grid()

    def fitted(self, grid: GridSpec, dt_s: float) -> Scenario:
        """The same in a model's grid and clock, where neither it nor a finished scene says others."""
        mine: dict[str, Any] = {}
        if self.scene is None and self.grid is None:
            mine["grid"] = Grid(shape=grid.shape, voxel_m=grid.voxel_m, origin_m=grid.origin_m)
        if self.scene is None and "dt_s" not in self.model_fields_set:
            mine["dt_s"] = dt_s
        return self.model_copy(update=mine)

    def place(self, file: str) -> Path:
        """A path of the file, seen from the folder of the file."""
        return Path(file) if self._source is None else self._source.parent / file


def load_scenario(path: Path | str) -> Scenario:
    """Read and check a scenario YAML. Raises ScenarioError with one line for anything wrong in it."""
    path = Path(path)
    text = read_text(path)
    return make_scenario(parse_yaml(text, path), path, text)


def make_scenario(data: dict[str, Any], source: Path, text: str = "") -> Scenario:
    """Check plain values as a scenario; source is named in messages and relative paths start from its folder."""
    if isinstance(data.get("grid"), str):
        data = {**data, "grid": _grid_by_name(data["grid"], source)}
    try:
        scenario = Scenario.model_validate_json(json.dumps(data))
    except ValidationError as error:
        complaint = " ".join(_complaint(error).split())  # a key may hold line breaks
        raise ScenarioError(f"{source}: {complaint}") from None
    scenario._source, scenario._text = source, text
    return scenario


def _grid_by_name(name: str, source: Path) -> dict[str, Any]:
    if name not in GRIDS:
        remedy = f"take {', '.join(GRIDS)} or give shape, voxel_m and origin_m"
        raise ScenarioError(f"{source}: grid: no grid is called {name!r}; {remedy}")
    spec = GRIDS[name]()
    return {"shape": spec.shape, "voxel_m": spec.voxel_m, "origin_m": spec.origin_m}


def _complaint(error: ValidationError) -> str:
    """The first thing wrong, as `field.path: problem; remedy`. Unknown keys first: they explain the rest."""
    problems = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    first = problems[0]
    place = ""
    model: type[BaseModel] = Scenario
    owner = model
    for step in first["loc"]:
        owner = model if isinstance(step, str) else owner
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
        if isinstance(step, str):
            model = _part_of(model, step) or model
    if first["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in owner.model_fields.items()]
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"
        return f"{place}: unknown key; {hint}"
    if first["type"] == "missing":
        return f"{place}: is missing; add it (see {DOC})"
    if first["type"] in ("value_error", "assertion_error"):
        text = first["msg"].removeprefix("Value error, ")
        return f"{place or 'scenario'}: {text}" if ";" in text else f"{place or 'scenario'}: {text}; see {DOC}"
    message = first["msg"][:1].lower() + first["msg"][1:]
    given = first.get("input")
    shown = "" if isinstance(given, dict | list) else f", got {str(given)[:60]!r}"
    return f"{place or 'scenario'}: {message}{shown}; see {DOC}"


def _part_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The Part that field key of a Part holds, alone, in a list or as an option."""
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return _find_part(field.annotation)
    return None


def _find_part(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _find_part(inner)
        if found is not None:
            return found
    return None
