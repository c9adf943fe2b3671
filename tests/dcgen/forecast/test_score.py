"""Marks of forecasts: copies where they must be right, and the metric beside a slow twin."""

from itertools import product

import numpy as np
import pytest
import torch

from dcgen.forecast.model import Forecaster
from dcgen.forecast.score import CARRIED, COPY, StepScores, carry_last, copy_last, evaluate, forecasting, spread
from dcgen.types import UNKNOWN
from tests.dcgen.forecast.drives import CONFIG, windows


def test_copying_is_exact_in_a_world_that_stands_still():
    still = windows(2, ego_mps=0, users_mps=0)
    for steps in evaluate(still, {COPY: copy_last, CARRIED: carry_last(still, "predicted")}).values():
        for step in steps:
            assert step["iou"] == step["miou"] == 1 and np.isnan(step["moving"]) and step["ego_m"] == 0


def test_moving_a_copy_with_the_ego_is_exact_up_to_resampling():
    driven = windows(2, ego_mps=4, users_mps=0)
    figures = evaluate(driven, {COPY: copy_last, CARRIED: carry_last(driven, "given")})
    found = driven[0]
    moved, _ = carry_last(driven, "given")(
        type(found)(**{n: v[None] for n, v in found.tensors().items()}), torch.tensor([CONFIG.ahead])
    )
    inside = moved[0, 0] != 0
    same = (moved[0, 0] == found.future[0])[inside & (found.future[0] != UNKNOWN)]
    assert same.float().mean() > 0.93
    for copy, carried in zip(figures[COPY], figures[CARRIED], strict=True):
        assert carried["building"] > copy["building"] + 0.1 and carried["miou"] > copy["miou"]


def test_an_even_ego_is_foretold_so_that_given_poses_help_nothing():
    driven = windows(1, ego_mps=4, users_mps=0)
    for steps in evaluate(driven, {"a": carry_last(driven, "predicted")}).values():
        assert steps[0]["ego_m"] < 0.1
    straight = windows(1, ego_mps=0, users_mps=2)
    figures = evaluate(straight, {how: carry_last(straight, how) for how in ("given", "predicted")})
    for one, other in zip(*figures.values(), strict=True):
        assert one == pytest.approx(other, nan_ok=True)


def test_figures_equal_those_counted_voxel_by_voxel():
    rng = np.random.default_rng(3)
    truth, guess = (rng.choice(np.array([0, 6, 10, 4, UNKNOWN], np.uint8), (2, 7, 6, 5)) for _ in range(2))
    guess[guess == UNKNOWN] = 0
    moving = ((truth == 10) | (truth == 4)) & (rng.random(truth.shape) < 0.1)
    scores = StepScores()
    scores.add(guess[:1], truth[:1], moving[:1], (0.8, 0.8, 0.8))
    scores.add(guess[1:], truth[1:], moving[1:], (0.8, 0.8, 0.8))
    hits, union = dict.fromkeys((0, 6, 10, 4), 0), dict.fromkeys((0, 6, 10, 4), 0)
    both = either = caught = counted = 0
    for t, i, j, k in product(*map(range, truth.shape)):
        real, said = truth[t, i, j, k], guess[t, i, j, k]
        if real == UNKNOWN:
            continue
        both, either = both + (real > 0 and said > 0), either + (real > 0 or said > 0)
        for kind in hits:
            hits[kind] += real == said == kind
            union[kind] += real == kind or said == kind
        near = any(
            moving[t, u, v].any() and 0.8 * np.hypot(u - i, v - j) <= 4 + 1e-9 for u, v in product(range(7), range(6))
        )
        caught += moving[t, i, j, k] and said == real
        counted += int(moving[t, i, j, k]) + (said in (4, 10) and said != real and near)
    figures = scores.figures()
    assert figures["iou"] == pytest.approx(both / either)
    assert figures["miou"] == pytest.approx(np.mean([hits[k] / union[k] for k in (6, 10, 4)]))
    assert figures["moving"] == pytest.approx(caught / counted)


def test_a_network_is_scored_beside_them_and_never_reads_later_labels():
    driven = windows(1)
    model = Forecaster(CONFIG).eval()
    found = type(driven[0])(**{name: value[None] for name, value in driven[0].tensors().items()})
    ahead = torch.tensor([CONFIG.ahead])
    blind = type(found)(**{**found.tensors(), "future": torch.zeros_like(found.future), "moving": found.moving & False})
    other = type(found)(**{**blind.tensors(), "now_se3_ego": found.now_se3_ego.clone()})
    other.now_se3_ego[:, CONFIG.past :] += 5
    for how in ("given", "predicted"):
        assert torch.equal(forecasting(model, how)(found, ahead)[0], forecasting(model, how)(blind, ahead)[0])
    assert torch.equal(
        forecasting(model, "predicted")(found, ahead)[0], forecasting(model, "predicted")(other, ahead)[0]
    )


def test_spread_is_that_of_a_sample():
    (step,) = spread([[{"iou": 0.2}], [{"iou": 0.4}], [{"iou": 0.6}]])
    assert step["iou"] == pytest.approx((0.4, 0.2))
    assert np.isnan(spread([[{"iou": 0.2}]])[0]["iou"][1])
