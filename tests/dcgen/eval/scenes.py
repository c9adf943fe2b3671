"""Small worlds with known answers: a straight road, a sidewalk beside it, flat ground at z = 0."""

from __future__ import annotations

import numpy as np

from dcgen.types import (
    AGENT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Command,
    Conditions,
    GridSpec,
    Semantics,
    pose_matrix,
)

GRID = GridSpec((40, 30, 6), (0.8, 0.8, 0.8), (-16.0, -12.0, -2.0))
SURFACE = 2  # the layer of the ground: its middle is z = 0
ROAD_COLUMNS = slice(12, 18)
WALK_COLUMNS = slice(18, 21)


def street(frames: int = 3) -> np.ndarray:
    """[T, X, Y, Z] road along x, a sidewalk to its left, ground elsewhere."""
    labels = np.zeros((frames, *GRID.shape), np.uint8)
    labels[..., SURFACE] = Semantics.GROUND
    labels[:, :, ROAD_COLUMNS, SURFACE] = Semantics.ROAD
    labels[:, :, WALK_COLUMNS, SURFACE] = Semantics.SIDEWALK
    return labels


def tracks(rows, frames: int = 3) -> AgentTracks:
    """Agents that stand: rows of (class, x, y, yaw, length, width)."""
    n = len(rows)
    pose = np.array([[[x, y, yaw]] * frames for _, x, y, yaw, _, _ in rows], np.float64).reshape(n, frames, 3)
    return AgentTracks(
        id=np.arange(n, dtype=np.int64),
        class_id=np.array([row[0] for row in rows], np.uint8),
        size_m=np.array([[length, width, 1.6] for *_, length, width in rows], np.float32).reshape(n, 3),
        pose=pose,
        z_m=np.zeros((n, frames), np.float32),
        speed_mps=np.zeros((n, frames), np.float32),
        valid=np.ones((n, frames), bool),
    )


def conditions(rows=(), frames: int = 3, anchor=(0.0, 0.0, 0.0, 0.0), ego=None) -> Conditions:
    """Conditions whose layout is that of `street`; ego: [T] of (x, y, z, yaw) in the world, else at the anchor."""
    static = np.zeros((len(STATIC_CHANNELS), *GRID.shape[:2]), np.float32)
    static[STATIC_CHANNELS.index("road"), :, ROAD_COLUMNS] = 1
    static[STATIC_CHANNELS.index("sidewalk"), :, WALK_COLUMNS] = 1
    poses = np.stack([pose_matrix(*p) for p in (ego or [anchor] * frames)])
    return Conditions(
        grid=GRID,
        dt_s=0.2,
        world_se3_anchor=pose_matrix(*anchor),
        world_se3_ego=poses,
        trajectory=np.zeros((frames, 3), np.float32),
        command=Command.FORWARD,
        layout_static=static,
        layout_agents=np.zeros((frames, len(AGENT_CHANNELS), *GRID.shape[:2]), np.float32),
        known=np.full((frames, *GRID.shape), UNKNOWN, np.uint8),
        agents=tracks(list(rows), frames),
    )


def stamp(labels: np.ndarray, label: int, x_m: float, y_m: float, length_m: float, width_m: float) -> None:
    """Fill two layers of the columns whose centres an upright box of yaw 0 holds, in place."""
    x, y = (GRID.origin_m[a] + (np.arange(GRID.shape[a]) + 0.5) * GRID.voxel_m[a] for a in (0, 1))
    i = np.flatnonzero(np.abs(x - x_m) <= length_m / 2 + 1e-9)
    j = np.flatnonzero(np.abs(y - y_m) <= width_m / 2 + 1e-9)
    labels[:, i[0] : i[-1] + 1, j[0] : j[-1] + 1, SURFACE + 1 : SURFACE + 3] = label
