"""A set with a file that is missing, cut, of another kind or out of order: one line that names it and the remedy."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.datasets import ReadOptions, open_set
from dcgen.errors import DatasetError
from tests.bridges.datasets import writers
from tests.bridges.datasets.town import npy, npz
from tests.conftest import REMEDY

SHAPE = (200, 200, 16)
WRITERS: dict[str, Callable[[Path], Path]] = {
    "carlasc": lambda folder: writers.carlasc(folder, 3),
    "occ3d-nuscenes": lambda folder: writers.occ3d_nuscenes(folder, 3),
    "occ3d-waymo": lambda folder: writers.occ3d_waymo(folder, 3),
    "uniocc": lambda folder: writers.uniocc(folder, 3),
    "semantickitti": lambda folder: writers.semantickitti(folder, 3, 5),
}
EVALUATION = "Town01_Light/cartesian/evaluation"
VOXELS = "sequences/04/voxels"
TOKENS = [f"{(frame * 7 + 3) % 11:032x}" for frame in range(3)]
GTS = "gts/scene-0061"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a sound set of that format, written once."""
    made: dict[str, Path] = {}

    def of(format: str) -> Path:
        if format not in made:
            place = tmp_path_factory.mktemp("sound") / f"{format}-2Hz"
            place.mkdir()
            made[format] = WRITERS[format](place)
        return made[format]

    return of


