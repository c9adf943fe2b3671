"""The transformer is a field: chunk by chunk, driven by every condition, deaf to all of them under the null."""

from dataclasses import replace

import pytest
import torch

from dcgen.dit.model import Dit
from tests.dcgen.small import CONFIG, DIT, FINE, FOLDED, GRID, PLAIN, condition_batch, randomise

CONFIGS = pytest.mark.parametrize("config", [CONFIG, PLAIN, FINE, FOLDED], ids=["volume", "planes", "fine", "folded"])


def inputs(config=CONFIG, batch=3):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, config.hex_shape.size, generator=generator), torch.rand(batch, generator=generator)


@CONFIGS
def test_the_null_ignores_every_condition(config):
    dit, (x, t) = randomise(Dit(config)), inputs(config)
    one, other = condition_batch(3, config, seed=0), condition_batch(3, config, seed=1)
    assert torch.equal(dit(x, t, one.null()), dit(x, t, other.null()))
    assert not torch.allclose(dit(x, t, one), dit(x, t, other))
    assert not torch.allclose(dit(x, t, one), dit(x, t, one.null()))


@pytest.mark.parametrize("field", ["trajectory", "command", "layout_static", "layout_agents", "known"])
def test_every_condition_counts(field):
    dit, (x, t) = randomise(Dit(CONFIG)), inputs()
    one, other = condition_batch(seed=0), condition_batch(seed=1)
    changed = replace(one, **{field: getattr(other, field)})
    assert (dit(x, t, changed) - dit(x, t, one)).abs().flatten(1).amax(1).min() > 1e-3


@CONFIGS
def test_permuting_the_batch_permutes_the_field(config):
    dit, (x, t), conditions = randomise(Dit(config)), inputs(config), condition_batch(3, config)
    conditions = replace(conditions, present=torch.tensor([True, False, True]))
    order = torch.tensor([2, 0, 1])
    whole = dit(x, t, conditions)
    torch.testing.assert_close(dit(x[order], t[order], conditions.index(order)), whole[order], rtol=1e-4, atol=1e-4)
    for b in range(3):
        row = slice(b, b + 1)
        torch.testing.assert_close(dit(x[row], t[row], conditions.index(row)), whole[row], rtol=1e-4, atol=1e-4)


def test_time_counts():
    dit, (x, t), conditions = randomise(Dit(CONFIG)), inputs(), condition_batch()
    assert not torch.allclose(dit(x, t, conditions), dit(x, 1 - t, conditions))


def test_preparing_once_serves_every_step():
    dit, (x, t), conditions = randomise(Dit(CONFIG)), inputs(), condition_batch()
    prepared = dit.prepare(conditions)
    for time in (t, t / 2):
        assert torch.equal(dit.velocity(x, time, prepared), dit(x, time, conditions))


@CONFIGS
def test_an_untrained_field_is_zero_and_learns_at_once(config):
    dit, (x, t) = Dit(config), inputs(config)
    out = dit(x, t, condition_batch(3, config))
    assert out.shape == x.shape and out.abs().max() == 0
    (out - x).square().mean().backward()
    assert dit.tokens.leave_plane.weight.grad.abs().max() > 0


def test_no_size_of_the_grid_is_in_the_weights():
    other = replace(CONFIG, frames=8, grid=replace(GRID, shape=(24, 16, 16)))
    first, second = Dit(CONFIG).state_dict(), Dit(other).state_dict()
    assert {n: p.shape for n, p in first.items()} == {n: p.shape for n, p in second.items()}
    assert DIT.depth == len(Dit(CONFIG).blocks)
