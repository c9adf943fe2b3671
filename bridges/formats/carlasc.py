"""CarlaSC: `<scene>/cartesian/evaluation/NNNNNN.{label,bin}`, poses.txt and times.txt. X/Y/Z voxel axes.

y points to the right, the origin is a LiDAR 1.8 m above the road. Hit counts are 1 where the scene is known, else 0.
"""

from __future__ import annotations

import numpy as np

from bridges.formats.class_tables import CARLASC
from bridges.formats.packing import number_rows, pose_rows
from bridges.formats.resample import Sampler, y_right
from bridges.formats.writing import Named, Put
from dcgen.types import GridSpec, Scene

LIDAR_M = 1.8
GRID = GridSpec((128, 128, 8), (0.4, 0.4, 0.375), (-25.6, -25.6, -2.0))
FRAME = y_right(LIDAR_M)


def write(scene: Scene, named: Named, put: Put) -> None:
    """Every frame of the scene, and its poses and times."""
    sampler = Sampler(scene.grid, GRID, FRAME)
    folder = f"{named.name}/cartesian"
    for t, labels in enumerate(scene.labels):
        sampled = sampler.sample(labels)
        put(f"{folder}/evaluation/{t:06d}.label", CARLASC.apply(sampled.labels).astype("<u4").tobytes())
        put(f"{folder}/evaluation/{t:06d}.bin", sampled.known.astype("<f4").tobytes())
    put(f"{folder}/poses.txt", pose_rows(FRAME.world_se3_target(scene.world_se3_ego)))
    put(f"{folder}/times.txt", number_rows(np.asarray(scene.time_s)))