def remove(*names: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return run


def change(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        path = folder / name
        data = edit(path.read_bytes())
        path.unlink()  # it is a link to the sound one
        path.write_bytes(data)

    return run


def cut(name: str) -> Callable[[Path], None]:
    return change(name, lambda data: data[:-5])


def members(name: str, **values: Any) -> Callable[[Path], None]:
    """The .npz anew, with other members; None takes one away."""

    def run(folder: Path) -> None:
        import zipfile

        with zipfile.ZipFile(folder / name) as archive:
            old: dict[str, Any] = {each.removesuffix(".npy"): archive.read(each) for each in archive.namelist()}
        (folder / name).unlink()
        npz(folder / name, **{key: value for key, value in (old | values).items() if value is not None})

    return run


def annotated(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(data: bytes) -> bytes:
        infos = json.loads(data)
        edit(infos["scene_infos"]["scene-0061"])
        return json.dumps(infos).encode()

    return change("annotations.json", rewrite)


def listed(files: list[str]) -> Callable[[Path], None]:
    infos = [{"scene_name": "scene_001", "occ_in_scene_paths": files}]
    return change("scene_infos.pkl", lambda _: pickle.dumps(infos))


def odd(count: int, dtype: str, value: int) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        ids = np.frombuffer(data, dtype).copy()
        ids[count] = value
        return ids.tobytes()

    return edit


def bad_ids(value: int) -> np.ndarray:
    out = np.full(SHAPE, 10, np.uint8)
    out[3, 4, 5] = value
    return out


def noted(**values: Any) -> np.ndarray:
    note = {"token": "a", "agent_to_ego": np.eye(4), "agent_to_world": np.eye(4), "size": [4, 2, 1.5], "category_id": 1}
    out = np.empty(1, object)
    out[0] = {key: value for key, value in (note | values).items() if value is not None}
    return out


def lines(edit: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    return lambda data: "".join(edit(data.decode().splitlines(keepends=True))).encode()


# format, what is done to it, what the line says (its file first)
DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a frame": ("carlasc", remove(f"{EVALUATION}/000001.label"), r"evaluation/000001\.label: is missing"),
    "hit counts": ("carlasc", remove(f"{EVALUATION}/000002.bin"), r"000002\.bin: is missing"),
    "labels of the last frame": ("carlasc", remove(f"{EVALUATION}/000002.label"), r"000002\.label: is missing"),
    "the last frame": (
        "carlasc", remove(f"{EVALUATION}/000002.label", f"{EVALUATION}/000002.bin"),
        r"poses\.txt: holds 3 poses for 2 frames",
    ),
    "poses": ("carlasc", remove("Town01_Light/cartesian/poses.txt"), r"cartesian/poses\.txt: is missing"),
    "cut labels": ("carlasc", cut(f"{EVALUATION}/000001.label"), r"000001\.label: holds 524283 bytes, .*524288"),
    "labels of another type": (
        "carlasc", change(f"{EVALUATION}/000000.label", lambda data: data[::4]), r"000000\.label: holds 131072 bytes",
    ),
    "an unknown tag": (
        "carlasc", change(f"{EVALUATION}/000001.label", odd(77, "<u4", 23)),
        r"000001\.label: holds class id 23, .*CarlaSC",
    ),
    "a huge tag": (
        "carlasc", change(f"{EVALUATION}/000001.label", odd(77, "<u4", 2**32 - 1)), r"holds class id 4294967295, ",
    ),
    "a pose too few": (
        "carlasc", change("Town01_Light/cartesian/poses.txt", lines(lambda rows: rows[1:])),
        r"poses\.txt: holds 2 poses for 3 frames",
    ),
    "a pose cut short": (
        "carlasc", change("Town01_Light/cartesian/poses.txt", lines(lambda rows: [*rows[:2], rows[2][:60] + "\n"])),
        r"poses\.txt: line 3 holds \d+ numbers, expected 12",
    ),
    "a pose of words": (
        "carlasc", change("Town01_Light/cartesian/poses.txt", lines(lambda rows: ["a b\n", *rows[1:]])),
        r"poses\.txt: line 1 is no row of numbers",
    ),
    "a pose that is none": (
        "carlasc", change("Town01_Light/cartesian/poses.txt", lines(lambda rows: [*rows[:2], "1 " * 12 + "\n"])),
        r"poses\.txt: pose 2 is no rotation",
    ),
    "a pose of no number": (
        "carlasc", change("Town01_Light/cartesian/poses.txt", lambda data: data.replace(b"1.", b"nan ", 1)),
        r"poses\.txt: line 1 ",
    ),
    "times out of order": (
        "carlasc", change("Town01_Light/cartesian/times.txt", lines(lambda rows: [rows[0], rows[2], rows[1]])),
        r"times\.txt: frame 2 is not later than the one before",
    ),
    "another scene's times": (
        "carlasc", change("Town01_Light/cartesian/times.txt", lines(lambda rows: rows[:2])),
        r"times\.txt: holds 2 times",
    ),
    "annotations": ("occ3d-nuscenes", remove("annotations.json"), r"annotations\.json: is missing"),
    "a key frame": ("occ3d-nuscenes", remove(f"{GTS}/{TOKENS[1]}/labels.npz"), rf"{TOKENS[1]}/labels\.npz: is missing"),
    "a cut archive": ("occ3d-nuscenes", cut(f"{GTS}/{TOKENS[1]}/labels.npz"), rf"{TOKENS[1]}/labels\.npz: damaged"),
    "a flipped bit": (
        "occ3d-nuscenes",
        change(f"{GTS}/{TOKENS[1]}/labels.npz", lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]),
        r"labels\.npz: damaged",
    ),
    "no semantics": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", semantics=None),
        r"has no array 'semantics', only mask_",
    ),
    "another grid": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", semantics=np.zeros((200, 16, 200), np.uint8)),
        r"labels\.npz: semantics is uint8 \[200, 16, 200\]",
    ),
    "floats for labels": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", semantics=np.zeros(SHAPE, np.float32)),
        r"semantics is float32",
    ),
    "objects for labels": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", semantics=np.empty((2,), object)),
        r"semantics is object",
    ),
    "a mask of many numbers": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", mask_lidar=np.full(SHAPE, 2, np.uint8)),
        r"mask_lidar holds other numbers",
    ),
    "too few voxels": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", semantics=npy(bad_ids(1))[:-9]),
        r"semantics holds 639991 bytes, not 640000",
    ),
    "no header": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", semantics=b"\x93NUMPY\x01\x00v\x00{'a"),
        r"npz: damaged",
    ),
    "class 18": (
        "occ3d-nuscenes", members(f"{GTS}/{TOKENS[0]}/labels.npz", semantics=bad_ids(18)),
        r"labels\.npz: holds class id 18, .*Occ3D-nuScenes",
    ),
    "no JSON": ("occ3d-nuscenes", cut("annotations.json"), r"annotations\.json: is no JSON"),
    "a scene unheard of": (
        "occ3d-nuscenes", change("annotations.json", lambda data: data.replace(b"scene-0061", b"scene-0062")),
        r"annotations\.json: says nothing of scene scene-0061",
    ),
    "no pose": (
        "occ3d-nuscenes", annotated(lambda scene: scene[TOKENS[1]].pop("ego_pose")), r"scene scene-0061 lacks ego_pose",
    ),
    "no unit quaternion": (
        "occ3d-nuscenes", annotated(lambda scene: scene[TOKENS[1]]["ego_pose"].update(rotation=[1, 1, 0, 0])),
        r"annotations\.json: pose 1 is no rotation",
    ),
    "key frames out of order": (
        "occ3d-nuscenes", annotated(lambda scene: scene.update({TOKENS[0]: scene.pop(TOKENS[0])})),
        r"scene-0061: frame 2 is not later than the one before; put the frames",
    ),
    "a frame of Waymo": ("occ3d-waymo", remove("training/007/001_04.npz"), r"training/007/001_04\.npz: is missing"),
    "poses of Waymo": (
        "occ3d-waymo", members("training/007/000_04.npz", ego2global=None),
        r"007/poses\.txt: no poses: .*ego2global, .*cam_infos\.pkl",
    ),
    "one pose of Waymo": (
        "occ3d-waymo", members("training/007/002_04.npz", ego2global=None), r"002_04\.npz: has no array 'ego2global'",
    ),
    "class 16": ("occ3d-waymo", members("training/007/001_04.npz", voxel_label=bad_ids(16)), r"holds class id 16, "),
    "the list of scenes": ("uniocc", remove("scene_infos.pkl"), r"scene_infos\.pkl: is missing"),
    "a cut list": ("uniocc", cut("scene_infos.pkl"), r"scene_infos\.pkl: damaged"),
    "a list of numbers": (
        "uniocc", change("scene_infos.pkl", lambda _: pickle.dumps([1, 2])),
        r"scene_infos\.pkl: a scene lacks scene_name",
    ),
    "no list": ("uniocc", change("scene_infos.pkl", lambda _: pickle.dumps({"a": 1})), r"scene_infos\.pkl: is no list"),
    "a frame of UniOcc": ("uniocc", remove("scene_001/1.npz"), r"scene_001/1\.npz: is missing"),
    "a frame not listed": (
        "uniocc", listed([f"scene_001/{n}.npz" for n in (0, 1, 3)]), r"scene_001/2\.npz: is missing",
    ),
    "frames out of order": (
        "uniocc", listed([f"scene_001/{n}.npz" for n in (0, 2, 1)]),
        r"scene_infos\.pkl: scene scene_001: frame 2 is not later",
    ),
    "frames elsewhere": ("uniocc", listed(["../0.npz", "/etc/1.npz"]), r"\.\./0\.npz lies outside the set"),
    "class 11": ("uniocc", members("scene_001/2.npz", occ_label=bad_ids(11)), r"2\.npz: holds class id 11, .*UniOcc"),
    "agents of no size": (
        "uniocc", members("scene_001/1.npz", annotations=noted(size=[0, 1, 1])),
        r"1\.npz: annotations: agent a has no size",
    ),
    "agents of no class": (
        "uniocc", members("scene_001/1.npz", annotations=noted(category_id=77)), r"1\.npz: holds class id 77, ",
    ),
    "agents without pose": (
        "uniocc", members("scene_001/1.npz", annotations=noted(agent_to_world=None)),
        r"1\.npz: annotations: needs token",
    ),
    "agents of numbers": (
        "uniocc", members("scene_001/1.npz", annotations=np.arange(3.0)),
        r"annotations is an array of float64, not a list",
    ),
    "a pose of text": (
        "uniocc", members("scene_001/1.npz", ego_to_world_transformation=np.full((4, 4), "a")),
        r"1\.npz: ego_to_world_transformation is <U1",
    ),
    "labels of a scan": ("semantickitti", remove(f"{VOXELS}/000005.label"), r"voxels/000005\.label: is missing"),
    "a scan": (
        "semantickitti", remove(f"{VOXELS}/000005.label", f"{VOXELS}/000005.invalid"),
        r"voxels/000005\.label: is missing",
    ),
    "a scan's mask": ("semantickitti", remove(f"{VOXELS}/000005.invalid"), r"000005\.invalid: is missing"),
    "a cut mask": ("semantickitti", cut(f"{VOXELS}/000010.invalid"), r"000010\.invalid: holds 262139 bytes, .*262144"),
    "an unknown id": (
        "semantickitti", change(f"{VOXELS}/000000.label", odd(9, "<u2", 12)), r"000000\.label: holds class id 12, ",
    ),
    "calibration": ("semantickitti", remove("sequences/04/calib.txt"), r"calib\.txt: is missing"),
    "no line of the LiDAR": (
        "semantickitti", change("sequences/04/calib.txt", lines(lambda rows: rows[:1])),
        r"calib\.txt: has no line `Tr:`",
    ),
    "poses of KITTI": ("semantickitti", remove("sequences/04/poses.txt"), r"poses\.txt: is missing"),
    "a pose of KITTI too few": (
        "semantickitti", change("sequences/04/poses.txt", lines(lambda rows: rows[:-1])), r"poses\.txt: holds 10 poses",
    ),
    "poses of a longer drive": (
        "semantickitti", change("sequences/04/poses.txt", lines(lambda rows: rows * 2)), r"poses\.txt: holds 22 poses",
    ),
}  # fmt: skip


