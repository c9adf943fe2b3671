"""`dcgen rollout` and `dcgen benchmark planners`: planners drive in scenes, in a closed loop, and are marked."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bridges.commands.options import AsJson, Seed, finite, progress, tell

PLANNER_FAILED = 3  # exit code: the command did its work, and the planner did not

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare planners in closed loop.")


class Agents(str, Enum):
    """How the others drive: as recorded, or yielding to the ego and to each other."""

    replay = "replay"
    idm = "idm"


AgentsOption = Annotated[Agents, typer.Option(help="The others drive as recorded, or yield by IDM.")]
TimeLimit = Annotated[
    float, typer.Option("--time-limit", min=0.001, max=3600, callback=finite, help="Seconds for each answer.")
]
Frames = Annotated[int | None, typer.Option(min=1, max=100_000, help="How many frames; the scene's.")]
History = Annotated[int, typer.Option(min=1, max=64, help="Frames of occupancy that a planner sees.")]
Map = Annotated[Path | None, typer.Option(help="The scene's OpenDRIVE file: directions of travel, speed limits.")]
SpeedLimit = Annotated[
    float | None, typer.Option(min=0.1, max=70, callback=finite, help="m/s; the map's unless given, or 13.9.")
]


def rollout(
    scene: Annotated[Path, typer.Argument(metavar="SCENE", help="A scene, *.h5.")],
    planner: Annotated[str, typer.Option(metavar="MODULE:CLASS", help="Who drives; FILE.py:CLASS is read, too.")],
    agents: AgentsOption = Agents.replay,
    time_limit: TimeLimit = 2.0,
    frames: Frames = None,
    history: History = 4,
    map: Map = None,
    speed_limit: SpeedLimit = None,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write what happened as a scene, *.h5.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a planner drive in a scene, in a closed loop, and mark it."""
    from bridges.rollout.closed_loop import LoopSettings
    from bridges.rollout.order import RolloutOrder, line_of, run_rollout

    settings = LoopSettings(frames, agents.value, history, seed, map, speed_limit)
    with progress("driving") as bar:
        driven = run_rollout(RolloutOrder(scene, planner, settings, time_limit, output), bar)
    print(json.dumps(driven.to_dict()) if as_json else line_of(driven))
    if output is not None and not as_json:
        print(output)
    if driven.scores.failure:
        raise typer.Exit(PLANNER_FAILED)


@app.command()
def planners(
    scenes: Annotated[Path, typer.Option(metavar="DIR", help="A folder of scenes, or one scene.")],
    planner: Annotated[list[str], typer.Option(metavar="MODULE:CLASS", help="Who drives; once for each.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Results and a page; a stopped run goes on.")],
    agents: AgentsOption = Agents.replay,
    time_limit: TimeLimit = 2.0,
    frames: Frames = None,
    history: History = 4,
    map: Map = None,
    speed_limit: SpeedLimit = None,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes of this machine.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Let planners drive in every scene of a folder: a table, results.json and report.html."""
    from bridges.rollout.benchmark import BenchmarkOrder, run_benchmark, table_of
    from bridges.rollout.closed_loop import LoopSettings

    settings = LoopSettings(frames, agents.value, history, seed, map, speed_limit)
    order = BenchmarkOrder(scenes, tuple(planner), output, settings, time_limit, workers)
    with progress("driving") as bar:
        results = run_benchmark(order, tell, bar)
    print(json.dumps(results) if as_json else table_of(results))
    if not as_json:
        print(output / "report.html")
