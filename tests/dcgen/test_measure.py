"""The matrix rate is a rate, measured in a moment; operations are counted as a model needs them."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcgen import measure
from dcgen.measure import ModelFlops, matrix_rate, recomputed
from dcgen.vae.backbone import SubmanifoldConv
from dcgen.vae.sparse import SparseVolume
from dcgen.vae.torch_conv import find_neighbours


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(measure.SIDE, "cpu", 512)
    monkeypatch.setattr(measure, "BUDGET_S", 0.1)


def test_the_rate_counts_the_operations_of_a_product(small, monkeypatch):
    monkeypatch.setattr(measure, "_seconds", lambda square, out: 0.25)
    assert matrix_rate("cpu", torch.float32) == 2 * 512**3 / 0.25


def test_the_best_of_several_counts(small, monkeypatch):
    times = iter([0.5, 0.125] + [4.0] * 1_000_000)
    monkeypatch.setattr(measure, "_seconds", lambda square, out: next(times))
    assert matrix_rate("cpu", torch.float32) == 2 * 512**3 / 0.125


def test_a_product_takes_about_as_long_as_its_rate_says(small):
    rate = matrix_rate(torch.device("cpu"), torch.float32)
    square, took = torch.rand(512, 512), []
    for _ in range(20):
        began = time.perf_counter()
        square @ square
        took.append(time.perf_counter() - began)
    assert 0.25 * rate < 2 * 512**3 / min(took) < 4 * rate


def test_every_type_of_number_has_a_rate(small):
    assert all(matrix_rate("cpu", dtype) > 1e6 for dtype in (torch.float32, torch.bfloat16, torch.float64))


def flop(function):
    """Operations of a forward and a backward pass."""
    with ModelFlops() as flops:
        function().square().sum().backward()
    return flops.total


def test_every_product_counts_two_operations_a_number_forward_and_backward():
    x, weight = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    assert flop(lambda: x @ weight) == 3 * 2 * 5 * 7 * 3
    image, kernel = torch.randn(2, 3, 8, 9, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    assert flop(lambda: F.conv2d(image, kernel, padding=1)) == 3 * 2 * (2 * 8 * 9) * (3 * 9) * 4


def test_sparse_convolutions_and_the_fused_attention_of_a_cpu_count():
    active = torch.rand(2, 5, 6, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    volume = SparseVolume.from_dense(torch.randn(2, 3, 5, 6, 4), active)
    sites, rules = int(active.sum()), find_neighbours(volume)
    conv, features = SubmanifoldConv(3, 7), volume.features.requires_grad_()
    assert flop(lambda: conv(features, rules)) == 3 * 2 * sites * 27 * 3 * 7
    query, key = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(2, 3, 6, 8, requires_grad=True)
    product = 2 * (2 * 3) * 5 * 6 * 8
    # Forward two products; backward four, and that of the weights again, as the fused kernels do it.
    assert flop(lambda: F.scaled_dot_product_attention(query, key, key)) == 7 * product


def test_what_is_computed_again_counts_once_and_gives_the_same_gradients():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    x, calls = torch.randn(7, 4), []
    layers[2].register_forward_hook(lambda *_: calls.append(1))
    counts, gradients = [], []
    for make in (lambda: layers(x), lambda: recomputed(layers, x)):
        layers.zero_grad()
        counts.append(flop(make))
        gradients.append([parameter.grad.clone() for parameter in layers.parameters()])
    assert len(calls) == 3 and counts[0] == counts[1] == 2 * 7 * (2 * 24 + 3 * 30 + 3 * 10)
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))
    with torch.no_grad():
        assert torch.equal(recomputed(layers, x), layers(x))


def test_nothing_is_counted_when_nobody_counts():
    x = torch.randn(3, 4, requires_grad=True)
    with ModelFlops() as flops:
        x @ x.T
    before = flops.total
    recomputed(lambda y: y @ y.T, x).sum().backward()
    assert flops.total == before == 2 * 3 * 3 * 4
