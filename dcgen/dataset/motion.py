"""Whose voxel it is and where it goes, out of agent tracks. T frame, X/Y/Z voxel, N agent, B box (agent in a frame).

A voxel of a movable class belongs to the agent of that class whose box is nearest to its centre. What belongs to an
agent moves with its box, turning included; everything else stands still in the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.compiled import compiled
from dcgen.types import MOVABLE, AgentTracks, Clip, Doubles, Floats, GridSpec, Labels

Instances = NDArray[np.int32]
# How far outside a box a voxel's centre may lie, in voxels: half a voxel of stamping, one of rounding.
REACH = 1.5
NOBODY = -1  # a movable voxel without an agent: nothing is known of its motion


@dataclass(frozen=True)
class Motion:
    """Who and where to of every voxel.

    instances: 1 + the agent's row in the tracks, 0 where it is no agent's. forward_m points to where the voxel's
    content is in the next frame, backward_m to where it was in the frame before, in metres along the axes of the
    grid; the other frame's place is taken in the other frame's grid, so that in ego-centred clips what stands still
    flows by the ego's motion. NaN where it is not known: beyond the clip's ends, for an agent that is not there in the
    other frame, and for movable voxels that are nobody's.
    """

    instances: Instances  # [T, X, Y, Z]
    forward_m: Floats  # [T, X, Y, Z, 3]
    backward_m: Floats  # [T, X, Y, Z, 3]


def clip_motion(clip: Clip, fast: bool = True) -> Motion:
    """Instances and flow of a whole clip. fast picks the numba kernels, else the numpy twins."""
    agents, grid, poses = clip.conditions.agents, clip.conditions.grid, clip.world_se3_grid
    owner = owners(clip.labels, agents, grid, poses, fast)
    forward, backward = (rigid_flow(owner, agents, grid, poses, step, fast) for step in (1, -1))
    return Motion(instances_of(owner), forward, backward)


def instances_of(owner: Instances) -> Instances:
    """owners() without NOBODY."""
    return np.maximum(owner, 0)


def in_voxels(flow_m: Floats, voxel_m: Sequence[float]) -> Floats:
    """Flow in voxels along each axis, as UniOcc and Cam4DOcc keep it."""
    return np.divide(flow_m, np.asarray(voxel_m), dtype=np.float32)


def owners(
    labels: Labels, agents: AgentTracks, grid: GridSpec, world_se3_grid: Doubles, fast: bool = True
) -> Instances:
    """[T, X, Y, Z] 1 + row of the agent a voxel belongs to, 0 for no movable class, NOBODY where none is near enough.

    labels [T, X, Y, Z] and poses [T, 4, 4] are of the same frames as the agents.
    """
    movable = np.zeros(256, bool)
    movable[list(MOVABLE)] = True
    owner = np.empty(labels.shape, np.int32)
    boxes = _boxes(agents, grid, world_se3_grid)
    scale = (1 / max(grid.voxel_m[:2]), 1 / grid.voxel_m[2])
    run: Any = compiled(claim) if fast else claim_numpy
    run(*boxes, *_axes(grid), *scale, REACH, movable, labels, np.empty(grid.shape), owner)
    return owner


def rigid_flow(
    owner: Instances,
    agents: AgentTracks,
    grid: GridSpec,
    world_se3_grid: Doubles,
    step: int,
    fast: bool = True,
    first: int = 0,
    over_ground: bool = False,
) -> Floats:
    """[T', X, Y, Z, 3] flow in metres over `step` frames, forward where positive. owner [T', ...] from owners().

    agents and poses [T, 4, 4] are of the whole clip; first: the frame of it that owner begins with. over_ground: the
    other frame's place is taken in this frame's grid, so that what stands still does not flow.
    """
    frames = slice(first, first + len(owner))
    table = _displacement(agents, world_se3_grid, step, over_ground)[frames]
    flow = np.zeros((*owner.shape, 3), np.float32)
    stirs = (table != 0).any(axis=(2, 3))  # NaN is not 0
    run: Any = compiled(displace) if fast else displace_numpy
    run(owner, table, stirs, *_axes(grid), flow)
    return flow


def _axes(grid: GridSpec) -> tuple[Doubles, ...]:
    """Centres of the voxels along x, y and z."""
    steps = (np.arange(n, dtype=np.float64) + 0.5 for n in grid.shape)
    return tuple(o + step * v for step, v, o in zip(steps, grid.voxel_m, grid.origin_m, strict=True))


def _world_se3_agent(agents: AgentTracks) -> Doubles:
    """[N, T, 4, 4] of the box centres on the ground; the identity where an agent is not there."""
    yaw = np.where(agents.valid, agents.pose[..., 2], 0.0)
    out = np.zeros((*agents.valid.shape, 4, 4))
    out[..., 0, 0] = out[..., 1, 1] = np.cos(yaw)
    out[..., 1, 0] = np.sin(yaw)
    out[..., 0, 1] = -out[..., 1, 0]
    out[..., 2, 2] = out[..., 3, 3] = 1
    out[..., :2, 3] = np.where(agents.valid[..., None], agents.pose[..., :2], 0.0)
    out[..., 2, 3] = np.where(agents.valid, agents.z_m, 0.0)
    return out


def _boxes(agents: AgentTracks, grid: GridSpec, world_se3_grid: Doubles) -> tuple[NDArray[Any], ...]:
    """Boxes that may reach into the grid, frame by frame.

    frame [B], 1 + row [B], class [B], half size [B, 3], box_se3_grid [B, 3, 4] of the box's middle, and the voxels
    [B, 3, 2] from and up to which it reaches along each axis.
    """
    voxel, low, shape = (np.asarray(v, np.float64) for v in (grid.voxel_m, grid.origin_m, grid.shape))
    t, n = np.nonzero(agents.valid.T)
    half = agents.size_m[n].astype(np.float64) / 2
    world_se3_box = _world_se3_agent(agents)[n, t]
    world_se3_box[:, 2, 3] += half[:, 2]
    grid_se3_box = np.linalg.inv(world_se3_grid)[t] @ world_se3_box
    reach_m = half + REACH * np.array([voxel[:2].max(), voxel[:2].max(), voxel[2]])
    spread = (np.abs(grid_se3_box[:, :3, :3]) @ reach_m[..., None])[..., 0]
    middle = grid_se3_box[:, :3, 3]
    begin = np.clip(np.floor((middle - spread - low) / voxel), 0, shape).astype(np.int64)
    end = np.clip(np.ceil((middle + spread - low) / voxel), 0, shape).astype(np.int64)
    near = (begin < end).all(axis=1)
    box_se3_grid = np.linalg.inv(grid_se3_box)[:, :3]
    kept = (t, n + 1, agents.class_id[n], half, box_se3_grid, np.stack([begin, end], axis=-1))
    return tuple(np.ascontiguousarray(each[near]) for each in kept)


def _displacement(agents: AgentTracks, world_se3_grid: Doubles, step: int, over_ground: bool) -> Doubles:
    """[T, 1 + N, 3, 4] what takes a voxel's centre to its flow: of the world first, then of each agent."""
    frames = len(world_se3_grid)
    table = np.full((1 + len(agents.id), frames, 3, 4), np.nan)
    here = np.arange(max(-step, 0), frames - max(step, 0))
    if len(here):
        there = here + step
        world = np.eye(4)[None, None].repeat(frames, axis=1)
        body = np.concatenate([world, _world_se3_agent(agents)])
        known = np.concatenate([[[True] * frames], agents.valid])
        seen_from = world_se3_grid[here if over_ground else there]
        moved = np.linalg.inv(seen_from) @ body[:, there] @ np.linalg.inv(body[:, here])
        moved = moved @ world_se3_grid[here]
        # What stands still does so to the last bit.
        still = (world_se3_grid[here] == seen_from) & (body[:, here] == body[:, there])
        moved[still.all(axis=(2, 3))] = np.eye(4)
        known = known[:, here] & known[:, there]
        table[:, here] = np.where(known[..., None, None], (moved - np.eye(4))[..., :3, :], np.nan)
    return np.ascontiguousarray(table.swapaxes(0, 1))


