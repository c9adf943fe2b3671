"""`dcgen bench`: how fast it is here, as JSON or as a table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bridges.commands.options import AsJson, Seed, finite, tell

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure dcgen itself: speed, sampling steps, tracking, ablations.",
)
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
def ablation(
    unseen: Annotated[Path, typer.Option(metavar="WORLD", help="The town that figures are of: never learned from.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of finished runs; a stopped ablation goes on.")
    ],
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[WORLD]...", help="Folders of dcgen world build; a library map's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Of each variant, from 0 on.")] = 3,
    steps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Of an autoencoder; the rollouts take more.")] = 300,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Clips a step.")] = 2,
    clips: Annotated[int, typer.Option(min=1, max=100_000, help="To learn from.")] = 240,
    unseen_clips: Annotated[int, typer.Option(min=1, max=100_000, help="Of the unseen town.")] = 64,
    groups: Annotated[str, typer.Option(help="Which ablations: letters of abcdefg.")] = "abcdefg",
    as_json: AsJson = False,
) -> None:
    """What each part of the method is worth: variants trained under one budget, against the paper's claims."""
    from bridges.ablation import AblationOrder, Budget, ablation_text, run_ablation

    budget = Budget(steps, batch, clips, unseen_clips)
    results = run_ablation(AblationOrder(tuple(folders or ()), unseen, output, seeds, groups, budget), tell)
    print(json.dumps(results) if as_json else ablation_text(results))


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


@app.command()
def model(
    world: Annotated[
        Path | None, typer.Argument(metavar="[WORLD]", help="A folder of dcgen world build; a library map's.")
    ] = None,
    preset: Annotated[str, typer.Option(help="The model's sizes: nano, base, wide or paper.")] = "base",
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Of each figure, after one that does not count.")] = 3,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What a model costs: CPU-seconds and memory of its parts, against the release; on the GPU where there is one."""
    from bridges.bench_model import ModelOrder, bench_model, model_text

    figures = bench_model(ModelOrder(preset, world, repeats, seed), tell)
    print(json.dumps(figures) if as_json else model_text(figures))


@app.command()
def instances(
    map: Annotated[Path | None, typer.Option(help="An OpenDRIVE file, whose world is built and kept.")] = None,
    world: Annotated[Path | None, typer.Option(metavar="DIR", help="Or a folder of dcgen world build.")] = None,
    clips: Annotated[int, typer.Option(min=1, max=100_000, help="Anchored ones, and as many ego-centred.")] = 32,
    grid: Annotated[str, typer.Option(help="carlasc, wide, nano, or sizes as 96x80x16@0.4.")] = "carlasc",
    frames: Annotated[int, typer.Option(min=2, max=1000, help="Of a clip, 0.2 s apart.")] = 16,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Ids, tracks and flow found without the agents, against those of the world: IDF1, MOTA, end-point errors."""
    from bridges.bench_instances import InstancesOrder, bench_instances, instances_text
    from bridges.commands.options import grid_of

    result = bench_instances(InstancesOrder(grid_of(grid), map, world, clips, frames, seed), tell)
    print(json.dumps(result) if as_json else instances_text(result))


@app.command()
def rollout(
    scene: Annotated[Path | None, typer.Argument(metavar="[SCENE]", help="A scene, *.h5; a drive in a town.")] = None,
    planner: Annotated[str, typer.Option(help="Who drives, MODULE:CLASS.")] = "bridges.planners:LaneFollowing",
    seconds: Seconds = 5.0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Steps a second of closed loops on one core: seeing, planning, driving and cutting the world again."""
    from bridges.rollout.measure import bench_rollout

    _print(bench_rollout(scene, planner, seconds, seed), as_json)
