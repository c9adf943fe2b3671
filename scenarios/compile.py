"""A scenario's meaning as Conditions, chunk by chunk. F frame of the scene, T frame of a chunk, X/Y/Z voxel axes.

Chunk k covers the T frames from chunk_starts[k] on; the first begins before the scene. Chunks are made when they are
asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from dcgen.errors import ScenarioError
from dcgen.types import AgentTracks, Command, Conditions, Doubles, GridSpec, Scene
from scenarios import given as known
from scenarios.cast import cast_of
from scenarios.chunk import anchor_of, chunk_conditions, command_of
from scenarios.ego import logged_frames, plan_ego, scene_dt_s
from scenarios.layout import RoadRaster, rasterise
from scenarios.lead import agents_before, chunk_starts, poses_before
from scenarios.roadmap import RoadMap
from scenarios.roads import read_map
from scenarios.schema import Scenario
from scenarios.sources import map_path, name_of, route_spec

__all__ = ["Chunks", "CompiledScenario", "anchor_of", "chunk_conditions", "command_of", "compile_scenario"]

CHUNK_FRAMES = 8
OVERLAP = 2
AROUND_M = 30.0  # of road drawn beyond the grid
MAX_FRAMES = 100_000
MAX_DRAWN_M2 = 10e6  # 250 million cells
MAX_AGENT_FRAMES = 2_000_000  # of everybody together: 70 MB of poses
MAX_DRIVER_FRAMES = 50_000  # of those that follow lanes: about a minute of work


@dataclass(frozen=True)
class CompiledScenario:
    """All that a scenario says, frame by frame. chunks may be walked through as often as wanted."""

    frames: int
    dt_s: float
    grid: GridSpec
    world_se3_ego: Doubles  # [F, 4, 4]
    speed_mps: Doubles  # [F]
    agents: AgentTracks  # over F frames
    chunks: Chunks
    route_m: Doubles  # [N, 3]
    raster: RoadRaster | None
    road_map: RoadMap | None
    given: known.Given | None  # voxels of a finished scene that stand fast
    scenario: str  # the file's text
    seed: int
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chunks(Sequence[Conditions]):
    """Conditions of every chunk, each made anew when asked for: memory does not grow with the scene."""

    raster: RoadRaster | None
    world_se3_ego: Doubles  # from starts[0] to the end of the last chunk, [M, 4, 4]
    agents: AgentTracks  # over the same M frames
    dt_s: float
    grid: GridSpec
    route_m: Doubles  # [N, 3]
    command: Command | None
    given: known.Given | None
    own_layout: bool  # the given scene's layout stands in for a map
    frames: int
    starts: tuple[int, ...]  # the frame of the scene at which each chunk begins

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Conditions: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conditions]: ...
    def __getitem__(self, index: int | slice) -> Conditions | list[Conditions]:
        if isinstance(index, slice):
            return [self._chunk(k) for k in range(len(self))[index]]
        return self._chunk(range(len(self))[index])

    def __iter__(self) -> Iterator[Conditions]:
        return (self._chunk(k) for k in range(len(self)))

    def _chunk(self, k: int) -> Conditions:
        start = self.starts[k] - self.starts[0]
        stop = start + self.frames
        made = chunk_conditions(
            self.raster, self.world_se3_ego[start:stop], self.dt_s, self.agents.frames(start, stop), self.grid,
            self.route_m, command=self.command,
        )  # fmt: skip
        made = replace(made, first_frame=self.starts[k])
        if self.given is None:
            return made
        labels = self.given.known(made.world_se3_anchor, self.starts[k], made.layout_agents, self.grid)
        if not self.own_layout:
            return replace(made, known=labels)
        seen, where = known.layout_seen(self.given.scene, made.world_se3_anchor, self.grid)
        return replace(made, known=labels, layout_static=np.where(where, seen, made.layout_static))


def compile_scenario(
    scenario: Scenario, scene: Scene | None = None, chunk_frames: int = CHUNK_FRAMES, overlap: int = OVERLAP
) -> CompiledScenario:
    """Read the map, plan the route, drive the ego, place the agents and lay out the chunks.

    scene is what scenario.scene_path holds, where it is given. Raises ScenarioError, MapError and
    GridMismatch with one line each.
    """
    if not 0 <= overlap < chunk_frames:
        raise ValueError(f"overlap must be below {chunk_frames} frames, got {overlap}")
    if scene is None and scenario.needs_scene:
        raise ScenarioError(
            f"{name_of(scenario)}: {scenario.needs_scene}: needs a finished scene; add `scene: FILE.h5` or pass --edit"
        )
    dt_s, frames = _clock(scenario, scene)
    _check_effort(scenario, frames)
    starts = chunk_starts(frames, chunk_frames, overlap)
    padded = starts[-1] + chunk_frames
    spec = route_spec(scenario)
    path = map_path(scenario, spec.town if spec else "")
    road_map = read_map(path) if path else None
    plan = plan_ego(scenario, road_map, spec, scene, padded, dt_s)
    grid = scenario.grid.spec() if scenario.grid else scene.grid if scene else scenario.grid_spec
    raster = _drawn(plan.road_map, _around(plan.world_se3_ego, grid), name_of(scenario)) if plan.road_map else None
    if scenario.trajectory is not None and road_map is not None and raster is not None:
        plan = replace(plan, world_se3_ego=_on_ground(plan.world_se3_ego, raster))
    agents, given = cast_of(scenario, scene, plan, frames, padded, dt_s)
    own_path = any((scenario.route, scenario.trajectory, scenario.goal, scene))
    command = Command[scenario.command.upper()] if scenario.command and own_path else None
    poses = poses_before(plan.world_se3_ego, -starts[0])
    chunks = Chunks(
        raster, poses, agents_before(agents, -starts[0], dt_s), dt_s, grid, plan.route_m, command, given,
        scene is not None and road_map is None, chunk_frames, starts,
    )  # fmt: skip
    return CompiledScenario(
        frames, dt_s, grid, plan.world_se3_ego[:frames], plan.speed_mps[:frames], agents.frames(0, frames), chunks,
        plan.route_m, raster, road_map, given, scenario.text, scenario.seed, dict(scenario.metadata),
    )  # fmt: skip


def _clock(scenario: Scenario, scene: Scene | None) -> tuple[float, int]:
    """Seconds between frames and number of frames: the scenario's, unless a scene or a log sets them."""
    name, said = name_of(scenario), scenario.model_fields_set
    dt_s, frames = scenario.dt_s, scenario.frames
    if scene is not None:
        dt_s = scene_dt_s(scene, scenario.dt_s)
        if "dt_s" in said and abs(dt_s - scenario.dt_s) > 0.01 * dt_s:
            raise ScenarioError(f"{name}: dt_s: the scene's frames are {dt_s:g} s apart; remove dt_s")
        recorded = len(scene.time_s)
        if scenario.continue_from is not None:
            if frames <= min(scenario.continue_from.given_frames, recorded):
                raise ScenarioError(f"{name}: frames: must be more than continue_from.given_frames; raise it")
        elif "frames" in said and frames > recorded:
            raise ScenarioError(f"{name}: frames: the scene has {recorded}; ask for no more, or use continue_from")
        else:
            frames = frames if "frames" in said else recorded
    elif scenario.trajectory is not None:
        logged = logged_frames(scenario, dt_s)
        if "frames" in said and frames > logged:
            raise ScenarioError(
                f"{name}: frames: the trajectory covers {logged} frames of {dt_s:g} s; ask for no more, or lower dt_s"
            )
        frames = min(frames, logged) if "frames" in said else logged
    return dt_s, frames