def claim(
    frame: Any,  # int64 [B], ascending
    name: Any,  # int64 [B] what to write
    class_id: Any,  # uint8 [B]
    half_m: Any,  # float64 [B, 3]
    box_se3_grid: Any,  # float64 [B, 3, 4]
    voxels: Any,  # int64 [B, 3, 2]
    x_m: Any,  # float64 [X] centres of the voxels
    y_m: Any,  # float64 [Y]
    z_m: Any,  # float64 [Z]
    across: float,  # voxels a metre, horizontally
    up: float,  # and vertically
    reach: float,  # voxels
    movable: Any,  # bool [256] classes that somebody owns
    labels: Any,  # uint8 [T, X, Y, Z]
    nearest: Any,  # scratch, float64 [X, Y, Z]
    owner: Any,  # out, int32 [T, X, Y, Z]
) -> None:
    """Give voxels to the nearest box of their class, the first of equally near ones; within a box is less than 0."""
    for t in range(labels.shape[0]):
        for i in range(labels.shape[1]):
            for j in range(labels.shape[2]):
                for k in range(labels.shape[3]):
                    owner[t, i, j, k] = NOBODY if movable[labels[t, i, j, k]] else 0
    last = -1
    for b in range(frame.shape[0]):
        t = frame[b]
        if t != last:
            nearest[:] = np.inf
            last = t
        m = box_se3_grid[b]
        for i in range(voxels[b, 0, 0], voxels[b, 0, 1]):
            for j in range(voxels[b, 1, 0], voxels[b, 1, 1]):
                for k in range(voxels[b, 2, 0], voxels[b, 2, 1]):
                    if labels[t, i, j, k] != class_id[b]:
                        continue
                    x = abs(m[0, 0] * x_m[i] + m[0, 1] * y_m[j] + m[0, 2] * z_m[k] + m[0, 3]) - half_m[b, 0]
                    y = abs(m[1, 0] * x_m[i] + m[1, 1] * y_m[j] + m[1, 2] * z_m[k] + m[1, 3]) - half_m[b, 1]
                    z = abs(m[2, 0] * x_m[i] + m[2, 1] * y_m[j] + m[2, 2] * z_m[k] + m[2, 3]) - half_m[b, 2]
                    distance = max(max(x, y) * across, z * up)
                    if distance <= reach and distance < nearest[i, j, k]:
                        nearest[i, j, k] = distance
                        owner[t, i, j, k] = name[b]


