"""SemanticKITTI's scene completion, and SSCBench's: `sequences/XX/voxels/NNNNNN.{label,invalid,occluded,bin}`.

X/Y/Z voxel axes. In the frame of a LiDAR 1.73 m above the road, x ahead, y to the left; the volume lies ahead of it.
invalid: nothing is known. A generated scene has no sensor: bin, the input, is every occupied voxel, and nothing is
occluded but what is unknown. Every frame has voxels, numbered one by one; times.txt says when.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridges.formats.class_tables import SEMANTICKITTI, SEMANTICKITTI_MOVING
from bridges.formats.motion import instances_at, speeds_mps
from bridges.formats.packing import number_rows, pose_rows
from bridges.formats.resample import Sampled, Sampler, lidar
from bridges.formats.writing import Named, Put
from dcgen.types import MOVING_MPS, GridSpec, Scene

LIDAR_M = 1.73
GRID = GridSpec((256, 256, 32), (0.2, 0.2, 0.2), (0.0, -25.6, -2.0))
FRAME = lidar(LIDAR_M)
# KITTI's poses are of the left camera: x right, y down, z ahead. It is put where the LiDAR is.
CAMERA_SE3_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def write(scene: Scene, named: Named, put: Put) -> None:
    """Every frame of a scene with instances, the poses, the times and the calibration that poses go through."""
    sampler = Sampler(scene.grid, GRID, FRAME)
    folder = f"sequences/{named.number:02d}"
    for t, labels in enumerate(scene.labels):
        sampled = sampler.sample(labels)
        stem = f"{folder}/voxels/{t:06d}"
        occupied = sampled.known & (sampled.labels != 0)
        put(f"{stem}.label", _ids(scene, t, sampled).astype("<u2").tobytes())
        put(f"{stem}.invalid", np.packbits(~sampled.known).tobytes())  # the most significant bit first
        put(f"{stem}.occluded", np.packbits(~sampled.known).tobytes())
        put(f"{stem}.bin", np.packbits(occupied).tobytes())
    poses = CAMERA_SE3_LIDAR @ FRAME.world_se3_target(scene.world_se3_ego) @ np.linalg.inv(CAMERA_SE3_LIDAR)
    put(f"{folder}/poses.txt", pose_rows(poses))
    put(f"{folder}/times.txt", number_rows(scene.time_s))
    cameras = [f"P{n}: ".encode() + pose_rows([np.eye(4)]) for n in range(4)]
    put(f"{folder}/calib.txt", *cameras, b"Tr: " + pose_rows([CAMERA_SE3_LIDAR]))


def _ids(scene: Scene, t: int, sampled: Sampled) -> NDArray[np.int16]:
    """[X, Y, Z] raw ids; what is faster than MOVING_MPS has those of moving things."""
    ids = SEMANTICKITTI.apply(sampled.labels)
    moving = (speeds_mps(scene, t) > MOVING_MPS)[sampled.take(instances_at(scene, t))]
    for rest, motion in SEMANTICKITTI_MOVING.items():
        ids[(ids == rest) & moving] = motion
    return ids
