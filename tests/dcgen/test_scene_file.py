"""A scene file gives back what was written, refuses what is wrong with it, and never appears half written."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcgen.errors import SceneError
from dcgen.instances import with_motion
from dcgen.scene_file import SceneWriter, check_destination, load_scene, save_scene
from dcgen.types import CLASS_NAMES, LAYOUT_CHANNELS, AgentTracks, Scene


def assert_same(left: Scene, right: Scene) -> None:
    assert (left.objects is None) == (right.objects is None)
    pairs = [(left, right), (left.agents, right.agents)]
    for one, other in pairs + [(left.objects, right.objects)] * (left.objects is not None):
        for item in fields(one):
            a, b = getattr(one, item.name), getattr(other, item.name)
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype and np.array_equal(a, b), item.name
            elif not isinstance(a, AgentTracks):
                assert a == b, item.name


def cut(scene: Scene, start: int, stop: int) -> Scene:
    per_frame = ("labels", "time_s", "world_se3_ego", "trajectory", "command", "layout", "known")
    parts = {name: getattr(scene, name)[start:stop] for name in per_frame}
    if scene.objects is not None:
        parts |= {name: getattr(scene, name)[start:stop] for name in ("instances", "flow_mps")}
        parts["objects"] = scene.objects.frames(start, stop)
    return replace(scene, **parts, agents=scene.agents.frames(start, stop))


def test_what_is_saved_is_loaded(scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "new" / "folder" / "scene.h5")
    assert_same(scene, load_scene(path))
    assert [p.name for p in path.parent.iterdir()] == ["scene.h5"]


def test_a_scene_without_agents_and_with_a_long_scenario(scene: Scene, tmp_path: Path) -> None:
    bare = replace(scene, agents=AgentTracks.empty(3), scenario="route " * 200_000, metadata={})
    assert_same(bare, load_scene(save_scene(bare, tmp_path / "bare.h5")))


def test_parts_add_up_to_the_whole(scene: Scene, tmp_path: Path) -> None:
    with SceneWriter(tmp_path / "parts.h5") as writer:
        writer.append(cut(scene, 0, 2))
        writer.append(cut(scene, 2, 3))
    assert_same(scene, load_scene(tmp_path / "parts.h5"))
    assert_same(cut(scene, 1, 3), load_scene(tmp_path / "parts.h5", start=1))


def test_every_file_holds_the_motion_of_its_scene(scene: Scene, tmp_path: Path) -> None:
    whole = with_motion(scene)
    path = save_scene(scene, tmp_path / "scene.h5")
    assert whole.instances is not None and whole.instances.any()
    assert_same(whole, load_scene(path, motion=True))
    assert_same(scene, load_scene(path))
    assert_same(cut(whole, 1, 3), load_scene(path, start=1, motion=True))
    with SceneWriter(tmp_path / "parts.h5") as writer:
        writer.append(cut(scene, 0, 2))
        writer.append(cut(scene, 2, 3))
    assert_same(whole, load_scene(tmp_path / "parts.h5", motion=True))


def test_motion_that_a_scene_carries_is_kept(scene: Scene, tmp_path: Path) -> None:
    whole = with_motion(scene)
    own = replace(whole, instances=np.minimum(whole.instances, 1), flow_mps=whole.flow_mps + np.float16(1))
    with SceneWriter(tmp_path / "own.h5") as writer:
        writer.append(cut(own, 0, 1))
        writer.append(cut(own, 1, 3))
    assert_same(own, load_scene(tmp_path / "own.h5", motion=True))
    with SceneWriter(tmp_path / "mixed.h5") as writer:  # what one part lacks is found for all
        writer.append(cut(own, 0, 1))
        writer.append(cut(scene, 1, 3))
    assert_same(whole, load_scene(tmp_path / "mixed.h5", motion=True))


def test_files_of_the_first_version_still_load(scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "scene.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = np.int64(1)
        for place in ("objects", "occupancy/instances", "occupancy/flow"):
            del file[place]
    assert_same(scene, load_scene(path))
    assert_same(with_motion(scene), load_scene(path, motion=True))
    assert_same(cut(with_motion(scene), 1, 2), load_scene(path, 1, 2, motion=True))


def test_the_contract(scene: Scene, tmp_path: Path) -> None:
    with h5py.File(save_scene(scene, tmp_path / "scene.h5"), "r") as file:
        assert file.attrs["format"] == "dcgen-scene" and file.attrs["format_version"] == 2
        assert {"dcgen_version", "seed", "model", "model_sha256", "scenario", "created_utc"} <= set(file.attrs)
        labels = file["occupancy/labels"]
        assert labels.dtype == np.uint8 and labels.compression == "gzip" and labels.shape == (3, 11, 13, 7)
        assert tuple(labels.attrs["class_names"]) == CLASS_NAMES and labels.attrs["palette"].shape == (12, 3)
        assert {"origin_m", "voxel_m", "shape", "frame"} <= set(file["grid"].attrs)
        assert file["frames/world_se3_ego"].dtype == np.float64 and file["frames/time_s"].shape == (3,)
        shapes = {"id": (2,), "class_id": (2,), "size_m": (2, 3), "pose": (2, 3, 3), "valid": (2, 3)}
        assert {name: file["agents"][name].shape for name in shapes} == shapes
        assert tuple(file["conditions/layout"].attrs["channels"]) == LAYOUT_CHANNELS
        assert file["occupancy/instances"].dtype == np.uint16 and file["occupancy/instances"].shape == (3, 11, 13, 7)
        assert file["occupancy/flow"].dtype == np.float16 and file["occupancy/flow"].shape == (3, 11, 13, 7, 3)
        assert set(file["objects"]) == set(file["agents"])
        assert set(file["conditions"]) == {"trajectory", "command", "layout", "known"}


def test_a_failing_body_leaves_nothing_and_keeps_the_old_file(scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "scene.h5")
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), SceneWriter(path) as writer:
        writer.append(scene)
        raise KeyboardInterrupt
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


_FILL = """
import sys
from dcgen.scene_file import save_scene
from dcgen.errors import SceneError
sys.path.insert(0, sys.argv[1])
from conftest import small_scene
try:
    save_scene(small_scene(frames=40, shape=(31, 33, 17)), sys.argv[2])
