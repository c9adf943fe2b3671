"""RoadMap <-> one .npz of plain arrays and JSON; never pickle. N points of all lanes, one lane after another."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import numpy as np

from scenarios.roadmap import Crosswalk, Junction, Lane, RoadMap, Signal

FORMAT = 1
_POINTS = ("centre_m", "left_m", "right_m", "width_m", "yaw_rad")
_PLAIN = (
    "id",
    "road_id",
    "lane_id",
    "kind",
    "junction_id",
    "speed_limit_mps",
    "successors",
    "predecessors",
    "left_change",
    "right_change",
    "left_marking",
    "right_marking",
)


def save_map(road_map: RoadMap, path: Path) -> None:
    """Writes the map atomically. Raises OSError where the folder cannot be written."""
    lanes = list(road_map.lanes.values())
    head = {
        "format": FORMAT,
        "name": road_map.name,
        "bounds_m": road_map.bounds_m,
        "lanes": [{key: getattr(lane, key) for key in _PLAIN} for lane in lanes],
        "junctions": [j.id for j in road_map.junctions],
        "signals": [[s.id, s.kind, s.position_m, s.yaw_rad, s.value] for s in road_map.signals],
    }
    arrays = {key: np.concatenate([getattr(lane, key) for lane in lanes]) for key in _POINTS}
    arrays["lane_sizes"] = np.array([len(lane.width_m) for lane in lanes])
    arrays["junction_sizes"] = np.array([len(j.polygon_m) for j in road_map.junctions], dtype=np.int64)
    arrays["junction_m"] = np.concatenate([np.zeros((0, 2)), *(j.polygon_m for j in road_map.junctions)])
    arrays["crosswalk_sizes"] = np.array([len(c.polygon_m) for c in road_map.crosswalks], dtype=np.int64)
    arrays["crosswalk_m"] = np.concatenate([np.zeros((0, 3)), *(c.polygon_m for c in road_map.crosswalks)])
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_map(path: Path) -> RoadMap:
    """Reads what save_map wrote. Raises ValueError, KeyError, OSError or zipfile.BadZipFile on anything else."""
    with np.load(path, allow_pickle=False) as data:
        arrays = {key: data[key] for key in data.files}
    head = json.loads(arrays["head"].tobytes().decode())
    if head["format"] != FORMAT:
        raise ValueError(f"map cache format {head['format']}")
    points = {key: _split(arrays[key], arrays["lane_sizes"]) for key in _POINTS}
    lanes = {}
    for index, row in enumerate(head["lanes"]):
        row["successors"], row["predecessors"] = tuple(row["successors"]), tuple(row["predecessors"])
        row.update((key, points[key][index]) for key in _POINTS)
        lanes[row["id"]] = Lane(**row)
    outlines = _split(arrays["junction_m"], arrays["junction_sizes"])
    x0, y0, x1, y1 = head["bounds_m"]
    return RoadMap(
        head["name"],
        lanes,
        tuple(Junction(i, p) for i, p in zip(head["junctions"], outlines, strict=True)),
        tuple(Crosswalk(p) for p in _split(arrays["crosswalk_m"], arrays["crosswalk_sizes"])),
        tuple(Signal(i, kind, (p[0], p[1], p[2]), yaw, value) for i, kind, p, yaw, value in head["signals"]),
        (x0, y0, x1, y1),
    )


def _split(points: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    if sizes.sum() != len(points):
        raise ValueError("map cache arrays disagree")
    return np.split(points, np.cumsum(sizes)[:-1]) if len(sizes) else []
