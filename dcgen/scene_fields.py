"""What a scene file holds, by name and type, and the checks it has to pass. T frame, N agent, C channel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import dcgen
from dcgen.errors import SceneError
from dcgen.types import NUM_CLASSES, UNKNOWN, AgentTracks, Command, GridSpec

FORMAT = "dcgen-scene"
FORMAT_VERSION = 2  # 1 had no instances, flow and objects
# Field of Scene -> where it lies and how. The first axis of each is the frame.
PER_FRAME = {
    "labels": ("occupancy/labels", "u1"),
    "time_s": ("frames/time_s", "f8"),
    "world_se3_ego": ("frames/world_se3_ego", "f8"),
    "trajectory": ("conditions/trajectory", "f4"),
    "command": ("conditions/command", "i1"),
    "layout": ("conditions/layout", "f2"),
    "known": ("conditions/known", "?"),
}
# Field of AgentTracks -> (type, does its second axis run over frames).
PER_AGENT = {
    "id": ("i8", False),
    "class_id": ("u1", False),
    "size_m": ("f4", False),
    "pose": ("f8", True),
    "z_m": ("f4", True),
    "speed_mps": ("f4", True),
    "valid": ("?", True),
}
MOST_COORDINATE_M = 2e7
LEAST_VOXEL_M, MOST_VOXEL_M = 1e-3, 1e3
_TEXTS = ("dcgen_version", "model", "model_sha256", "scenario", "created_utc")
_MAX_DEFLATE_RATIO = 1100  # deflate cannot shrink data further than about 1032 to 1


def check_head(file: h5py.File, path: Path) -> None:
    attrs = file.attrs
    if _text(attrs.get("format")) != FORMAT:
        raise SceneError(f"{path}: attribute format is not {FORMAT!r}; pass a scene that dcgen made")
    version = attrs.get("format_version")
    if not isinstance(version, np.integer) or not 1 <= version <= FORMAT_VERSION:
        raise SceneError(f"{path}: format_version {version} is not known to dcgen {dcgen.__version__}; upgrade dcgen")
    for name in _TEXTS:
        if _text(attrs.get(name)) is None:
            raise SceneError(f"{path}: the text attribute {name} is missing; make the file again")
    if not isinstance(attrs.get("seed"), np.integer):
        raise SceneError(f"{path}: the attribute seed is not a whole number; make the file again")


def read_grid(file: h5py.File, path: Path) -> GridSpec:
    group = _own(file, "grid")
    if not isinstance(group, h5py.Group):
        raise SceneError(f"{path}: the group /grid is missing; make the file again")
    numbers = {}
    for name, kind in (("shape", "iu"), ("voxel_m", "f"), ("origin_m", "f")):
        value = np.asarray(group.attrs.get(name))
        if value.shape != (3,) or value.dtype.kind not in kind:
            raise SceneError(f"{path}: /grid attribute {name} needs three numbers; make the file again")
        numbers[name] = tuple(value.tolist())
    if not all(LEAST_VOXEL_M <= edge <= MOST_VOXEL_M for edge in numbers["voxel_m"]):
        raise SceneError(
            f"{path}: /grid attribute voxel_m needs {LEAST_VOXEL_M:g} to {MOST_VOXEL_M:g} m; make the file again"
        )
    try:
        return GridSpec(**numbers)
    except ValueError as fault:
        raise SceneError(f"{path}: {fault}; make the file again") from fault


def _own(file: h5py.File, place: str) -> object:
    """What lies at `place` in this very file, else None: a link may lead to another, and h5py would follow it."""
    names = place.split("/")
    links = (file.get("/".join(names[: n + 1]), getlink=True) for n in range(len(names)))
    return file[place] if all(isinstance(link, h5py.HardLink) for link in links) else None


def checked_dataset(file: h5py.File, path: Path, place: str, dtype: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """The dataset at `place`, after a check of its kind, type, shape (None is any size) and storage."""
    found = _own(file, place)
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise SceneError(f"{path}: the dataset /{place} is missing; make the file again")
    if found.dtype != np.dtype(dtype):
        raise SceneError(f"{path}: /{place} is of type {found.dtype}, not {np.dtype(dtype)}; make the file again")
    if len(found.shape) != len(shape) or any(w not in (None, n) for n, w in zip(found.shape, shape, strict=True)):
        wanted = "x".join("T" if size is None else str(size) for size in shape) or "scalar"
        raise SceneError(f"{path}: /{place} has shape {found.shape}, not {wanted}; make the file again")
    if found.nbytes > _MAX_DEFLATE_RATIO * found.id.get_storage_size() + 65536:
        raise SceneError(f"{path}: /{place} declares {found.nbytes} bytes and holds almost none; make the file again")
    return found


def check_names(dataset: h5py.Dataset, path: Path, attribute: str, wanted: tuple[str, ...]) -> None:
    found = np.asarray(dataset.attrs.get(attribute, ())).ravel()
    if tuple(_text(name) for name in found) != wanted:
        raise SceneError(
            f"{path}: {dataset.name} attribute {attribute} is not {', '.join(wanted)}; make the file again"
        )


def check_values(path: Path, fields: dict[str, Any], agents: AgentTracks) -> None:
    rules = {
        "/occupancy/labels holds classes that do not exist": np.isin(
            np.unique(fields["labels"]), [*range(NUM_CLASSES), UNKNOWN]
        ).all(),
        "/frames/time_s does not rise": (np.diff(fields["time_s"]) > 0).all() and np.isfinite(fields["time_s"]).all(),
        "/frames/world_se3_ego holds what is not a pose": _are_poses(fields["world_se3_ego"]),
        "/frames/world_se3_ego lies off the earth": (np.abs(fields["world_se3_ego"]) < MOST_COORDINATE_M).all(),
        "/conditions/trajectory is not finite": np.isfinite(fields["trajectory"]).all(),
        "/conditions/layout is not finite": np.isfinite(fields["layout"]).all(),
        "/conditions/command holds commands that do not exist": np.isin(fields["command"], list(Command)).all(),
        **_track_rules("agents", agents),
    }
    _check(path, rules)


def check_motion(path: Path, fields: dict[str, Any], objects: AgentTracks, agents: AgentTracks) -> None:
    first = slice(len(agents.id))
    same = np.array_equal(objects.id[first], agents.id) and np.array_equal(objects.class_id[first], agents.class_id)
    rules = {
        **_track_rules("objects", objects),
        "/objects does not begin with the rows of /agents": same,
        "/occupancy/instances names rows that /objects does not have": fields["instances"].max() <= len(objects.id),
        "/occupancy/flow is not finite": np.isfinite(fields["flow_mps"]).all(),
    }
    _check(path, rules)


def _check(path: Path, rules: dict[str, Any]) -> None:
    for message, holds in rules.items():
        if not holds:
            raise SceneError(f"{path}: {message}; make the file again")


def _track_rules(group: str, tracks: AgentTracks) -> dict[str, Any]:
    """What has to hold of tracks, by the words for where it does not."""
    there = tracks.valid
    size = tracks.size_m
    return {
        f"/{group}/class_id holds classes that do not exist": (tracks.class_id < NUM_CLASSES).all(),
        f"/{group}/id holds an id twice": len(np.unique(tracks.id)) == len(tracks.id),
        f"/{group}/pose is not finite, or off the earth": _is_on_earth(tracks.pose[there]),
        f"/{group}/z_m is not finite, or off the earth": _is_on_earth(tracks.z_m[there]),
        f"/{group}/speed_mps is not finite, or beyond all speeds": _is_on_earth(tracks.speed_mps[there]),
        f"/{group}/size_m is not positive, or beyond all sizes": (size > 0).all() and _is_on_earth(size),
    }


def _is_on_earth(values: np.ndarray) -> bool:
    return bool((np.abs(values) < MOST_COORDINATE_M).all())  # NaN is not below, either


def read_tracks(file: h5py.File, path: Path, group: str, frames: int) -> AgentTracks:
    """The tracks that lie in a group, over all frames. Raises SceneError."""
    rows = len(checked_dataset(file, path, f"{group}/id", "i8", (None,)))
    tails = {"id": (), "class_id": (), "size_m": (3,), "pose": (frames, 3)}
    fields = {
        name: checked_dataset(file, path, f"{group}/{name}", dtype, (rows, *tails.get(name, (frames,))))[()]
        for name, (dtype, _) in PER_AGENT.items()
    }
    return AgentTracks(**fields)


def _are_poses(a_se3_b: np.ndarray) -> bool:
    """Whether [T, 4, 4] are rotations with a translation."""
    rotation = a_se3_b[:, :3, :3]
    product = rotation @ rotation.transpose(0, 2, 1)
    return (
        bool(np.isfinite(a_se3_b).all())
        and np.allclose(product, np.eye(3), atol=1e-4)
        and np.allclose(a_se3_b[:, 3], [0, 0, 0, 1])
        and bool((np.linalg.det(rotation) > 0).all())
    )


def read_metadata(text: object, path: Path) -> dict[str, str]:
    try:
        found = json.loads(_text(text) or "")
    except ValueError as fault:
        raise SceneError(f"{path}: the attribute metadata is not JSON; make the file again") from fault
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise SceneError(f"{path}: the attribute metadata is not a table of texts; make the file again")
    return found


def _text(value: object) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else None
