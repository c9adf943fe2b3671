"""Windows of past and later frames: where their grids stand, that clips and scenes agree, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dcgen.canvas import sample_grid, world_points
from dcgen.dataset.forecast import collate
from dcgen.errors import DatasetError, GridMismatch, SceneError
from dcgen.forecast.config import ForecastConfig, frames_of
from dcgen.forecast.scenes import SceneWindows, recording_of
from dcgen.forecast.windows import Windows, batches
from dcgen.scene_file import save_scene
from dcgen.types import LAYOUT_CHANNELS, UNKNOWN, Scene
from tests.dcgen.forecast.drives import CONFIG, DT, FRAMES, GRID, Drives, drive, windows


def scene_of(found, dt_s: float = DT) -> Scene:
    t = len(found.labels)
    return Scene(
        found.labels, GRID, np.arange(t) * dt_s, found.world_se3_ego, found.agents, np.zeros((t, 3), np.float32),
        np.ones(t, np.int8), np.zeros((t, len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float16),
        np.zeros(found.labels.shape, bool), model="driven",
    )  # fmt: skip


@pytest.mark.parametrize("anchored", [False, True])
def test_past_frames_stand_in_the_grid_of_now_and_later_ones_in_their_own(anchored):
    found = drive(2, anchored=anchored)
    window = Windows(Drives([found]), CONFIG, 1)[1]
    now, picks = 3, [1, 2, 3, 4, 6]
    for place, frame in enumerate(picks):
        stand = found.world_se3_ego[max(frame, now)]
        points = world_points(GRID, stand)
        slow = sample_grid(found.labels[frame], GRID, found.world_se3_grid[frame], points)
        moves = sample_grid(found.moving[frame].view(np.uint8), GRID, found.world_se3_grid[frame], points)
        fast = torch.cat([window.past, window.future])[place].numpy()
        assert (fast == slow).mean() > 0.999  # a rounding apart where a centre lies between two voxels
        assert ((window.moving[place].numpy() == (moves == 1)) | (slow == UNKNOWN)).mean() > 0.999
    if not anchored:
        assert np.array_equal(window.past[-1], found.labels[now]) and np.array_equal(window.future[1], found.labels[6])
    assert torch.allclose(window.now_se3_ego[2], torch.eye(4)) and window.trajectory[-1, 0] > 1


def test_content_is_found_where_the_displacement_says():
    window = windows(1)[2]
    for k in range(len(CONFIG.ahead)):
        step = window.displacement_m[k][..., :2] / 0.8
        users = torch.isin(window.past[-1], torch.tensor([4, 10], dtype=torch.uint8)) & step.isfinite().all(-1)
        i, j, z = users.nonzero().T
        to = torch.stack([i, j], -1) + step[i, j, z]
        u, v = to.round().long().T
        inside = (u >= 0) & (u < 32) & (v >= 0) & (v < 24)
        kind = window.past[-1][i, j, z]
        there = (window.future[k][u[inside], v[inside], z[inside]] == kind[inside]).float().mean()
        here = (window.future[k][i, j, z] == kind).float().mean()
        assert inside.sum() > 20 and there > 0.7 and there > here + 0.03 * CONFIG.ahead[k]


def test_a_scene_gives_the_windows_of_what_it_was_made_of(tmp_path):
    found = [drive(seed) for seed in range(2)]
    for n, each in enumerate(found):
        save_scene(scene_of(each), tmp_path / f"{n}.h5")
    scenes, clips = SceneWindows(tmp_path, CONFIG, 2), Windows(Drives(found), CONFIG, 2)
    assert len(scenes) == len(clips) == 4
    for one, other in zip(scenes, clips, strict=False):
        for name, value in one.tensors().items():
            want = other.tensors()[name]
            if name == "moving":
                assert (value == want).float().mean() > 0.99 and value.sum() > 50
            else:
                assert torch.equal(value.nan_to_num(), want.nan_to_num()) or torch.allclose(
                    value.double().nan_to_num(), want.double().nan_to_num(), atol=1e-4
                ), name


def test_who_stands_does_not_move():
    assert recording_of(scene_of(drive(0, users_mps=0.3))).moving.sum() == 0


def test_batches_are_a_function_of_their_number_and_take_of_each_source_as_many():
    sources = [windows(3), windows(2, stride=2)]
    other = batches(sources, 4, 7)(5)
    one = batches(sources, 4, 7)(5)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(
        one.windows.tensors().values(), other.windows.tensors().values(), strict=True))  # fmt: skip
    assert torch.equal(one.ahead, other.ahead) and set(one.ahead.flatten().tolist()) <= set(CONFIG.ahead)
    assert one.windows.future.shape == (4, 1, *GRID.shape)
    truth = collate([source[0] for source in sources])
    assert truth.future.shape == (2, 2, *GRID.shape)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(GridMismatch, match="grid"):
        windows(1, replace(CONFIG, grid=replace(GRID, origin_m=(0.0, 0.0, 0.0))))
    with pytest.raises(GridMismatch, match="dt_s"):
        windows(1, replace(CONFIG, dt_s=0.1))
    with pytest.raises(DatasetError, match=f"longest has {FRAMES}"):
        windows(1, replace(CONFIG, ahead=(1, 9)))
    with pytest.raises(SceneError, match="holds no scenes"):
        SceneWindows(tmp_path, CONFIG)
    save_scene(scene_of(drive(0)), tmp_path / "a.h5")
    save_scene(scene_of(drive(0), 0.1), tmp_path / "b.h5")
    with pytest.raises(GridMismatch, match=r"b\.h5: dt_s"):
        SceneWindows(tmp_path, CONFIG)
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:3000])
    with pytest.raises(SceneError, match=r"b\.h5"):
        SceneWindows(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"past": 1}, "past must"), ({"ahead": ()}, "ahead needs"), ({"ahead": (3, 2)}, "ahead needs"),
        ({"ahead": (0,)}, "ahead needs"), ({"widths": (8,)}, "widths need"),
        ({"widths": (8, 8, 8, 8)}, "multiple of 16"),
    ],
)  # fmt: skip
def test_sizes_that_make_no_forecaster_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        replace(CONFIG, **change)


def test_seconds_are_frames_and_a_config_comes_back_from_json():
    assert frames_of((1.0, 2.0, 3.0), 0.2) == (5, 10, 15) and CONFIG.seconds == (0.2, 0.6)
    with pytest.raises(ValueError, match=r"0.5 s is no whole number"):
        frames_of((0.5,), 0.2)
    assert ForecastConfig.from_dict(CONFIG.to_dict()) == CONFIG
