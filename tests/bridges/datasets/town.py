"""A street that is different along every axis, an ego that turns left on it, and the bytes of files. X/Y/Z axes.

Everything here is plain geometry and plain bytes: nothing of the readers is used.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.types import Semantics

Box = tuple[int, tuple[float, float], tuple[float, float], tuple[float, float]]
# In the world, y to the left, the road at z = 0. No face lies where a voxel's centre of the first frame does.
HOUSE: Box = (Semantics.BUILDING, (9.07, 13.11), (6.03, 8.91), (0.33, 2.53))
POLE: Box = (Semantics.POLE, (5.03, 5.61), (-4.71, -3.93), (0.33, 3.77))
TREE: Box = (Semantics.VEGETATION, (16.07, 18.03), (-9.03, -7.07), (1.73, 3.37))
STATIC = (HOUSE, POLE, TREE)
FRAMES = 4


def ego(frame: float) -> tuple[float, float, float, float]:
    """x, y, z, yaw on the road: forward, to the left and slightly uphill."""
    return 1.7 * frame, 0.11 * frame**2, 0.05 * frame, 0.13 * frame


def matrix(x: float, y: float, z: float, yaw: float) -> np.ndarray:
    """[4, 4] yaw counts from x to y, whichever side y is."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1]])


def label_at(points: np.ndarray, boxes: tuple[Box, ...] = STATIC) -> np.ndarray:
    """[...] class at world points [..., 3]: the road below z = 0.3 along y = 0, grass beside it, boxes on it."""
    x, y, z = (points[..., axis] for axis in range(3))
    out = np.zeros(points.shape[:-1], np.uint8)
    out[(z < 0.31) & (z > -0.5)] = Semantics.GROUND
    out[(z < 0.31) & (z > -0.5) & (np.abs(y - 0.02) < 3.13)] = Semantics.ROAD
    for class_id, *sides in boxes:
        inside = np.ones(out.shape, bool)
        for value, (low, high) in zip((x, y, z), sides, strict=True):
            inside &= (value > low) & (value < high)
        out[inside] = class_id
    return out


def centres(shape: tuple[int, int, int], voxel: tuple[float, ...], low: tuple[float, ...]) -> np.ndarray:
    """[X, Y, Z, 3] centres of the voxels of a published grid, in its own frame."""
    axes = [a + (np.arange(n) + 0.5) * v for n, v, a in zip(shape, voxel, low, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def move(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pose[:3, :3].T + pose[:3, 3]


def translate(labels: np.ndarray, ids: dict[int, int]) -> np.ndarray:
    """dcgen's classes as the set's ids."""
    out = np.zeros(labels.shape, np.int64)
    for class_id, number in ids.items():
        out[labels == class_id] = number
    return out


def rows(poses: list[np.ndarray]) -> str:
    """poses.txt: twelve numbers a line."""
    return "".join(" ".join(f"{value:.12e}" for value in pose[:3].reshape(-1)) + "\n" for pose in poses)


def npy(array: np.ndarray, protocol: int = 4) -> bytes:
    """An .npy file, version 1.0."""
    kind = "|O" if array.dtype == object else array.dtype.str
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {array.shape}, }}"
    head += " " * (-(10 + len(head) + 1) % 64) + "\n"
    body = pickle.dumps(array, protocol) if array.dtype == object else array.tobytes()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode("latin1") + body


def npz(path: Path, **members: Any) -> None:
    """An .npz file; a member that is bytes is put as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            data = value if isinstance(value, bytes) else npy(np.asarray(value))
            archive.writestr(f"{name}.npy", data)
