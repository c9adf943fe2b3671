"""Occ3D: on nuScenes `gts/<scene>/<token>/labels.npz`, on Waymo `training/SSS/FFF_04.npz`. X/Y/Z voxel axes.

In the ego frame, x ahead, y to the left. All masks are the known region: a generated scene has no sensors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.formats.class_tables import OCC3D_NUSCENES, OCC3D_WAYMO
from bridges.formats.packing import npz_bytes, pose_rows, token
from bridges.formats.resample import Sampler
from bridges.formats.writing import Entry, Named, Put
from dcgen.types import Doubles, Scene, wide_grid

MICROSECONDS = 1_000_000


def write_nuscenes(scene: Scene, named: Named, put: Put) -> Entry:
    """Every frame, and what annotations.json says of the scene: its frames in order, with poses and times."""
    sampler = Sampler(scene.grid, wide_grid())
    tokens = [token(named.name, t) for t in range(len(scene.time_s))]
    infos: list[list[Any]] = []  # pairs: a receipt keeps the order of lists alone
    for t, labels in enumerate(scene.labels):
        sampled = sampler.sample(labels)
        known = sampled.known.astype(np.uint8)
        place = f"gts/{named.name}/{tokens[t]}/labels.npz"
        semantics = OCC3D_NUSCENES.apply(sampled.labels).astype(np.uint8)
        put(place, npz_bytes({"semantics": semantics, "mask_lidar": known, "mask_camera": known}))
        info = {
            "timestamp": str(round(float(scene.time_s[t]) * MICROSECONDS)),
            "camera_sensor": {},
            "ego_pose": _pose(scene.world_se3_ego[t]),
            "gt_path": place,
            "prev": tokens[t - 1] if t else "",
            "next": tokens[t + 1] if t + 1 < len(tokens) else "",
        }
        infos.append([tokens[t], info])
    return {"scene": named.name, "frames": infos}


def index_nuscenes(entries: Sequence[Entry], put: Put) -> None:
    """annotations.json over all scenes, which are all for training."""
    infos = {entry["scene"]: dict(entry["frames"]) for entry in entries}
    values = {"train_split": list(infos), "val_split": [], "scene_infos": infos}
    put("annotations.json", (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())


def write_waymo(scene: Scene, named: Named, put: Put) -> None:
    """Every frame, and poses.txt: the layout's own poses lie in a file of cameras, which a generated scene lacks."""
    sampler = Sampler(scene.grid, wide_grid())
    folder = f"training/{named.number:03d}"
    for t, labels in enumerate(scene.labels):
        sampled = sampler.sample(labels)
        known = sampled.known
        members = {
            "voxel_label": OCC3D_WAYMO.apply(sampled.labels).astype(np.uint8),
            "origin_voxel_state": known.astype(np.uint8),
            "final_voxel_state": known.astype(np.uint8),
            "infov": known,
        }
        put(f"{folder}/{t:03d}_04.npz", npz_bytes(members))
    put(f"{folder}/poses.txt", pose_rows(scene.world_se3_ego))


def _pose(world_se3_ego: Doubles) -> Entry:
    return {"translation": world_se3_ego[:3, 3].tolist(), "rotation": quaternion(world_se3_ego[:3, :3]).tolist()}


def quaternion(rotation: Doubles) -> NDArray[np.float64]:
    """[4] w, x, y, z of a rotation [3, 3], w not negative."""
    m = rotation
    # The largest of the four squares is taken as the pivot, so that nothing is divided by almost zero.
    squares = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    products = np.array(
        [
            [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], squares[1], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], squares[2], m[2, 1] + m[1, 2]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squares[3]],
        ]
    )
    out = products[int(np.argmax(squares))]
    out = out / np.linalg.norm(out)
    return -out if out[0] < 0 else out
