"""`dcgen bench`: how fast it is here, as JSON or as a table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bridges.commands.options import AsJson, Seed, finite, tell

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure speeds on this machine.")
Seconds = Annotated[float, typer.Option(min=0.1, max=3600, callback=finite, help="For each figure.")]


def _print(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        shown = f"{value:,.1f}" if isinstance(value, float) else json.dumps(value)
        print(f"{name:<18} {shown}")


@app.command()
def world(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[WORLD]...", help="Folders of dcgen world build; a library map's.")
    ] = None,
    seconds: Seconds = 3.0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Frames a second of one core: labels alone, whole clips, and on the GPU where there is one."""
    from bridges.bench import bench_worlds

    _print(bench_worlds(folders or None, seconds, seed), as_json)


@app.command()
def dataset(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")],
    workers: Annotated[int, typer.Option(min=0, max=1024, help="Processes that load.")] = 2,
    seconds: Seconds = 5.0,
    as_json: AsJson = False,
) -> None:
    """Frames a second that a training run can load."""
    from bridges.dataset import dcgen_dataset
    from dcgen.dataset.forecast import measure_loading

    _print(asdict(measure_loading(dcgen_dataset(folder), workers, seconds)), as_json)


@app.command()
def steps(
    map: Annotated[Path, typer.Option(help="An OpenDRIVE file; best one that the model has not seen.")],
    model: Annotated[str, typer.Option(help="A shipped model's name, or the path of one: the teacher.")] = "nano",
    student: Annotated[str | None, typer.Option(help="What dcgen train student left of it.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="How many clips to generate, each with all steps.")] = 50,
    long: Annotated[int, typer.Option(min=0, help="Scenes of 128 frames of the two that are compared.")] = 0,
    teacher_steps: Annotated[str, typer.Option(help="Steps of the teacher.")] = "1,2,4,8,12,20,50",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Every generation figure and a chunk's seconds by sampling steps; a student's 4 against its teacher's 20."""
    from bridges.bench_steps import StepsOrder, bench_steps, steps_of, steps_text

    order = StepsOrder(model, map, clips, student, seed, long, steps_of("--teacher-steps", teacher_steps))
    result = bench_steps(order, tell)
    print(json.dumps(result) if as_json else steps_text(result))
