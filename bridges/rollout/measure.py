"""How many steps a second a closed loop takes on this machine, on one core."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from dcgen import __version__
from dcgen.types import UNKNOWN, Clip, Scene, carlasc_grid

OWN_MAP = Path(__file__).resolve().parents[2] / "scenarios" / "library" / "maps" / "crossroads.xodr"
FRAMES, DT_S, TRAFFIC_S = 40, 0.2, 30.0


def bench_rollout(scene: Path | None, planner: str, seconds: float, seed: int = 0) -> dict[str, Any]:
    """Steps a second of closed loops of at least `seconds` each, by how the others drive.

    Keys: `replay_steps_per_s`, `idm_steps_per_s` (observing, asking the planner in its own process, moving, cutting),
    `replay_cpu_ms`, `idm_cpu_ms` (processor time of such a step, the planner in this process), `observe_ms` (cutting
    and observing alone), `begin_s` (a scene made ready), `grid`, `agents`, `hardware`.
    Without a scene: a drive cut from a world that is built now, 128 x 128 x 8 voxels. Raises DcgenError.
    """
    from bridges.bench import hardware
    from bridges.rollout.closed_loop import ClosedLoop, LoopSettings
    from bridges.rollout.drive import drive_apart
    from dcgen.instances import with_motion
    from dcgen.scene_file import load_scene

    given = with_motion(_own_scene(seed) if scene is None else load_scene(scene, motion=True))
    drive_apart(given, planner, LoopSettings(agents="idm"), time_limit_s=60.0)  # compiles the loops
    began = time.perf_counter()
    loop = ClosedLoop(given, LoopSettings())
    figures: dict[str, Any] = {"grid": "x".join(map(str, given.grid.shape)), "agents": len(loop.moments[0].state.valid)}
    figures["begin_s"] = round(time.perf_counter() - began, 2)
    for agents in ("replay", "idm"):
        steps, spent = 0, 0.0
        while spent < seconds:
            driven = drive_apart(given, planner, LoopSettings(agents=agents), time_limit_s=60.0)
            steps += len(driven.episode.step_s)
            spent += len(driven.episode.step_s) / max(driven.steps_per_s, 1e-9)
        figures[f"{agents}_steps_per_s"] = round(steps / spent, 1)
        figures[f"{agents}_cpu_ms"] = round(1000 * _cpu_s(given, planner, agents), 2)
    figures["observe_ms"] = round(1000 * _observing_s(loop), 2)
    return {**figures, "planner": planner, "hardware": hardware(), "dcgen": __version__}


def _cpu_s(scene: Scene, planner: str, agents: str) -> float:
    """Processor seconds a step: what the wall shows where nothing else runs."""
    from bridges.rollout.child import load
    from bridges.rollout.closed_loop import ClosedLoop, LoopSettings

    loop, asked = ClosedLoop(scene, LoopSettings(agents=agents)), load(planner)  # type: ignore[arg-type]
    asked.reset(loop.task)
    loop.advance(asked.plan(loop.observe()))
    began = time.process_time()
    while not loop.done:
        loop.advance(asked.plan(loop.observe()))
    return (time.process_time() - began) / max(1, loop.frames - 2)


def _observing_s(loop: Any, times: int = 50) -> float:
    ego = loop.moments[-1].ego
    began = time.process_time()
    for _ in range(times):
        loop._look(ego)
        loop.observe()
        loop.moments.pop()
    return (time.process_time() - began) / times


def _own_scene(seed: int) -> Scene:
    """A drive over a crossing of a town, recorded in the grid of CarlaSC."""
    import tempfile

    from scenarios.world.cut.candidates import EgoMix
    from scenarios.world.cut.clips import candidates_of, make_clip
    from scenarios.world.cut.recipe import ClipRecipe, Pick
    from scenarios.world.store import build_world, load_world

    grid = carlasc_grid()
    with tempfile.TemporaryDirectory() as folder:
        build_world(OWN_MAP, Path(folder) / OWN_MAP.stem, seed, TRAFFIC_S)
        world = load_world(Path(folder) / OWN_MAP.stem)
        row, start = candidates_of(world, FRAMES, DT_S).draw(EgoMix(), np.random.default_rng(seed))
        return scene_of(make_clip(world, Pick(row, start, 0), ClipRecipe(grid, FRAMES, DT_S, ego_centred=True)))


def scene_of(clip: Clip) -> Scene:
    """A clip whose frames are ego-centred, as a scene. Raises ValueError for an anchored one."""
    from dcgen.canvas import Canvas
    from dcgen.frames import FrameCutter

    if not clip.ego_centred:
        raise ValueError("a scene's frames are ego-centred, the clip's are not")
    c = clip.conditions
    cutter = FrameCutter(Canvas(min(c.grid.voxel_m) / 2), c.grid)
    local = np.linalg.inv(c.world_se3_ego[0]) @ c.world_se3_ego
    yaw = np.arctan2(local[:, 1, 0], local[:, 0, 0])
    return Scene(
        labels=clip.labels,
        grid=c.grid,
        time_s=np.arange(c.frames, dtype=np.float64) * c.dt_s,
        world_se3_ego=c.world_se3_ego,
        agents=c.agents,
        trajectory=np.stack([local[:, 0, 3], local[:, 1, 3], yaw], axis=1).astype(np.float32),
        command=np.full(c.frames, int(c.command), np.int8),
        layout=np.stack([cutter.layout(c, t).astype(np.float16) for t in range(c.frames)]),
        known=clip.labels != UNKNOWN,
        metadata={"name": clip.source or "clip"},
    )
