"""From a file of any kind to finished scenes: the scenario layer reads, the model generates, the export draws."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dcgen.errors import GridMismatch, SceneError
from dcgen.types import Command, Labels, Scene
from scenarios.compile import CompiledScenario, compile_scenario
from scenarios.inputs import read_scenarios
from scenarios.schema import Scenario
from scenarios.sources import name_of

if TYPE_CHECKING:
    from dcgen.checkpoint import Model

SCENE_SUFFIXES = (".h5", ".hdf5")
Tell = Callable[[str], None]
Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class SceneOrder:
    """What is asked of `dcgen scenario`: the input, what overrides it, and where the results go."""

    source: str
    map: str | None = None
    route_id: str | None = None
    routes_subset: str | None = None
    edit: str | None = None
    frames: int | None = None
    seed: int | None = None
    command: str | None = None
    model: str = "nano"
    steps: int | None = None
    guidance: float | None = None
    output: Path | str | None = None  # a text that ends in a slash is a folder, whether there or not
    picture: Path | None = None
    render: bool = False


@dataclass(frozen=True)
class MadeScene:
    """A scene on disk and what it took to make it."""

    scene: str
    picture: str | None
    name: str
    frames: int
    dt_s: float
    commands: list[str]
    agents: int
    seed: int
    model: str
    generate_s: float
    total_s: float
    peak_memory_mb: int

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def make_scenes(order: SceneOrder, step: Tell, note: Tell, progress: Progress) -> Iterator[MadeScene]:
    """Every scene that the input means, one file each, as they are finished.

    Raises DcgenError with one line; a scene that failed leaves no file. step hears what is being done, note what a
    user should know, progress how far the sampling of a scene is.
    """
    began = time.monotonic()
    overrides = {"frames": order.frames, "seed": order.seed, "command": order.command}
    scenarios = read_scenarios(
        order.source, map=order.map, route_id=order.route_id, routes_subset=order.routes_subset, scene=order.edit,
        overrides=overrides,
    )  # fmt: skip
    places = _places(order, scenarios)
    model: Model | None = None
    for scenario, (output, picture) in zip(scenarios, places, strict=True):
        step(f"reading {_name(scenario)}")
        given = _given_scene(scenario)
        compiled = compile_scenario(scenario, given)
        if model is None:
            step(f"loading model {order.model}")
            model = _load(order.model)
        config = model.config
        if (compiled.chunks.frames, compiled.grid, compiled.dt_s) != (config.frames, config.grid, config.dt_s):
            fitted = scenario.fitted(config.grid, config.dt_s)
            compiled = compile_scenario(fitted, given, chunk_frames=config.frames)
        _check_speaks(compiled, model, scenario)
        step(f"generating {compiled.frames} frames in {len(compiled.chunks)} chunks")
        generate_s, commands = _generate(compiled, model, order, output, _metadata(scenario), progress)
        if picture is not None:
            step(f"drawing {picture}")
            _draw(output, picture, note)
        yield _made(compiled, order, output, picture, _name(scenario), generate_s, commands, began)
        began = time.monotonic()


def _check_speaks(compiled: CompiledScenario, model: Model, scenario: Scenario) -> None:
    """Raises GridMismatch where the scenario's grid or clock is not the model's."""
    config, name = model.config, name_of(scenario)
    if compiled.grid != config.grid:
        got, want = (f"{g.shape} voxels of {g.voxel_m} m from {g.origin_m}" for g in (compiled.grid, config.grid))
        raise GridMismatch(f"{name}: grid: {got} are not what model {config.name} speaks, {want}; remove grid")
    if abs(compiled.dt_s - config.dt_s) > 1e-6:
        raise GridMismatch(
            f"{name}: dt_s: frames {compiled.dt_s:g} s apart are not what model {config.name} speaks, "
            f"{config.dt_s:g} s; change dt_s, or the scene it comes from"
        )


def _places(order: SceneOrder, scenarios: list[Scenario]) -> list[tuple[Path, Path | None]]:
    """Where each scene and its picture go; checked now, since generating takes a while."""
    from dcgen.export.render import check_picture
    from dcgen.scene_file import check_destination

    places: list[tuple[Path, Path | None]] = []
    for scenario in scenarios:
        suffix = f"_{scenario.route.id}" if scenario.route and scenario.route.id and len(scenarios) > 1 else ""
        usual = f"{Path(order.source).stem or 'scene'}.h5"
        output = Path(order.output or Path("out") / usual)
        output = output / usual if output.is_dir() or str(order.output).endswith(("/", os.sep)) else output
        output = output.with_name(f"{output.stem}{_as_file_name(suffix)}{output.suffix or '.h5'}")
        picture = order.picture or (output.with_suffix(".png") if order.render else None)
        if order.picture and suffix:
            picture = order.picture.with_name(f"{order.picture.stem}{_as_file_name(suffix)}{order.picture.suffix}")
        if output.suffix not in SCENE_SUFFIXES:
            raise SceneError(f"{output}: a scene's name ends in .h5; pass a picture's to --picture")
        check_destination(output)
        if picture is not None:
            check_picture(picture)
        places.append((output, picture))
    if len(set(places)) < len(places):
        raise SceneError(f"{order.source}: two routes have the same id; choose one with --route-id")
    return places


def _as_file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_-." else "-" for c in text)[:80]


def _given_scene(scenario: Scenario) -> Scene | None:
    from dcgen.scene_file import load_scene

    if scenario.scene_path is None:
        return None
    return load_scene(scenario.scene_path, motion=scenario.edit is not None)  # whose voxels an edit takes away


def _load(name: str) -> Model:
    from dcgen.checkpoint import load_model

    return load_model(name)


def _name(scenario: Scenario) -> str:
    """A title for people: the metadata's name, else the file's name and the route's id."""
    told = scenario.metadata.get("name") or scenario.metadata.get("title")
    if isinstance(told, str) and told.strip():
        return told.strip()
    stem = scenario.source.stem.replace("_", " ") if scenario.source else "scene"
    route = f", route {scenario.route.id}" if scenario.route and scenario.route.id else ""
    return f"{stem[:1].upper()}{stem[1:]}{route}".encode("utf-8", "replace").decode()  # names of files may be no text


