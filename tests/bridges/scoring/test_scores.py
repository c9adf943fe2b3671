"""Compositions, failures, thin episodes, and laws that hold for any episode."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

from bridges.episode import Episode
from bridges.scoring import Scores, score
from bridges.scoring.compositions import MULTIPLIERS, WEIGHTS, epdms
from dcgen.types import AgentTracks
from tests.bridges.scoring.episodes import episode, mirrored, moved, road, touching

TERMS = (*MULTIPLIERS, *WEIGHTS)


def test_a_perfect_drive() -> None:
    marks = score(episode())
    assert marks.epdms == marks.driving_score == marks.progress == 1.0
    assert marks.not_measured.keys() == {"traffic_lights", "extended_comfort"}
    assert marks.failure == "" and marks.forgiven == ()


def test_epdms_is_product_times_weighted_mean() -> None:
    terms = {**dict.fromkeys(MULTIPLIERS, 1.0), **dict.fromkeys(WEIGHTS, 1.0)}
    assert epdms(terms) == 1.0
    assert epdms({**terms, "progress": 0.4}) == pytest.approx((5 * 0.4 + 11) / 16)
    assert epdms({**terms, "lane_keeping": 0.0}) == pytest.approx(14 / 16)
    assert epdms({**terms, "no_collision": 0.5, "driving_direction": 0.5, "time_to_collision": 0}) == 0.25 * 11 / 16
    assert epdms({**terms, "progress": 0.5, "extended_comfort": 0.0}, {"extended_comfort"}) == pytest.approx(11.5 / 14)
    assert epdms({**terms, "drivable_area": 0.0}) == 0.0


def test_half_the_way_is_half_the_progress() -> None:
    slow = score(episode(None, 4.0))
    assert slow.progress == slow.route_completion == slow.driving_score == pytest.approx(0.5)
    assert slow.progress_m == pytest.approx(16.0) and slow.reference_m == pytest.approx(32.0)
    assert slow.epdms == pytest.approx((0.5 * 5 + 9) / 14)
    assert score(episode(None, 16.0)).progress == 1.0


def test_a_short_reference_asks_for_no_progress() -> None:
    stands = np.zeros((21, 3))
    assert score(episode(None, 0.0, reference=stands)).progress == 1.0
    assert score(episode(None, 0.0, reference=episode().reference / 6.5)).progress == 1.0  # 4.9 m
    assert score(episode(None, 0.0, reference=episode().reference / 6.3)).progress == 0.0  # 5.1 m


def test_without_a_route_the_references_way_serves() -> None:
    assert score(episode(None, 4.0, route=np.zeros((0, 3)))).progress == pytest.approx(0.5)
    nothing = score(episode(route=np.zeros((0, 3)), reference=np.zeros((0, 3))))
    assert "progress" in nothing.not_measured and nothing.progress == 1.0


def test_driving_score_multiplies_penalties_and_takes_what_is_outside() -> None:
    hit = score(episode(None, None, {"x": 22.0}, touched=touching(21, pole=(3, 5, 4))))
    assert hit.infractions == {"pedestrian": 0, "vehicle": 1, "static": 1}
    assert hit.driving_score == pytest.approx(0.6 * 0.65)
    walked = score(episode(None, None, {"x": 22.0, "kind": 4}, {"x": 22.0, "y": 1.0, "kind": 4}))
    assert walked.driving_score == pytest.approx(0.25)
    x = np.arange(21) * 1.6
    oncoming = np.stack([x, np.where((x > 3) & (x < 11), 3.5, 0.0), 0 * x], axis=1)
    marks = score(episode(oncoming))
    assert marks.route_completion == pytest.approx(1 - marks.outside_share) and 0.1 < marks.outside_share < 0.5


def test_a_failed_episode_scores_nothing_and_says_why() -> None:
    for case in (episode(failure="took 1.2 s to answer"), episode(wanted_frames=30)):
        marks = score(case)
        assert marks.epdms == marks.driving_score == marks.route_completion == 0.0 and marks.failure
    assert score(episode(failure="took 1.2 s")).failure == "took 1.2 s"
    assert "21 of 30" in score(episode(wanted_frames=30)).failure


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("rows", [(), ({"x": 9.0}, {"x": -9.0, "speed": 3.0})])
def test_thin_episodes_are_scored_without_a_word(frames: int, known: bool, rows: tuple) -> None:
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        marks = score(episode(None, None, *rows, frames=frames, road=road(known=known)))
        empty = replace(road(), drivable=np.zeros((0, 0), bool), known=np.zeros((0, 0), bool),
                        heading_rad=np.zeros((0, 0), np.float32))  # fmt: skip
        sparse(score(episode(frames=frames, road=empty, route=np.zeros((0, 3)))))
    sparse(marks)
    assert marks.frames == frames
    if frames == 1:
        assert set(TERMS) <= marks.not_measured.keys() and "one frame" in marks.not_measured["progress"]


def sparse(marks: Scores) -> None:
    """Finite, in bounds, and JSON there and back."""
    told = marks.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == json.loads(json.dumps(told))
    for name in (*TERMS, "epdms", "driving_score", "route_completion", "no_collision_boxes", "no_collision_voxels"):
        assert 0.0 <= told[name] <= 1.0 and isinstance(told[name], float), name
    assert set(marks.not_measured) <= told.keys() and all(marks.not_measured.values())


def test_what_cannot_be_is_told() -> None:
    ego = episode().ego.copy()
    ego[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"episode\.ego is not finite"):
        score(episode(ego))
    with pytest.raises(ValueError, match="no frame"):
        score(episode(np.zeros((0, 3)), wanted_frames=0, plans=(), acceleration_mps2=np.zeros(0)))


def test_agents_who_are_not_there_may_hold_anything() -> None:
    case = episode(None, None, {"x": 9.0})
    case.agents.valid[:] = False
    case.agents.pose[:] = np.nan
    case.agents.speed_mps[:] = np.inf
    with np.errstate(all="raise"):
        assert score(case).epdms == 1.0


def wild(seed: int, frames: int = 31, n: int = 7) -> Episode:
    """An ego that wanders over a street among agents that do too."""
    rng = np.random.default_rng(seed)
    speed = np.abs(rng.normal(6, 4) + np.cumsum(rng.normal(0, 0.5, frames)))
    yaw = rng.normal(0, 0.15) + np.cumsum(rng.normal(0, 0.01, frames))
    steps = (speed * 0.2)[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    ego = np.column_stack([np.cumsum(steps, axis=0) + [0.013, rng.normal(0, 1)], yaw])
    rows = [
        {
            "x": rng.uniform(0, 50) + np.arange(frames) * 0.2 * (v := abs(rng.normal(3, 4)) * (rng.random() < 0.7)),
            "y": rng.normal(0, 3),
            "yaw": rng.normal(0, 0.4),
            "speed": v,
            "kind": int(rng.choice([4, 10, 11, 2])),
        }
        for _ in range(n)
    ]
    time_s = np.arange(1, 9) * 0.5
    noise = rng.choice([0.01, 0.1, 1.0])
    plans = tuple(
        np.column_stack(
            [
                time_s,
                ego[k, :2] + time_s[:, None] * (steps[k] * 5 + rng.normal(0, noise) * time_s[:, None]),
                yaw[k] + 0 * time_s,
            ]
        )
        for k in range(frames - 1)
    )
    touched = touching(frames, pole=(9, 12, int(rng.integers(0, 4))))
    return episode(ego, speed, *rows, plans=plans, touched=touched)


SEEDS = range(24)


def same(a: Scores, b: Scores) -> None:
    for name in (*TERMS, "epdms", "driving_score", "outside_share", "most_against_m", "progress_m"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-6), name
    assert a.contacts == b.contacts and a.infractions == b.infractions and a.forgiven == b.forgiven
    times = (a.least_time_to_collision_s, b.least_time_to_collision_s)
    assert times[0] == (None if times[1] is None else pytest.approx(times[1], abs=1e-6))


@pytest.mark.parametrize("seed", SEEDS)
def test_moving_turning_or_mirroring_the_world_changes_nothing(seed: int) -> None:
    case = wild(seed)
    marks = score(case)
    same(marks, score(moved(case, quarters=seed % 4, shift_m=(64.0, -128.0))))
    same(marks, score(mirrored(case)))


def test_the_wild_cases_tell_terms_apart() -> None:
    """Else the laws would hold of nothing."""
    found = [score(wild(seed)) for seed in SEEDS]
    for name in (*TERMS, "epdms", "driving_score"):
        values = {round(getattr(marks, name), 6) for marks in found}
        assert len(values) > 1 or name in ("traffic_lights",), name
    assert {contact.how for marks in found for contact in marks.contacts} >= {"front", "stopped agent", "voxels"}


@pytest.mark.parametrize("seed", SEEDS)
def test_any_angle_where_the_road_says_nothing(seed: int) -> None:
    """A raster turned by some degrees is another raster; all else is not."""
    case = replace(wild(seed), road=road(known=False))
    angle = 0.1 + seed
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def poses(values: np.ndarray, first: int = 0) -> np.ndarray:
        out = values.astype(float)
        out[..., first : first + 2] = values[..., first : first + 2] @ turn.T + [7.0, -3.0]
        out[..., first + 2] += angle
        return out

    turned = replace(
        case, ego=poses(case.ego), route=poses(case.route), reference=poses(case.reference),
        agents=replace(case.agents, pose=poses(case.agents.pose)), plans=tuple(poses(p, 1) for p in case.plans),
    )  # fmt: skip
    same(score(case), score(turned))


@pytest.mark.parametrize("seed", SEEDS)
def test_one_more_agent_never_raises_a_score(seed: int) -> None:
    case = wild(seed)
    before = score(replace(case, agents=case.agents.select(np.arange(7) < 6)))
    after = score(case)
    for name in (*TERMS, "epdms", "driving_score", "route_completion"):
        assert getattr(after, name) <= getattr(before, name), name
    sparse(after)


def test_an_order_of_agents_is_no_order_of_merit() -> None:
    case = wild(3)
    order = np.random.default_rng(0).permutation(7)
    a = case.agents
    shuffled = AgentTracks(*(getattr(a, name)[order] for name in a.__dataclass_fields__))
    one, two = score(case), score(replace(case, agents=shuffled))
    assert replace(one, contacts=()) == replace(two, contacts=()) and set(one.contacts) == set(two.contacts)


def test_scoring_changes_nothing_and_repeats_itself() -> None:
    case = wild(5)
    ego, pose = case.ego.copy(), case.agents.pose.copy()
    assert score(case) == score(case)
    assert (case.ego == ego).all() and (case.agents.pose == pose).all()


def test_a_long_busy_episode_takes_milliseconds() -> None:
    """In CPU time, and the best of some: a busy machine is no fault of ours."""
    case = wild(1, frames=128, n=40)
    score(case)
    spent = []
    for _ in range(7):
        before = time.process_time()
        score(case)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.03, spent
