"""`dcgen dataset`: training data at scale. Build from maps, record from CARLA, import public sets; look and verify."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from bridges.commands.options import (
    AsJson,
    DatasetFolder,
    OutputFolder,
    Seconds,
    Seed,
    Style,
    TownSettings,
    TrafficSettings,
    finite,
    grid_of,
    progress,
    settings,
    tell,
)
from dcgen.errors import DcgenError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Labelled clips, to train and forecast from.")
Grid = Annotated[str, typer.Option(help="carlasc, wide, nano, or sizes as 96x80x16@0.4,0.3@-1.5.")]
Frames = Annotated[int, typer.Option(min=1, max=10_000, help="Frames a clip.")]
Dt = Annotated[float, typer.Option("--dt", min=0.02, max=60, callback=finite, help="Seconds a frame.")]


class Lidar(str, Enum):
    """What stands on the ego: one LiDAR on the roof, or CarlaSC's twenty."""

    roof = "roof"
    carlasc = "carlasc"


def _share(ego: str) -> Any:
    words = f"Least share of clips whose ego {ego}; where one share is given, the others are 0."
    return typer.Option(min=0, max=1, callback=finite, help=words)


@app.command()
def build(
    maps: Annotated[list[str], typer.Option(help="OpenDRIVE files, folders of them, library maps, or random:N.")],
    clips: Annotated[int, typer.Option(min=1, max=100_000_000, help="How many clips.")],
    output: OutputFolder,
    more_maps: Annotated[list[str] | None, typer.Argument(metavar="[MAP]...", help="More maps.")] = None,
    seed: Seed = 0,
    grid: Grid = "carlasc",
    frames: Frames = 16,
    dt_s: Dt = 0.2,
    ego_centred: Annotated[bool, typer.Option("--ego-centred", help="Each frame in its own ego's grid.")] = False,
    hollow: Annotated[bool, typer.Option("--hollow", help="Surfaces alone, as a LiDAR sees solids.")] = False,
    lidar: Annotated[Lidar | None, typer.Option(help="Cast rays for what is observed.")] = None,
    points: Annotated[bool, typer.Option("--points", help="Keep the LiDAR's points.")] = False,
    shards: Annotated[bool, typer.Option("--shards", help="Keep the clips as HDF5, besides the worlds.")] = False,
    worlds: Annotated[int, typer.Option(min=1, max=100_000, help="Worlds a map: towns and traffic by seed.")] = 1,
    seconds: Seconds = 300.0,
    style: Style = "mixed",
    town: TownSettings = None,
    traffic: TrafficSettings = None,
    turning: Annotated[float | None, _share("turns")] = None,
    junction: Annotated[float | None, _share("is at a junction")] = None,
    busy: Annotated[float | None, _share("has moving neighbours")] = None,
    standing: Annotated[float | None, _share("stands")] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes of this machine.")] = 1,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster, instead of --workers.")] = None,
) -> None:
    """Build worlds on maps and index clips of them; run it again to go on where it stopped."""
    from bridges.dataset_build import BuildOrder, build_dataset
    from scenarios.world.cut.candidates import EgoMix
    from scenarios.world.cut.recipe import ClipRecipe
    from scenarios.world.town.style import style_named
    from scenarios.world.traffic.spec import TrafficSpec

    if seconds < (frames - 1) * dt_s + 1:
        raise DcgenError(f"--seconds {seconds:g}: too short for {frames} frames {dt_s:g} s apart; give more seconds")
    shares = {"turning": turning, "junction": junction, "busy": busy, "standing": standing}
    given = {name: share for name, share in shares.items() if share is not None}
    mix = EgoMix.from_dict({**dict.fromkeys(shares, 0.0), **given}) if given else EgoMix()
    order = BuildOrder(
        (*maps, *(more_maps or ())),
        output,
        clips,
        ClipRecipe(grid_of(grid), frames, dt_s, ego_centred, hollow, lidar.value if lidar else "", mix),
        seed,
        shards,
        points,
        worlds,
        seconds,
        settings("--town", town or (), style_named(style)),
        settings("--traffic", traffic or (), TrafficSpec()),
        workers,
        ray,
    )
    with progress("building") as bar:
        print(build_dataset(order, tell, bar))


