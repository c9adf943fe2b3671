"""A clip as named arrays, small and always the same ones, and its digest. T frame, X/Y/Z voxel, N agent, P point.

Masks are bits (numpy.packbits, C order), layouts int8 in steps of 1 / LAYOUT_SCALE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.dataset.spec import DatasetSpec
from dcgen.errors import DatasetError
from dcgen.types import (
    AGENT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Clip,
    Command,
    Conditions,
)

LAYOUT_SCALE = 64.0  # int8 holds -2 .. 2
Packed = dict[str, NDArray]
# Agents N and points P differ from clip to clip; everything else has one shape in a data set.
AGENT_FIELDS = {
    "agent_id": "i8",
    "agent_class_id": "u1",
    "agent_size_m": "f4",
    "agent_pose": "f8",
    "agent_z_m": "f4",
    "agent_speed_mps": "f4",
    "agent_valid": "?",
}


def quantise(values: NDArray[np.floating]) -> NDArray[np.int8]:
    return np.clip(np.rint(values * LAYOUT_SCALE), -127, 127).astype(np.int8)


def packed_bytes(spec: DatasetSpec) -> int:
    """Bytes of one clip's mask."""
    return -(-int(np.prod(spec.clip_shape)) // 8)


def field_shapes(spec: DatasetSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Field -> (type, shape) of what every clip of the data set has in one size."""
    t, x, y, z = spec.clip_shape
    fields: dict[str, tuple[str, tuple[int, ...]]] = {
        "labels": ("u1", (t, x, y, z)),
        "moving": ("u1", (packed_bytes(spec),)),
        "world_se3_ego": ("f8", (t, 4, 4)),
        "world_se3_anchor": ("f8", (4, 4)),
        "trajectory": ("f4", (t, 3)),
        "command": ("i1", ()),
        "layout_static": ("i1", (len(STATIC_CHANNELS), x, y)),
        "layout_agents": ("i1", (t, len(AGENT_CHANNELS), x, y)),
    }
    if spec.observed:
        fields["observed"] = ("u1", (packed_bytes(spec),))
    if spec.points:
        fields["point_count"] = ("i4", (t,))
    return fields


def agent_shapes(spec: DatasetSpec) -> dict[str, tuple[int, ...]]:
    """Field of AGENT_FIELDS -> shape behind the agents' axis."""
    t = spec.frames
    tails: dict[str, tuple[int, ...]] = {"agent_size_m": (3,), "agent_pose": (t, 3)}
    tails |= dict.fromkeys(("agent_z_m", "agent_speed_mps", "agent_valid"), (t,))
    return {name: tails.get(name, ()) for name in AGENT_FIELDS}


def pack_clip(clip: Clip, spec: DatasetSpec, fields: Iterable[str] | None = None) -> Packed:
    """The arrays of a clip, or those of some fields. Raises DatasetError where it is not what the data set holds."""
    c = clip.conditions
    if (c.grid, c.frames, clip.ego_centred) != (spec.grid, spec.frames, spec.ego_centred):
        raise DatasetError(
            f"{clip.source}: a clip of {c.frames} frames of {c.grid.shape} does not fit a data set of "
            f"{spec.frames} frames of {spec.grid.shape}; make another data set of it"
        )
    makers: dict[str, Callable[[], NDArray]] = {
        "labels": lambda: np.ascontiguousarray(clip.labels, np.uint8),
        "moving": lambda: np.packbits(clip.moving),
        "world_se3_ego": lambda: c.world_se3_ego.astype(np.float64),
        "world_se3_anchor": lambda: c.world_se3_anchor.astype(np.float64),
        "trajectory": lambda: c.trajectory.astype(np.float32),
        "command": lambda: np.array(int(c.command), np.int8),
        "layout_static": lambda: quantise(c.layout_static),
        "layout_agents": lambda: quantise(c.layout_agents),
    }
    if spec.observed:
        makers["observed"] = lambda: np.packbits(_there(clip, clip.observed, "mask of what is observed"))
    if spec.points:
        makers["point_count"] = lambda: np.array([len(each) for each in _there(clip, clip.points, "points")], np.int32)
        makers["points"] = lambda: np.concatenate(_there(clip, clip.points, "points")).astype(np.float32)
    for name, dtype in AGENT_FIELDS.items():
        values = getattr(c.agents, name.removeprefix("agent_"))
        makers[name] = partial(np.ascontiguousarray, values, np.dtype(dtype))
    return {name: makers[name]() for name in (makers if fields is None else fields)}


def _there(clip: Clip, value: Any, what: str) -> Any:
    if value is None:
        raise DatasetError(f"{clip.source}: has no {what}; make the data set without")
    return value


def clip_sha256(packed: Packed) -> str:
    """Hex digest of a clip's content: every array by its name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name in sorted(packed):
        array = np.ascontiguousarray(packed[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def unpack_bits(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).view(np.bool_)


def unpack_clip(packed: Packed, spec: DatasetSpec, source: str) -> Clip:
    """The clip again, its layouts to a step of 1 / LAYOUT_SCALE. Raises ValueError where shapes do not fit."""
    shape = spec.clip_shape
    agents = AgentTracks(**{name.removeprefix("agent_"): packed[name] for name in AGENT_FIELDS})
    conditions = Conditions(
        grid=spec.grid,
        dt_s=spec.dt_s,
        world_se3_anchor=packed["world_se3_anchor"],
        world_se3_ego=packed["world_se3_ego"],
        trajectory=packed["trajectory"],
        command=Command(int(packed["command"])),
        layout_static=packed["layout_static"].astype(np.float32) / np.float32(LAYOUT_SCALE),
        layout_agents=packed["layout_agents"].astype(np.float32) / np.float32(LAYOUT_SCALE),
        known=np.broadcast_to(np.uint8(UNKNOWN), shape),
        agents=agents,
    )
    points = None
    if spec.points:
        points = tuple(np.split(packed["points"], np.cumsum(packed["point_count"])[:-1]))
    return Clip(
        labels=packed["labels"],
        moving=unpack_bits(packed["moving"], shape),
        conditions=conditions,
        source=source,
        ego_centred=spec.ego_centred,
        observed=unpack_bits(packed["observed"], shape) if spec.observed else None,
        points=points,
    )