def copy_links(source: Path, target: Path) -> Path:
    """The same tree out of links: files are replaced, never written into."""
    shutil.copytree(source, target, copy_function=lambda a, b: Path(b).hardlink_to(a))
    return target


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_in_one_line(name: str, sound: Callable[[str], Path], tmp_path: Path) -> None:
    format, damage, says = DAMAGE[name]
    folder = copy_links(sound(format), tmp_path / f"{format}-2Hz")
    damage(folder)
    with pytest.raises(DatasetError, match=says) as refused:
        list(open_set(format, folder, 1))
    line = str(refused.value)
    assert "\n" not in line and REMEDY.search(line) and line.startswith(str(folder)), line


@pytest.mark.parametrize("format", WRITERS)
def test_the_sound_set_is_read(format: str, sound: Callable[[str], Path]) -> None:
    assert len(list(open_set(format, sound(format), 1))) == 3


def test_a_frame_in_the_middle_of_kitti_is_missed(tmp_path: Path) -> None:
    folder = writers.semantickitti(tmp_path, frames=1)
    voxels = folder / VOXELS
    for number in (5, 15):
        for suffix in (".label", ".invalid"):
            (voxels / f"{number:06d}{suffix}").hardlink_to(voxels / f"000000{suffix}")
    with pytest.raises(DatasetError, match=re.escape(f"{voxels / '000010.label'}: is missing")):
        open_set("semantickitti", folder, 1)


