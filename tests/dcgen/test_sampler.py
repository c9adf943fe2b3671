"""Integrators have the order they claim and know a field, not a model."""

import math
from itertools import pairwise

import pytest
import torch

from dcgen.sampler import SAMPLERS, euler, guided, heun, times


def curved(x, t):
    """x' = x cos(3 t), whose solution is x0 exp(sin(3 t) / 3)."""
    return x * torch.cos(3 * t)[:, None]


START = torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 0.1]], dtype=torch.double)
END = START * math.exp(math.sin(3.0) / 3)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_the_error_falls_with_the_order(sampler, order):
    errors = [(sampler(curved, START, times(n).double()) - END).abs().max().item() for n in (32, 64, 128, 256)]
    slopes = [math.log2(before / after) for before, after in pairwise(errors)]
    assert all(abs(slope - order) < 0.25 for slope in slopes), slopes


def test_evaluations_a_step():
    for name, per_step in (("euler", 1), ("heun", 2)):
        calls = []
        SAMPLERS[name](lambda x, t, calls=calls: calls.append(t) or x, START, times(5))
        assert len(calls) == 5 * per_step
        assert all(t.shape == (3,) for t in calls)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_times_run_from_noise_to_data(shift):
    at = times(9, shift)
    assert at[0] == 0 and at[-1] == 1 and len(at) == 10
    assert (at.diff() > 0).all()
    assert torch.equal(times(9, 1.0), torch.linspace(0, 1, 10))


def test_a_larger_shift_stays_longer_with_the_noise():
    assert (times(9, 3.0)[1:-1] < times(9)[1:-1]).all() and (times(9, 0.5)[1:-1] > times(9)[1:-1]).all()


def test_guidance_is_a_line_through_both_fields():
    def conditional(x, t):
        return 3 * x + t[:, None]

    def unconditional(x, t):
        return -x

    x, t = START, torch.tensor([0.1, 0.2, 0.3], dtype=torch.double)
    assert guided(conditional, unconditional, 1.0) is conditional
    torch.testing.assert_close(guided(conditional, unconditional, 0.0)(x, t), unconditional(x, t))
    want = unconditional(x, t) + 2.5 * (conditional(x, t) - unconditional(x, t))
    torch.testing.assert_close(guided(conditional, unconditional, 2.5)(x, t), want)
    same = guided(conditional, conditional, 7.0)
    torch.testing.assert_close(same(x, t), conditional(x, t))


@pytest.mark.parametrize("sampler", list(SAMPLERS.values()))
def test_a_row_does_not_see_the_others(sampler):
    whole = sampler(curved, START, times(6).double())
    for b in range(3):
        assert torch.equal(sampler(curved, START[b : b + 1], times(6).double()), whole[b : b + 1])
