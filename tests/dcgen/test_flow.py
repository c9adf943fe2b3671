"""The straight path from noise to data, and its loss."""

import pytest
import torch

from dcgen.flow import flow_loss, interpolate, sample_time
from dcgen.sampler import euler, heun, times

DATA = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))


def test_the_path_runs_from_noise_to_data_at_its_velocity():
    start, velocity = interpolate(DATA, NOISE, torch.zeros(3))
    end, _ = interpolate(DATA, NOISE, torch.ones(3))
    assert torch.equal(start, NOISE) and torch.equal(end, DATA)
    at, later = torch.tensor([0.1, 0.5, 0.8]), torch.tensor([0.2, 0.6, 0.9])
    moved = interpolate(DATA, NOISE, later)[0] - interpolate(DATA, NOISE, at)[0]
    torch.testing.assert_close(moved / 0.1, velocity)


def test_the_loss_is_zero_for_the_true_velocity_and_counts_each_chunk_alone():
    time = torch.tensor([0.2, 0.5, 0.7])
    assert flow_loss(lambda x, t: DATA - NOISE, DATA, NOISE, time).tolist() == [0, 0, 0]
    offset = torch.tensor([0.0, 1.0, 2.0])[:, None]
    wrong = flow_loss(lambda x, t: DATA - NOISE + offset, DATA, NOISE, time)
    torch.testing.assert_close(wrong, torch.tensor([0.0, 1.0, 4.0]))


def test_the_field_sees_the_point_and_the_time():
    time = torch.tensor([0.2, 0.5, 0.7])
    seen = {}

    def field(x, t):
        seen.update(x=x, t=t)
        return torch.zeros_like(x)

    loss = flow_loss(field, DATA, NOISE, time)
    assert torch.equal(seen["t"], time)
    torch.testing.assert_close(seen["x"], NOISE + time[:, None] * (DATA - NOISE))
    torch.testing.assert_close(loss, (DATA - NOISE).square().mean(1))


@pytest.mark.parametrize(("sampler", "steps"), [(euler, 1), (euler, 7), (heun, 5)])
def test_the_field_of_one_point_leads_to_that_point(sampler, steps):
    def exact(x, t):  # E[data - noise | x] when all data is DATA
        return (DATA - x) / (1 - t[:, None]).clamp_min(1e-6)

    last = times(steps)[-2]
    at = times(steps) if sampler is euler else torch.cat([times(steps)[:-1], last[None] + (1 - last) * 0.999])
    torch.testing.assert_close(sampler(exact, NOISE, at), DATA, atol=2e-2 if sampler is heun else 1e-5, rtol=0)


def test_the_exact_field_of_two_points_recovers_both():
    points = torch.tensor([[-2.0], [2.0]])

    def exact(x, t):  # posterior mean over both points, by Bayes
        t = t[:, None]
        logits = -((x - t * points.T) ** 2) / (2 * (1 - t).clamp_min(1e-3) ** 2)
        return (logits.softmax(1) @ points - x) / (1 - t).clamp_min(1e-3)

    noise = torch.randn(400, 1, generator=torch.Generator().manual_seed(3))
    made = euler(exact, noise, times(100))
    assert ((made.abs() - 2).abs() < 1e-2).all()
    assert 0.4 < (made > 0).float().mean() < 0.6


def test_times_are_seeded_and_logit_normal():
    device = torch.device("cpu")
    one = sample_time(4000, torch.Generator().manual_seed(4), device)
    assert torch.equal(one, sample_time(4000, torch.Generator().manual_seed(4), device))
    assert one.min() > 0 and one.max() < 1
    logit = torch.logit(one)
    assert abs(logit.std() - 1) < 0.05
    assert -1 < logit.mean() < 0.05  # never more of them near the data than near the noise
