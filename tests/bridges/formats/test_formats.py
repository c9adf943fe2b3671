"""Every layout, read by loaders written here from what is known of it, is the left turn at its known places."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridges.datasets import open_set
from bridges.datasets.restricted import load_restricted
from bridges.datasets.sequence import ReadOptions
from bridges.export_scenes import ExportOrder, export_scenes
from bridges.formats.choices import FORMATS
from bridges.formats.writing import Named
from dcgen.scene_file import save_scene
from dcgen.types import MOVABLE, Scene, Semantics
from tests.bridges.formats.left_turn import CAR_M, Loaded, car, check_frame, left_turn, pose

S = Semantics
FRAMES = 3
WIDE = ((-40.0, -40.0, -1.0), (0.4, 0.4, 0.4))
FLIP = np.diag([1.0, -1.0, 1.0, 1.0])


def up(metres: float) -> np.ndarray:
    out = np.eye(4)
    out[2, 3] = metres
    return out


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scene(left_turn(FRAMES), tmp_path_factory.mktemp("scene") / "left.h5")


@pytest.fixture(scope="module")
def exported(scene_file: Path, tmp_path_factory: pytest.TempPathFactory):
    """The folder of the scene in a format, made once."""
    made: dict[str, Path] = {}

    def of(format: str) -> Path:
        if format not in made:
            out = tmp_path_factory.mktemp("out") / f"{format}-5Hz"
            export_scenes(ExportOrder((scene_file,), format, out), print, lambda done, total: None)
            made[format] = out
        return made[format]

    return of


def members(path: Path) -> dict[str, np.ndarray]:
    """An .npz without what is pickled in it."""
    with np.load(path, allow_pickle=False) as archive, zipfile.ZipFile(path) as names:
        plain = [name for name in names.namelist() if b"|O" not in names.read(name)[:128]]
        return {name.removesuffix(".npy"): archive[name.removesuffix(".npy")] for name in plain}


def poses_of(path: Path) -> np.ndarray:
    rows = np.loadtxt(path).reshape(-1, 3, 4)
    return np.concatenate([rows, np.broadcast_to([[[0.0, 0, 0, 1]]], (len(rows), 1, 4))], axis=1)


def test_carlasc(exported) -> None:
    folder = exported("carlasc") / "left" / "cartesian"
    poses = poses_of(folder / "poses.txt")
    assert len(poses) == FRAMES and np.allclose(np.linalg.det(poses[:, :3, :3]), 1)
    assert np.loadtxt(folder / "times.txt").tolist() == pytest.approx([0.0, 0.2, 0.4])
    ids = {S.BUILDING: 1, S.POLE: 5, S.BARRIER: 2, S.VEHICLE: 10, S.ROAD: 7, S.GROUND: 22}
    for t in range(FRAMES):
        labels = np.fromfile(folder / "evaluation" / f"{t:06d}.label", "<u4").reshape(128, 128, 8).astype(int)
        hits = np.fromfile(folder / "evaluation" / f"{t:06d}.bin", "<f4").reshape(128, 128, 8)
        world = FLIP @ poses[t]  # what is right there is left here
        check_frame(Loaded(labels, hits > 0, (-25.6, -25.6, -2.0), (0.4, 0.4, 0.375), world), t, ids)
        assert np.allclose(FLIP @ poses[t] @ FLIP, pose(t) @ up(1.8))


def test_occ3d_nuscenes(exported) -> None:
    folder = exported("occ3d-nuscenes")
    infos = json.loads((folder / "annotations.json").read_text())
    assert infos["train_split"] == ["left"] and list(infos["scene_infos"]) == ["left"]
    frames = infos["scene_infos"]["left"]
    times = [int(info["timestamp"]) for info in frames.values()]
    assert times == [0, 200_000, 400_000]
    ids = {S.BUILDING: 15, S.POLE: 15, S.BARRIER: 1, S.VEHICLE: 4, S.ROAD: 11, S.GROUND: 14}
    for t, (token, info) in enumerate(frames.items()):
        assert info["gt_path"] == f"gts/left/{token}/labels.npz"
        found = members(folder / info["gt_path"])
        assert {name: a.dtype for name, a in found.items()} == dict.fromkeys(
            ("semantics", "mask_lidar", "mask_camera"), np.dtype(np.uint8)
        )
        w, x, y, z = info["ego_pose"]["rotation"]
        assert x == y == 0 and 2 * np.arctan2(z, w) == pytest.approx(0.13 * t)  # to the left
        world = pose(t)
        assert info["ego_pose"]["translation"] == pytest.approx(world[:3, 3].tolist())
        assert found["semantics"].shape == (200, 200, 16)
        assert (found["semantics"][found["mask_lidar"] == 0] == 17).all()
        check_frame(Loaded(found["semantics"].astype(int), found["mask_camera"] == 1, *WIDE, world), t, ids)


def test_occ3d_waymo(exported) -> None:
    folder = exported("occ3d-waymo") / "training" / "000"
    poses = poses_of(folder / "poses.txt")
    ids = {S.BUILDING: 10, S.POLE: 6, S.BARRIER: 0, S.VEHICLE: 1, S.ROAD: 13, S.GROUND: 14}
    for t in range(FRAMES):
        found = members(folder / f"{t:03d}_04.npz")
        assert set(found) == {"voxel_label", "origin_voxel_state", "final_voxel_state", "infov"}
        known = (found["origin_voxel_state"] == 1) & (found["final_voxel_state"] == 1) & found["infov"]
        check_frame(Loaded(found["voxel_label"].astype(int), known, *WIDE, poses[t]), t, ids)
        assert (found["voxel_label"][~known] == 15).all()


def objects_of(path: Path, name: str) -> list:
    """A pickled member through the restricted reader."""
    with zipfile.ZipFile(path) as archive:
        file = io.BytesIO(archive.read(f"{name}.npy"))
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return list(load_restricted(file.read(), str(path)))


def test_uniocc(exported) -> None:
    folder = exported("uniocc")
    (info,) = load_restricted((folder / "scene_infos.pkl").read_bytes(), "infos")
    assert info["scene_name"] == "left" and info["occ_in_scene_paths"] == [f"left/{t}.npz" for t in range(FRAMES)]
    ids = {S.BUILDING: 9, S.POLE: 0, S.BARRIER: 0, S.VEHICLE: 1, S.ROAD: 7, S.GROUND: 8}
    for t, place in enumerate(info["occ_in_scene_paths"]):
        found = members(folder / place)
        world = found["ego_to_world_transformation"]
        loaded = Loaded(found["occ_label"].astype(int), found["occ_mask_camera"] == 1, *WIDE, world)
        check_frame(loaded, t, ids)
        assert objects_of(folder / place, "cameras") == []
        (note,) = objects_of(folder / place, "annotations")
        assert note["token"] == "41" and note["category_id"] == 1 and note["size"] == pytest.approx(CAR_M)
        assert np.allclose(note["agent_to_world"][:3, 3], car(t), atol=1e-6)
        assert np.allclose(world @ note["agent_to_ego"], note["agent_to_world"])
        for name, step in (("occ_flow_forward", 1), ("occ_flow_backward", -1)):
            flow = found[name]
            assert flow.shape == (200, 200, 16, 3) and flow.dtype == np.float32
            if not 0 <= t + step < FRAMES:
                assert not flow.any()
                continue
            assert not flow[loaded.ids == 10].any()
            # By hand: where a voxel's content goes, seen from the other frame.
            for wanted, moved in ((9, (0.0, 0.0)), (1, (0.9 * step, 0.1 * step))):
                at = np.argwhere(loaded.ids == wanted)
                here = np.array(WIDE[0]) + (at + 0.5) * 0.4
                there = here @ world[:3, :3].T + world[:3, 3] + (*moved, 0.0)
                there = (there - pose(t + step)[:3, 3]) @ pose(t + step)[:3, :3]
                assert len(at) and np.allclose(flow[tuple(at.T)], (there - here) / 0.4, atol=1e-3)


def test_semantickitti(exported) -> None:
    folder = exported("semantickitti") / "sequences" / "00"
    lines = dict(line.split(": ") for line in (folder / "calib.txt").read_text().splitlines())
    camera_se3_lidar = np.eye(4)
    camera_se3_lidar[:3] = np.array(lines["Tr"].split(), float).reshape(3, 4)
    poses = np.linalg.inv(camera_se3_lidar) @ poses_of(folder / "poses.txt") @ camera_se3_lidar
    ids = {S.BUILDING: 50, S.POLE: 80, S.BARRIER: 51, S.VEHICLE: 252, S.ROAD: 40, S.GROUND: 72}

    def bits(path: Path) -> np.ndarray:
        packed = np.fromfile(path, np.uint8)
        assert len(packed) == 256 * 256 * 32 // 8
        return ((packed[:, None] >> np.arange(7, -1, -1)) & 1).reshape(256, 256, 32) == 1

    for t in range(FRAMES):
        stem = folder / "voxels" / f"{t:06d}"
        labels = np.fromfile(stem.with_suffix(".label"), "<u2").reshape(256, 256, 32).astype(int)
        invalid, occupied = bits(stem.with_suffix(".invalid")), bits(stem.with_suffix(".bin"))
        loaded = Loaded(labels, ~invalid, (0.0, -25.6, -2.0), (0.2, 0.2, 0.2), poses[t])
        check_frame(loaded, t, ids)
        assert np.array_equal(occupied, labels != 0) and np.array_equal(bits(stem.with_suffix(".occluded")), invalid)
        assert np.allclose(poses[t], pose(t) @ up(1.73))


def test_openoccupancy(scene_file: Path, tmp_path: Path) -> None:
    order = ExportOrder((scene_file,), "openoccupancy", tmp_path, frames=(1, 2))
    export_scenes(order, print, lambda done, total: None)
    (folder,) = tmp_path.glob("scene_*")
    (frame,) = json.loads((folder / "frames.json").read_text())["frames"]
    rows = np.load(folder / "occupancy" / f"{frame['lidar_token']}.npy")
    assert rows.ndim == 2 and rows.shape[1] == 4 and rows.dtype.kind == "i"
    dense = np.full((512, 512, 40), 17)
    dense[rows[:, 2], rows[:, 1], rows[:, 0]] = rows[:, 3]
    assert (dense != 17).sum() == len(rows) and rows[:, 3].min() == 0 and rows[:, 3].max() <= 16  # each voxel once
    # nuScenes' LiDAR looks along its y, its x points to the right, and it is 1.84 m above the road.
    lidar = pose(1) @ np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1.0]])
    assert np.allclose(frame["world_se3_lidar"], lidar)
    ids = {S.BUILDING: 15, S.POLE: 15, S.BARRIER: 1, S.VEHICLE: 4, S.ROAD: 11, S.GROUND: 14}
    check_frame(Loaded(dense, dense != 0, (-51.2, -51.2, -5.0), (0.2, 0.2, 0.2), lidar), 1, ids)
    compact = tmp_path / "compact"
    export_scenes(ExportOrder((scene_file,), "openoccupancy", compact, (1, 2), True), print, lambda done, total: None)
    few = np.load(next(compact.glob("scene_*/occupancy/*.npy")))
    assert np.array_equal(few, rows[rows[:, 3] != 0])


def test_cam4docc(tmp_path: Path) -> None:
    path = save_scene(left_turn(8, 0.5), tmp_path / "left.h5")
    export_scenes(ExportOrder((path,), "cam4docc", tmp_path / "out"), print, lambda done, total: None)
    names = sorted(each.name for each in (tmp_path / "out" / "segmentation").iterdir())
    assert len(names) == 2 and all(name.startswith("left_") for name in names)
    presents = set()
    for name in names:
        kinds = ("segmentation", "instance", "flow")
        seg, ins, flow = (objects_of(tmp_path / "out" / kind / name, "arr_0") for kind in kinds)
        assert len(seg) == len(ins) == len(flow) == 7
        # Which frame is the present one follows from where the car is in it.
        middles = []
        for rows in seg:
            assert set(rows[:, 3]) == {1}
            middles.append((rows[:, :3].mean(axis=0) + 0.5) * 0.2 + (-51.2, -51.2, -5.0))
        for present in (2, 3):
            lidar = pose(present) @ np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1.0]])
            world = np.array(middles) @ lidar[:3, :3].T + lidar[:3, 3]
            want = np.array([car(present + k) for k in range(-2, 5)])
            if np.abs(world - want).max() < 0.2:
                presents.add(present)
                break
        else:
            raise AssertionError("the car is nowhere it should be")
        assert all(np.array_equal(a, b) for a, b in zip(seg, ins, strict=True))  # one car, instance 1
        # Flow, in cells of 0.8 m, leads to the middle of the car one frame before.
        for t, rows in enumerate(flow):
            cells, ways = rows[:, :3], rows[:, 3:]
            aims = np.unique(cells + ways, axis=0)
            assert len(aims) == 1 and len(cells) > 8
            before = (aims[0] + 0.5) * 0.8 + (-51.2, -51.2, -5.0)
            at = before @ lidar[:3, :3].T + lidar[:3, 3]
            want = np.array(car(present - 2 + max(t - 1, 0)))
            assert np.abs(at - want).max() < 0.8
    assert presents == {2, 3}


def test_waymo_flow(tmp_path: Path) -> None:
    path = save_scene(left_turn(9, 1.0), tmp_path / "left.h5")
    export_scenes(ExportOrder((path,), "waymo-flow", tmp_path / "out"), print, lambda done, total: None)
    (file,) = (tmp_path / "out" / "left").iterdir()
    found = members(file)
    assert file.name == "000000.npz"
    assert {n: (a.shape, a.dtype.name) for n, a in found.items() if n != "known"} == {
        "observed": ((8, 256, 256, 1), "uint8"),
        "occluded": ((8, 256, 256, 1), "uint8"),
        "flow": ((8, 256, 256, 2), "int8"),
    }
    assert not found["occluded"].any()
    for k in range(8):
        rows, columns = np.nonzero(found["observed"][k, ..., 0])
        # The present ego is at the origin of the world and looks along x: up is ahead, left is left.
        ahead, left = (192 - rows) / 3.2, (128 - columns) / 3.2
        x, y, _ = car(k + 1)
        assert ahead.mean() == pytest.approx(x, abs=0.25) and left.mean() == pytest.approx(y, abs=0.25)
        assert np.ptp(ahead) == pytest.approx(CAR_M[0], abs=0.9) and np.ptp(left) == pytest.approx(CAR_M[1], abs=0.9)
        flow = found["flow"][k][rows, columns]
        assert (flow == (round(0.1 * 3.2), round(0.9 * 3.2))).all()  # backward: to the right and down
        empty = found["flow"][k][found["observed"][k, ..., 0] == 0]
        assert not empty.any()
        assert found["known"][k, 192, 128, 0] == 1 and found["known"][k, 0, 0, 0] == 0


READ = {"carlasc": None, "occ3d-nuscenes": None, "occ3d-waymo": None, "uniocc": None, "semantickitti": None}


@pytest.mark.parametrize("format", READ)
def test_our_own_readers_read_it(format: str, exported, scene_file: Path) -> None:
    """The way in finds what the way out wrote: poses, times, and road users where they are."""
    clips = open_set(format, exported(format), FRAMES, options=ReadOptions(dt_s=0.2))
    assert len(clips) == 1
    clip = clips[0]
    # Readers of layouts whose poses come with a sensor's height stand in its world: only its start may differ.
    first = np.linalg.inv(clip.conditions.world_se3_ego[0]) @ clip.conditions.world_se3_ego
    want = np.linalg.inv(pose(0)) @ np.stack([pose(t) for t in range(FRAMES)])
    assert np.allclose(first, want, atol=1e-6)
    for t in range(FRAMES):
        at = np.argwhere(clip.labels[t] == S.VEHICLE)
        grid = clip.conditions.grid
        middle = (at.mean(axis=0) + 0.5) * grid.voxel_m + grid.origin_m
        world = pose(t)[:3, :3] @ middle + pose(t)[:3, 3]
        assert np.abs(world - car(t)).max() < 0.35
    if format == "semantickitti":
        assert clip.moving[:, clip.labels[0] == S.VEHICLE].any()


def test_every_format_is_tested_here() -> None:
    tested = {*READ, "openoccupancy", "cam4docc", "waymo-flow", "npz", "ply", "glb"}
    assert tested == set(FORMATS) and len(MOVABLE) == 3


def test_a_vehicle_that_comes_later_is_occluded_and_left_out_of_sequences() -> None:
    """It is not there in the frames up to the present one: Waymo calls it occluded, Cam4DOcc does not list it."""

    def written(format: str, scene: Scene) -> dict[str, np.lib.npyio.NpzFile]:
        out = {}
        FORMATS[format].write(scene, Named("left"), lambda place, *data: out.update({place: b"".join(data)}))
        return {place: np.load(io.BytesIO(data), allow_pickle=True) for place, data in out.items()}

    whole = left_turn(9, 1.0)
    assert whole.objects is not None and whole.instances is not None
    valid = whole.objects.valid.copy()
    valid[:, :3] = False
    labels, instances = whole.labels.copy(), whole.instances.copy()
    labels[:3][labels[:3] == S.VEHICLE] = S.FREE
    instances[:3] = 0
    late = replace(whole, labels=labels, instances=instances, objects=replace(whole.objects, valid=valid))
    (found,) = written("waymo-flow", late).values()
    assert not found["observed"].any()
    assert [bool(found["occluded"][k].any()) for k in range(8)] == [False, False, *[True] * 6]
    assert not found["flow"][2].any() and found["flow"][3].any()  # nobody knows where it came from
    sequences = written("cam4docc", replace(late, time_s=0.5 * np.arange(9)))
    first = min(sequences, key=lambda place: sum(map(len, sequences[place]["arr_0"])))
    assert first.startswith(("segmentation", "instance", "flow")) and len(sequences[first]["arr_0"][-1]) == 0
