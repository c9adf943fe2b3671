"""Attention pooling equals softmax attention over each cell's own sites; nothing looks at the plane as a whole."""

import pytest
import torch

from dcgen.vae.projection import AverageProjection, ChannelNorm, Refine, SummaryAttention, axis_code
from tests.dcgen.small import randomise
from tests.reference import summary_by_softmax

CHANNELS, CODE, HEADS, CELLS, SITES = 12, 5, 3, 7, 40


def pooling():
    module = randomise(SummaryAttention(CHANNELS, CODE, HEADS))
    generator = torch.Generator().manual_seed(1)
    sites = torch.randn(SITES, CHANNELS, generator=generator).requires_grad_()
    code = torch.randn(SITES, CODE, generator=generator)
    cell = torch.randint(0, CELLS - 1, (SITES,), generator=generator)  # the last cell stays empty
    return module, sites, code, cell


def test_summary_equals_softmax_attention_in_values_and_gradients():
    module, sites, code, cell = pooling()
    got = module(sites, code, cell, CELLS)
    want = summary_by_softmax(module, sites, code, cell, CELLS)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    probe = torch.randn(got.shape, generator=torch.Generator().manual_seed(2), dtype=got.dtype)
    inputs = [sites, *module.parameters()]
    fast, slow = (torch.autograd.grad((out * probe).sum(), inputs) for out in (got, want))
    for f, s in zip(fast, slow, strict=True):
        torch.testing.assert_close(f, s, rtol=1e-4, atol=1e-5)


def test_large_scores_stay_finite():
    module, sites, code, cell = pooling()
    with torch.no_grad():
        module.key.weight.mul_(1e4)
    out = module(sites, code, cell, CELLS)
    assert out.isfinite().all()
    torch.testing.assert_close(out, summary_by_softmax(module, sites, code, cell, CELLS), rtol=1e-4, atol=1e-4)


def test_an_empty_cell_is_the_empty_token_and_no_sites_at_all_are_fine():
    module, sites, code, cell = pooling()
    empty = module.empty_value + module.mlp(module.norm(module.empty_value))
    torch.testing.assert_close(module(sites, code, cell, CELLS)[-1], empty, rtol=1e-5, atol=1e-6)
    none = module(sites[:0], code[:0], cell[:0], 3)
    torch.testing.assert_close(none, empty.expand(3, -1), rtol=1e-5, atol=1e-6)


def test_the_order_of_sites_does_not_matter_and_a_cell_reads_its_own():
    module, sites, code, cell = pooling()
    whole = module(sites, code, cell, CELLS)
    order = torch.randperm(SITES, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(module(sites[order], code[order], cell[order], CELLS), whole)
    here = cell == 2
    alone = module(sites[here], code[here], torch.zeros_like(cell[here]), 1)
    torch.testing.assert_close(alone[0], whole[2])


def test_an_average_is_a_loop_over_cells_in_values_and_gradients():
    module = randomise(AverageProjection(CHANNELS))
    _, sites, code, cell = pooling()
    got = module(sites, code, cell, CELLS)
    rows = [sites[cell == n] for n in range(CELLS)]
    want = torch.stack([module.linear(r.mean(0)) if len(r) else module.empty for r in rows])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    probe = torch.randn(got.shape, generator=torch.Generator().manual_seed(2))
    inputs = [sites, *module.parameters()]
    fast, slow = (torch.autograd.grad((out * probe).sum(), inputs) for out in (got, want))
    for f, s in zip(fast, slow, strict=True):
        torch.testing.assert_close(f, s, rtol=1e-4, atol=1e-5)
        assert f.any()
    none = module(sites[:0], code[:0], cell[:0], 3)
    torch.testing.assert_close(none, module.empty.expand(3, -1))


@pytest.mark.parametrize("size", [1, 2, 5, 32, 64])
def test_every_place_on_an_axis_has_its_own_code(size):
    code = axis_code(torch.arange(size) + 0.5, size, 6)
    assert code.shape == (size, 12)
    apart = torch.cdist(code, code) + 9 * torch.eye(size)
    assert apart.min() > 0.1


def test_no_wavelength_is_below_two_cells():
    steps = axis_code(torch.linspace(0, 16, 4001), 16, 6).diff(dim=0).abs().max() / (16 / 4000)
    assert steps <= torch.pi + 1e-2  # d/dx sin(2 pi x / 2) is at most pi


@pytest.mark.parametrize("dims", [2, 3])
def test_refinement_begins_as_the_identity_and_reaches_two_cells(dims):
    x = torch.randn(1, 6, *(9, 8, 7)[:dims])
    assert torch.equal(Refine(6, dims)(x), x)
    refine = randomise(Refine(6, dims))
    edited = x.clone()
    edited[(0, slice(None)) + (0,) * dims] += 50
    changed = (refine(x) != refine(edited)).any(1)[0].nonzero()
    assert 0 < int(changed.max()) <= 2


def test_channel_norm_has_unit_power_in_every_cell():
    x = torch.randn(2, 5, 4, 3) * torch.tensor([1e-1, 1.0, 50.0])
    power = ChannelNorm(5)(x).square().mean(1)
    torch.testing.assert_close(power, torch.ones_like(power), rtol=1e-2, atol=0)
