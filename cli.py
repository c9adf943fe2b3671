"""The command line: a command parses, calls one function and prints. Faults a user can mend are one line."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import dcgen
from dcgen.errors import DcgenError

USAGE_FAULT, INTERRUPTED = 2, 130
OUT_OF_MEMORY = "out of memory; ask for fewer frames, a smaller grid or a smaller batch"

app = typer.Typer(
    help="Generate labelled 4D occupancy scenes from CARLA routes and OpenDRIVE maps.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
world = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Labelled towns with traffic, to learn from.")
app.add_typer(world, name="world")


def _finite(value: float | None) -> float | None:
    """The bounds of an option let NaN through, since it is neither below nor above them."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Everything random follows from it.")]
SamplingSteps = Annotated[int | None, typer.Option(min=1, max=1000, help="Sampling steps a chunk.")]
Guidance = Annotated[float | None, typer.Option(min=0, max=20, callback=_finite, help="Weight of the conditions.")]
SceneFile = Annotated[Path, typer.Argument(metavar="FILE", help="A scene, *.h5.")]


def _tell(line: str) -> None:
    """What is being done goes to stderr; results alone go to stdout."""
    print(line, file=sys.stderr, flush=True)


def _step(line: str) -> None:
    """Steps are told to who waits at a terminal; in a pipe a fault is the one line there is."""
    if sys.stderr.isatty():
        _tell(line)


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        print(f"dcgen {dcgen.__version__}")
        raise typer.Exit


@app.command()
def scenario(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Scenario YAML, route XML, .xodr, poses.txt or CSV.")],
    map: Annotated[str | None, typer.Option(help="The road network: an .xodr file or a library map.")] = None,
    route_id: Annotated[str | None, typer.Option(help="The route of a route file.")] = None,
    routes_subset: Annotated[str | None, typer.Option(help="Several routes of a route file, as 0-3,7.")] = None,
    edit: Annotated[str | None, typer.Option(metavar="SCENE", help="The scene to edit, complete or continue.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="How many frames, instead of the scenario's.")] = None,
    command: Annotated[str | None, typer.Option(help="static, forward, left or right, instead of the route's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the scenario's; the same gives the same.")] = None,
    steps: SamplingSteps = None,
    guidance: Guidance = None,
    model: Annotated[str, typer.Option(help="A shipped model's name, or the path of one.")] = "nano",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file or a folder; out/NAME.h5 by default.")
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Draw a picture beside the scene.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw this .png, .gif or .mp4.")] = None,
    as_json: AsJson = False,
) -> None:
    """Generate a scene from a scenario, a route, a map or a logged trajectory."""
    from bridges.scenes import SceneOrder, make_scenes

    order = SceneOrder(
        source, map, route_id, routes_subset, edit, frames, seed, command, model, steps, guidance, output, picture,
        render,
    )  # fmt: skip
    with _progress("generating") as progress:
        for made in make_scenes(order, _step, _tell, progress):
            print(made.as_json() if as_json else f"{made.scene}\n{made.picture or ''}".rstrip(), flush=True)


@app.command()
def inspect(file: SceneFile, as_json: AsJson = False) -> None:
    """Say what is in a scene: provenance, grid, shares of the classes, agents."""
    from dcgen.export.summary import show, summarise

    summary = summarise(file)
    if as_json:
        print(json.dumps(summary))
        return
    from rich.console import Console

    show(summary, Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 120))


@app.command()
def render(
    file: SceneFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="x.png, x.gif or x.mp4.")],
    frame: Annotated[int | None, typer.Option(help="One frame; negative counts from the end.")] = None,
    width: Annotated[int | None, typer.Option(min=320, max=7680, help="Pixels from left to right.")] = None,
) -> None:
    """Draw a scene in 3D and from above, with no display needed."""
    from dcgen.export.render import render_file

    print(render_file(file, output, frame, width, _tell))


@app.command()
def view(file: SceneFile) -> None:
    """Play a scene in a window: space pauses, the arrow keys step, R looks from the start again."""
    from dcgen.export.viewer import view as play

    play(file)


@world.command("build")
def world_build(
    map: Annotated[Path, typer.Argument(metavar="MAP", help="An OpenDRIVE file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder; out/worlds/MAP-SEED.")] = None,
    seed: Seed = 0,
    seconds: Annotated[float, typer.Option(min=5, max=36000, callback=_finite, help="Time to simulate.")] = 300.0,
) -> None:
    """Build a town on a map, fill it with traffic and keep it in a folder."""
    from scenarios.world.store import build_world

    folder = output or Path("out/worlds") / f"{map.stem}-{seed}"
    build_world(map, folder, seed, seconds)
    print(folder)


@world.command("preview")
def world_preview(
    folder: Annotated[Path, typer.Argument(metavar="WORLD", help="A folder of dcgen world build.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder; the world's own.")] = None,
    clips: Annotated[int, typer.Option(min=1, max=64, help="How many clips to show.")] = 6,
    seed: Seed = 0,
) -> None:
    """Draw a town and some clips of it."""
    from scenarios.world.preview import preview_world
    from scenarios.world.store import load_world

    for path in preview_world(load_world(folder), output or folder, clips, seed):
        print(path)