except SceneError as fault:
    print(fault)
"""


def _small_disk() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_a_full_disk_leaves_nothing_but_one_line(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", _FILL, str(tests), str(tmp_path / "scene.h5")]
    result = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=_small_disk, cwd=tests.parent, timeout=60
    )
    assert result.stdout.count("\n") == 1 and "scene.h5: cannot be written" in result.stdout, result
    assert result.returncode == 0 and not list(tmp_path.iterdir()), result


def test_a_destination_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "scene.h5", Path("/proc/1/no/scene.h5")):
        with pytest.raises(SceneError, match=r"choose another output|file name"):
            check_destination(path)
            with SceneWriter(path) as writer:
                writer.append(load_scene(path))


def _drop(place: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(place)


def _swap(place: str, **attributes: object) -> Callable[[h5py.File], None]:
    return lambda file: file[place].attrs.update(attributes)


def _put(place: str, data: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        attributes = dict(file[place].attrs)
        del file[place]
        file.create_dataset(place, data=data).attrs.update(attributes)

    return edit


def _fill(place: str, value: float) -> Callable[[h5py.File], None]:
    return lambda file: file[place].__setitem__(..., value)


FAULTS: dict[str, Callable[[h5py.File], None]] = {
    "no labels": _drop("occupancy/labels"),
    "no grid": _drop("grid"),
    "no known": _drop("conditions/known"),
    "no agents": _drop("agents/pose"),
    "other format": _swap("/", format="nuscenes"),
    "newer version": _swap("/", format_version=3),
    "no seed": lambda file: file.attrs.__delitem__("seed"),
    "scenario is a number": _swap("/", scenario=3.5),
    "metadata is a list": _swap("/", metadata="[1]"),
    "negative voxel": _swap("grid", voxel_m=[0.8, -0.8, 0.8]),
    "voxels of atoms": _swap("grid", voxel_m=[1e-9, 1e-9, 1e-9]),
    "shape of two": _swap("grid", shape=[11, 13]),
    "shape of another grid": _swap("grid", shape=[13, 11, 7]),
    "class list": _swap("occupancy/labels", class_names=["free", *CLASS_NAMES[:0:-1]]),
    "labels of int32": _put("occupancy/labels", np.zeros((3, 11, 13, 7), np.int32)),
    "labels of three axes": _put("occupancy/labels", np.zeros((3, 11, 13), np.uint8)),
    "a frame less": _put("frames/world_se3_ego", np.tile(np.eye(4), (2, 1, 1))),
    "class 77": _fill("occupancy/labels", 77),
    "time stands": _fill("frames/time_s", 1.0),
    "no pose": _fill("frames/world_se3_ego", 0.5),
    "nan trajectory": _fill("conditions/trajectory", np.nan),
    "command 9": _fill("conditions/command", 9),
    "agents of class 99": _fill("agents/class_id", 99),
    "flat agents": _fill("agents/size_m", 0),
    "agents out of this world": _fill("agents/pose", 1e200),
    "agents like planets": _fill("agents/size_m", 3e38),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_a_fault_is_refused_in_one_line(fault: str, scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "scene.h5")
    with h5py.File(path, "r+") as file:
        FAULTS[fault](file)
    with pytest.raises(SceneError) as error:
        load_scene(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


MOTION_FAULTS: dict[str, Callable[[h5py.File], None]] = {
    "no flow": _drop("occupancy/flow"),
    "no instances": _drop("occupancy/instances"),
    "no objects": _drop("objects"),
    "no poses of objects": _drop("objects/pose"),
    "instances of int32": _put("occupancy/instances", np.zeros((3, 11, 13, 7), np.int32)),
    "flow of another grid": _put("occupancy/flow", np.zeros((3, 13, 11, 7, 3), np.float16)),
    "flow of a frame less": lambda file: file["occupancy/flow"].resize(2, axis=0),
    "a row that is not there": _fill("occupancy/instances", 500),
    "flow of nan": _fill("occupancy/flow", np.nan),
    "objects that are not the agents": lambda file: file["objects/id"].__setitem__(0, 99),
    "one id for all objects": _fill("objects/id", 7),
    "objects of class 99": _fill("objects/class_id", 99),
    "flat objects": _fill("objects/size_m", 0),
    "flow that claims terabytes": lambda file: file["occupancy/flow"].resize(1 << 33, axis=0),
}


@pytest.mark.parametrize("fault", MOTION_FAULTS)
def test_a_fault_in_the_motion_is_one_line_for_who_asks_for_it(fault: str, scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "scene.h5")
    with h5py.File(path, "r+") as file:
        MOTION_FAULTS[fault](file)
    assert_same(scene, load_scene(path))
    with pytest.raises(SceneError) as error:
        load_scene(path, motion=True)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert "make" in str(error.value)


def test_a_file_that_claims_terabytes_is_refused(scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "scene.h5")
    with h5py.File(path, "r+") as file:
        for place in ("occupancy/labels", "frames/time_s"):
            file[place].resize(1 << 33, axis=0)
    with pytest.raises(SceneError, match="declares"):
        load_scene(path)


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n", bytes(range(256)) * 64])
def test_what_is_not_hdf5_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scene.h5"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"scene\.h5: "):
        load_scene(path)
    with pytest.raises(SceneError, match="no such file"):
        load_scene(tmp_path / "absent.h5")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0.0, 0.999))
def test_a_truncated_file_is_refused(keep: float, scene: Scene, tmp_path: Path) -> None:
    path = save_scene(scene, tmp_path / "scene.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(SceneError, match=r"scene\.h5: "):
        load_scene(path)