def claim_numpy(
    frame: Any, name: Any, class_id: Any, half_m: Any, box_se3_grid: Any, voxels: Any, x_m: Any, y_m: Any, z_m: Any,
    across: float, up: float, reach: float, movable: Any, labels: Any, nearest: Any, owner: Any,
) -> None:  # fmt: skip
    """The slow twin of claim."""
    owner[:] = np.where(movable[labels], NOBODY, 0)
    for t in np.unique(frame):
        nearest[:] = np.inf
        for b in np.flatnonzero(frame == t):
            cut = tuple(slice(*voxels[b, axis]) for axis in range(3))
            x, y, z = x_m[cut[0], None, None], y_m[None, cut[1], None], z_m[None, None, cut[2]]
            m = box_se3_grid[b]
            gap = [np.abs(m[a, 0] * x + m[a, 1] * y + m[a, 2] * z + m[a, 3]) - half_m[b, a] for a in range(3)]
            distance = np.maximum(np.maximum(gap[0], gap[1]) * across, gap[2] * up)
            won = (labels[t][cut] == class_id[b]) & (distance <= reach) & (distance < nearest[cut])
            nearest[cut][won] = distance[won]
            owner[t][cut][won] = name[b]


def displace(
    owner: Any,  # int32 [T, X, Y, Z]
    table: Any,  # float64 [T, 1 + N, 3, 4]
    stirs: Any,  # bool [T, 1 + N] what has any flow
    x_m: Any,  # float64 [X]
    y_m: Any,  # float64 [Y]
    z_m: Any,  # float64 [Z]
    flow: Any,  # in: 0, out, float32 [T, X, Y, Z, 3]
) -> None:
    """The flow of every voxel."""
    for t in range(owner.shape[0]):
        calm = not stirs[t, 0]
        for i in range(owner.shape[1]):
            for j in range(owner.shape[2]):
                for k in range(owner.shape[3]):
                    who = owner[t, i, j, k]
                    if who == 0 and calm:
                        continue
                    if who < 0:
                        flow[t, i, j, k, :] = np.nan
                    elif stirs[t, who]:
                        m = table[t, who]
                        for a in range(3):
                            flow[t, i, j, k, a] = m[a, 0] * x_m[i] + m[a, 1] * y_m[j] + m[a, 2] * z_m[k] + m[a, 3]


def displace_numpy(owner: Any, table: Any, stirs: Any, x_m: Any, y_m: Any, z_m: Any, flow: Any) -> None:
    """The slow twin of displace."""
    x, y, z = x_m[:, None, None], y_m[None, :, None], z_m[None, None, :]
    for t in range(len(owner)):
        for who in np.unique(owner[t]):
            m = table[t, who] if who >= 0 else np.full((3, 4), np.nan)
            mine = owner[t] == who
            for a in range(3):
                flow[t, ..., a][mine] = (m[a, 0] * x + m[a, 1] * y + m[a, 2] * z + m[a, 3])[mine]
