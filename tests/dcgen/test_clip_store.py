"""Clips come back from their shards as they went in, or the shard is named."""

import shutil

import numpy as np
import pytest

from dcgen.clip_store import FIELDS, LAYOUT_SCALE, ClipStore, in_order, quantise, write_shard
from dcgen.errors import WorldError
from dcgen.types import Clip, GridSpec
from tests.dcgen.small import FRAMES, GRID, clip


@pytest.fixture
def clips():
    return [clip(seed) for seed in range(5)]


@pytest.fixture
def folder(tmp_path, clips):
    assert write_shard(clips[:3], tmp_path / "shard-00000") == 3
    assert write_shard(iter(clips[3:]), tmp_path / "shard-00001") == 2
    return tmp_path


def test_clips_come_back_as_they_went_in(folder, clips):
    store = ClipStore.open(folder)
    assert len(store) == 5 and store.clip_shape == (FRAMES, *GRID.shape)
    order = np.array([4, 0, 3, 2, 2])
    rows = store.rows(order, FIELDS)
    for n, i in enumerate(order):
        c = clips[i].conditions
        assert np.array_equal(rows["labels"][n], clips[i].labels)
        assert rows["moving"].dtype == bool and np.array_equal(rows["moving"][n], clips[i].moving)
        assert clips[i].moving.any()
        assert np.array_equal(rows["trajectory"][n], c.trajectory) and rows["command"][n] == c.command
        for name in ("layout_static", "layout_agents"):
            assert rows[name].dtype == np.float32
            assert np.abs(rows[name][n] - getattr(c, name)).max() <= 0.5 / LAYOUT_SCALE + 1e-6


def test_masks_whose_bits_fill_no_byte_survive(tmp_path):
    """3 x 5 x 3 x 1 voxels a frame: the last byte of the mask is padded."""
    from dataclasses import replace

    base = clip().conditions
    conditions = replace(
        base, grid=GridSpec((5, 3, 1), (1, 1, 1), (0, 0, 0)), layout_static=base.layout_static[:, :5, :3],
        layout_agents=base.layout_agents[:3, :, :5, :3], known=base.known[:3, :5, :3, :1],
        world_se3_ego=base.world_se3_ego[:3], trajectory=base.trajectory[:3],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    odd = [Clip(np.zeros((3, 5, 3, 1), np.uint8), rng.random((3, 5, 3, 1)) < 0.5, conditions) for _ in range(2)]
    write_shard(odd, tmp_path / "shard-0")
    moving = ClipStore.open(tmp_path).rows(np.array([1, 0]), ["moving"])["moving"]
    assert np.array_equal(moving, np.stack([odd[1].moving, odd[0].moving]))


def test_quantised_values_are_near_and_clipped():
    values = np.linspace(-1.9, 1.9, 77)
    assert np.abs(quantise(values) / LAYOUT_SCALE - values).max() <= 0.5 / LAYOUT_SCALE + 1e-9
    assert quantise(np.array([-50.0, 50.0])).tolist() == [-127, 127]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_batches_hold_every_clip_once(folder, size):
    store = ClipStore.open(folder)
    batches = list(in_order(store, size))
    assert np.concatenate(batches).tolist() == list(range(5))
    assert all(len(batch) <= size for batch in batches)


def test_a_shard_that_was_not_finished_is_not_seen(folder, clips, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dcgen.clip_store.os.replace", fail)
        with pytest.raises(KeyboardInterrupt):
            write_shard(clips, folder / "shard-00002")
    assert not (folder / "shard-00002.partial").exists()
    assert len(ClipStore.open(folder)) == 5
    (folder / "shard-00002.partial").mkdir()  # what kill -9 leaves
    (folder / "shard-00002.partial" / "labels.npy").write_bytes(b"half")
    assert len(ClipStore.open(folder)) == 5
    write_shard(clips, folder / "shard-00002")  # over what was left
    assert len(ClipStore.open(folder)) == 10
    assert not (folder / "shard-00002.partial").exists()


def test_a_finished_shard_is_not_overwritten(folder, clips):
    with pytest.raises(WorldError, match="shard-00001: there is a shard already"):
        write_shard(clips, folder / "shard-00001")
    assert len(ClipStore.open(folder)) == 5


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_clips_is_named(tmp_path, name):
    with pytest.raises(WorldError, match="no clips here"):
        ClipStore.open(tmp_path / name)


def test_no_clips_to_write_is_an_error(tmp_path):
    with pytest.raises(WorldError, match="no clips to write"):
        write_shard([], tmp_path / "shard-0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY\x01", None], ids=["empty", "cut", "missing"])
def test_a_damaged_shard_is_named(folder, data):
    path = folder / "shard-00001" / "moving.npy"
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(WorldError, match="shard-00001: unreadable shard"):
        ClipStore.open(folder)


def test_a_shard_that_lost_its_tail_is_named(folder):
    path = folder / "shard-00000" / "labels.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WorldError, match="shard-00000: unreadable shard"):
        ClipStore.open(folder)


def test_pickles_are_refused(folder):
    np.save(folder / "shard-00000" / "command.npy", np.array([{"a": 1}, None, 3], object), allow_pickle=True)
    with pytest.raises(WorldError, match="shard-00000: unreadable shard"):
        ClipStore.open(folder)


def test_shards_of_two_kinds_are_refused(folder):
    labels = np.load(folder / "shard-00001" / "labels.npy")
    np.save(folder / "shard-00001" / "labels.npy", labels[..., :7])
    with pytest.raises(WorldError, match="shard-00001: labels is uint8"):
        ClipStore.open(folder)
    np.save(folder / "shard-00001" / "labels.npy", labels[:1])
    with pytest.raises(WorldError, match=r"shard-00001: .* holds 2 clips, labels 1"):
        ClipStore.open(folder)
    shutil.rmtree(folder / "shard-00001")
    assert len(ClipStore.open(folder)) == 3