@world.command("clips")
def world_clips(
    folders: Annotated[list[Path], typer.Argument(metavar="WORLD...", help="Folders of dcgen world build.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the clips.")],
    count: Annotated[int, typer.Option(min=1, help="How many clips.")] = 10_000,
    preset: Annotated[str, typer.Option(help="Whose grid and frames: nano or paper.")] = "nano",
    seed: Seed = 0,
) -> None:
    """Cut clips beforehand, for a machine that trains without maps."""
    from bridges import training

    with _progress("cutting clips") as progress:
        training.cut_clips(folders, output, count, seed, training.preset(preset), progress)
    print(output)


@world.command("bench")
def world_bench(
    folder: Annotated[Path, typer.Argument(metavar="WORLD", help="A folder of dcgen world build.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, callback=_finite, help="For each figure.")] = 3.0,
) -> None:
    """Measure how many frames a second a core cuts."""
    from scenarios.world.bench import bench_world
    from scenarios.world.store import load_world

    print(json.dumps(bench_world(load_world(folder), seconds)))


class Stage(str, Enum):
    """What is trained: the autoencoder, its decoder once more, the transformer."""

    vae = "vae"
    decoder = "decoder"
    dit = "dit"


@app.command()
def train(
    stage: Annotated[Stage, typer.Argument(help="The autoencoder, its decoder again, the transformer.")],
    clips: Annotated[list[Path], typer.Argument(metavar="CLIPS...", help="A folder of cut clips, or worlds.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint, log, curve; goes on from them.")],
    vae: Annotated[Path | None, typer.Option(help="The run folder of the stage before.")] = None,
    start: Annotated[str | None, typer.Option(help="For dit: a model that goes on, in place of --vae.")] = None,
    preset: Annotated[str, typer.Option(help="The model's sizes: nano or paper.")] = "nano",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=4096, help="Clips a batch.")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches a step.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(min=0, max=1, callback=_finite, help="At its highest.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, callback=_finite, help="Stop after so long.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many clips are cut from worlds.")] = 10_000,
    seed: Seed = 0,
) -> None:
    """Train a model in three stages: vae, decoder, dit. The last leaves a folder for --model."""
    from bridges.training import TrainingOrder, run_training

    asked = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "accumulate": accumulate}
    order = TrainingOrder(stage.value, tuple(clips), output, vae, start, preset, asked, minutes, count, seed)
    print(run_training(order, _tell))


@app.command()
def evaluate(
    map: Annotated[Path, typer.Option(help="An OpenDRIVE file; best one that the model has not seen.")],
    model: Annotated[str, typer.Option(help="A shipped model's name, or the path of one.")] = "nano",
    clips: Annotated[int, typer.Option(min=1, help="How many clips to measure on.")] = 200,
    generate: Annotated[int | None, typer.Option(min=0, help="How many of them to generate again; all.")] = None,
    long: Annotated[int, typer.Option(min=0, help="How many scenes of 128 frames.")] = 4,
    steps: SamplingSteps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a model on a world that is built on a map."""
    from bridges.evaluation import evaluate_on_map
    from dcgen.eval.report import markdown

    with _progress("evaluating") as progress:
        figures = evaluate_on_map(
            model, map, clips, seed, _tell, progress,
            generate_clips=generate, long_scenes=long, steps=steps, guidance=guidance,
        )  # fmt: skip
    print(json.dumps(figures) if as_json else markdown(figures))


def main() -> NoReturn:
    """Run the command; end with 2 and one line on stderr where a user can mend what went wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what the terminal cannot show
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
    except DcgenError as fault:
        code = _say(str(fault))
    except BrokenPipeError:  # `dcgen inspect x.h5 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (KeyboardInterrupt, typer.Abort):
        code = _say("interrupted; nothing was left half written", INTERRUPTED)
    except MemoryError:
        code = _say(OUT_OF_MEMORY)
    except OSError as fault:
        place = f"{fault.filename}: " if fault.filename else ""
        code = _say(f"{place}{(fault.strerror or str(fault)).lower()}; check the path, its rights and the free space")
    except Exception as fault:
        if type(fault).__name__ == "NoArgsIsHelpError":  # click's, where it has one
            print(fault, file=sys.stderr)
            code = USAGE_FAULT
        elif hasattr(fault, "format_message"):  # a wrong use of the command line has one
            code = _say(f"{fault.format_message()} See dcgen --help.")
        elif isinstance(fault, RuntimeError) and "memory" in str(fault):  # how torch says it
            code = _say(OUT_OF_MEMORY)
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _say(fault: str, code: int = USAGE_FAULT) -> int:
    from dcgen.export.plain import plain  # what a file holds may talk to the terminal

    print(f"error: {plain(fault, 1500)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
