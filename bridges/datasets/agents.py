"""Annotated boxes -> agents' tracks, and the voxels of those that move. T frame, N agent, X/Y/Z voxel axes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.canvas import world_points
from dcgen.types import MOVABLE, MOVING_MPS, AgentTracks, Doubles, GridSpec, Labels


@dataclass(frozen=True)
class Box:
    """One annotated road user in one frame. The pose is of the box's centre."""

    token: str
    class_id: int
    world_se3_box: Doubles  # [4, 4]
    size_m: tuple[float, float, float]  # length, width, height


def tracks_of(frames: Sequence[Sequence[Box]], dt_s: float) -> AgentTracks:
    """The boxes of T frames by their tokens. Speeds come from the positions before and after, 0 where seen once."""
    tokens = sorted({box.token for boxes in frames for box in boxes})
    row = {token: n for n, token in enumerate(tokens)}
    n, t = len(tokens), len(frames)
    pose, z, valid = np.zeros((n, t, 3)), np.zeros((n, t), np.float32), np.zeros((n, t), bool)
    size, kind = np.zeros((n, 3), np.float32), np.zeros(n, np.uint8)
    for frame, boxes in enumerate(frames):
        for box in boxes:
            k, m = row[box.token], box.world_se3_box
            pose[k, frame] = m[0, 3], m[1, 3], np.arctan2(m[1, 0], m[0, 0])
            z[k, frame] = m[2, 3] - box.size_m[2] / 2
            valid[k, frame], size[k], kind[k] = True, box.size_m, box.class_id
    ids = [int.from_bytes(hashlib.sha256(token.encode()).digest()[:8], "big") >> 1 for token in tokens]
    speed = _speeds(pose, valid, dt_s)
    return AgentTracks(np.array(ids, np.int64), kind, size, pose, z, speed, valid)


def _speeds(pose: Doubles, valid: NDArray[np.bool_], dt_s: float) -> NDArray[np.float32]:
    """[N, T] metres a second between the nearest sightings before and after."""
    speed = np.zeros(valid.shape, np.float32)
    for n in range(len(valid)):
        seen = np.flatnonzero(valid[n])
        if len(seen) > 1:
            before = seen[np.maximum(np.arange(len(seen)) - 1, 0)]
            after = seen[np.minimum(np.arange(len(seen)) + 1, len(seen) - 1)]
            way = np.linalg.norm(pose[n, after, :2] - pose[n, before, :2], axis=1)
            speed[n, seen] = way / ((after - before) * dt_s)
    return speed


def moving_voxels(
    labels: Labels, grid: GridSpec, world_se3_grid: Doubles, agents: AgentTracks, frame: int
) -> NDArray[np.bool_]:
    """[X, Y, Z] voxels of road users whose centre lies, within half a voxel, in the box of an agent that moves."""
    out = np.zeros(labels.shape, bool)
    places = np.flatnonzero(np.isin(labels, MOVABLE))
    points = world_points(grid, world_se3_grid).reshape(-1, 3)[places]
    half = np.array(grid.voxel_m) / 2
    hit = np.zeros(len(places), bool)
    for n in np.flatnonzero(agents.valid[:, frame] & (agents.speed_mps[:, frame] > MOVING_MPS)):
        x, y, yaw = agents.pose[n, frame]
        c, s = np.cos(yaw), np.sin(yaw)
        dx, dy = points[:, 0] - x, points[:, 1] - y
        dz = points[:, 2] - agents.z_m[n, frame]
        length, width, height = agents.size_m[n].astype(np.float64)
        reach = max(half[0], half[1])
        inside = (np.abs(c * dx + s * dy) <= length / 2 + reach) & (np.abs(c * dy - s * dx) <= width / 2 + reach)
        hit |= inside & (dz >= -half[2]) & (dz <= height + half[2])
    out.reshape(-1)[places[hit]] = True
    return out