@app.command()
def record(
    output: OutputFolder,
    host: Annotated[str, typer.Option(help="Where the CARLA server runs.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65533, help="Its RPC port.")] = 2000,
    clips: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many clips.")] = 100,
    map: Annotated[str | None, typer.Option(help="The town to load; the one the server shows.")] = None,
    route: Annotated[Path | None, typer.Option(help="A CARLA route file for the ego; else an autopilot.")] = None,
    route_id: Annotated[str | None, typer.Option(help="The route of that file.")] = None,
    seed: Seed = 0,
    grid: Grid = "carlasc",
    frames: Frames = 16,
    dt_s: Dt = 0.2,
    vehicles: Annotated[int, typer.Option(min=0, max=1000, help="Other vehicles.")] = 40,
    walkers: Annotated[int, typer.Option(min=0, max=1000, help="Pedestrians.")] = 20,
    lidars: Annotated[int, typer.Option(min=1, max=100, help="Semantic LiDARs; CarlaSC had 20.")] = 20,
    tick_s: Annotated[float, typer.Option(min=1, max=3600, callback=finite, help="The longest wait for a tick.")] = 30,
) -> None:
    """Record clips from a running CARLA server; run it again to go on where it stopped."""
    from bridges.carla.order import RecordOrder
    from bridges.carla.record import record as record_clips

    order = RecordOrder(
        output, clips, host, port, seed, map, route, route_id, grid_of(grid), frames, dt_s, vehicles, walkers, lidars,
        tick_s=tick_s,
    )  # fmt: skip
    with progress("recording") as bar:
        print(record_clips(order, tell, bar))


@app.command("import")
def import_public(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The public set, as its authors lay it out.")],
    output: OutputFolder,
    format: Annotated[
        str, typer.Option(help="carlasc, occ3d-nuscenes, occ3d-waymo, uniocc, semantickitti or sscbench.")
    ],
    frames: Frames = 16,
    every: Annotated[int, typer.Option(min=1, help="Every n-th frame of the set.")] = 1,
    stride: Annotated[int | None, typer.Option(min=1, help="Frames from clip to clip; a clip's length.")] = None,
    anchored: Annotated[bool, typer.Option("--anchored", help="One still grid a clip, by the poses.")] = False,
    mask: Annotated[str, typer.Option(help="Whose view is observed: lidar or camera.")] = "lidar",
    points: Annotated[bool, typer.Option("--points", help="The sweeps, too, where the set has them.")] = False,
    dt_s: Annotated[
        float | None, typer.Option("--dt", min=0.001, max=60, callback=finite, help="Seconds a frame of the set.")
    ] = None,
) -> None:
    """Read a public data set into clips of the same kind."""
    from bridges.dataset_import import ImportOrder, import_set
    from bridges.datasets import ReadOptions

    options = ReadOptions(mask, points, dt_s)  # type: ignore[arg-type]  # open_set names the masks there are
    order = ImportOrder(format, folder, output, frames, stride, every, anchored, options)
    with progress("importing") as bar:
        print(import_set(order, tell, bar))


@app.command()
def verify(
    folder: DatasetFolder,
    quick: Annotated[bool, typer.Option("--quick", help="Compare files alone, not every clip.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every file with its checksum and every clip with its digest; exit code 2 where one does not fit."""
    from bridges.dataset_verify import verify_dataset
    from dcgen.errors import DatasetError

    with progress("verifying") as bar:
        verdict = verify_dataset(folder, quick, bar)
    if as_json:
        print(json.dumps(verdict.to_dict()))
    elif not verdict.faults:
        print(f"{folder}: {verdict.clips} clips are whole\n{verdict.content_sha256}")
    if verdict.faults:
        for line in verdict.faults[1:20]:
            tell(line)
        raise DatasetError(verdict.faults[0])


@app.command()
def info(folder: DatasetFolder, as_json: AsJson = False) -> None:
    """Say what is in a data set: clips, classes, speeds, turns, maps, seeds, and the digest of its content."""
    from bridges.dataset import dcgen_dataset
    from dcgen.dataset.card import as_text, card

    dataset = dcgen_dataset(folder)
    figures = card(dataset)
    print(json.dumps(figures) if as_json else as_text(figures, dataset.spec))


@app.command()
def preview(
    folder: DatasetFolder,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="x.png; preview.png in the folder.")] = None,
    clips: Annotated[int, typer.Option(min=1, max=64, help="How many clips to show.")] = 6,
    seed: Seed = 0,
) -> None:
    """Draw some clips of a data set, a row each."""
    from bridges.dataset import preview_dataset

    print(preview_dataset(folder, output or folder / "preview.png", clips, seed))
