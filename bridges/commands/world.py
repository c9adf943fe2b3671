"""`dcgen world`: labelled towns with traffic, one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridges.commands.options import Seconds, Seed, Style, TownSettings, TrafficSettings, settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Labelled towns with traffic, to learn from.")


@app.command("map")
def random_network(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The OpenDRIVE file to write, x.xodr.")],
    seed: Seed = 0,
) -> None:
    """Make a road network by seed, with sidewalks, crossings and traffic lights."""
    from scenarios.world.random_map import random_map

    random_map(output, seed)
    print(output)


@app.command()
def build(
    map: Annotated[Path, typer.Argument(metavar="MAP", help="An OpenDRIVE file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder; out/worlds/MAP-SEED.")] = None,
    seed: Seed = 0,
    seconds: Seconds = 300.0,
    style: Style = "mixed",
    town: TownSettings = None,
    traffic: TrafficSettings = None,
) -> None:
    """Build a town on a map, fill it with traffic and keep it in a folder."""
    from scenarios.world.store import build_world
    from scenarios.world.town.style import style_named
    from scenarios.world.traffic.spec import TrafficSpec

    folder = output or Path("out/worlds") / f"{map.stem}-{seed}"
    looks = settings("--town", town or (), style_named(style))
    build_world(map, folder, seed, seconds, looks, settings("--traffic", traffic or (), TrafficSpec()))
    print(folder)


@app.command()
def preview(
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


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="WORLD", help="A folder of dcgen world build.")],
    seed: Seed = 0,
) -> None:
    """Print how sound a world is as JSON: what overlaps, what stands where it should not, how fast who moves."""
    import json

    from scenarios.world.quality import check_world
    from scenarios.world.store import load_world

    print(json.dumps(check_world(load_world(folder), seed)))
