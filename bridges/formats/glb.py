"""A scene as glTF 2.0 in one binary file: `<scene>.glb`. T frame, X/Y/Z voxel axes, V vertex, F face.

A node a frame stands at the ego's pose (seen from the first), below it a node and a mesh a class with its colour: the
faces between a voxel and what is not solid. An animation shows the frames one after another; a viewer
that plays none shows the first. glTF is y up and z ahead: one node above all turns dcgen's axes so.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.formats.occ3d import quaternion
from bridges.formats.writing import Named, Put
from dcgen.types import CLASS_NAMES, PALETTE, UNKNOWN, Doubles, Floats, GridSpec, Labels, Scene

FLOAT, UINT32, ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 5126, 5125, 34962, 34963
TO_GLTF = (-0.5, -0.5, -0.5, 0.5)  # x, y, z, w: dcgen's x (ahead) becomes z, y (left) x, z (up) y
# Corners of a voxel's six faces, anticlockwise seen from outside.
_FACES = {
    (0, 1): ((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)),
    (0, -1): ((0, 1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1)),
    (1, 1): ((1, 1, 0), (0, 1, 0), (0, 1, 1), (1, 1, 1)),
    (1, -1): ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    (2, 1): ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
    (2, -1): ((0, 1, 0), (1, 1, 0), (1, 0, 0), (0, 0, 0)),
}


def write(scene: Scene, named: Named, put: Put) -> None:
    """All frames of the scene in one file."""
    put(f"{named.name}.glb", *glb_parts(scene))


class _Buffer:
    """Bytes of a file, and the accessors and views that name their parts."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.size = 0
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: NDArray, kind: str, target: int | None = None) -> int:
        """The number of a new accessor over an array [N] or [N, k] of float32 or uint32."""
        data = np.ascontiguousarray(array).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": self.size, "byteLength": len(data)}
        self.views.append(view if target is None else {**view, "target": target})
        rows = array.reshape(len(array), -1)
        self.accessors.append(
            {
                "bufferView": len(self.views) - 1,
                "componentType": UINT32 if array.dtype == np.uint32 else FLOAT,
                "count": len(array),
                "type": kind,
                "min": rows.min(axis=0).tolist(),
                "max": rows.max(axis=0).tolist(),
            }
        )
        self.data.append(data)
        self.size += len(data)  # both types take four bytes: every part begins at a multiple of it
        return len(self.accessors) - 1


def surface(labels: Labels, class_id: int, grid: GridSpec) -> tuple[Floats, NDArray[np.uint32]]:
    """Vertices [V, 3] in metres and triangles [F, 3] of a class's faces that nothing solid covers."""
    solid = np.pad((labels != 0) & (labels != UNKNOWN), 1)
    mine = labels == class_id
    sides = np.array(labels.shape) + 1
    quads = []
    for (axis, way), corners in _FACES.items():
        covered = np.roll(solid, -way, axis=axis)[1:-1, 1:-1, 1:-1]
        at = np.argwhere(mine & ~covered)
        quads.append(np.ravel_multi_index(tuple(np.moveaxis(at[:, None] + np.array(corners), -1, 0)), tuple(sides)))
    places, corner = np.unique(np.concatenate(quads), return_inverse=True)
    corner = corner.reshape(-1, 4)
    vertices = np.stack(np.unravel_index(places, tuple(sides)), axis=-1) * np.array(grid.voxel_m) + grid.origin_m
    triangles = np.concatenate([corner[:, [0, 1, 2]], corner[:, [0, 2, 3]]])
    return vertices.astype(np.float32), triangles.astype(np.uint32)


