"""Road users that drive as told, stamped on flat ground, and clips of them. All sizes differ."""

from __future__ import annotations

import numpy as np

from dcgen.types import (
    AGENT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Clip,
    Command,
    Conditions,
    GridSpec,
    Semantics,
    pose_matrix,
)
from scenarios.world.cut.voxelize import Cut, StaticCut, stamp_agents

GRID = GridSpec((48, 40, 6), (0.4, 0.5, 0.6), (-9.0, -11.0, -0.6))
DT = 0.2
HERE = np.broadcast_to(np.eye(4), (5, 4, 4))


def tracks(*rows, frames: int = 5, dt_s: float = DT) -> AgentTracks:
    """rows: class, size, x, y, yaw, speed, yaw rate; positions are of the middle frame."""
    n = len(rows)
    pose, speed = np.zeros((n, frames, 3)), np.zeros((n, frames), np.float32)
    for row, (_, _, x, y, yaw, v, rate) in enumerate(rows):
        for t in range(frames):
            s = (t - frames // 2) * dt_s
            pose[row, t] = x + v * s * np.cos(yaw), y + v * s * np.sin(yaw), yaw + rate * s
        speed[row] = v
    return AgentTracks(
        np.arange(n) + 7, np.array([r[0] for r in rows], np.uint8), np.array([r[1] for r in rows], np.float32),
        pose, np.zeros((n, frames), np.float32), speed, np.ones((n, frames), bool),
    )  # fmt: skip


CAR = (Semantics.VEHICLE, (4.4, 1.9, 2.0))
WALKER = (Semantics.PEDESTRIAN, (0.6, 0.6, 1.7))


def stamp(agents: AgentTracks, pose: np.ndarray, grid: GridSpec = GRID) -> Cut:
    """The agents over flat ground in a grid at a pose."""
    ground = np.zeros(grid.shape, np.uint8)
    ground[..., 0] = Semantics.ROAD
    return stamp_agents(StaticCut(ground, np.zeros(grid.shape[:2], np.int16)), agents, pose, grid)


def stamped(agents: AgentTracks, grid: GridSpec = GRID, poses=HERE) -> np.ndarray:
    """Labels [T, X, Y, Z] in grids that stand at poses."""
    return np.concatenate([stamp(agents.frames(t, t + 1), pose, grid).labels for t, pose in enumerate(poses)])


def driven_clip(seed: int = 0, frames: int = 5, ego_centred: bool = False, sensed: bool = True) -> Clip:
    """A bend past a house; two cars, a walker and a cyclist; what an ego sees of them and its points."""
    rng = np.random.default_rng(seed)
    agents = tracks(
        (*CAR, 2 + rng.normal(), 3, 0.5, 4.0, 0.3), (*CAR, -4, -5, 2.0, 0, 0), (*WALKER, 0, 0, 1.0, 1.2, 0),
        (Semantics.BICYCLE, (1.8, 0.7, 1.6), 5, -6, 2.5, 3.0, 0), frames=frames,
    )  # fmt: skip
    ego = np.stack([pose_matrix(0.8 * (t - frames // 2), 0.1 * t, 0, 0.06 * (t - frames // 2)) for t in range(frames)])
    anchor = ego[frames // 2]
    poses = ego if ego_centred else np.broadcast_to(anchor, ego.shape)
    cuts = [stamp(agents.frames(t, t + 1), pose) for t, pose in enumerate(poses)]
    labels = np.concatenate([cut.labels for cut in cuts])
    labels[:, :4, 30:, 1:5] = Semantics.BUILDING
    labels[:, -1, :3] = UNKNOWN
    local = np.linalg.inv(anchor) @ ego
    yaw = np.arctan2(local[:, 1, 0], local[:, 0, 0])
    x, y, _ = GRID.shape
    conditions = Conditions(
        GRID, DT, anchor, ego, np.stack([local[:, 0, 3], local[:, 1, 3], yaw], axis=1).astype(np.float32),
        Command.LEFT, rng.random((len(STATIC_CHANNELS), x, y)).astype(np.float32),
        rng.random((frames, len(AGENT_CHANNELS), x, y)).astype(np.float32),
        np.full(labels.shape, UNKNOWN, np.uint8), agents,
    )  # fmt: skip
    sweeps = tuple(rng.random((3 + 2 * t, 4)).astype(np.float32) for t in range(frames))
    return Clip(
        labels, np.concatenate([cut.moving for cut in cuts]), conditions, f"driven {seed}", ego_centred,
        rng.random(labels.shape) < 0.3 if sensed else None, sweeps if sensed else None,
    )  # fmt: skip
