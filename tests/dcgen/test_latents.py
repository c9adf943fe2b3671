"""Latents of a store: normalised channel by channel, written once, and known parts beside them."""

import os

import numpy as np
import pytest
import torch

from dcgen.errors import CheckpointError
from dcgen.hexplane import unflatten
from dcgen.latents import encode_labels, encode_store, latent_statistics
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG, clip, dataset_of, randomise

CLIPS = 19  # more than one batch, and no whole number of them


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
def encoded(vae, store, statistics, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    counts = []
    latents, known = encode_store(vae, store, statistics, folder, 3, counts.append)
    assert sum(counts) == CLIPS == len(store)
    return folder, latents, known


def test_normalised_latents_have_mean_zero_and_deviation_one_a_channel(vae, store, statistics):
    mean, std = statistics
    everything = encode_labels(vae, store.rows(np.arange(CLIPS), ["labels"])["labels"])
    planes = unflatten((everything - mean) / std, CONFIG.hex_shape)
    for name, part in planes.items():
        channels = part.movedim(1, 0).flatten(1)
        torch.testing.assert_close(channels.mean(1), torch.zeros(len(channels)), atol=0.02, rtol=0)
        torch.testing.assert_close(channels.std(1), torch.ones(len(channels)), atol=0.02, rtol=0, msg=name)
    for name, part in unflatten(mean[None], CONFIG.hex_shape).items():
        assert (part.flatten(2).std(2) < 1e-6).all(), name  # one number a channel


def test_stored_latents_are_those_of_the_clips(vae, store, statistics, encoded):
    _, latents, _ = encoded
    mean, std = statistics
    assert latents.dtype == np.float16 and latents.shape == (CLIPS, CONFIG.hex_shape.size)
    for i in (0, 12, 18):
        alone = (encode_labels(vae, store.rows(np.array([i]), ["labels"])["labels"]) - mean) / std
        assert np.abs(alone.numpy()[0] - latents[i]).max() < 0.1  # bfloat16 where the CPU has it


def test_known_latents_are_zero_where_nothing_is_known(encoded):
    _, latents, known = encoded
    nothing = ~known.any(axis=1)
    assert known.shape == latents.shape and 0 < nothing.sum() < CLIPS
    assert all(not np.array_equal(known[i], latents[i]) for i in range(CLIPS))


def test_the_folder_is_used_as_it_is(vae, store, statistics, encoded):
    folder, latents, known = encoded
    assert sorted(os.listdir(folder)) == ["known.npy", "latents.npy"]
    counts = []
    again = encode_store(vae, store, statistics, folder, 99, counts.append)
    assert not counts
    assert np.array_equal(again[0], latents) and np.array_equal(again[1], known)


def test_the_seed_fixes_what_is_known(vae, store, statistics, encoded, tmp_path):
    (_, _, same), (_, other) = encoded, encode_store(vae, store, statistics, tmp_path / "other", 4)
    _, again = encode_store(vae, store, statistics, tmp_path / "again", 3)
    assert np.array_equal(again, same) and not np.array_equal(other, same)


def test_an_interrupted_folder_is_made_again(vae, store, statistics, encoded, tmp_path):
    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_store(vae, store, statistics, tmp_path, 3, stop)
    assert not (tmp_path / "latents.npy").exists()
    latents, _ = encode_store(vae, store, statistics, tmp_path, 3)
    assert np.array_equal(latents, encoded[1])


def test_latents_of_another_store_are_named(vae, store, statistics, tmp_path):
    np.save(tmp_path / "latents.npy", np.zeros((4, CONFIG.hex_shape.size), np.float16))
    np.save(tmp_path / "known.npy", np.zeros((4, CONFIG.hex_shape.size), np.float16))
    with pytest.raises(CheckpointError, match=f"latents of 4 clips, the store has {CLIPS}; delete the folder"):
        encode_store(vae, store, statistics, tmp_path, 3)
