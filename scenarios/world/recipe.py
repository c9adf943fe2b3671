"""How clips are cut from worlds, and which ones: distinct egos and times, in an order that a seed fixes. T frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dcgen.errors import WorldError
from dcgen.types import AGENT_CHANNELS, STATIC_CHANNELS, UNKNOWN, AgentTracks, Clip, Conditions, Doubles, GridSpec
from scenarios.chunk import anchor_of, chunk_conditions, command_of, relative_trajectory
from scenarios.world.candidates import EgoMix
from scenarios.world.clips import _candidates, _stride, agents_near, ego_poses, route_of
from scenarios.world.hollow import hollow
from scenarios.world.lidar import Observed, lidar_rig, observe_clip
from scenarios.world.store import World
from scenarios.world.voxelize import Cut, cut_clip, cut_frame

LIDARS = ("", "roof", "carlasc")
MOST_DRAWS = 400  # for one clip that is not there yet


@dataclass(frozen=True)
class ClipRecipe:
    """What a clip looks like, whatever the world.

    ego_centred: every frame in the grid of its own ego pose, else all in one at the middle pose. hollow: solids as a
    LiDAR sees them, without what they enclose. lidar: the rig that observes ("" for none).
    """

    grid: GridSpec
    frames: int
    dt_s: float
    ego_centred: bool = False
    hollow: bool = False
    lidar: str = ""
    mix: EgoMix = field(default_factory=EgoMix)

    def __post_init__(self) -> None:
        if self.frames < 1 or not 0 < self.dt_s < float("inf"):
            raise ValueError(f"recipe needs frames and a positive dt_s, got {self.frames} and {self.dt_s}")
        if self.lidar not in LIDARS:
            raise ValueError(f"recipe.lidar {self.lidar!r} is none of {', '.join(LIDARS[1:])}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ClipRecipe:
        """The inverse of to_dict, also after JSON. Raises KeyError, TypeError or ValueError."""
        grid = GridSpec(**{key: tuple(value) for key, value in values["grid"].items()})
        return ClipRecipe(**{**values, "grid": grid, "mix": EgoMix.from_dict(values["mix"])})


@dataclass(frozen=True)
class Pick:
    """One clip of a world: the ego's row and first frame in the traffic log, and a seed for what its sensors draw."""

    ego: int
    start: int
    seed: int


def picks(world: World, recipe: ClipRecipe, seed: int) -> Iterator[Pick]:
    """Distinct clips of a world, the same for the same seed. Raises WorldError once there are no more to be found."""
    rng = np.random.default_rng([seed, world.seed])
    candidates = _candidates(world, recipe.frames, _stride(world.traffic, recipe.dt_s))
    seen: set[tuple[int, int]] = set()
    while True:
        for _ in range(MOST_DRAWS):
            ego, start = candidates.draw(recipe.mix, rng)
            if (ego, start) not in seen:
                break
        else:
            raise WorldError(
                f"{world.name}: its traffic holds no more than {len(seen)} distinct clips; "
                "build more worlds a map, or simulate longer"
            )
        seen.add((ego, start))
        yield Pick(ego, start, int(rng.integers(2**31)))


def make_clip(world: World, pick: Pick, recipe: ClipRecipe, layouts: bool = True) -> Clip:
    """The clip of a pick. layouts False leaves the conditions' rasters zero, which saves their time."""
    log, grid, frames = world.traffic, recipe.grid, recipe.frames
    stride = _stride(log, recipe.dt_s)
    at = log.instants(pick.start, frames, stride)
    ego = ego_poses(world, pick.ego, at)
    anchor = anchor_of(ego)

    def agents_within(more_m: float) -> AgentTracks:
        return agents_near(world, pick.ego, pick.start, frames, stride, anchor, _widened(grid, more_m))

    travel = float(np.hypot(*(ego[:, :2, 3] - anchor[:2, 3]).T).max())
    agents = agents_within(travel if recipe.ego_centred else 0.0)
    cut = _cut(world, agents, ego, anchor, recipe)
    seen: Observed | None = None
    if recipe.lidar:
        rig = lidar_rig(recipe.lidar, pick.seed)
        still = None if recipe.ego_centred else anchor
        seen = observe_clip(world, agents_within(travel + rig.range_m), ego, grid, still, rig, pick.seed, cut.labels)
    if layouts:
        route = route_of(log, pick.ego, int(at[frames // 2]))
        conditions = chunk_conditions(world.raster, ego, recipe.dt_s, agents, grid, route)
    else:
        conditions = _bare_conditions(ego, anchor, agents, recipe)
    return Clip(
        cut.labels,
        cut.moving,
        conditions,
        f"{world.name}/{world.seed}: ego {int(log.id[pick.ego])} at {pick.start * log.dt_s:.1f} s",
        recipe.ego_centred,
        seen.observed if seen else None,
        tuple(sweep.points for sweep in seen.sweeps) if seen else None,
    )


def _widened(grid: GridSpec, more_m: float) -> GridSpec:
    """One voxel that reaches more_m beyond the grid on every side."""
    if more_m == 0.0:
        return grid
    low, size = grid.origin_m, grid.extent_m
    return GridSpec(
        (1, 1, 1),
        (size[0] + 2 * more_m, size[1] + 2 * more_m, size[2]),
        (low[0] - more_m, low[1] - more_m, low[2]),
    )


def _cut(world: World, agents: AgentTracks, ego: Doubles, anchor: Doubles, recipe: ClipRecipe) -> Cut:
    if recipe.ego_centred:
        parts = [cut_frame(world.tile, agents, t, ego[t], recipe.grid) for t in range(recipe.frames)]
        cut = Cut(np.concatenate([p.labels for p in parts]), np.concatenate([p.moving for p in parts]))
    else:
        cut = cut_clip(world.tile, agents, anchor, recipe.grid)
    if not recipe.hollow:
        return cut
    labels = hollow(cut.labels)
    return Cut(labels, cut.moving & (labels == cut.labels))


def _bare_conditions(ego: Doubles, anchor: Doubles, agents: AgentTracks, recipe: ClipRecipe) -> Conditions:
    x, y, z = recipe.grid.shape
    trajectory = relative_trajectory(ego, anchor)
    zero = np.float32(0)
    return Conditions(
        recipe.grid,
        recipe.dt_s,
        anchor,
        ego,
        trajectory,
        command_of(trajectory, recipe.dt_s),
        np.broadcast_to(zero, (len(STATIC_CHANNELS), x, y)),
        np.broadcast_to(zero, (recipe.frames, len(AGENT_CHANNELS), x, y)),
        np.broadcast_to(np.uint8(UNKNOWN), (recipe.frames, x, y, z)),
        agents,
    )
