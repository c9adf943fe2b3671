"""A scene as a page holds it: numbers for a browser, packed. T frame, X/Y/Z voxel axes, C channel, N agent, V voxel.

A block of frames is one zlib stream in base64: labels [T, X, Y, Z], layout codes [T, X, Y], both uint8, and a uint16
for each voxel of a movable class that says whose it is, 0 nobody's.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dcgen.export.birdseye import birdseye
from dcgen.export.frame import frame_of
from dcgen.export.plain import plain
from dcgen.export.props import COMMAND_COLOURS
from dcgen.instances import with_motion
from dcgen.scene_file import load_scene
from dcgen.types import LAYOUT_CHANNELS, MOVABLE, UNKNOWN, Command, Floats, Scene

BLOCK_BYTES = 8 << 20  # of labels that a browser opens at once
PICTURE_PX = 168
# What the layout picture shows of a cell, the later over the earlier; 0 is nothing.
LAYOUT_CODES = ("road", "junction", "sidewalk", "crosswalk", "marking", "route", "vehicle", "bicycle", "pedestrian")
_AT_LEAST = 0.5  # of a cell, for a channel to be seen; thin ones need less
_THIN = {"marking": 0.2, "route": 0.3, "bicycle": 0.1, "pedestrian": 0.05}


def pack_scene(path: Path, frames: int | None = None) -> dict[str, Any]:
    """What a page shows of a scene file, ready for JSON; its first `frames` where given. Raises SceneError."""
    scene = with_motion(load_scene(path, 0, frames))
    return {
        **_head(scene, path),
        "shape": scene.grid.shape,
        "voxel_m": scene.grid.voxel_m,
        "origin_m": scene.grid.origin_m,
        "time_s": [round(float(t - scene.time_s[0]), 4) for t in scene.time_s],
        "speed_mps": [round(float(v), 3) for v in _speeds(scene)],
        "yaw": [round(float(v), 5) for v in np.arctan2(scene.world_se3_ego[:, 1, 0], scene.world_se3_ego[:, 0, 0])],
        "command": scene.command.tolist(),
        "agents": _agents(scene),
        "tracks": _tracks(scene),
        "blocks": list(_blocks(scene)),
        "picture": picture(scene),
    }


def _head(scene: Scene, path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:  # whole, as load_scene has checked
        made = {name: str(file.attrs[name]) for name in ("created_utc", "dcgen_version", "format_version")}
    said = {plain(name, 40): plain(text, 300) for name, text in scene.metadata.items()}
    title = said.pop("name", "") or said.pop("title", "") or path.stem
    grid = "x".join(map(str, scene.grid.shape)) + " of " + "x".join(f"{v:g}" for v in scene.grid.voxel_m) + " m"
    provenance = {
        "model": scene.model or "none: recorded or given",
        "model sha256": scene.model_sha256,
        "seed": str(scene.seed),
        "dcgen": made["dcgen_version"],
        "created": made["created_utc"],
        "scene file": f"{path.name}, format {made['format_version']}, {path.stat().st_size:,} bytes",
        "grid": grid,
        "given": f"{float(scene.known.mean()):.1%} of voxels were given, the rest generated",
        "unknown": f"{float((scene.labels == UNKNOWN).mean()):.1%} of voxels",
        **said,
    }
    moved = np.linalg.norm(np.diff(scene.world_se3_ego[:, :3, 3], axis=0), axis=1).sum()
    return {
        "title": plain(title, 90),
        "about": said.get("shows", ""),
        "scenario": scene.scenario,
        "provenance": {name: plain(text, 300) for name, text in provenance.items() if text},
        "distance_m": round(float(moved), 2),
        "commands": [command.name.lower() for command in Command],
        "command_colours": [f"rgb{COMMAND_COLOURS[command]}" for command in Command],
        "layout_codes": LAYOUT_CODES,
    }


def _speeds(scene: Scene) -> Floats:
    """[T] metres a second of the ego."""
    return np.array([frame_of(scene, t).speed_mps for t in range(len(scene.time_s))], np.float32)


def _agents(scene: Scene) -> dict[str, Any]:
    rows = scene.objects if scene.objects is not None else scene.agents
    return {
        "id": rows.id.tolist(),
        "class_id": rows.class_id.tolist(),
        "size_m": np.round(rows.size_m, 2).astype(float).tolist(),
        "given": len(scene.agents.id),  # the first rows; the others were found in what was generated
    }


def _tracks(scene: Scene) -> str:
    """float32 [T, 12] the first three rows of world_se3_ego, then [N, T, 5] x, y, z, yaw, speed, NaN where absent.

    Positions are seen from the first pose's, so that 32 bits are enough of them.
    """
    origin = scene.world_se3_ego[0, :3, 3]
    poses = scene.world_se3_ego[:, :3].copy()
    poses[:, :, 3] -= origin
    rows = scene.objects if scene.objects is not None else scene.agents
    xy = rows.pose[..., :2] - origin[:2]
    tracks = np.concatenate(
        [xy, (rows.z_m - origin[2])[..., None], rows.pose[..., 2:], rows.speed_mps[..., None]], axis=-1
    )
    tracks = np.where(rows.valid[..., None], tracks, np.nan)
    return packed(poses.astype("<f4").tobytes() + tracks.astype("<f4").tobytes())


def _blocks(scene: Scene) -> list[dict[str, Any]]:
    frame_bytes = int(np.prod(scene.grid.shape))
    step = max(1, BLOCK_BYTES // frame_bytes)
    blocks = []
    for start in range(0, len(scene.labels), step):
        cut = slice(start, start + step)
        labels, codes = scene.labels[cut], layout_codes(scene.layout[cut])
        owners, ends = _owners(labels, None if scene.instances is None else scene.instances[cut])
        data = packed(labels.tobytes() + codes.tobytes() + owners.astype("<u2").tobytes())
        blocks.append({"start": start, "stop": start + len(labels), "instances": ends, "data": data})
    return blocks


def _owners(labels: NDArray[np.uint8], instances: NDArray[np.uint16] | None) -> tuple[NDArray[np.uint16], list[int]]:
    """[V] the instances at voxels of movable classes in the order of memory, and where each frame's begin and end."""
    movable = np.isin(labels, [int(kind) for kind in MOVABLE])
    if instances is None:
        return np.zeros(0, np.uint16), [0] * (len(labels) + 1)
    return instances[movable], [0, *np.cumsum(movable.sum(axis=(1, 2, 3))).tolist()]


def layout_codes(layout: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """[T, X, Y] 1 + place in LAYOUT_CODES of the topmost thing a cell of layout [T, C, X, Y] holds."""
    codes = np.zeros((len(layout), *layout.shape[2:]), np.uint8)
    for code, name in enumerate(LAYOUT_CODES, start=1):
        codes[layout[:, LAYOUT_CHANNELS.index(name)] >= _THIN.get(name, _AT_LEAST)] = code
    return codes


def picture(scene: Scene) -> str:
    """The middle frame from above, a PNG in base64."""
    image = birdseye(frame_of(scene, len(scene.time_s) // 2), PICTURE_PX).convert("RGB").quantize(64)
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def packed(data: bytes) -> str:
    """A zlib stream in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def as_json(value: Any) -> str:
    """JSON that may stand within a script element: no text in it can end one or open a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