def _metadata(scenario: Scenario) -> dict[str, str]:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in scenario.metadata.items()}
    return {"name": _name(scenario), **texts}


def _generate(
    compiled: CompiledScenario,
    model: Model,
    order: SceneOrder,
    output: Path,
    metadata: dict[str, str],
    progress: Progress,
) -> tuple[float, list[str]]:
    """Write the scene part by part as it is generated; the seconds it took, and the commands of its chunks."""
    from dcgen.generate import generate_parts
    from dcgen.scene_file import SceneWriter

    began = time.monotonic()
    sampling = model.config.sampling.but(order.steps, order.guidance)
    total, done = sampling.steps * len(compiled.chunks), 0
    commands: dict[str, None] = {}

    def count(steps: int) -> None:
        nonlocal done
        done += steps
        progress(min(done, total), total)

    parts = generate_parts(
        compiled.chunks, model, compiled.seed, frames=compiled.frames, sampling=sampling,
        given=given_frames(compiled),
        scenario=compiled.scenario, progress=count,
    )  # fmt: skip
    with SceneWriter(output) as writer:
        for part in parts:
            writer.append(replace(part, metadata=metadata))
            commands.update(dict.fromkeys(Command(int(command)).name for command in part.command))
    return time.monotonic() - began, list(commands)


def given_frames(compiled: CompiledScenario) -> Callable[[int], Labels | None] | None:
    """Labels [X, Y, Z] of recorded frames that pass through as they are: those with the recorded pose and grid."""
    given = compiled.given
    if given is None or given.scene.grid != compiled.grid:
        return None
    scene, index = given.scene, given.scene_frame

    def labels(frame: int) -> Labels | None:
        if frame >= len(index) or index[frame] < 0:
            return None
        same = np.allclose(scene.world_se3_ego[index[frame]], compiled.world_se3_ego[frame], atol=1e-6)
        return scene.labels[index[frame]] if same else None

    return labels


def _draw(scene: Path, picture: Path, tell: Tell) -> None:
    from dcgen.export.render import render_file

    render_file(scene, picture, tell=tell)


def _made(
    compiled: CompiledScenario,
    order: SceneOrder,
    output: Path,
    picture: Path | None,
    name: str,
    generate_s: float,
    commands: list[str],
    began: float,
) -> MadeScene:
    return MadeScene(
        scene=os.fspath(output),
        picture=os.fspath(picture) if picture else None,
        name=name,
        frames=compiled.frames,
        dt_s=compiled.dt_s,
        commands=commands,
        agents=len(compiled.agents.id),
        seed=compiled.seed,
        model=order.model,
        generate_s=round(generate_s, 2),
        total_s=round(time.monotonic() - began, 2),
        peak_memory_mb=peak_memory_mb(),
    )


def peak_memory_mb() -> int:
    """The most memory that this process held at once; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20
