"""Losses against their definitions."""

import math

import pytest
import torch

from dcgen.hexplane import HexPlane
from dcgen.types import UNKNOWN
from dcgen.vae.loss import class_weights, hardest, kl_to_standard_normal, lovasz_softmax, reconstruction_loss
from tests.reference import lovasz_by_sets

SHAPE = (2, 3, 4, 5, 6)


def example(classes=7, absent=2, seed=0):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes - absent, SHAPE, generator=rng).to(torch.uint8)
    logits = torch.randn(*SHAPE, classes, generator=rng).requires_grad_()
    moving = torch.rand(SHAPE, generator=rng) < 0.1
    return logits, labels, moving


def test_lovasz_equals_its_definition_in_value_and_gradient():
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(41, 5, generator=rng).requires_grad_()
    labels = torch.randint(0, 4, (41,), generator=rng)
    got, want = lovasz_softmax(logits, labels), lovasz_by_sets(logits.softmax(1), labels)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, logits)[0], torch.autograd.grad(want, logits)[0])


@pytest.mark.parametrize("right", [True, False])
def test_lovasz_of_certain_predictions_is_the_jaccard_loss(right):
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    guess = labels if right else torch.tensor([0, 0, 1, 1, 1, 2])
    loss = lovasz_softmax(torch.nn.functional.one_hot(guess, 3).float() * 60, labels)
    assert float(loss) == pytest.approx(0 if right else (1 / 3 + 1 / 3 + 0) / 3, abs=1e-6)


def test_lovasz_of_the_hardest_voxels_is_within_the_easy_ones_error():
    rng = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 6, (5000,), generator=rng)
    logits = torch.randn(5000, 6, generator=rng)
    logits[500:] += 12 * torch.nn.functional.one_hot(labels[500:], 6)
    surprise = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    chosen = hardest(surprise, 1000)
    left_out = torch.ones(5000, dtype=torch.bool)
    left_out[chosen] = False
    bound = float(1 - torch.exp(-surprise[left_out]).min())
    whole = float(lovasz_softmax(logits, labels))
    part = float(lovasz_softmax(logits[chosen], labels[chosen], torch.bincount(labels, minlength=6)))
    assert whole - bound - 1e-6 <= part <= whole + 1e-6
    assert bound < whole / 3  # so the bound says something


def test_cross_entropy_is_torchs_weighted_mean_over_known_voxels():
    logits, labels, moving = example()
    labels[:, 1, 2] = UNKNOWN
    weights = class_weights(torch.bincount(labels[labels != UNKNOWN].long(), minlength=7))
    got = reconstruction_loss(logits, labels, moving, weights, moving_weight=1.0, lovasz_weight=0.0)
    want = torch.nn.functional.cross_entropy(
        logits.reshape(-1, 7), labels.reshape(-1).long(), weights, ignore_index=UNKNOWN
    )
    torch.testing.assert_close(got.total, want)


def test_moving_voxels_count_as_if_they_stood_there_several_times():
    logits, labels, moving = example()
    weights = torch.rand(7, generator=torch.Generator().manual_seed(4)) + 0.5
    got = reconstruction_loss(logits, labels, moving, weights, moving_weight=3.0, lovasz_weight=0.0)
    flat, target, moves = logits.reshape(-1, 7), labels.reshape(-1).long(), moving.reshape(-1)
    several = torch.cat([flat, flat[moves], flat[moves]]), torch.cat([target, target[moves], target[moves]])
    torch.testing.assert_close(got.cross_entropy, torch.nn.functional.cross_entropy(*several, weights))
    torch.testing.assert_close(got.moving, torch.nn.functional.cross_entropy(flat[moves], target[moves]))
    assert not got.moving.requires_grad


def test_unknown_voxels_have_no_gradient():
    logits, labels, moving = example()
    labels[0, :, 3] = UNKNOWN
    for hard in (None, 150):
        loss = reconstruction_loss(logits, labels, moving, torch.ones(7), hard_voxels=hard)
        (gradient,) = torch.autograd.grad(loss.total, logits)
        assert gradient[labels == UNKNOWN].abs().max() == 0
        assert gradient[labels != UNKNOWN].abs().sum() > 0


def test_nothing_known_and_nothing_moving_is_no_loss():
    logits, labels, moving = example()
    loss = reconstruction_loss(logits, torch.full_like(labels, UNKNOWN), torch.zeros_like(moving), torch.ones(7))
    assert loss.total.item() == 0 and math.isnan(loss.moving.item())
    loss.total.backward()
    assert torch.isfinite(logits.grad).all()


def test_bfloat16_logits_are_scored_in_float32():
    logits, labels, moving = example()
    half = logits.detach().bfloat16()
    a = reconstruction_loss(half, labels, moving, torch.ones(7)).total
    b = reconstruction_loss(half.float(), labels, moving, torch.ones(7)).total
    assert a.dtype == torch.float32 and torch.equal(a, b)


def test_class_weights():
    weights = class_weights(torch.tensor([8000, 0, 1000, 1]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0, 2.0, 20.0]))


def hexplane(value, seed):
    rng = torch.Generator().manual_seed(seed)
    sizes = {"xy": (5, 4), "xz": (5, 3), "yz": (4, 3), "tx": (2, 5), "ty": (2, 4), "tz": (2, 3), "volume": (2, 3, 2)}
    return HexPlane(**{n: value * torch.randn(1, 6, *s, generator=rng) for n, s in sizes.items()})


def test_kl_equals_torchs_and_vanishes_at_the_prior():
    assert float(kl_to_standard_normal(hexplane(0.0, 0), hexplane(0.0, 0))) == 0
    mean, log_variance = hexplane(2.0, 1), hexplane(0.5, 2)
    parts = [
        torch.distributions.kl_divergence(
            torch.distributions.Normal(m, (0.5 * v).exp()), torch.distributions.Normal(0.0, 1.0)
        ).flatten()
        for (_, m), (_, v) in zip(mean.items(), log_variance.items(), strict=True)
    ]
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), torch.cat(parts).mean())
