"""A scene as one .npz of plain numpy arrays. T frame, X/Y/Z voxel axes, N object or agent."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from bridges.formats.packing import npz_bytes
from bridges.formats.writing import Named, Put
from dcgen.instances import backward_mps
from dcgen.types import CLASS_NAMES, LAYOUT_CHANNELS, PALETTE, UNKNOWN, AgentTracks, Scene

PER_FRAME = ("labels", "known", "time_s", "world_se3_ego", "trajectory", "command", "layout")
MOTION = ("instances", "flow_mps")


def write(scene: Scene, named: Named, put: Put) -> None:
    """All that the scene holds, by the names of its fields; agents_* and objects_* are the fields of their tracks."""
    members = {name: getattr(scene, name) for name in PER_FRAME}
    members |= {name: getattr(scene, name) for name in MOTION if getattr(scene, name) is not None}
    if scene.instances is not None:
        members["backward_mps"] = backward_mps(scene)
    for kind in ("agents", "objects"):
        tracks = getattr(scene, kind)
        if tracks is not None:
            members |= {f"{kind}_{field.name}": getattr(tracks, field.name) for field in fields(AgentTracks)}
    members |= {
        "grid_shape": np.array(scene.grid.shape, np.int64),
        "grid_voxel_m": np.array(scene.grid.voxel_m),
        "grid_origin_m": np.array(scene.grid.origin_m),
        "class_names": np.array(CLASS_NAMES),
        "layout_channels": np.array(LAYOUT_CHANNELS),
        "palette": PALETTE,
        "unknown": np.array(UNKNOWN, np.uint8),
        "seed": np.array(scene.seed, np.int64),
        "model": np.array(scene.model),
        "model_sha256": np.array(scene.model_sha256),
        "scenario": np.array(scene.scenario),
    }
    put(f"{named.name}.npz", npz_bytes(members))
