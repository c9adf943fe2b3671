"""What commands share: options, progress on a terminal, and words of the command line as values."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dcgen.errors import DcgenError
from dcgen.types import GridSpec, carlasc_grid, nano_grid, wide_grid

GRIDS = {"carlasc": carlasc_grid, "wide": wide_grid, "nano": nano_grid}
_GRID_TEXT = re.compile(r"(\d+)x(\d+)x(\d+)@([\d.]+)(?:,([\d.]+))?(?:@(-?[\d.]+))?")
MOST_VOXELS = 50_000_000


def finite(value: float | None) -> float | None:
    """The bounds of an option let NaN through, since it is neither below nor above them."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Everything random follows from it.")]
SamplingSteps = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Sampling steps a chunk; the model's own unless given.")
]
Guidance = Annotated[
    float | None,
    typer.Option(min=0, max=20, callback=finite, help="Weight of the conditions; the model's own unless given."),
]
Seconds = Annotated[float, typer.Option(min=5, max=36000, callback=finite, help="Traffic to simulate, a world.")]
Style = Annotated[str, typer.Option(help="The towns: mixed, downtown, suburb, industrial or rural.")]
TownSettings = Annotated[list[str] | None, typer.Option("--town", help="A setting of the towns, as greenery=0.8.")]
TrafficSettings = Annotated[
    list[str] | None, typer.Option("--traffic", help="A setting of the traffic, as pedestrians=2.")
]
DatasetFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="The data set's folder; a stopped run goes on.")]


def tell(line: str) -> None:
    """What is being done goes to stderr; results alone go to stdout."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def step(line: str) -> None:
    """Steps are told to who waits at a terminal; in a pipe a fault is the one line there is."""
    if _at_terminal():
        tell(line)


def _at_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; nothing in a pipe."""
    if not _at_terminal():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def grid_of(text: str) -> GridSpec:
    """A grid by name, or as XxYxZ@VOXEL[,HEIGHT][@FLOOR]: centred on the ego, its floor FLOOR metres above the ground.

    Raises DcgenError.
    """
    if text in GRIDS:
        return GRIDS[text]()
    found = _GRID_TEXT.fullmatch(text)
    fault = f"--grid {text}: give {', '.join(GRIDS)}, or sizes as 96x80x16@0.4 or 96x80x16@0.4,0.3@-1.5"
    if not found:
        raise DcgenError(fault)
    try:
        x, y, z = (int(n) for n in found.group(1, 2, 3))
        edge = float(found[4])
        height, floor = float(found[5] or edge), float(found[6] or -1.0)
        if x * y * z > MOST_VOXELS:
            raise ValueError(f"more than {MOST_VOXELS} voxels")
        if not (0.05 <= edge <= 20 and 0.05 <= height <= 20 and abs(floor) <= 1000 and max(x, y) * edge <= 1000):
            raise ValueError("voxels of 0.05 to 20 m, a floor within 1 km, and at most 1 km across")
        return GridSpec((x, y, z), (edge, edge, height), (-x * edge / 2, -y * edge / 2, floor))
    except ValueError as error:
        raise DcgenError(f"{fault} ({error})") from None


def settings(option: str, words: Iterable[str], base: Any) -> Any:
    """A dataclass with from_dict and to_dict, some of its numbers set by words like greenery=0.8. Raises DcgenError."""
    values = base.to_dict()
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or name not in values or isinstance(values[name], (dict, list, tuple)):
            known = ", ".join(key for key, value in values.items() if not isinstance(value, (dict, list, tuple)))
            raise DcgenError(f"{option} {word}: no such setting; write NAME=NUMBER with one of {known}")
        try:
            number = float(text)
            values[name] = int(number) if isinstance(values[name], int) and number.is_integer() else number
        except ValueError:
            raise DcgenError(f"{option} {word}: {text!r} is no number; write {name}=1.5") from None
    try:
        return type(base).from_dict(values)
    except (ValueError, TypeError, KeyError) as error:
        raise DcgenError(f"{option}: {error}; change it") from None
