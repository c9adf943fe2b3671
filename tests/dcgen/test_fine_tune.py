"""A finished model goes on from where it is, and stays the model it was in all but its transformer."""

from dataclasses import replace

import pytest
import torch

from dcgen.checkpoint import load_model
from dcgen.errors import CheckpointError
from dcgen.recipes import train_dit
from dcgen.tensor_file import read_tensors
from dcgen.train import TrainConfig
from tests.dcgen.small import clip, dataset_of, model

HARDLY = TrainConfig(steps=1, batch=2, warmup=1, learning_rate=1e-9, weight_decay=0.0, save_s=1e9, log_every=1)
BFLOAT16 = 2.0**-8  # what rounding to it costs, of a number


@pytest.fixture
def clips(tmp_path):
    return dataset_of([clip(seed) for seed in range(5)], tmp_path / "clips")


def test_training_goes_on_from_a_model(clips, tmp_path):
    made = load_model(str(train_dit(model(), clips, tmp_path / "run", HARDLY)))
    start = model()
    assert made.config == start.config
    assert torch.equal(made.latent_mean, start.latent_mean) and torch.equal(made.latent_std, start.latent_std)
    for part in ("vae", "dit"):
        got, want = getattr(made, part).state_dict(), getattr(start, part).state_dict()
        assert got.keys() == want.keys()
        for name, tensor in want.items():
            near = {"rtol": BFLOAT16, "atol": 1e-7} if part == "dit" else {"rtol": 0, "atol": 0}
            torch.testing.assert_close(got[name], tensor, **near, msg=name)
    statistics, _ = read_tensors(tmp_path / "run" / "statistics.safetensors")
    assert torch.equal(statistics["mean"], start.latent_mean) and torch.equal(statistics["std"], start.latent_std)


def test_a_rate_that_is_not_tiny_moves_the_transformer_alone(clips, tmp_path):
    start, made = model(), load_model(str(train_dit(model(), clips, tmp_path, replace(HARDLY, learning_rate=0.1))))
    assert all(torch.equal(tensor, start.vae.state_dict()[name]) for name, tensor in made.vae.state_dict().items())
    moved = [(tensor - start.dit.state_dict()[name]).abs().max() for name, tensor in made.dit.state_dict().items()]
    assert max(moved) > 0.05


def test_a_run_goes_on_from_its_own_start_alone(clips, tmp_path):
    first = read_tensors(train_dit(model(), clips, tmp_path / "run", HARDLY))
    again = read_tensors(train_dit(model(), clips, tmp_path / "run", HARDLY))
    assert all(torch.equal(tensor, again[0][name]) for name, tensor in first[0].items())
    before = sorted((path, path.read_bytes()) for path in (tmp_path / "run").rglob("*") if path.is_file())
    with pytest.raises(CheckpointError, match=r"statistics\.safetensors: belongs to another .*another folder"):
        train_dit(replace(model(), sha256="cd" * 32), clips, tmp_path / "run", HARDLY)
    assert before == sorted((path, path.read_bytes()) for path in (tmp_path / "run").rglob("*") if path.is_file())
