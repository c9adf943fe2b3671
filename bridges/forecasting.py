"""`dcgen forecast`: forecasters learn from data sets and scenes, and are compared with copies of the last frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridges.dataset import dcgen_dataset
from dcgen.dataset.spec import NAME
from dcgen.errors import CheckpointError, DatasetError, DcgenError

if TYPE_CHECKING:
    from dcgen.forecast.config import ForecastConfig
    from dcgen.forecast.model import Forecaster
    from dcgen.forecast.windows import Recordings

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]
PAST, SECONDS = 5, (1.0, 2.0, 3.0)
DEFAULTS: dict[str, Any] = {
    "steps": 1_000, "batch": 8, "learning_rate": 2e-3, "ema": 0.99, "warmup": 30, "cooldown": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class TrainForecast:
    """What is asked of `dcgen forecast train`. sources: data sets and folders of scenes; None: what has worked."""

    sources: tuple[Path, ...]
    out: Path
    past: int = PAST
    seconds: tuple[float, ...] = SECONDS
    stride: int | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    seed: int = 0


def open_recordings(folder: Path) -> Recordings:
    """A data set's clips, or the scenes of a folder. Raises DcgenError."""
    from dcgen.forecast.scenes import SceneRecordings, scene_files
    from dcgen.forecast.windows import ClipRecordings

    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "no such folder"
        raise DatasetError(f"{folder}: {what}; give a data set, or a folder of scenes")
    if (folder / NAME).is_file():
        return ClipRecordings(dcgen_dataset(folder))
    paths = scene_files(folder)
    if not paths:
        raise DatasetError(
            f"{folder}: holds neither a data set nor scenes; make one with `dcgen dataset build` or `dcgen scenario`"
        )
    return SceneRecordings(paths, str(folder))


def config_of(source: Recordings, past: int, seconds: Sequence[float]) -> ForecastConfig:
    """Raises DcgenError for numbers that make no forecaster on these recordings."""
    from dcgen.forecast.config import ForecastConfig, frames_of

    try:
        return ForecastConfig(source.grid, source.dt_s, past, frames_of(seconds, source.dt_s))
    except ValueError as error:
        raise DcgenError(f"{source.name}: {error}; change --past, --horizons or the grid") from None


def train_forecast(order: TrainForecast, tell: Tell) -> Path | None:
    """The weights of a finished run, in the first process. A stopped run goes on. Raises DcgenError."""
    from dcgen import parallel
    from dcgen.device import default_device, describe
    from dcgen.forecast.recipe import train_forecaster
    from dcgen.forecast.windows import Windows
    from dcgen.train import TrainConfig

    _check_place(order.out)
    opened = [open_recordings(folder) for folder in order.sources]
    config = config_of(opened[0], order.past, order.seconds)
    sources = [Windows(each, config, order.stride) for each in opened]
    how = TrainConfig(**{**DEFAULTS, **{k: v for k, v in order.asked.items() if v is not None}}, seed=order.seed)
    with parallel.processes(False):
        first = parallel.first()
        say = tell if first else (lambda _: None)
        say(describe(default_device()))
        for source in sources:
            say(f"{source.source.name}: {source.source.about}, {len(source)} windows")

        def report(step: int, steps: int, terms: dict[str, float]) -> None:
            say(f"step {step} of {steps}  " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(terms.items())))

        made = train_forecaster(config, sources, order.out, how, report, order.minutes)
        return made if first else None


def _check_place(out: Path) -> None:
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "may not be written to" if there.is_dir() else "is no folder"
        raise DcgenError(f"--output {out}: {there} {why}; give another folder")


@dataclass(frozen=True)
class EvaluateForecast:
    """What is asked of `dcgen forecast evaluate`. models: files or run folders, seeds of one kind; () copies alone."""

    source: Path
    models: tuple[Path, ...] = ()
    ego_future: str = "given"
    past: int | None = None
    seconds: tuple[float, ...] | None = None
    stride: int | None = None
    picture: Path | None = None


