"""OpenOccupancy: `scene_<token>/occupancy/<lidar_token>.npy`, rows z, y, x, class of voxels. X/Y/Z voxel axes, N row.

In the frame of nuScenes' LiDAR, 1.84 m above the road: x to the right, y ahead. A voxel without a row is free; what is
unknown has rows of class 0, noise, which the benchmark's loader ignores. frames.json says which token is which frame.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from bridges.formats.class_tables import NO_ROW, OPENOCCUPANCY
from bridges.formats.packing import npy_bytes, token
from bridges.formats.resample import Sampler, nuscenes_lidar
from bridges.formats.writing import Named, Put
from dcgen.types import UNKNOWN, GridSpec, Labels, Scene

LIDAR_M = 1.84
GRID = GridSpec((512, 512, 40), (0.2, 0.2, 0.2), (-51.2, -51.2, -5.0))
FRAME = nuscenes_lidar(LIDAR_M)


def write(scene: Scene, named: Named, put: Put, noise: bool = True) -> None:
    """Every frame; noise: rows for what is unknown, else it reads as free."""
    sampler = Sampler(scene.grid, GRID, FRAME)
    folder = f"scene_{token(named.name)}"
    poses = FRAME.world_se3_target(scene.world_se3_ego)
    frames = []
    for t, labels in enumerate(scene.labels):
        name = token(named.name, t)
        put(f"{folder}/occupancy/{name}.npy", npy_bytes(rows(sampler.sample(labels).labels, noise)))
        frames.append({"lidar_token": name, "time_s": float(scene.time_s[t]), "world_se3_lidar": poses[t].tolist()})
    about = {"scene": named.name, "frames": frames}
    put(f"{folder}/frames.json", (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())


def write_compact(scene: Scene, named: Named, put: Put) -> None:
    """The same without rows for what is unknown."""
    write(scene, named, put, noise=False)


def rows(labels: Labels, noise: bool) -> NDArray[np.int16]:
    """[N, 4] z, y, x, class of the voxels that have a row."""
    ids = OPENOCCUPANCY.apply(labels)
    kept = ids != NO_ROW
    if not noise:
        kept &= labels != UNKNOWN
    place = np.flatnonzero(kept)
    _, y, z = labels.shape
    out = np.empty((len(place), 4), np.int16)
    out[:, 0], out[:, 1], out[:, 2] = place % z, place // z % y, place // (y * z)
    out[:, 3] = ids.reshape(-1)[place]
    return out
