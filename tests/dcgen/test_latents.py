"""Latents of a store: normalised channel by channel, encoded once in parts, and known parts beside them."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import dcgen.latent_parts as parts_module
from dcgen.dataset.packing import LAYOUT_SCALE
from dcgen.errors import CheckpointError
from dcgen.hexplane import unflatten
from dcgen.latent_parts import LatentParts, part_path
from dcgen.latents import encode_labels, encode_parts, encode_store, latent_spec, latent_statistics
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG, clip, dataset_of, randomise

CLIPS = 19  # three parts of 8, 8 and 3
D = CONFIG.hex_shape.size
CONDITIONS = ("trajectory", "command", "layout_static", "layout_agents")


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "PART_BYTES", 8 * 4 * D)
        yield


@pytest.fixture(scope="module")
def vae():
    return randomise(Vae(CONFIG))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return dataset_of([clip(seed % 7) for seed in range(11)] + [clip(seed % 5) for seed in range(8)], folder)


@pytest.fixture(scope="module")
def statistics(vae, store):
    return latent_statistics(vae, store)


@pytest.fixture(scope="module")
def spec(store, statistics):
    return latent_spec(CONFIG, "ab" * 32, statistics, store.content_sha256, len(store), 3)


@pytest.fixture(scope="module")
def encode(vae, store, statistics, spec):
    def run(folder, progress=None, **changes):
        return encode_store(vae, store, statistics, folder, replace(spec, **changes), progress)

    return run


@pytest.fixture(scope="module")
def whole(encode, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    counts = []
    assert len(encode(folder, counts.append)) == sum(counts) == CLIPS
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "latents")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_normalised_latents_have_mean_zero_and_deviation_one_a_channel(vae, store, statistics):
    mean, std = statistics
    whole = encode_labels(vae, store.rows(np.arange(CLIPS), ["labels"])["labels"])
    planes = unflatten((whole - mean) / std, CONFIG.hex_shape)
    for name, part in planes.items():
        channels = part.movedim(1, 0).flatten(1)
        torch.testing.assert_close(channels.mean(1), torch.zeros(len(channels)), atol=0.02, rtol=0)
        torch.testing.assert_close(channels.std(1), torch.ones(len(channels)), atol=0.02, rtol=0, msg=name)
    for name, part in unflatten(mean[None], CONFIG.hex_shape).items():
        assert (part.flatten(2).std(2) < 1e-6).all(), name  # one number a channel


def test_rows_are_those_of_the_clips_in_any_order(vae, store, statistics, spec, whole):
    latents = LatentParts(whole, spec)
    assert len(latents) == CLIPS and len(os.listdir(whole)) == 3
    mean, std = statistics
    index = np.array([18, 0, 12, 0])
    data, _ = latents.rows(index)
    assert data.shape == (4, D) and data.dtype == torch.float32
    for k, i in enumerate(index):
        alone = (encode_labels(vae, store.rows(np.array([i]), ["labels"])["labels"]) - mean) / std
        assert (alone[0] - data[k]).abs().max() < 0.1  # bfloat16 where the CPU has it
    rows = store.rows(index, CONDITIONS)
    for name, values in latents.conditions(index).items():
        assert values.dtype == rows[name].dtype and values.shape == rows[name].shape, name
        coarse = 0.5 / LAYOUT_SCALE if name.startswith("layout") else 0
        assert np.abs(values - rows[name]).max() <= coarse, name


def test_known_latents_are_zero_where_nothing_is_known(spec, whole):
    latents, known = LatentParts(whole, spec).rows(np.arange(CLIPS))
    nothing = ~known.any(dim=1)
    assert known.shape == latents.shape and 0 < nothing.sum() < CLIPS
    assert all(not torch.equal(known[i], latents[i]) for i in range(CLIPS))


def test_finished_parts_are_used_as_they_are(encode, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    counts = []
    encode(folder, counts.append)
    assert sum(counts) == CLIPS  # the bar ends where all is there
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_seed_fixes_what_is_known(spec, encode, whole, tmp_path):
    first, other = (latents.rows(np.arange(CLIPS)) for latents in (LatentParts(whole, spec), encode(tmp_path, seed=4)))
    assert torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


def test_an_interrupted_encoding_goes_on_with_the_parts_that_are_there(encode, whole, tmp_path):
    seen = []

    def stop(count):
        seen.append(count)
        if sum(seen) > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.safetensors"]
    first = part_path(tmp_path, 0).stat().st_mtime_ns
    encode(tmp_path)
    assert part_path(tmp_path, 0).stat().st_mtime_ns == first
    assert contents(tmp_path) == contents(whole)


def test_processes_share_the_parts_and_make_the_same_bytes(vae, store, statistics, spec, whole, tmp_path):
    for rank in (1, 3, 0):  # of four; the last two have one part between them
        encode_parts(vae, store, statistics, tmp_path, spec, share=(rank, 4))
    with pytest.raises(CheckpointError, match=r"part-00002\.safetensors: no such part of the latents"):
        LatentParts(tmp_path, spec)
    encode_parts(vae, store, statistics, tmp_path, spec, share=(2, 4))
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.7, "bit"])
def test_a_damaged_part_is_made_again(encode, whole, folder, share):
    path = part_path(folder, 2)
    data = bytearray(path.read_bytes())
    if share == "bit":
        data[-7] ^= 4
    path.write_bytes(data if share == "bit" else data[: int(len(data) * share)])
    encode(folder)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"vae_sha256": "cd" * 32}, "vae_sha256 is abababababababab, not cdcdcdcdcdcdcdcd"),
        ({"statistics_sha256": "cd" * 32}, "statistics_sha256"),
        ({"clips_sha256": "cd" * 32}, "clips_sha256"),
        ({"clips": 18}, "clips is 19, not 18"),
        ({"seed": 4}, "seed is 3, not 4"),
        ({"agents_shape": (4, 5, 24, 16)}, "agents_shape"),
    ],
)
def test_parts_of_another_run_are_refused_before_anything_is_encoded(encode, folder, changes, field):
    part_path(folder, 0).unlink()
    before, counts = contents(folder), []
    with pytest.raises(CheckpointError, match=rf"part-00001\.safetensors: field {field}.*another run; train into"):
        encode(folder, counts.append, **changes)
    assert contents(folder) == before and not counts


def test_a_part_that_was_renamed_is_refused(encode, folder):
    part_path(folder, 0).replace(part_path(folder, 1))
    with pytest.raises(CheckpointError, match=r"part-00001\.safetensors: field part is 0, not 1"):
        encode(folder)


def test_layouts_that_do_not_unfold_are_named(spec, folder):
    path = part_path(folder, 2)
    tensors, metadata = parts_module.read_tensors(path)
    tensors["layouts"] = torch.zeros_like(tensors["layouts"])
    parts_module.write_tensors(path, tensors, metadata)
    latents = LatentParts(folder, spec)
    latents.rows(np.array([17]))
    with pytest.raises(CheckpointError, match=r"part-00002\.safetensors: field layouts is damaged at row 1"):
        latents.conditions(np.array([17]))


def test_parts_hold_whole_batches_and_stay_small(spec, monkeypatch):
    monkeypatch.setattr(parts_module, "PART_BYTES", 32 << 20)
    for values in (500, 31_904, 97_600, 232_640, 3_000_000):
        sized = replace(spec, values=values, clips=10_007)
        assert 4 * values * sized.part_clips <= 32 << 20 and 1 <= sized.part_clips <= 1024
        assert sized.part_clips < 16 or sized.part_clips % 16 == 0
        assert [n for part in range(sized.parts) for n in sized.part_range(part)] == list(range(10_007))
