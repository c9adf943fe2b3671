"""Instances and flow of a scene in the grid of a format. T frame, X/Y/Z voxel axes of the target, N object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridges.formats.resample import Sampled
from dcgen.dataset.motion import NOBODY, rigid_flow
from dcgen.types import MOVABLE, UNKNOWN, AgentTracks, Doubles, Floats, GridSpec, Scene


def tracks_of(scene: Scene) -> AgentTracks:
    """The objects that instances count, in their order."""
    return scene.agents if scene.objects is None else scene.objects


def instances_at(scene: Scene, t: int) -> NDArray[np.uint16]:
    """[X, Y, Z] 1 + row in tracks_of of each voxel of frame t, 0 where it is nobody's."""
    return np.zeros(scene.grid.shape, np.uint16) if scene.instances is None else scene.instances[t]


def speeds_mps(scene: Scene, t: int) -> NDArray[np.float64]:
    """[1 + N] speed of what instances name in frame t; 0 for nobody and for who is not there."""
    objects = tracks_of(scene)
    return np.append(0.0, np.where(objects.valid[:, t], objects.speed_mps[:, t], 0.0))


def displacement_m(scene: Scene, t: int, sampled: Sampled, target: GridSpec, step: int) -> Floats:
    """[X, Y, Z, 3] where what is in a voxel of frame t is `step` frames later (earlier where negative), less where it
    is now, in metres along the ego's axes of each frame: what stands still moves by the ego's motion.

    0 in free and unknown voxels, beyond the ends of the scene, and where the motion is not known.
    """
    if not 0 <= t + step < len(scene.time_s):
        return np.zeros((*target.shape, 3), np.float32)
    owner = sampled.take(instances_at(scene, t)).astype(np.int32)
    owner[(owner == 0) & np.isin(sampled.labels, MOVABLE)] = NOBODY
    flow = rigid_flow(owner[None], tracks_of(scene), target, scene.world_se3_ego, step, first=t)[0]
    solid = (sampled.labels != 0) & (sampled.labels != UNKNOWN)
    out = np.zeros_like(flow)
    out[solid] = np.nan_to_num(flow[solid], nan=0.0)
    return out


def world_se3_boxes(objects: AgentTracks, t: int) -> Doubles:
    """[N, 4, 4] poses of the boxes' centres in frame t; the identity where an object is not there."""
    x, y, yaw = np.moveaxis(np.where(objects.valid[:, t, None], objects.pose[:, t], 0.0), -1, 0)
    out = np.tile(np.eye(4), (len(objects.id), 1, 1))
    out[:, 0, 0] = out[:, 1, 1] = np.cos(yaw)
    out[:, 1, 0] = np.sin(yaw)
    out[:, 0, 1] = -out[:, 1, 0]
    out[:, 0, 3], out[:, 1, 3] = x, y
    out[:, 2, 3] = np.where(objects.valid[:, t], objects.z_m[:, t] + objects.size_m[:, 2] / 2, 0.0)
    return out


def frame_step(scene: Scene, seconds: float) -> tuple[int, float]:
    """(frames, seconds) of the step between frames that comes nearest to so many seconds, the shorter of equally near
    ones and at least one frame.
    """
    dt_s = float(np.median(np.diff(scene.time_s))) if len(scene.time_s) > 1 else seconds
    frames = max(1, int(np.ceil(seconds / dt_s - 0.5 - 1e-6)))
    return frames, frames * dt_s
