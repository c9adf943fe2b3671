"""`dcgen forecast`: train a forecaster of occupancy, and measure it beside copies of the last frame."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bridges.commands.options import AsJson, Seed, finite, progress, tell
from dcgen.errors import DcgenError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Frames in, occupancy of the next seconds out.")
Horizons = Annotated[str | None, typer.Option(help="Seconds ahead, as 1,2,3.")]
Past = Annotated[int | None, typer.Option(min=2, max=1000, help="Frames seen; 5.")]
Stride = Annotated[int | None, typer.Option(min=1, help="Frames from window to window; a window's length.")]


class EgoFuture(str, Enum):
    """Whether a forecast may know where the ego will be."""

    given = "given"
    predicted = "predicted"


def seconds_of(text: str | None) -> tuple[float, ...] | None:
    """The horizons of an option. Raises DcgenError."""
    if text is None:
        return None
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or list(found) != sorted(set(found)) or not all(0 < time <= 600 for time in found):
        raise DcgenError(f"--horizons {text}: give ascending seconds, as 1,2,3")
    return found


@app.command()
def train(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Data sets, or folders of scenes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint, log, curve; goes on from them.")],
    past: Past = None,
    horizons: Horizons = None,
    stride: Stride = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all; 1000.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, max=4096, help="Windows a batch; 8.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, max=1, callback=finite, help="At its highest.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, callback=finite, help="Stop after so long.")] = None,
    seed: Seed = 0,
) -> None:
    """Train a forecaster; of several sources a batch holds as many windows each."""
    from bridges.forecasting import PAST, SECONDS, TrainForecast, train_forecast

    asked = {"steps": steps, "batch": batch, "learning_rate": learning_rate}
    ahead = seconds_of(horizons) or SECONDS
    order = TrainForecast(tuple(sources), output, past or PAST, ahead, stride, asked, minutes, seed)
    if (made := train_forecast(order, tell)) is not None:
        print(made)


@app.command()
def evaluate(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A data set, or a folder of scenes.")],
    model: Annotated[list[Path] | None, typer.Option(help="A run folder or file; several of them: seeds.")] = None,
    ego_future: Annotated[EgoFuture, typer.Option(help="May a forecast know the ego's later poses?")] = EgoFuture.given,
    past: Past = None,
    horizons: Horizons = None,
    stride: Stride = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the busiest windows to this .png.")] = None,
    as_json: AsJson = False,
) -> None:
    """IoU, mIoU and IoU of what moves at each horizon, beside copies of the last frame."""
    from bridges.forecasting import EvaluateForecast, evaluate_forecast, table

    ahead = seconds_of(horizons)
    order = EvaluateForecast(source, tuple(model or ()), ego_future.value, past, ahead, stride, picture)
    with progress("evaluating") as bar:
        result = evaluate_forecast(order, bar)
    print(json.dumps(result) if as_json else table(result))
