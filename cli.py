"""The command line: a command parses, calls one function and prints. Faults a user can mend are one line."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import dcgen
from bridges.commands import bench, dataset, export, forecast, planner, report, world
from bridges.commands.options import AsJson, Guidance, SamplingSteps, Seed, finite, progress, step, tell
from dcgen.errors import DcgenError, Stopped

USAGE_FAULT, INTERRUPTED = 2, 130
OUT_OF_MEMORY = "out of memory; ask for fewer frames, a smaller grid or a smaller batch"

app = typer.Typer(
    help="Generate labelled 4D occupancy scenes from CARLA routes and OpenDRIVE maps.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(world.app, name="world")
app.add_typer(dataset.app, name="dataset")
app.add_typer(bench.app, name="bench")
app.add_typer(forecast.app, name="forecast")
app.add_typer(planner.app, name="benchmark")


SceneFile = Annotated[Path, typer.Argument(metavar="FILE", help="A scene, *.h5.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        print(f"dcgen {dcgen.__version__}")
        raise typer.Exit


@app.command()
def scenario(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Scenario YAML or one of the library, route XML, .xodr, poses, CSV.")
    ],
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
        str | None, typer.Option("--output", "-o", metavar="PATH", help="A file or a folder/; out/NAME.h5 by default.")
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
    with progress("generating") as bar:
        for made in make_scenes(order, step, tell, bar):
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


class Camera(str, Enum):
    """Where a picture is taken from."""

    page = "page"
    chase = "chase"
    birdseye = "birdseye"
    ego = "ego"
    orbit = "orbit"


class Colouring(str, Enum):
    """What a voxel's colour tells."""

    class_ = "class"
    instance = "instance"


@app.command()
def render(
    file: SceneFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="x.png, x.gif or x.mp4.")],
    frame: Annotated[int | None, typer.Option(help="One frame; negative counts from the end.")] = None,
    camera: Annotated[Camera, typer.Option(help="The composed page, or what one camera sees.")] = Camera.page,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Pixels, as 1280x720.")] = None,
    width: Annotated[int | None, typer.Option(min=320, max=7680, help="Pixels from left to right.")] = None,
    colour: Annotated[Colouring, typer.Option(help="By class, or by who it is.")] = Colouring.class_,
    boxes: Annotated[bool, typer.Option("--boxes/--no-boxes", help="Frames around the agents.")] = False,
    path: Annotated[bool, typer.Option("--path/--no-path", help="The ego's path to come.")] = True,
    layout: Annotated[bool, typer.Option("--layout/--no-layout", help="The layout in place of the ground.")] = False,
    every: Annotated[int, typer.Option(min=1, help="A film shows every so many frames.")] = 1,
    fps: Annotated[float | None, typer.Option(min=0.1, max=120, callback=finite, help="Of a film.")] = None,
) -> None:
    """Draw a scene in 3D, with no display needed: a picture or a film."""
    from dcgen.export.look import Look
    from dcgen.export.render import Shot, render_file, size_of

    look = Look(colour=colour.value, boxes=boxes, path=path, layout=layout)
    shot = Shot(camera.value, size_of(size) if size else None, look, every, fps)
    with progress("drawing") as bar:
        render_file(file, output, frame, width, tell, shot, bar)
    print(output)


