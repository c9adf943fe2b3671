"""Occupied voxels as point clouds: `<scene>/NNNNNN.ply`, binary, little-endian, and poses.txt. N point.

A point stands at the centre of each voxel that is known and not free, in the ego frame of its frame: x ahead, y to the
left, z up, metres. It has the colour of its class, the class and the instance (0: nobody).
"""

from __future__ import annotations

import numpy as np

from bridges.formats.motion import instances_at
from bridges.formats.packing import number_rows, pose_rows
from bridges.formats.writing import Named, Put
from dcgen.types import CLASS_NAMES, PALETTE, UNKNOWN, GridSpec, Labels, Scene

POINT = np.dtype(
    [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"),
        ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("class", "u1"), ("instance", "<u2"),
    ]
)  # fmt: skip
_WORDS = {"<f4": "float", "|u1": "uchar", "<u2": "ushort"}


def write(scene: Scene, named: Named, put: Put) -> None:
    """A cloud a frame, with the poses [T, 12] of the ego and the times beside them."""
    for t, labels in enumerate(scene.labels):
        points = cloud(labels, instances_at(scene, t), scene.grid)
        put(f"{named.name}/{t:06d}.ply", _head(points, scene.grid, float(scene.time_s[t])), points.tobytes())
    put(f"{named.name}/poses.txt", pose_rows(scene.world_se3_ego))
    put(f"{named.name}/times.txt", number_rows(scene.time_s))


def cloud(labels: Labels, instances: np.ndarray, grid: GridSpec) -> np.ndarray:
    """[N] of POINT, the voxels in their order."""
    at = np.nonzero((labels != 0) & (labels != UNKNOWN))
    out = np.zeros(len(at[0]), POINT)
    for name, index, voxel_m, low_m in zip("xyz", at, grid.voxel_m, grid.origin_m, strict=True):
        out[name] = low_m + (index + 0.5) * voxel_m
    out["class"], out["instance"] = labels[at], instances[at]
    for column, name in enumerate(("red", "green", "blue")):
        out[name] = PALETTE[labels[at], column]
    return out


def _head(points: np.ndarray, grid: GridSpec, time_s: float) -> bytes:
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        "comment ego frame: x ahead, y left, z up, metres",
        f"comment time_s {time_s!r} voxel_m {' '.join(f'{v!r}' for v in grid.voxel_m)}",
        f"comment classes {' '.join(CLASS_NAMES)}",
        f"element vertex {len(points)}",
        *(f"property {_WORDS[POINT[name].str]} {name}" for name in POINT.names or ()),
        "end_header",
    ]
    return ("\n".join(lines) + "\n").encode("ascii")
