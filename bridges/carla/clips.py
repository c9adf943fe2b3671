"""One part of a data set: a drive on the server, cut into clips with the conditions a user would have had. T frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridges.carla.capture import Camera, tracks_of
from bridges.carla.order import RecordOrder
from bridges.carla.route import route_of
from bridges.carla.session import Note, Session
from bridges.carla.stage import set_the_stage
from bridges.carla.votes import Voted, vote
from dcgen.dataset.parts import write_part
from dcgen.dataset.spec import DatasetSpec
from dcgen.types import AgentTracks, Clip, Doubles, Floats, GridSpec
from scenarios.chunk import anchor_of, chunk_conditions
from scenarios.layout import RoadRaster, rasterise
from scenarios.roads import read_map

LONGEST_AGENT_M = 8.0  # how far an agent may stand outside the grid and still reach into it


@dataclass(frozen=True)
class Take:
    """What a clip is made of before the drive is over."""

    voted: Voted
    world_se3_ego: Doubles  # [T, 4, 4]
    agents: AgentTracks
    points: tuple[Floats, ...] | None


def write_recorded_part(
    order: RecordOrder, spec_values: dict[str, Any], part: int, map_path: Path, found: dict[str, Any], note: Note
) -> None:
    """Record one part and keep it in order.folder, whole or not at all. Raises DcgenError.

    spec_values: DatasetSpec.to_dict(); map_path: the server's OpenDRIVE; found: the settings to put back.
    """
    spec = DatasetSpec.from_dict(spec_values)
    road_map = read_map(map_path)
    route = route_of(order, road_map)
    takes = []
    with Session(order, note, found) as session:
        session.take_the_clock()
        camera = Camera(session, set_the_stage(session, route, part, spec.parts))
        camera.start()
        for number in spec.part_range(part):
            takes.append(_take(camera, order))
            note({"clip": number})
    driven = np.concatenate([take.world_se3_ego[:, :3, 3] for take in takes])
    line = driven if route is None else route.points_m
    raster = rasterise(road_map)
    source = f"{road_map.name}: carla {order.seed}, part {part}"
    write_part(order.folder, spec, part, [_clip(take, raster, spec, line, source) for take in takes])


def _take(camera: Camera, order: RecordOrder) -> Take:
    """The next clip of the drive."""
    frames = camera.clip(order.frames)
    poses = np.stack([frame.world_se3_ego for frame in frames])
    agents = tracks_of(frames, camera.bodies, reach_of(order.grid) + LONGEST_AGENT_M)
    voted = vote([frame.sweeps for frame in frames], poses, anchor_of(poses), agents, order.grid)
    points = None
    if order.points:
        first = [frame.sweeps[0] for frame in frames]
        points = tuple(np.column_stack([sweep.points_m, sweep.cosine]).astype(np.float32) for sweep in first)
    return Take(voted, poses, agents, points)


def _clip(take: Take, raster: RoadRaster, spec: DatasetSpec, line: Doubles, source: str) -> Clip:
    conditions = chunk_conditions(raster, take.world_se3_ego, spec.dt_s, take.agents, spec.grid, line)
    voted = take.voted
    return Clip(voted.labels, voted.moving, conditions, source, observed=voted.observed, points=take.points)


def reach_of(grid: GridSpec) -> float:
    """How far from its frame's origin the grid reaches, seen from above."""
    low = np.array(grid.origin_m[:2])
    return float(np.hypot(*np.maximum(np.abs(low), np.abs(low + grid.extent_m[:2]))))