@app.command()
def view(files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scenes, *.h5.")]) -> None:
    """Play scenes in a window, side by side; it lists its keys."""
    from dcgen.export.viewer import view as play

    play(*files)


class Stage(str, Enum):
    """What is trained: the autoencoder, its decoder once more, the transformer, a student of a few steps."""

    vae = "vae"
    decoder = "decoder"
    dit = "dit"
    student = "student"


@app.command()
def train(
    stage: Annotated[Stage, typer.Argument(help="Autoencoder, its decoder again, transformer, few-step student.")],
    clips: Annotated[list[Path], typer.Argument(metavar="CLIPS...", help="A data set, or worlds.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint, log, curve; goes on from them.")],
    vae: Annotated[Path | None, typer.Option(help="The stage before: a run folder, or a finished model.")] = None,
    start: Annotated[str | None, typer.Option(help="A model that goes on, lends weights or teaches.")] = None,
    preset: Annotated[str | None, typer.Option(help="The sizes, nano unless given: nano, base, wide, paper.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=4096, help="Clips a batch.")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches a step.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(min=0, max=1, callback=finite, help="At its highest.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, callback=finite, help="Stop after so long.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many clips are cut from worlds.")] = 10_000,
    trajectories: Annotated[int, typer.Option(min=1, help="Of the teacher, for a student.")] = 320,
    cut: Annotated[str | None, typer.Option(help="Cut clips from worlds on the cpu or the device; as fits.")] = None,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Less memory for a third more work.")] = False,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="Processes share weights; torchrun -m cli train ...")] = False,
    seed: Seed = 0,
) -> None:
    """Train a model in three stages: vae, decoder, dit; then student. The last two leave a folder for --model.

    Several processes: `accelerate launch -m cli train ...` or `torchrun --nproc-per-node 2 -m cli train ...`.
    """
    from bridges.training import TrainingOrder, run_training

    asked = {
        "steps": steps, "batch": batch, "learning_rate": learning_rate, "accumulate": accumulate,
        "checkpointing": checkpointing, "fsdp": fsdp,
    }  # fmt: skip
    rest = (minutes, count, seed, trajectories, cut)
    order = TrainingOrder(stage.value, tuple(clips), output, vae, start, preset, asked, *rest)
    if (made := run_training(order, tell)) is not None:
        print(made)


@app.command()
def evaluate(
    map: Annotated[Path, typer.Option(help="An OpenDRIVE file; best one that the model has not seen.")],
    model: Annotated[str | None, typer.Option(help="A shipped model's name, or the path of one; nano.")] = None,
    vae: Annotated[str | None, typer.Option(help="An autoencoder alone: a run's or a model's.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="How many clips to measure on.")] = 200,
    worlds: Annotated[int | None, typer.Option(min=1, max=100, help="Towns drawn on the map to share them; 1.")] = None,
    generate: Annotated[int | None, typer.Option(min=0, help="How many of them to generate again; all.")] = None,
    long: Annotated[int | None, typer.Option(min=0, help="How many scenes of 128 frames; 4.")] = None,
    steps: SamplingSteps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a model on a world that is built on a map."""
    from bridges.evaluation import evaluate_autoencoder, evaluate_on_map
    from dcgen.eval.report import markdown

    with progress("evaluating") as bar:
        if vae is not None:
            if any(option is not None for option in (model, worlds, generate, long, steps, guidance)):
                raise DcgenError(
                    "--vae is measured alone; leave out --model, --worlds, --generate, --long, --steps and --guidance"
                )
            figures = evaluate_autoencoder(vae, map, clips, seed, tell, bar)
        else:
            figures = evaluate_on_map(
                "nano" if model is None else model, map, clips, seed, tell, bar,
                worlds=worlds or 1, generate_clips=generate, long_scenes=4 if long is None else long, steps=steps,
                guidance=guidance,
            )  # fmt: skip
    print(json.dumps(figures) if as_json else markdown(figures))


app.command()(planner.rollout)
app.command()(export.export)
app.command()(report.report)


def main() -> NoReturn:
    """Run the command; end with 2 and one line on stderr where a user can mend what went wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what the terminal cannot show
    try:
        code = app(prog_name="dcgen", standalone_mode=False)
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
    except Stopped as stop:
        code = _say(str(stop), 128 + signal.SIGTERM)
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
            code = _say(_usage(fault))
        elif isinstance(fault, RuntimeError) and "memory" in str(fault):  # how torch says it
            code = _say(OUT_OF_MEMORY)
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _usage(fault: Any) -> str:
    """What click says of a wrong use, as a sentence, and the command whose help explains it."""
    text = fault.format_message().strip().replace(": Value error, ", ": ")
    context = getattr(fault, "ctx", None)
    command = context.command_path if context is not None else "dcgen"
    return f"{text if text.endswith(('.', '?', '!')) else f'{text}.'} See {command} --help."


def _say(fault: str, code: int = USAGE_FAULT) -> int:
    from dcgen.export.plain import plain  # what a file holds may talk to the terminal

    print(f"error: {plain(fault, 1500)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