def glb_parts(scene: Scene) -> tuple[bytes, ...]:
    """The file's bytes: head, JSON, and the chunks of numbers."""
    buffer = _Buffer()
    nodes: list[dict[str, Any]] = [{"name": "scene", "rotation": list(TO_GLTF), "children": []}]
    meshes: list[dict[str, Any]] = []
    first_se3_ego = np.linalg.inv(scene.world_se3_ego[0]) @ scene.world_se3_ego
    frames = []
    for t, labels in enumerate(scene.labels):
        frames.append(len(nodes))
        nodes[0]["children"].append(len(nodes))
        nodes.append(_frame_node(t, first_se3_ego[t]))
        for class_id in np.unique(labels[(labels != 0) & (labels != UNKNOWN)]):
            vertices, triangles = surface(labels, int(class_id), scene.grid)
            if not len(triangles):  # all of it is covered
                continue
            primitive = {
                "attributes": {"POSITION": buffer.add(vertices, "VEC3", ARRAY_BUFFER)},
                "indices": buffer.add(triangles.reshape(-1), "SCALAR", ELEMENT_ARRAY_BUFFER),
                "material": int(class_id) - 1,
            }
            name = f"{CLASS_NAMES[class_id]} {t}"
            nodes[frames[-1]].setdefault("children", []).append(len(nodes))
            nodes.append({"name": name, "mesh": len(meshes)})
            meshes.append({"name": name, "primitives": [primitive]})
    document = {
        "asset": {"version": "2.0", "generator": "dcgen"},
        "scene": 0,
        "scenes": [{"name": "scene", "nodes": [0]}],
        "nodes": nodes,
        "materials": _materials(),
        "extras": {"class_names": CLASS_NAMES, "voxel_m": scene.grid.voxel_m, "time_s": scene.time_s.tolist()},
    }
    if meshes:
        document["meshes"] = meshes
    if len(frames) > 1:
        document["animations"] = [_animation(buffer, frames, scene.time_s)]
    return _packed(document, buffer)


def _frame_node(t: int, first_se3_ego: Doubles) -> dict[str, Any]:
    w, *xyz = quaternion(first_se3_ego[:3, :3]).tolist()
    node = {"name": f"frame {t}", "rotation": [*xyz, w], "translation": first_se3_ego[:3, 3].tolist()}
    return node if t == 0 else {**node, "scale": [0.0, 0.0, 0.0]}


def _animation(buffer: _Buffer, frames: list[int], time_s: Doubles) -> dict[str, Any]:
    """Each frame's node has its size while it is its turn, and none before and after."""
    times = np.append(time_s - time_s[0], 2 * time_s[-1] - time_s[-2] - time_s[0])
    samplers, channels = [], []
    for t, node in enumerate(frames):
        keys, sizes = ([times[t], times[t + 1]], [1, 0]) if t == 0 else ([0.0, times[t], times[t + 1]], [0, 1, 0])
        scale = np.repeat(np.array(sizes, np.float32)[:, None], 3, axis=1)
        given = buffer.add(np.array(keys, np.float32), "SCALAR"), buffer.add(scale, "VEC3")
        samplers.append({"input": given[0], "output": given[1], "interpolation": "STEP"})
        channels.append({"sampler": t, "target": {"node": node, "path": "scale"}})
    return {"name": "frames", "samplers": samplers, "channels": channels}


def _materials() -> list[dict[str, Any]]:
    """One a class but free. glTF counts light linearly, the palette is sRGB."""
    srgb = PALETTE / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return [
        {
            "name": name,
            "pbrMetallicRoughness": {
                "baseColorFactor": [*np.round(colour, 6).tolist(), 1.0],
                "metallicFactor": 0.0,
                "roughnessFactor": 1.0,
            },
        }
        for name, colour in zip(CLASS_NAMES[1:], linear[1:], strict=True)
    ]


def _packed(document: dict[str, Any], buffer: _Buffer) -> tuple[bytes, ...]:
    if buffer.size:
        document |= {
            "buffers": [{"byteLength": buffer.size}],
            "bufferViews": buffer.views,
            "accessors": buffer.accessors,
        }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    numbers = struct.pack("<II", buffer.size, 0x004E4942) if buffer.size else b""
    total = 12 + 8 + len(text) + len(numbers) + buffer.size
    head = struct.pack("<III", 0x46546C67, 2, total) + struct.pack("<II", len(text), 0x4E4F534A)
    return (head, text, numbers, *buffer.data)
