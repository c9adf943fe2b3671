"""From a folder of clips to a model that generates: both stages, end to end, in a few steps."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from dcgen import latent_parts, parallel
from dcgen.checkpoint import load_model
from dcgen.errors import CheckpointError, GridMismatch
from dcgen.generate import Sampling, generate
from dcgen.latent_parts import LatentParts
from dcgen.latents import latent_spec
from dcgen.recipes import (
    check_fits,
    latents_for,
    lend,
    load_vae,
    statistics_for,
    train_decoder,
    train_dit,
    train_vae,
)
from dcgen.stages import dit_batches, label_weights, vae_batches
from dcgen.tensor_file import read_tensors, write_tensors
from dcgen.train import TrainConfig
from dcgen.types import UNKNOWN
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG, GRID, chunk, clip, dataset_of, standing

HOW = TrainConfig(steps=3, batch=2, warmup=1, save_s=1e9, log_every=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return dataset_of([clip(seed) for seed in range(6)], tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def runs(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    weights = train_vae(CONFIG, clips, folder / "vae", HOW)
    return folder, weights, train_dit(folder / "vae", clips, folder / "dit", HOW)


def test_clips_become_a_model_that_generates(runs):
    _, weights, file = runs
    made = load_model(str(file))
    config, vae = load_vae(weights)
    assert made.config == config == CONFIG and not vae.training
    for name, tensor in vae.state_dict().items():
        assert torch.equal(made.vae.state_dict()[name], tensor), name
    scene = generate(chunk(drive=standing), made, 1, sampling=Sampling(steps=2))
    assert scene.model_sha256 == made.sha256 and (scene.labels < 12).all()


def test_the_same_seed_gives_the_same_weights(runs, clips):
    folder, weights, file = runs
    before = [read_tensors(path) for path in (weights, file)]
    vae = train_vae(CONFIG, clips, folder / "again", HOW)
    dit = train_dit(folder / "vae", clips, folder / "dit", HOW)
    for (tensors, metadata), path in zip(before, (vae, dit), strict=True):
        after = read_tensors(path)
        assert after[1] == metadata
        assert all(torch.equal(after[0][name], tensor) for name, tensor in tensors.items())


def test_the_decoder_learns_alone(runs, clips):
    folder, weights, _ = runs
    before, _ = read_tensors(weights)
    after, _ = read_tensors(train_decoder(folder / "vae", clips, folder / "decoder", HOW))
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed and all(name.startswith("decoder.") for name in changed)


def test_latents_of_another_autoencoder_are_refused(runs, clips, tmp_path):
    folder, weights, _ = runs
    tensors, metadata = read_tensors(weights)
    tensors["decoder.static.enter.bias"] += 1
    write_tensors(tmp_path / "ema.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match=r"statistics\.safetensors: belongs to another autoencoder"):
        train_dit(tmp_path, clips, folder / "dit", HOW)


def test_an_autoencoder_lends_what_fits_to_one_of_other_sizes():
    torch.manual_seed(0)
    small, other = Vae(CONFIG), Vae(replace(CONFIG, vae=replace(CONFIG.vae, volume_channels=2)))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    lent = lend(small, other)
    taken = {name for name, t in small.state_dict().items() if t.shape == before[name].shape}
    assert 0 < lent == len(taken) < len(before)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, small.state_dict()[name] if name in taken else before[name]), name


def test_clips_of_another_shape_are_named(clips):
    other = replace(CONFIG, grid=replace(GRID, shape=(24, 16, 8)))
    with pytest.raises(GridMismatch, match=r"clips are \(4, 16, 24, 8\), model tiny needs \(4, 24, 16, 8\)"):
        check_fits("here", clips, other)
    check_fits("here", clips, CONFIG)


def test_a_file_that_holds_no_autoencoder_is_named(runs, tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_vae(tmp_path)
    tensors, metadata = read_tensors(runs[1])
    write_tensors(tmp_path / "ema.safetensors", tensors, {})
    with pytest.raises(CheckpointError, match="field config"):
        load_vae(tmp_path)
    tensors["encoder.embed.weight"][0, 0] = float("nan")
    write_tensors(tmp_path / "ema.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match=r"field encoder\.embed\.weight"):
        load_vae(tmp_path)


def test_a_finished_model_stands_for_its_autoencoder(runs, tmp_path):
    _, alone = load_vae(runs[1])
    config, whole = load_vae(runs[2])
    assert config == CONFIG and not whole.training
    renamed = tmp_path / "other.safetensors"
    renamed.write_bytes(runs[2].read_bytes())
    for vae in (whole, load_vae(runs[2].parent)[1], load_vae(renamed)[1]):
        assert all(torch.equal(tensor, alone.state_dict()[name]) for name, tensor in vae.state_dict().items())


def test_batches_of_clips_are_a_function_of_their_number(clips):
    first = vae_batches(clips, CONFIG, 3, 5)
    again = vae_batches(clips, CONFIG, 3, 5)
    again(0)
    assert torch.equal(first(4).inputs, again(4).inputs) and not torch.equal(first(4).labels, first(5).labels)


def test_batches_of_latents_are_a_function_of_their_number(runs, clips):
    folder, _, file = runs
    latents, size = latents_of(folder, clips, load_model(str(file))), CONFIG.hex_shape.size
    batch_at = dit_batches(latents, 3, 5)
    (data, conditions), (again, _), (other, _) = batch_at(2), dit_batches(latents, 3, 5)(2), batch_at(1)
    assert torch.equal(data, again) and not torch.equal(data, other)
    assert data.shape == conditions.known.shape == (3, size) and conditions.present.all()
    every, known = latents.rows(np.arange(len(clips)))
    rows = clips.rows(np.arange(len(clips)), ["layout_agents", "trajectory"])
    for k in range(3):  # conditions belong to their latents
        (i,) = np.flatnonzero((every == data[k]).all(1))
        assert torch.equal(conditions.known[k], known[i])
        assert np.array_equal(conditions.layout_agents[k].numpy(), rows["layout_agents"][i])
        assert np.array_equal(conditions.trajectory[k].numpy(), rows["trajectory"][i])


def latents_of(folder, clips, made):
    digest = read_tensors(folder / "dit" / "statistics.safetensors")[1]["vae_sha256"]
    used = (made.latent_mean, made.latent_std)
    spec = latent_spec(CONFIG, digest, used, clips.content_sha256, len(clips), HOW.seed)
    return LatentParts(folder / "dit" / "latents", spec)


def test_the_second_stage_needs_no_clips_where_their_latents_are(runs, clips, tmp_path):
    folder, _, file = runs
    for name in ("latents", "statistics.safetensors"):
        whole = folder / "dit" / name
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, tmp_path / name)
    made = train_dit(folder / "vae", None, tmp_path, HOW)
    assert made.read_bytes() == file.read_bytes()
    with pytest.raises(CheckpointError, match=r"part-00000\.safetensors: field seed is 0, not 1"):
        train_dit(folder / "vae", None, tmp_path, replace(HOW, seed=1))
    shutil.rmtree(tmp_path / "latents")
    with pytest.raises(CheckpointError, match=r"part-00000\.safetensors: no whole part of latents; carry"):
        train_dit(folder / "vae", None, tmp_path, HOW)
    (tmp_path / "statistics.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"statistics\.safetensors: no such statistics; carry them"):
        train_dit(folder / "vae", None, tmp_path, HOW)


@pytest.mark.parametrize(("name", "value"), [("mean", float("nan")), ("std", float("inf")), ("std", 0.0)])
def test_statistics_that_normalise_nothing_are_named(runs, clips, tmp_path, name, value):
    vae = load_vae(runs[1])[1]
    path = tmp_path / "statistics.safetensors"
    statistics_for(vae, clips, path, "ab")
    tensors, metadata = read_tensors(path)
    tensors[name][3] = value
    write_tensors(path, tensors, metadata)
    with pytest.raises(CheckpointError, match=rf"statistics\.safetensors: field {name} has numbers that normalise"):
        statistics_for(vae, clips, path, "ab")


def test_processes_wait_for_statistics_and_for_latents(runs, clips, tmp_path, monkeypatch):
    """Two of them, as threads: the second may not read what the first has not written yet."""
    folder, _, _ = runs
    monkeypatch.setattr(latent_parts, "PART_BYTES", 3 * 4 * CONFIG.hex_shape.size)
    here = threading.local()
    gate = threading.Barrier(2, timeout=60)
    for name, value in {"rank": lambda: here.rank, "first": lambda: here.rank == 0, "size": lambda: 2}.items():
        monkeypatch.setattr(parallel, name, value)
    monkeypatch.setattr(parallel, "wait", gate.wait)

    def process(rank):
        here.rank = rank
        _, vae = load_vae(folder / "vae")
        statistics = statistics_for(vae, clips, tmp_path / "statistics.safetensors", "ab")
        return latents_for(vae, clips, statistics, tmp_path / "latents", "ab", 0).rows(np.arange(6))[0]

    with ThreadPoolExecutor(2) as pool:
        one, two = (each.result() for each in [pool.submit(process, rank) for rank in (1, 0)])
    assert len(list((tmp_path / "latents").iterdir())) == 2
    assert torch.equal(one, two)


def test_some_inputs_are_hidden_and_none_is_changed(clips):
    batch_at = vae_batches(clips, CONFIG, 4, 0)
    hidden = []
    for i in range(20):
        batch = batch_at(i)
        given = batch.inputs != UNKNOWN
        assert torch.equal(batch.inputs[given], batch.labels[given])
        hidden += (~given).flatten(1).any(1).tolist()
    assert 0.05 < np.mean(hidden) < 0.45


def test_rare_classes_weigh_more(clips):
    weights = label_weights(clips)
    counts = np.bincount(np.stack([clip(s).labels for s in range(6)]).ravel(), minlength=12)
    order = np.argsort(-counts[counts > 0])
    present = weights.numpy()[counts > 0][order]
    assert present[0] == 1 and (np.diff(present) >= 0).all() and (weights.numpy()[counts == 0] == 0).all()
