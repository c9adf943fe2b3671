"""Voxels out of LiDAR sweeps: hits vote for classes, rays for free space. T frame, N point, K class, X/Y/Z voxel.

The frames of a clip share ONE grid that stands still in the world. Static things are voted on over all frames, what
moves over its own frame alone. Votes are integers, so that their order does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.compiled import compiled
from dcgen.types import MOVING_MPS, NUM_CLASSES, UNKNOWN, AgentTracks, Doubles, Floats, GridSpec, Labels, Semantics

FREE_STEP_M = 1.5  # as CarlaSC was recorded
FREE_SAMPLES_A_HIT = 16  # see _labels
STILL_M, STILL_RAD = 0.05, 0.02  # a road user that never leaves its first pose by more is as good as a wall
NO_VOTE = 255  # a hit that ends a ray without a class of its own: unlabelled, or moving


@dataclass(frozen=True)
class Sweep:
    """One turn of one LiDAR, in the ego frame of its moment."""

    origin_m: Doubles  # [3] where the sensor is
    points_m: Floats  # [N, 3]
    class_id: NDArray[np.uint8]  # [N]; UNKNOWN for what has no label
    actor_id: NDArray[np.int64]  # [N]; 0 for what is no actor
    cosine: Floats  # [N] of the angle between ray and surface

    def __post_init__(self) -> None:
        n = len(self.points_m)
        sizes = (self.points_m.shape, self.class_id.shape, self.actor_id.shape, self.cosine.shape)
        if sizes != ((n, 3), (n,), (n,), (n,)):
            raise ValueError(f"sweep needs points [N, 3] and N classes, actors and cosines, got {sizes}")


@dataclass(frozen=True)
class Voted:
    """Labels, the voxels of what moves, and what was seen frame by frame; all [T, X, Y, Z]."""

    labels: Labels
    moving: NDArray[np.bool_]
    observed: NDArray[np.bool_]


@dataclass(frozen=True)
class _Moment:
    """What one frame alone knows of the voxels [V] (flat)."""

    seen: NDArray[np.bool_]
    at: NDArray[np.int64]  # [M] voxels that something moving fills
    class_id: NDArray[np.uint8]  # [M]
    fast: NDArray[np.bool_]  # [M]


def vote(
    frames: Sequence[Sequence[Sweep]],
    world_se3_ego: Doubles,
    world_se3_grid: Doubles,
    agents: AgentTracks,
    grid: GridSpec,
    free_step_m: float = FREE_STEP_M,
) -> Voted:
    """Labels of T frames of sweeps in a grid at one pose [4, 4]; agents cover the same frames, without the ego.

    A voxel takes the commonest class of its hits. Without hits it is free where rays passed, else UNKNOWN. What moves
    counts in its own frame alone; inside its box, what that frame does not see is UNKNOWN, whatever others saw there.
    """
    counts = np.zeros((*grid.shape, NUM_CLASSES), np.int32)
    moves = moving_agents(agents)
    moments = []
    for t, sweeps in enumerate(frames):
        grid_se3_ego = np.linalg.inv(world_se3_grid) @ world_se3_ego[t]
        now = np.zeros_like(counts)
        loose = []
        for sweep in sweeps:
            row = _rows(sweep.actor_id, agents.id)
            mobile = row >= 0
            mobile[mobile] = (moves & agents.valid[:, t])[row[mobile]]
            loose.append((_count(sweep, mobile, grid_se3_ego, grid, free_step_m, now), row[mobile]))
        counts += now
        moments.append(_moment(now, loose, agents.speed_mps[:, t] > MOVING_MPS, agents.class_id))
    static = _labels(counts)
    return _combine(static, moments, agents.select(moves), world_se3_grid, grid)


def moving_agents(agents: AgentTracks) -> NDArray[np.bool_]:
    """[N] who leaves the first pose it has in these frames."""
    first = np.take_along_axis(agents.pose, agents.valid.argmax(1)[:, None, None], axis=1)
    away = np.hypot(*np.moveaxis(agents.pose[..., :2] - first[..., :2], -1, 0)) > STILL_M
    turned = np.abs(np.angle(np.exp(1j * (agents.pose[..., 2] - first[..., 2])))) > STILL_RAD
    return np.any((away | turned) & agents.valid, axis=1)


def _rows(actor_id: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.intp]:
    """[N] the row of each point's actor in the tracks, -1 for none."""
    if not len(known):
        return np.full(len(actor_id), -1)
    order = np.argsort(known)
    place = order[np.minimum(np.searchsorted(known, actor_id, sorter=order), len(known) - 1)]
    return np.where(known[place] == actor_id, place, -1)


