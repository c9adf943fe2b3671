"""The matrix rate is a rate: no product is faster, and it is measured in a moment."""

import time

import pytest
import torch

from dcgen import measure
from dcgen.measure import matrix_rate


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
