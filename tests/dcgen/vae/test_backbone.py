"""Sparse convolutions equal dense ones on a masked volume, in values and gradients."""

import pytest
import torch

from dcgen.vae.backbone import SparseBackbone, StridedConv, SubmanifoldConv
from dcgen.vae.sparse import SparseVolume
from dcgen.vae.torch_conv import BLOCK_BYTES, find_neighbours
from tests.reference import dense_strided, dense_submanifold

SHAPES = [(2, 5, 4, 3), (3, 4, 7, 1), (1, 2, 1, 6)]


def volume(shape=(2, 5, 4, 3), channels=6, share=0.4, seed=0, dtype=torch.double):
    rng = torch.Generator().manual_seed(seed)
    active = torch.rand(shape, generator=rng) < share
    values = torch.randn(shape[0], channels, *shape[1:], generator=rng, dtype=dtype)
    return values.requires_grad_(), active


def gradients(out, *inputs):
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=out.dtype)
    return torch.autograd.grad((out * probe).sum(), inputs)


def randomise(module):
    for p in module.parameters():
        torch.nn.init.normal_(p)
    return module.double()


@pytest.mark.parametrize("shape", SHAPES)
def test_submanifold_equals_dense(shape):
    values, active = volume(shape)
    conv = randomise(SubmanifoldConv(6, 5))
    sparse = SparseVolume.from_dense(values, active)
    features = conv(sparse.features, find_neighbours(sparse))
    got = SparseVolume(sparse.indices, features, sparse.shape).dense()
    want = dense_submanifold(values, active, conv.weight, conv.bias)
    torch.testing.assert_close(got, want)
    inputs = (values, conv.weight, conv.bias)
    for g, w in zip(gradients(got, *inputs), gradients(want, *inputs), strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [(2, 2, 2), (2, 1, 3), (1, 2, 1)])
def test_strided_equals_dense_at_odd_sizes(shape, stride):
    values, active = volume(shape)
    conv = randomise(StridedConv(6, 7, stride))
    out = conv(SparseVolume.from_dense(values, active))
    got = out.dense()
    want, coarse = dense_strided(values, active, conv.weight, conv.bias)
    assert out.shape == tuple(coarse.shape)
    assert torch.equal(out.indices, coarse.nonzero())
    torch.testing.assert_close(got, want)
    inputs = (values, conv.weight, conv.bias)
    for g, w in zip(gradients(got, *inputs), gradients(want, *inputs), strict=True):
        torch.testing.assert_close(g, w)


def test_gradients_do_not_depend_on_the_block_size(monkeypatch):
    values, active = volume((2, 11, 9, 7), share=0.6)
    net = SparseBackbone(6, (4, 5), ((2, 1, 2),), blocks=2).double()
    inputs = (values, *net.parameters())
    results = []
    for block_bytes in (1, 1 << 30):
        monkeypatch.setitem(BLOCK_BYTES, "cpu", block_bytes)
        out = net(SparseVolume.from_dense(values, active)).dense()
        results.append((out, *gradients(out, *inputs)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_analytic_gradients_match_finite_differences():
    values, active = volume((1, 3, 4, 2), channels=2, share=0.7)
    net = SparseBackbone(2, (3, 4), ((2, 2, 1),)).double()
    assert torch.autograd.gradcheck(lambda v: net(SparseVolume.from_dense(v, active)).dense(), (values,))


def test_sites_may_come_in_any_order():
    values, active = volume((2, 5, 4, 3))
    sparse = SparseVolume.from_dense(values, active)
    order = torch.randperm(len(sparse.indices), generator=torch.Generator().manual_seed(3))
    shuffled = SparseVolume(sparse.indices[order], sparse.features[order], sparse.shape)
    net = SparseBackbone(6, (6, 8)).double()
    torch.testing.assert_close(net(shuffled).dense(), net(sparse).dense())


def test_one_volume_of_a_batch_does_not_see_another():
    values, active = volume((3, 5, 4, 6))
    net = SparseBackbone(6, (6, 8), ((2, 2, 2),), blocks=2).double()
    whole = net(SparseVolume.from_dense(values, active)).dense()
    for b in range(3):
        alone = net(SparseVolume.from_dense(values[b : b + 1], active[b : b + 1])).dense()
        torch.testing.assert_close(whole[b : b + 1], alone)


def test_an_edit_changes_its_neighbourhood_only():
    values, active = volume((1, 12, 10, 6), share=0.8)
    active[0, 0, 0, 0] = True
    net = SparseBackbone(6, (6, 8)).double()
    edited = values.detach().clone()
    edited[0, :, 0, 0, 0] += 100.0
    before = net(SparseVolume.from_dense(values, active)).dense()
    after = net(SparseVolume.from_dense(edited, active)).dense()
    changed = (before != after).any(1)[0].nonzero()
    assert len(changed) and int(changed.max()) <= 1  # one block of reach 1, halved, one block more


def test_a_volume_with_no_sites_passes_through():
    values, active = volume((2, 5, 4, 3), share=-1.0)
    net = SparseBackbone(6, (4, 8)).double()
    out = net(SparseVolume.from_dense(values, active))
    assert out.features.shape == (0, 8) and out.dense().abs().sum() == 0
    out.dense().sum().backward()


def test_bfloat16_autocast_agrees_and_trains():
    values, active = volume((2, 12, 10, 6), channels=8, dtype=torch.float32)
    net = SparseBackbone(8, (8, 16))
    plain = net(SparseVolume.from_dense(values, active)).dense()
    with torch.autocast("cpu", torch.bfloat16):
        half = net(SparseVolume.from_dense(values, active)).dense()
    assert (plain - half.float()).abs().max() < 0.05 * plain.abs().max()
    plain_grad = gradients(plain, *net.parameters())
    half_grad = gradients(half.float(), *net.parameters())
    for p, h in zip(plain_grad, half_grad, strict=True):
        assert (p - h).norm() < 0.05 * p.norm() + 1e-6


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="widths"):
        SparseBackbone(4, (8,), ((2, 2, 2),))
