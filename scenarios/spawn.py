"""Where a population can be put: places on lanes around the ego's path, and sizes. F frame, N route point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.types import Doubles
from scenarios.carfollow import Driver, Mover
from scenarios.lane_graph import LaneGraph
from scenarios.roadmap import Lane, RoadMap


@dataclass(frozen=True)
class Scene:
    """What a population is drawn into."""

    road_map: RoadMap
    graph: LaneGraph
    ego: Mover
    movers: list[Mover]  # with given poses
    drivers: list[Driver]  # of the scenario file
    route_m: Doubles
    dt_s: float
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames * self.dt_s


@dataclass(frozen=True)
class Spot:
    """A place on a lane of any kind."""

    lane: str
    s_m: float
    row: int


def spots_near(scene: Scene, lanes: dict[str, Lane], radius_m: float, rng: np.random.Generator) -> list[Spot]:
    """Places every few metres on these lanes within radius of the ego's path, in a random order."""
    path = scene.ego.pose[:: max(1, int(1.0 / scene.dt_s)), :2]
    spots = []
    for key in sorted(lanes):
        centre = lanes[key].centre_m[:, :2]
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(centre, axis=0).T))])
        near = np.hypot(*(centre[:, None] - path).transpose(2, 0, 1)).min(axis=1) < radius_m
        rows = np.flatnonzero(near & (np.mod(np.round(along), 3) < 1))
        spots += [Spot(key, float(along[row]), int(row)) for row in rows]
    return [spots[k] for k in rng.permutation(len(spots))]


def size_between(
    low: tuple[float, ...], high: tuple[float, ...], rng: np.random.Generator
) -> tuple[float, float, float]:
    share = rng.random(3)
    length, width, height = (a + p * (b - a) for a, b, p in zip(low, high, share, strict=True))
    return (float(length), float(width), float(height))
