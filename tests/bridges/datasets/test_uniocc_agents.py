"""Annotated boxes of UniOcc become agents and say which voxels move. N agent, T frame, X/Y/Z voxel axes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from bridges.datasets import ReadOptions, open_set
from dcgen.canvas import world_points
from dcgen.types import MOVING_MPS, Clip, Semantics
from tests.bridges.datasets import writers
from tests.bridges.datasets.town import FRAMES


@pytest.fixture(scope="module", params=[False, True], ids=["y left", "y right"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("uniocc") / ("OpenCOOD-via-OpV2V-2Hz" if request.param else "Waymo-via-Occ3D-2Hz")
    return open_set("uniocc", writers.uniocc(folder, y_right=request.param), FRAMES)[0]


def test_agents_are_where_the_world_has_them(clip: Clip) -> None:
    agents = clip.conditions.agents
    assert len(agents.id) == 2 and agents.valid.all()  # the ego is none
    drives = int(np.argmax(agents.speed_mps[:, 0]))
    for frame in range(FRAMES):
        x, y, z, yaw = writers.car(frame)
        np.testing.assert_allclose(agents.pose[drives, frame], [x, y, yaw], atol=1e-5)
        assert agents.z_m[drives, frame] == pytest.approx(z - writers.CAR_M[2] / 2, abs=1e-5)
    np.testing.assert_allclose(agents.pose[1 - drives, :, :], np.tile([-6.0, 4.25, 3.0], (FRAMES, 1)), atol=1e-5)
    np.testing.assert_allclose(agents.speed_mps[drives], 2.0, atol=1e-4)
    assert (agents.speed_mps[1 - drives] < MOVING_MPS).all()
    np.testing.assert_allclose(agents.size_m[drives], writers.CAR_M, atol=1e-6)
    assert (agents.class_id == Semantics.VEHICLE).all()
    assert clip.conditions.layout_agents[:, 0].sum() > 0


def test_only_the_car_that_drives_moves(clip: Clip) -> None:
    for frame in range(FRAMES):
        points = world_points(clip.conditions.grid, clip.world_se3_grid[frame])
        cars = clip.labels[frame] == Semantics.VEHICLE
        assert cars.sum() > clip.moving[frame].sum() > 50
        np.testing.assert_array_equal(clip.moving[frame], cars & (points[..., 0] > 0))


def test_agents_keep_their_ids_from_clip_to_clip(tmp_path: Path) -> None:
    clips = open_set("uniocc", writers.uniocc(tmp_path / "a-2Hz", frames=2), 1)
    assert np.array_equal(np.sort(clips[0].conditions.agents.id), np.sort(clips[1].conditions.agents.id))
    assert not clips[0].moving.any()  # one sighting tells no speed


def test_each_car_that_recorded_a_scene_is_a_recording(tmp_path: Path) -> None:
    folder = writers.uniocc(tmp_path / "OPV2V-10Hz", frames=3, y_right=True)
    files = [f"scene_001/{frame}.npz" for frame in range(3)]
    egos = [{"ego_name": f"{n}", "occ_in_scene_paths": files[:n]} for n in (2, 3)]
    (folder / "scene_infos.pkl").write_bytes(pickle.dumps([{"scene_name": "scene_001", "egos": egos}]))
    clips = open_set("uniocc", folder, 1)
    assert len(clips) == 5 and clips[4].source == "uniocc scene_001/3: frame 2"


def test_the_side_of_y_may_be_said(tmp_path: Path) -> None:
    mirrored = open_set(
        "uniocc", writers.uniocc(tmp_path / "mine-2Hz", 1, y_right=True), 1, options=ReadOptions(y_right=True)
    )
    plain = open_set("uniocc", writers.uniocc(tmp_path / "Carla-2Hz", 1), 1, options=ReadOptions(y_right=False))
    np.testing.assert_array_equal(mirrored[0].labels, plain[0].labels)
