"""A small world that is the same seen from anywhere, and scenes cut from it. All sizes differ."""

from __future__ import annotations

import numpy as np

from dcgen.types import (
    LAYOUT_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Doubles,
    GridSpec,
    Labels,
    Scene,
    Semantics,
    pose_matrix,
)

GRID = GridSpec((26, 22, 5), (0.8, 0.8, 0.9), (-9.3, -8.1, -0.9))
CELL_M = 0.4
DT_S = 0.2
CAR = (4.0, 1.8, 1.5)


def world_label(points: Doubles, north_yaw: float = 0.0) -> Labels:
    """Labels of world points [..., 3]: constant within each cell, a road along x between houses and posts."""
    turned = points @ pose_matrix(0, 0, 0, north_yaw)[:3, :3]
    cell = np.floor(turned / CELL_M + 1e-9).astype(np.int64)
    p, q, r = cell[..., 0], cell[..., 1], cell[..., 2]
    out = np.zeros(p.shape, np.uint8)
    noise = (p * 7919 + q * 104729 + r * 1299709) % 17
    out[r < 0] = Semantics.GROUND
    out[(r < 0) & (np.abs(q) < 12)] = Semantics.ROAD
    out[(r >= 0) & (q > 14) & (noise < 12)] = Semantics.BUILDING
    out[(r >= 0) & (q < -14) & (noise < 3)] = Semantics.POLE
    out[(r >= 0) & (q < -16) & (noise == 5)] = UNKNOWN
    return out


def scene_of(
    frames: int = 7, step_m: float = 0.9, car: bool = True, north_yaw: float = 0.0, yaw: float = 0.13
) -> Scene:
    """An ego that drives along the road, slightly askew, and a car ahead of it, 1.1 m a frame."""
    turn = pose_matrix(0, 0, 0, north_yaw)
    poses = np.stack([turn @ pose_matrix(0.613 + step_m * t, -0.271, 0.05, yaw) for t in range(frames)])
    agents = _car(frames, north_yaw) if car else AgentTracks.empty(frames)
    centres = GRID.centres_m()
    labels = np.stack([world_label(centres @ pose[:3, :3].T + pose[:3, 3], north_yaw) for pose in poses])
    for t in range(frames if car else 0):
        x, y, heading = agents.pose[0, t]
        local = (centres @ poses[t, :3, :3].T + poses[t, :3, 3] - [x, y, 0]) @ pose_matrix(0, 0, 0, heading)[:3, :3]
        body = (
            (np.abs(local[..., :2]) <= np.array(CAR[:2]) / 2).all(axis=-1) & (local[..., 2] > 0) & (local[..., 2] < 1.5)
        )
        labels[t][body] = Semantics.VEHICLE
    layout = np.zeros((frames, len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float16)
    for t, pose in enumerate(poses):
        y = ((centres @ pose[:3, :3].T + pose[:3, 3]) @ turn[:3, :3])[:, :, 0, 1]
        cell = np.floor(y / CELL_M + 1e-9)
        layout[t, 0] = np.abs(cell) < 12
        layout[t, 5] = np.abs(cell) < 3
    return Scene(
        labels, GRID, np.arange(frames) * DT_S, poses, agents, np.zeros((frames, 3), np.float32),
        np.ones(frames, np.int8), layout, np.zeros(labels.shape, bool), metadata={"name": "small"},
    )  # fmt: skip


def _car(frames: int, north_yaw: float) -> AgentTracks:
    pose = np.stack([8.2 + 1.1 * np.arange(frames), np.full(frames, 0.4), np.zeros(frames)], axis=1)
    turned = pose @ pose_matrix(0, 0, 0, north_yaw)[:3, :3].T + [0, 0, north_yaw]
    return AgentTracks(
        np.array([41]), np.array([Semantics.VEHICLE], np.uint8), np.array([CAR], np.float32), turned[None],
        np.zeros((1, frames), np.float32), np.full((1, frames), 1.1 / DT_S, np.float32), np.ones((1, frames), bool),
    )  # fmt: skip
