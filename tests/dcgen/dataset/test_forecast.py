"""Windows are the frames of their clips, in the frame of now; only what is asked for is read."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dcgen.dataset.forecast import FIELDS, ForecastDataset, collate, measure_loading
from dcgen.dataset.motion import clip_motion
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import DatasetWriter, open_dataset
from dcgen.errors import DatasetError
from dcgen.types import UNKNOWN
from tests.dcgen.dataset.driven import DT, GRID, driven_clip

FRAMES, CLIPS = 7, 5


def written(folder, ego_centred=False, sensed=True):
    spec = DatasetSpec(
        GRID, FRAMES, DT, CLIPS, ego_centred=ego_centred, observed=sensed, points=sensed, part_clips=3
    )  # fmt: skip
    with DatasetWriter(folder, spec) as writer:
        for part in range(spec.parts):
            clips = [driven_clip(n, FRAMES, ego_centred, sensed) for n in spec.part_range(part)]
            writer.write_shard(part, clips)
    return open_dataset(folder)


@pytest.fixture(scope="module")
def anchored(tmp_path_factory):
    return written(tmp_path_factory.mktemp("anchored") / "set")


@pytest.fixture(scope="module")
def centred(tmp_path_factory):
    return written(tmp_path_factory.mktemp("centred") / "set", ego_centred=True)


def test_windows_are_the_frames_of_their_clips(anchored):
    windows = ForecastDataset(anchored, 2, 3, ("moving", "observed", "unknown"), stride=2)
    assert len(windows) == CLIPS * 2
    for index in (0, 1, 7, -1):
        item = windows[index]
        n, start = divmod(index % len(windows), 2)
        start *= 2
        clip = anchored[n]
        assert (int(item.clip), int(item.start)) == (n, start)
        assert item.past.dtype == torch.uint8 and item.past.shape == (2, *GRID.shape)
        assert np.array_equal(torch.cat([item.past, item.future]), clip.labels[start : start + 5])
        for name, whole in (
            ("moving", clip.moving), ("observed", clip.observed), ("unknown", clip.labels == UNKNOWN)
        ):  # fmt: skip
            value = getattr(item, name)
            assert value.dtype == torch.bool and value.any() and np.array_equal(value, whole[start : start + 5])
        assert item.points is None and item.instances is None and item.layout_static is None
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_every_window_of_a_clip_by_its_stride(anchored):
    starts = [int(ForecastDataset(anchored, 2, 1, stride=1)[n].start) for n in range(6)]
    assert starts == [0, 1, 2, 3, 4, 0]
    assert len(ForecastDataset(anchored, 2, 1)) == CLIPS * 2 and len(ForecastDataset(anchored, 7, 0)) == CLIPS


@pytest.mark.parametrize("name", ["anchored", "centred"])
def test_poses_are_seen_from_the_last_past_frame(name, request):
    dataset = request.getfixturevalue(name)
    item = ForecastDataset(dataset, 3, 2, stride=1)[1]
    clip = dataset[0]
    now = clip.conditions.world_se3_ego[1 + 2]
    assert np.allclose(item.now_se3_ego[2], np.eye(4), atol=1e-6)
    assert np.allclose(now @ item.now_se3_ego.numpy(), clip.conditions.world_se3_ego[1:6], atol=1e-5)
    assert np.allclose(now @ item.now_se3_grid.numpy(), clip.world_se3_grid[1:6], atol=1e-5)
    assert np.allclose(item.trajectory[:, :2], item.now_se3_ego[:, :2, 3])
    assert torch.allclose(item.trajectory[2], torch.zeros(3)) and (item.trajectory[3:, 0] > 0).all()
    yaw = item.trajectory[:, 2]
    assert np.allclose(torch.cos(yaw), item.now_se3_ego[:, 0, 0], atol=1e-6) and (yaw.diff() > 0).all()


@pytest.mark.parametrize("name", ["anchored", "centred"])
def test_flow_knows_frames_beyond_the_window(name, request):
    dataset = request.getfixturevalue(name)
    whole = clip_motion(dataset[2])
    item = ForecastDataset(dataset, 2, 2, ("flow", "instances"), stride=2)[2 * 2 + 1]
    assert int(item.clip) == 2 and int(item.start) == 2
    assert np.array_equal(item.instances, whole.instances[2:6]) and item.instances.max() > 1
    assert np.array_equal(item.forward_m, whole.forward_m[2:6], equal_nan=True)
    assert np.array_equal(item.backward_m, whole.backward_m[2:6], equal_nan=True)
    assert item.forward_m[3].isfinite().all() and item.instances.dtype == torch.int32


def test_displacement_goes_from_the_last_past_frame_to_each_future_one(centred):
    item = ForecastDataset(centred, 2, 3, ("displacement", "flow", "instances"), stride=1)[1]
    assert torch.equal(item.displacement_m[0].isfinite(), item.forward_m[1].isfinite())
    owned = item.instances[1] > 0
    assert torch.allclose(item.displacement_m[0][owned], item.forward_m[1][owned])
    way = item.displacement_m.norm(dim=-1)[:, item.instances[1] == 1].mean(dim=1)
    assert way[0] < way[1] < way[2] and item.displacement_m.shape == (3, *GRID.shape, 3)


def test_sweeps_are_those_of_the_past_and_padded(anchored):
    batch = collate([ForecastDataset(anchored, 3, 2, "points", stride=2)[n] for n in (0, 1)])
    assert batch.point_count.tolist() == [[3, 5, 7], [7, 9, 11]] and batch.points.shape == (2, 3, 11, 4)
    sweeps = anchored[0].points
    for frame, count in enumerate([7, 9, 11]):
        assert np.array_equal(batch.points[1, frame, :count], sweeps[2 + frame])
        assert (batch.points[1, frame, count:] == 0).all()


def test_layouts_are_those_of_the_clip(anchored):
    item = ForecastDataset(anchored, 2, 3, "layout", stride=2)[1]
    conditions = anchored[0].conditions
    assert np.array_equal(item.layout_static, conditions.layout_static)
    assert np.array_equal(item.layout_agents, conditions.layout_agents[2:7])


def test_a_batch_has_every_field_and_goes_elsewhere_whole(anchored):
    windows = ForecastDataset(anchored, 2, 2, FIELDS)
    batch = collate([windows[0], windows[3], windows[1]])
    assert set(batch.tensors()) == set(batch.__dataclass_fields__)
    assert batch.past.shape == (3, 2, *GRID.shape) and batch.clip.tolist() == [0, 3, 1]
    there = batch.to("meta")
    assert all(value.device.type == "meta" for value in there.tensors().values())
    with pytest.raises(ValueError, match="at least one"):
        collate([])


class Watching:
    """A reader that notes what it is asked for."""

    def __init__(self, reader):
        self.reader, self.asked = reader, set()

    def packed(self, index, fields):
        fields = list(fields)
        self.asked |= set(fields)
        return self.reader.packed(index, fields)


@pytest.mark.parametrize(("fields", "more"), [((), set()), (("moving",), {"moving"}), (("unknown",), set())])
def test_only_what_is_asked_for_is_read(anchored, fields, more):
    reader = Watching(anchored.reader)
    ForecastDataset(replace(anchored, reader=reader), 2, 2, fields)[0]
    assert reader.asked == {"labels", "world_se3_ego", "world_se3_anchor"} | more


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_load_the_same(anchored, method):
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    windows = ForecastDataset(anchored, 3, 3, ("moving", "points", "flow"))
    here = [collate([windows[n] for n in pair]) for pair in ((0, 1), (2, 3), (4,))]  # shards are open now
    loader = DataLoader(windows, 2, collate_fn=collate, num_workers=2, multiprocessing_context=method)
    for batch, want in zip(loader, here, strict=True):
        for name, value in want.tensors().items():
            assert np.array_equal(batch.tensors()[name], value, equal_nan=value.is_floating_point()), name


def test_what_is_not_there_is_said(anchored, tmp_path):
    plain = written(tmp_path / "plain", sensed=False)
    with pytest.raises(DatasetError, match=r"past 5 and future 3 need 8 frames, its clips have 7; make them shorter"):
        ForecastDataset(anchored, 5, 3)
    for name in ("observed", "points"):
        with pytest.raises(DatasetError, match=rf"holds no {name}; build it with a LiDAR"):
            ForecastDataset(plain, 2, 2, [name])
    with pytest.raises(ValueError, match=r"no field 'velocity'; choose from moving"):
        ForecastDataset(anchored, 2, 2, ["velocity"])
    for past, future, stride, name in ((0, 2, 1, "past"), (2, -1, 1, "future"), (2, 2, 0, "stride")):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            ForecastDataset(anchored, past, future, stride=stride)


def test_loading_is_measured(anchored):
    loading = measure_loading(anchored, workers=0, seconds=0.2)
    assert loading.frames_per_s > 10 and loading.seconds >= 0.2 and "frames/s" in str(loading)
    assert np.isclose(loading.frames_per_s, FRAMES * loading.windows_per_s)


def test_data_sets_are_opened_without_torch():
    code = (
        "import dcgen.dataset.store, dcgen.dataset.motion, sys; print('torch' in sys.modules, 'numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
