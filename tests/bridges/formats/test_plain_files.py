"""numpy, PLY and glTF: read by small parsers of their own, checked against the standards and the scene."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.formats.arrays import write as write_arrays
from bridges.formats.glb import surface
from bridges.formats.glb import write as write_glb
from bridges.formats.ply import write as write_ply
from bridges.formats.writing import Named
from dcgen.types import CLASS_NAMES, PALETTE, UNKNOWN, GridSpec, Scene, Semantics
from tests.bridges.formats.left_turn import GRID, HOUSE, car, left_turn, pose

FRAMES = 3


@pytest.fixture(scope="module")
def scene() -> Scene:
    return left_turn(FRAMES)


def written(write: Any, scene: Scene) -> dict[str, bytes]:
    out: dict[str, bytes] = {}

    def put(place: str, *data: bytes) -> None:
        assert place not in out
        out[place] = b"".join(data)

    write(scene, Named("left"), put)
    return out


def test_numpy_holds_the_scene(scene: Scene, tmp_path: Path) -> None:
    ((place, data),) = written(write_arrays, scene).items()
    assert place == "left.npz"
    (tmp_path / place).write_bytes(data)
    with np.load(tmp_path / place, allow_pickle=False) as found:
        for name in ("labels", "world_se3_ego", "time_s", "instances", "flow_mps", "trajectory", "layout"):
            want = getattr(scene, name)
            assert found[name].dtype == want.dtype and np.array_equal(found[name], want)
        assert found["objects_id"][0] == 41 and found["objects_pose"].shape == (1, FRAMES, 3)
        assert tuple(found["grid_voxel_m"]) == GRID.voxel_m and tuple(found["class_names"]) == CLASS_NAMES
        back = found["backward_mps"][1].astype(float)[scene.instances[1] == 1]
        assert np.allclose(back @ pose(1)[:3, :3].T, (-4.5, -0.5, 0.0), atol=0.02)


TYPES = {"float": "f4", "uchar": "u1", "ushort": "u2"}


def parse_ply(data: bytes) -> np.ndarray:
    head, _, body = data.partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    rest = [line.split() for line in lines[2:] if not line.startswith("comment ")]
    assert rest[0][:2] == ["element", "vertex"] and all(word[0] == "property" for word in rest[1:])
    kind = np.dtype([(name, "<" + TYPES[word]) for _, word, name in rest[1:]])
    assert len(body) == int(rest[0][2]) * kind.itemsize
    return np.frombuffer(body, kind)


def test_ply_is_the_occupied_voxels(scene: Scene) -> None:
    files = written(write_ply, scene)
    assert sorted(files) == [*(f"left/{t:06d}.ply" for t in range(FRAMES)), "left/poses.txt", "left/times.txt"]
    for t in range(FRAMES):
        points = parse_ply(files[f"left/{t:06d}.ply"])
        solid = (scene.labels[t] != 0) & (scene.labels[t] != UNKNOWN)
        assert len(points) == solid.sum() and np.array_equal(points["class"], scene.labels[t][solid])
        assert np.array_equal(np.stack([points[c] for c in ("red", "green", "blue")], 1), PALETTE[points["class"]])
        xyz = np.stack([points[axis] for axis in "xyz"], axis=1).astype(float)
        mine = xyz[points["instance"] == 1]
        assert np.array_equal(points["instance"] == 1, points["class"] == Semantics.VEHICLE)
        assert np.abs(mine.mean(axis=0) @ pose(t)[:3, :3].T + pose(t)[:3, 3] - car(t)).max() < 0.15


class Gltf:
    """A binary glTF taken apart by its standard: chunks, then accessors through views of the one buffer."""

    COUNT = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}  # noqa: RUF012
    KIND = {5126: "<f4", 5125: "<u4"}  # noqa: RUF012

    def __init__(self, data: bytes) -> None:
        magic, version, total = struct.unpack_from("<4sII", data)
        assert magic == b"glTF" and version == 2 and total == len(data)
        at, chunks = 12, []
        while at < total:
            size, kind = struct.unpack_from("<I4s", data, at)
            assert size % 4 == 0 and at % 4 == 0
            chunks.append((kind, data[at + 8 : at + 8 + size]))
            at += 8 + size
        assert at == total and [kind for kind, _ in chunks] == [b"JSON", b"BIN\0"]
        self.json, self.bin = json.loads(chunks[0][1]), chunks[1][1]
        assert self.json["asset"]["version"] == "2.0" and len(self.json["buffers"]) == 1
        assert self.json["buffers"][0]["byteLength"] == len(self.bin)

    def array(self, number: int) -> np.ndarray:
        accessor = self.json["accessors"][number]
        view = self.json["bufferViews"][accessor["bufferView"]]
        count, kind = self.COUNT[accessor["type"]], self.KIND[accessor["componentType"]]
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(self.bin)
        assert view["byteLength"] == 4 * count * accessor["count"]
        out = np.frombuffer(self.bin, kind, count * accessor["count"], view["byteOffset"]).reshape(-1, count)
        assert np.allclose(out.min(axis=0), accessor["min"]) and np.allclose(out.max(axis=0), accessor["max"])
        return out

    def local(self, number: int) -> np.ndarray:
        """[4, 4] of a node, its scale left out."""
        node, out = self.json["nodes"][number], np.eye(4)
        x, y, z, w = node.get("rotation", (0, 0, 0, 1))
        assert np.hypot(np.hypot(x, y), np.hypot(z, w)) == pytest.approx(1)
        v = np.array([x, y, z])
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        out[:3, :3] = (w * w - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * cross
        out[:3, 3] = node.get("translation", (0, 0, 0))
        return out


@pytest.fixture(scope="module")
def gltf(scene: Scene) -> Gltf:
    ((place, data),) = written(write_glb, scene).items()
    assert place == "left.glb"
    return Gltf(data)


def test_every_part_of_the_gltf_is_sound(gltf: Gltf) -> None:
    nodes, meshes = gltf.json["nodes"], gltf.json["meshes"]
    children = [child for node in nodes for child in node.get("children", [])]
    assert sorted([*children, *gltf.json["scenes"][0]["nodes"]]) == list(range(len(nodes)))  # a tree
    assert sorted(node["mesh"] for node in nodes if "mesh" in node) == list(range(len(meshes)))
    for mesh in meshes:
        (primitive,) = mesh["primitives"]
        vertices, corners = gltf.array(primitive["attributes"]["POSITION"]), gltf.array(primitive["indices"])
        assert len(corners) % 3 == 0 and corners.max() < len(vertices) and len(np.unique(corners)) == len(vertices)
        material = gltf.json["materials"][primitive["material"]]
        assert material["name"] == mesh["name"].split()[0]
        linear = np.array(material["pbrMetallicRoughness"]["baseColorFactor"][:3])
        shown = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        assert np.allclose(shown * 255, PALETTE[CLASS_NAMES.index(material["name"])], atol=0.5)


def test_the_house_stands_still_and_to_the_left_in_gltf(gltf: Gltf) -> None:
    """glTF: y up, z ahead, x to the left of who looks ahead."""
    nodes = gltf.json["nodes"]
    root = gltf.local(0)
    assert np.linalg.det(root) == pytest.approx(1)
    for t, frame in enumerate(nodes[0]["children"]):
        place = root @ gltf.local(frame)
        (house,) = (n for n in nodes[frame]["children"] if nodes[n]["name"] == f"building {t}")
        vertices = gltf.array(gltf.json["meshes"][nodes[house]["mesh"]]["primitives"][0]["attributes"]["POSITION"])
        x, y, z = (vertices.astype(float) @ place[:3, :3].T + place[:3, 3]).T
        for values, side in ((z, HOUSE[1]), (x, HOUSE[2]), (y, HOUSE[3])):
            assert abs(values.min() - side[0]) < 0.4 and abs(values.max() - side[1]) < 0.4
        assert nodes[frame].get("scale", [1, 1, 1]) == ([1, 1, 1] if t == 0 else [0, 0, 0])


def test_one_frame_is_seen_at_a_time(gltf: Gltf, scene: Scene) -> None:
    (animation,) = gltf.json["animations"]
    frames = gltf.json["nodes"][0]["children"]
    assert [channel["target"] for channel in animation["channels"]] == [{"node": n, "path": "scale"} for n in frames]
    for now in (0.0, 0.1, 0.21, 0.39, 0.41):
        seen = []
        for t, channel in enumerate(animation["channels"]):
            sampler = animation["samplers"][channel["sampler"]]
            assert sampler["interpolation"] == "STEP"
            keys, sizes = gltf.array(sampler["input"])[:, 0], gltf.array(sampler["output"])
            assert (np.diff(keys) > 0).all() and len(keys) == len(sizes)
            if sizes[max(np.searchsorted(keys, now, side="right") - 1, 0)].any():
                seen.append(t)
        assert seen == [int(np.searchsorted(scene.time_s, now, side="right")) - 1]


def test_surfaces_are_closed_and_look_outwards() -> None:
    grid = GridSpec((4, 5, 6), (0.5, 0.7, 0.9), (-1.0, 2.0, 3.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:3, 2:4, 1:5] = Semantics.BUILDING
    labels[3, 0, 0] = Semantics.BUILDING
    vertices, triangles = surface(labels, Semantics.BUILDING, grid)
    a, b, c = (vertices[triangles[:, n]].astype(float) for n in range(3))
    # The volume by the divergence theorem is that of the voxels, and positive: faces look outwards.
    volume = np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6
    assert volume == pytest.approx((labels > 0).sum() * 0.5 * 0.7 * 0.9, rel=1e-4)
    assert len(triangles) == 2 * (2 * (2 * 2) + 2 * (2 * 4) + 2 * (2 * 4) + 6)