def _count(
    sweep: Sweep,
    mobile: NDArray[np.bool_],
    grid_se3_ego: Doubles,
    grid: GridSpec,
    free_step_m: float,
    counts: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Add a sweep's votes to counts [X, Y, Z, K]; (voxel, class) of what moves, voxel -1 outside the grid."""
    turn, shift = grid_se3_ego[:3, :3], grid_se3_ego[:3, 3] - grid.origin_m
    ends = (sweep.points_m.astype(np.float64) @ turn.T + shift) / grid.voxel_m
    start = (turn @ sweep.origin_m + shift) / grid.voxel_m
    length_m = np.linalg.norm(sweep.points_m.astype(np.float64) - sweep.origin_m, axis=1)
    static = np.where(mobile, NO_VOTE, sweep.class_id).astype(np.uint8)
    margin_m = 0.5 * float(np.linalg.norm(grid.voxel_m))
    compiled(count_rays)(start, ends, length_m, static, free_step_m, margin_m, counts)
    voxel = np.floor(ends[mobile]).astype(np.int64)
    inside = np.all((voxel >= 0) & (voxel < grid.shape), axis=1)
    flat = np.ravel_multi_index(tuple(np.where(inside[:, None], voxel, 0).T), grid.shape)
    return np.where(inside, flat, -1), sweep.class_id[mobile]


def count_rays(
    start: Any,  # float64 [3] in voxels
    ends: Any,  # float64 [N, 3] in voxels
    length_m: Any,  # float64 [N]
    class_id: Any,  # uint8 [N], NO_VOTE for a ray that only carves
    step_m: float,
    margin_m: float,
    counts: Any,  # in and out, int32 [X, Y, Z, K]; class 0 counts free samples
) -> None:
    """Count hits and free samples, one every step_m along each ray and none within margin_m of its end."""
    nx, ny, nz, _ = counts.shape
    for i in range(ends.shape[0]):
        if class_id[i] != 255:
            x, y, z = np.floor(ends[i, 0]), np.floor(ends[i, 1]), np.floor(ends[i, 2])
            if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
                counts[int(x), int(y), int(z), class_id[i]] += 1
        # The first sample lies at a share of a step that differs from ray to ray (multiples of the golden ratio):
        # with one LiDAR that stands still, even ones would leave shells that nobody looks into.
        far = ((i * 2654435769) % 4294967296) / 4294967296 * step_m
        while far < length_m[i] - margin_m:
            share = far / length_m[i]
            x = np.floor(start[0] + share * (ends[i, 0] - start[0]))
            y = np.floor(start[1] + share * (ends[i, 1] - start[1]))
            z = np.floor(start[2] + share * (ends[i, 2] - start[2]))
            if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
                counts[int(x), int(y), int(z), 0] += 1
            far += step_m


def _labels(counts: NDArray[np.int32]) -> Labels:
    """The commonest class of each voxel, flat; UNKNOWN without any vote.

    A simulator's hits do not err, and a ray that grazes the road passes through its voxels several times before it
    ends in one. So free space wins only where its samples outnumber all hits FREE_SAMPLES_A_HIT times. With one vote a
    sample 45 % of a flat street was free (nano grid, 20 LiDARs, 4 frames), with 4 samples a vote 2 %, with 16 none.
    """
    hits = counts[..., 1:].reshape(-1, NUM_CLASSES - 1)
    free = counts[..., 0].reshape(-1)
    total = hits.sum(1)
    labels = np.where(total * FREE_SAMPLES_A_HIT > free, hits.argmax(1) + 1, Semantics.FREE).astype(np.uint8)
    labels[(total == 0) & (free == 0)] = UNKNOWN
    return labels


def _moment(
    now: NDArray[np.int32],
    loose: list[tuple[tuple[NDArray[np.int64], NDArray[np.uint8]], NDArray[np.intp]]],
    fast: NDArray[np.bool_],
    actor_class: NDArray[np.uint8],
) -> _Moment:
    """What a frame's votes say of what moves; where static hits of the frame are more, it does not get the voxel."""
    voxel = np.concatenate([flat for (flat, _), _ in loose] or [np.zeros(0, np.int64)])
    class_id = np.concatenate([kind for (_, kind), _ in loose] or [np.zeros(0, np.uint8)])
    row = np.concatenate([rows for _, rows in loose] or [np.zeros(0, np.intp)])
    keep = voxel >= 0
    voxel, class_id, row = voxel[keep], class_id[keep], row[keep]
    class_id = np.where(class_id == UNKNOWN, actor_class[row], class_id)
    at, place = np.unique(voxel, return_inverse=True)
    by_class = np.bincount(place * NUM_CLASSES + class_id, minlength=len(at) * NUM_CLASSES).reshape(-1, NUM_CLASSES)
    by_speed = np.bincount(place, np.where(fast[row], 1, -1), minlength=len(at))
    flat = now.reshape(-1, NUM_CLASSES)
    seen = np.sum(flat, axis=1) > 0
    seen[at] = True
    wins = by_class.sum(1) > flat[at, 1:].sum(1)
    return _Moment(seen, at[wins], by_class.argmax(1)[wins].astype(np.uint8), by_speed[wins] > 0)


def _combine(
    static: Labels, moments: list[_Moment], agents: AgentTracks, world_se3_grid: Doubles, grid: GridSpec
) -> Voted:
    shape = (len(moments), *grid.shape)
    labels = np.broadcast_to(static, (len(moments), len(static))).copy()
    moving = np.zeros(labels.shape, bool)
    for t, moment in enumerate(moments):
        hidden = inside_boxes(agents, t, world_se3_grid, grid).ravel() & ~moment.seen
        labels[t, hidden] = UNKNOWN
        labels[t, moment.at] = moment.class_id
        moving[t, moment.at] = moment.fast
    seen = np.stack([moment.seen for moment in moments])
    return Voted(labels.reshape(shape), moving.reshape(shape), seen.reshape(shape))


def inside_boxes(agents: AgentTracks, t: int, world_se3_grid: Doubles, grid: GridSpec) -> NDArray[np.bool_]:
    """[X, Y, Z] voxels whose centre lies in an agent's box at frame t."""
    inside = np.zeros(grid.shape, bool)
    centres = grid.centres_m() @ world_se3_grid[:3, :3].T + world_se3_grid[:3, 3]
    for row in np.flatnonzero(agents.valid[:, t]):
        x, y, yaw = agents.pose[row, t]
        length, width, height = agents.size_m[row]
        dx, dy, dz = np.moveaxis(centres - (x, y, agents.z_m[row, t]), -1, 0)
        along, aside = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
        inside |= (np.abs(along) < length / 2) & (np.abs(aside) < width / 2) & (dz > 0) & (dz < height)
    return inside