def test_nothing_in_an_archive_is_unpickled(sound: Callable[[str], Path], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    trapped = np.empty(1, object)
    trapped[0] = Trap()
    folder = copy_links(sound("uniocc"), tmp_path / "a-2Hz")
    members("scene_001/1.npz", annotations=trapped)(folder)
    with pytest.raises(DatasetError, match=r"scene_001/1\.npz: annotations: refused, it asks for \w+"):
        list(open_set("uniocc", folder, 1))
    change("scene_infos.pkl", lambda _: pickle.dumps([Trap()]))(folder)
    with pytest.raises(DatasetError, match=r"scene_infos\.pkl: refused"):
        open_set("uniocc", folder, 1)
    assert not (tmp_path / "sprung").exists()


def test_what_is_asked_for_has_to_be_there(sound: Callable[[str], Path], tmp_path: Path) -> None:
    folder = sound("carlasc")
    empty = tmp_path / "empty"
    empty.mkdir()
    asked: list[tuple[str, Callable[[], Any]]] = [
        (r"no public set 'kitti'; choose one of carlasc, ", lambda: open_set("kitti", folder, 1)),
        (r"nowhere: is no folder", lambda: open_set("carlasc", tmp_path / "nowhere", 1)),
        (r"no sequence has 5 frames, the longest 3; give fewer", lambda: open_set("carlasc", folder, 3, every=2)),
        (r"frames 0, every 1, stride 0: give at least 1", lambda: open_set("carlasc", folder, 0)),
        (r"stride -1: give at least 1", lambda: open_set("carlasc", folder, 1, stride=-1)),
        (r"has no camera mask; choose", lambda: open_set("carlasc", folder, 1, options=ReadOptions(mask="camera"))),
        (r"no mask 'sonar'; choose", lambda: open_set("carlasc", folder, 1, options=ReadOptions(mask="sonar"))),  # type: ignore[arg-type]
        (r"uniocc holds no sweeps", lambda: open_set("uniocc", folder, 1, options=ReadOptions(points=True))),
        (r"/velodyne/000000\.bin: is missing", lambda: sweepless()),
        (r"its name tells no rate", lambda: open_set("uniocc", copy_links(sound("uniocc"), tmp_path / "rateless"), 1)),
    ]  # fmt: skip

    def sweepless() -> None:
        bare = copy_links(folder, tmp_path / "bare")
        shutil.rmtree(bare / "Town01_Light" / "cartesian" / "velodyne")
        list(open_set("carlasc", bare, 1, options=ReadOptions(points=True)))

    asked += [(re.escape(str(empty)), lambda format=format: open_set(format, empty, 1)) for format in WRITERS]
    for says, ask in asked:
        with pytest.raises(DatasetError, match=says) as refused:
            ask()
        assert "\n" not in str(refused.value) and REMEDY.search(str(refused.value)), refused.value
    rated = open_set("uniocc", tmp_path / "rateless", 1, options=ReadOptions(dt_s=0.2))
    assert rated[0].conditions.dt_s == 0.2
