"""One chunk's Conditions out of poses, agents and the raster. T frame, C channel, X/Y/Z voxel axes."""

from __future__ import annotations

import numpy as np

from dcgen.types import (
    UNKNOWN,
    AgentTracks,
    Command,
    Conditions,
    Doubles,
    Floats,
    GridSpec,
    Labels,
    pose_matrix,
    wrap_angle,
)
from scenarios.layout import RoadRaster, crop_static, draw_agents

# A junction turn of 12 m radius at 5 m/s yaws 24 degrees a second and at the kerb side more; a motorway bend of
# 200 m at 20 m/s yaws 6, a lane change peaks at about 10 and comes back. So ten tell a turn from the rest.
TURN_RATE_RADPS = np.radians(10.0)
LEAST_TURN_RAD = np.radians(3.0)  # however short the chunk
MOST_TURN_RAD = np.radians(20.0)  # however long
STANDING_M = 0.5  # a path shorter than this is no drive


def turn_threshold_rad(frames: int, dt_s: float) -> float:
    """Net heading change above which a chunk of that many frames counts as a turn."""
    return float(np.clip(TURN_RATE_RADPS * (frames - 1) * dt_s, LEAST_TURN_RAD, MOST_TURN_RAD))


def command_of(trajectory: Floats | Doubles, dt_s: float = 0.2) -> Command:
    """What the ego does along trajectory [T, 3] (x, y, yaw, right-handed: positive yaw is LEFT), dt_s apart."""
    poses = np.asarray(trajectory, np.float64)
    if np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1).sum() < STANDING_M:
        return Command.STATIC
    net = float(np.sum(wrap_angle(np.diff(poses[:, 2]))))
    if abs(net) <= turn_threshold_rad(len(poses), dt_s):
        return Command.FORWARD
    return Command.LEFT if net > 0 else Command.RIGHT


def anchor_of(world_se3_ego: Doubles) -> Doubles:
    """[4, 4] where the grid of a chunk stands: upright at the ego's middle pose [T // 2]."""
    middle = world_se3_ego[len(world_se3_ego) // 2]
    return pose_matrix(middle[0, 3], middle[1, 3], middle[2, 3], float(np.arctan2(middle[1, 0], middle[0, 0])))


def relative_trajectory(world_se3_ego: Doubles, world_se3_anchor: Doubles) -> Floats:
    """[T, 3] x, y, yaw of the ego in the anchor frame: moved AND rotated into it."""
    local = np.linalg.inv(world_se3_anchor) @ world_se3_ego
    yaw = wrap_angle(np.arctan2(local[:, 1, 0], local[:, 0, 0]))
    return np.stack([local[:, 0, 3], local[:, 1, 3], yaw], axis=1).astype(np.float32)


def chunk_conditions(
    raster: RoadRaster | None,
    world_se3_ego: Doubles,
    dt_s: float,
    agents: AgentTracks,
    grid: GridSpec,
    route_xy_m: Doubles | None,
    known: Labels | None = None,
    command: Command | None = None,
) -> Conditions:
    """Everything a chunk is generated from, in the frame of its anchor.

    world_se3_ego [T, 4, 4] stands on the ground; agents cover the same T frames and leave the ego out; known
    [T, X, Y, Z] lies in the anchor's grid, UNKNOWN (or None) where all is to be generated; command None: as driven.
    """
    anchor = anchor_of(world_se3_ego)
    trajectory = relative_trajectory(world_se3_ego, anchor)
    if known is None:
        known = np.full((len(world_se3_ego), *grid.shape), UNKNOWN, np.uint8)
    return Conditions(
        grid=grid,
        dt_s=dt_s,
        world_se3_anchor=anchor,
        world_se3_ego=np.asarray(world_se3_ego, np.float64),
        trajectory=trajectory,
        command=command_of(trajectory, dt_s) if command is None else command,
        layout_static=crop_static(raster, anchor, grid, route_xy_m),
        layout_agents=draw_agents(agents, anchor, grid),
        known=known,
        agents=agents,
    )
