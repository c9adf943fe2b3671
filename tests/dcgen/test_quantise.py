"""Matrices in 8 bits are off by half a step of their row at most, and what is damaged is named."""

from pathlib import Path

import pytest
import torch

from dcgen.errors import CheckpointError
from dcgen.quantise import SCALE, dequantised, quantised

FILE = Path("some.safetensors")


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.logspace(-6, 3, 7)  # rows of very different sizes
    return {
        "linear": torch.randn(7, 11, generator=generator) * rows[:, None],
        "conv": torch.randn(7, 3, 2, 5, generator=generator) * rows[:, None, None, None],
        "bias": torch.randn(7, generator=generator),
    }


def test_each_weight_is_off_by_half_a_step_of_its_row_at_most():
    first = weights()
    packed = quantised(first)
    again = dequantised(FILE, packed)
    assert again.keys() == first.keys() and torch.equal(again["bias"], first["bias"])
    for name in ("linear", "conv"):
        assert packed[name].dtype == torch.int8 and again[name].dtype == torch.float32
        step = first[name].flatten(1).abs().amax(1) / 127
        off = (again[name] - first[name]).flatten(1).abs().amax(1)
        assert (off <= 0.501 * step).all() and (off > 0.2 * step).all(), name


def test_it_is_stable():
    once = dequantised(FILE, quantised(weights()))
    twice = dequantised(FILE, quantised(once))
    for name, tensor in once.items():
        torch.testing.assert_close(twice[name], tensor, rtol=1e-6, atol=0)


def test_rows_of_nothing_stay_nothing():
    zeros = {"w": torch.zeros(3, 4)}
    assert torch.equal(dequantised(FILE, quantised(zeros))["w"], zeros["w"])


def test_other_types_pass():
    whole = {"w": torch.randn(2, 3).bfloat16(), "b": torch.randn(2)}
    assert dequantised(FILE, whole) == whole


def missing_scale(packed):
    del packed["conv" + SCALE]


def short_scale(packed):
    packed["conv" + SCALE] = packed["conv" + SCALE][:-1]


def infinite_scale(packed):
    packed["conv" + SCALE][2] = float("inf")


def negative_scale(packed):
    packed["conv" + SCALE][2] = -1.0


def scalar(packed):
    packed["conv"] = torch.tensor(3, dtype=torch.int8)


def missing_matrix(packed):
    del packed["conv"]


def float_matrix(packed):
    packed["conv"] = packed["conv"].float()


@pytest.mark.parametrize(
    "damage", [missing_scale, short_scale, infinite_scale, negative_scale, scalar, missing_matrix, float_matrix]
)
def test_damage_is_named(damage):
    packed = quantised(weights())
    damage(packed)
    with pytest.raises(CheckpointError, match=r"some\.safetensors: field conv.*copy the model again"):
        dequantised(FILE, packed)