def _check_effort(scenario: Scenario, frames: int) -> None:
    """Raises ScenarioError for more frames or agents than a machine can hold."""
    name, traffic, edit = name_of(scenario), scenario.traffic, scenario.edit
    if frames > MAX_FRAMES:
        raise ScenarioError(f"{name}: frames: {frames} are too many, at most {MAX_FRAMES}; ask for fewer")
    listed = (*scenario.agents, *(edit.add if edit else ()))
    driving = sum(agent.follow is not None for agent in listed)
    everybody = len(listed)
    if traffic is not None:
        driving += traffic.vehicles + traffic.bicycles
        everybody += traffic.vehicles + traffic.bicycles + traffic.pedestrians + traffic.parked
    for what, count, most in (
        ("agents", everybody, MAX_AGENT_FRAMES // frames),
        ("agents that follow lanes", driving, MAX_DRIVER_FRAMES // frames),
    ):
        if count > most:
            raise ScenarioError(
                f"{name}: agents and traffic: {count} {what} over {frames} frames are too many, at most {most}; "
                "ask for fewer of them or for fewer frames"
            )


def _drawn(road_map: RoadMap, bounds_m: tuple[float, float, float, float], name: str) -> RoadRaster:
    """The roads around the ego's way. Raises ScenarioError where that is too large to be drawn."""
    x, y = bounds_m[2] - bounds_m[0], bounds_m[3] - bounds_m[1]
    if not x * y < MAX_DRAWN_M2:
        raise ScenarioError(
            f"{name}: frames: the ego's way and the grid around it span {x:.0f} x {y:.0f} m, too much to be drawn; "
            "ask for fewer frames, a lower speed or a smaller grid"
        )
    return rasterise(road_map, bounds_m=bounds_m)


def _around(world_se3_ego: Doubles, grid: GridSpec) -> tuple[float, float, float, float]:
    corner = np.maximum(np.abs(grid.origin_m[:2]), np.abs(np.array(grid.origin_m[:2]) + grid.extent_m[:2]))
    reach = float(np.hypot(*corner)) + AROUND_M
    low = world_se3_ego[:, :2, 3].min(axis=0) - reach
    high = world_se3_ego[:, :2, 3].max(axis=0) + reach
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _on_ground(poses: Doubles, raster: RoadRaster) -> Doubles:
    """The poses at the height of the road below them, where the map has one: logs often have none, or a sensor's."""
    i, j = np.floor((poses[:, :2, 3] - raster.origin_m) / raster.cell_m).astype(int).T
    ground = raster.height_cm[:, i, j] / 100.0 + raster.z0_m
    gap = np.where(raster.flags[:, i, j] > 0, np.abs(ground - poses[:, 2, 3]), np.inf)
    level, at = np.argmin(gap, axis=0), np.arange(len(poses))
    hit = np.isfinite(gap[level, at])
    if not hit.any():
        return poses
    out = poses.copy()
    out[:, 2, 3] = np.interp(at, at[hit], ground[level, at][hit])
    return out
