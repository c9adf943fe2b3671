"""`dcgen report`: scenes as one page that plays them in a browser, with no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridges.commands.options import progress


def report(
    source: Annotated[Path, typer.Argument(metavar="SCENE|DIR", help="A scene, *.h5, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, x.html.")],
    scores: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Scores of a rollout; else those beside the scenes.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Only the first so many of each scene.")] = None,
) -> None:
    """Make one page that plays scenes in 3D in any browser, offline: at most 200 scenes and 100 MB."""
    from dcgen.report.page import write_report

    with progress("packing scenes") as bar:
        page = write_report(source, output, scores, frames, bar)
    print(page)
