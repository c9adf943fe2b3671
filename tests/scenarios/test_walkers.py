"""Pedestrians find a way from any place on a sidewalk."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios.roadmap import Lane
from scenarios.spawn import Spot
from scenarios.walkers import _walk


def lane(rows: int) -> Lane:
    x = np.arange(rows, dtype=float)
    line = np.stack([x, 0 * x, 0 * x], axis=1)
    wide = np.array([0.0, 1.0, 0.0])
    return Lane("1:0:-2", 1, -2, "sidewalk", line, line + wide, line - wide, np.full(rows, 2.0), 0 * x, -1, None)


@pytest.mark.parametrize("row", [0, 7])
def test_who_stands_at_the_end_of_a_lone_sidewalk_walks_along_it(row: int) -> None:
    for seed in range(6):  # either way
        path = _walk({"1:0:-2": lane(8)}, Spot("1:0:-2", float(row), row), 20.0, np.random.default_rng(seed))
        spots = path.at(np.linspace(0, 20, 41))
        assert path.s_m[-1] >= 10 and np.isfinite(spots).all()
        assert spots[:, 0].min() < 2.5 and spots[:, 0].max() > 4.5 and np.abs(spots[:, 1]).max() <= 1