def evaluate_forecast(order: EvaluateForecast, progress: Progress) -> dict[str, Any]:
    """Figures ready for JSON: what on, and by forecaster and horizon. Raises DcgenError."""
    from dcgen.device import default_device
    from dcgen.forecast.picture import check_picture, draw
    from dcgen.forecast.recipe import load_forecaster
    from dcgen.forecast.score import CARRIED, COPY, carry_last, copy_last, evaluate, forecasting
    from dcgen.forecast.windows import Windows

    if order.picture is not None:
        check_picture(order.picture)
    if len({place.resolve() for place in order.models}) < len(order.models):
        raise DcgenError("--model: one is named twice, and would count as two seeds; remove it once")
    models = [load_forecaster(place, default_device()) for place in order.models]
    source = open_recordings(order.source)
    if models:
        config = _one_config(order, models)
    else:
        config = config_of(source, order.past or PAST, order.seconds or SECONDS)
    windows = Windows(source, config, order.stride)
    named = {str(p): forecasting(model, order.ego_future) for p, model in zip(order.models, models, strict=True)}
    runs = {COPY: copy_last, CARRIED: carry_last(windows, order.ego_future), **named}
    figures = evaluate(windows, runs, progress=progress)
    if order.picture is not None:
        draw(windows, runs, order.picture)
    return {
        "source": source.name, "about": source.about, "windows": len(windows), "grid": list(config.grid.shape),
        "voxel_m": list(config.grid.voxel_m), "dt_s": config.dt_s, "past": config.past,
        "seconds": list(config.seconds), "ego_future": order.ego_future,
        "models": [str(place) for place in order.models], "figures": figures,
    }  # fmt: skip


def _one_config(order: EvaluateForecast, models: Sequence[Forecaster]) -> ForecastConfig:
    """That of all models. Raises CheckpointError where they differ, or are not what is asked for."""
    config = models[0].config
    for place, model in zip(order.models, models, strict=True):
        if replace(model.config, widths=config.widths) != config:
            raise CheckpointError(f"{place}: sees or forecasts other frames than {order.models[0]}; take one alone")
    for option, asked, has in (
        ("--past", order.past, config.past), ("--horizons", order.seconds, config.seconds),
    ):  # fmt: skip
        if asked is not None and asked != has:
            raise CheckpointError(f"{order.models[0]}: {option}: asked is {asked}, it learned {has}; leave it out")
    return config


def table(result: dict[str, Any]) -> str:
    """Markdown: a row a forecaster, IoU, mIoU and moving IoU at each horizon; several models as mean and spread."""
    from dcgen.forecast.score import spread

    figures, models = result["figures"], result["models"]
    rows = {name: spread([steps]) for name, steps in figures.items() if name not in models}
    if models:
        title = f"forecaster, {len(models)} seeds" if len(models) > 1 else "forecaster"
        rows[title] = spread([figures[name] for name in models])
    x, y, z = result["grid"]
    heads = [f"{name} {time:g} s" for name in ("IoU", "mIoU", "moving IoU") for time in result["seconds"]]
    lines = [
        f"On {result['about']} ({result['windows']} windows): {x} x {y} x {z} voxels of {result['voxel_m'][0]:g} m, "
        f"{result['dt_s']:g} s a frame, {result['past']} past frames; the ego's future is {result['ego_future']}.",
        "",
        "| | " + " | ".join(heads) + " |",
        "| --- |" + " --- |" * len(heads),
    ]
    for name, steps in rows.items():
        cells = [cell(*step[figure]) for figure in ("iou", "miou", "moving") for step in steps]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if result["ego_future"] != "given":
        for name, steps in rows.items():
            off = ", ".join(f"{step['ego_m'][0]:.2f}" for step in steps)
            lines.append(f"\n{name}: the ego is {off} m off.")
    return "\n".join(lines)


def cell(mean: float, deviation: float) -> str:
    """.123 or .123 ± .004."""
    said = f"{mean:.3f}".removeprefix("0") if mean == mean else "-"
    return said + (f" ± {deviation:.3f}".replace("0.", ".") if deviation == deviation else "")
