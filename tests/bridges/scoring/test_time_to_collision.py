"""How soon boxes meet: at the limit, a little before, and who is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bridges.scoring import score
from bridges.scoring.collisions import episode_gaps
from bridges.scoring.time_to_collision import times_to_collision
from dcgen.types import Semantics
from tests.bridges.scoring.episodes import episode, road

REACH_M = 2.3 + 2.0  # half of the ego, half of a car of 4 m


def following(time_s: float, speed: float = 8.0, ahead_mps: float = 6.0, **changes) -> dict:
    """Of three frames 1 ms apart, so that nothing else happens."""
    gap = REACH_M + time_s * (speed - ahead_mps) + 0.002 * (speed - ahead_mps)
    x = np.arange(3) * 0.001
    return {
        "ego": np.stack([x * speed, 0 * x, 0 * x], axis=1),
        "speed": speed,
        "row": {"x": gap + x * ahead_mps, "speed": ahead_mps, **changes},
        "dt_s": 0.001,
    }


def marks(case: dict, **changes):
    return score(episode(case["ego"], case["speed"], case["row"], dt_s=case["dt_s"], **changes))


@pytest.mark.parametrize(("time_s", "value"), [(0.9500001, 1.0), (0.95, 0.0), (0.94, 0.0), (0.1, 0.0), (3.0, 1.0)])
def test_the_limit(time_s: float, value: float) -> None:
    found = marks(following(time_s))
    assert found.time_to_collision == value
    assert found.least_time_to_collision_s == pytest.approx(time_s, abs=1e-9)


def test_who_drives_away_is_never_met() -> None:
    found = marks(following(0.5, ahead_mps=8.0))
    assert found.least_time_to_collision_s is None and found.time_to_collision == 1.0


def test_who_stands_meets_nobody() -> None:
    oncoming = {"x": 12.0 - np.arange(21) * 0.1, "yaw": np.pi, "speed": 9.0}
    assert score(episode(None, 0.0, oncoming)).least_time_to_collision_s is None


def test_nobody_looks_behind() -> None:
    assert score(episode(None, None, {"x": -8.0 + np.arange(21) * 1.8, "speed": 14.0})).time_to_collision == 1.0


def test_sides_count_at_junctions_and_out_of_lane() -> None:
    """A car that drifts over from the left, level with the ego."""
    x = np.arange(21) * 1.6
    row = {"x": x, "y": 3.4, "yaw": -0.2, "speed": 8.16}
    assert score(episode(None, None, row)).time_to_collision == 1.0
    field = road()
    junction = replace(field, heading_rad=np.full_like(field.heading_rad, np.nan))
    assert score(episode(None, None, row, road=junction)).time_to_collision == 0.0
    over = np.stack([x, 0.9 + 0 * x, 0 * x], axis=1)
    assert score(episode(over, None, row)).time_to_collision == 0.0


def test_a_pedestrian_who_steps_in_front() -> None:
    """10 m before the bumper, 2 m aside at 2 m/s: it is there in time to be hit, or has crossed when the ego comes."""
    row = {"x": 7.0, "y": 2.0, "yaw": -np.pi / 2, "speed": 2.0, "size": (0.5, 0.5), "kind": Semantics.PEDESTRIAN}
    case = {"ego": np.zeros((3, 3)), "speed": 8.0, "row": row, "dt_s": 0.001}
    assert marks(case).least_time_to_collision_s == pytest.approx((7.0 - 0.25 - 2.3) / 8.0)
    case["row"] = {**row, "speed": 9.0}
    assert marks(case).least_time_to_collision_s is None


def test_after_a_hit_nobody_counts_the_same_agent() -> None:
    """Behind the ego it is past; and a later frame says nothing of it."""
    found = score(episode(None, None, {"x": 20.0}))
    assert len(found.contacts) == 1 and found.least_time_to_collision_s == 0.0
    case = episode(None, None, {"x": 20.0})
    between = episode_gaps(case)
    times = times_to_collision(case, between, np.ones(21, bool), np.zeros(21, bool))
    hit = found.contacts[0].frame
    assert times[hit] == 0.0 and np.isinf(times[hit + 1 :]).all() and np.isfinite(times[:hit]).all()
