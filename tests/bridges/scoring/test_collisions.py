"""Who touched whom, and whose fault it was: cases made by hand, and the slow twin."""

from __future__ import annotations

import numpy as np
import pytest

from bridges.scoring import score
from bridges.scoring.collisions import episode_gaps
from dcgen.types import Semantics
from tests.bridges.scoring.episodes import agents, episode, touching
from tests.bridges.scoring.twins import contact_s, meets

STANDING = {"ego": np.zeros((4, 3)), "speed": 0.0}


def beside(gap_m: float, yaw_rad: float = np.radians(30.0)) -> dict:
    """A parked car at a slant whose nearest corner is so far from the left side of an ego that stands at 0, 0."""
    lowest = 2.0 * np.sin(yaw_rad) + 1.0 * np.cos(yaw_rad)
    return {"x": 0.3, "y": 0.95 + lowest + gap_m, "yaw": yaw_rad}


@pytest.mark.parametrize(("gap_m", "touches"), [(0.01, False), (-0.01, True)])
def test_a_corner_at_thirty_degrees_touches_by_a_centimetre_or_misses_by_one(gap_m: float, touches: bool) -> None:
    assert episode_gaps(episode(**STANDING, frames=4, **with_agents(beside(gap_m), frames=4))).within().all() == touches


def with_agents(*rows: dict, frames: int) -> dict:
    return {"agents": agents(*rows, frames=frames)}


@pytest.mark.parametrize(("gap_m", "touches"), [(0.01, False), (-0.01, True)])
def test_a_slanted_edge_that_passes_a_corner_decides(gap_m: float, touches: bool) -> None:
    """Here only the other's axes tell: along the ego's own, the boxes overlap by half a metre."""
    yaw = np.radians(30.0)
    normal = np.array([-np.sin(yaw), np.cos(yaw)])
    centre = np.array([-2.3, 0.95]) + (1.0 + gap_m) * normal
    case = episode(**STANDING, **with_agents({"x": centre[0], "y": centre[1], "yaw": yaw}, frames=4))
    assert episode_gaps(case).within().all() == touches


def test_boxes_meet_as_their_polygons_do() -> None:
    rng = np.random.default_rng(5)
    frames, n = 6, 30
    case = episode(
        np.column_stack([rng.normal(0, 2, (frames, 2)), rng.uniform(-9, 9, frames)]),
        rng.uniform(-3, 12, frames),
        *(
            {
                "x": rng.normal(0, 8, frames),
                "y": rng.normal(0, 8, frames),
                "yaw": rng.uniform(-9, 9, frames),
                "speed": rng.uniform(0, 12, frames),
                "size": (rng.uniform(0.3, 9), rng.uniform(0.3, 3)),
            }
            for _ in range(n)
        ),
    )
    case.agents.valid[:, 3] = False
    between = episode_gaps(case)
    assert (between.within() == meets(case)).all()
    assert 10 < between.within().sum() < frames * n - 20
    exact, sampled = between.contact_s(), contact_s(case)
    soon = exact < 1.99
    assert np.isfinite(sampled[soon]).all() and (exact[soon] > 0).sum() > 9
    both = soon & np.isfinite(sampled)
    assert (np.abs(sampled[both] - exact[both]) <= 0.0051).all() and np.isinf(sampled[~soon]).all()


@pytest.mark.parametrize(
    ("row", "how", "value"),
    [
        ({"x": 20.0}, "stopped agent", 0.0),  # a parked car ahead
        ({"x": 20.0, "kind": Semantics.BARRIER}, "stopped agent", 0.5),
        ({"x": 12.0 + np.arange(21) * 0.8, "speed": 4.0}, "front", 0.0),  # a slower one ahead
        ({"x": -12.0 + np.arange(21) * 3.0, "speed": 15.0}, "behind", 1.0),
        ({"x": np.arange(21) * 1.6, "y": 5.0 - np.arange(21) * 0.2, "speed": 8.06}, "side", 1.0),  # it drifts over
        ({"x": 20.0, "y": 6.0 - np.arange(21) * 0.4, "speed": 2.0, "kind": Semantics.PEDESTRIAN}, "front", 0.0),
    ],
)
def test_fault(row: dict, how: str, value: float) -> None:
    marks = score(episode(None, None, row))
    assert [contact.how for contact in marks.contacts] == [how]
    assert marks.no_collision == marks.no_collision_boxes == value
    assert marks.contacts[0].agent == 70 and marks.contacts[0].frame > 0


def test_a_side_is_the_fault_of_who_is_not_in_their_lane() -> None:
    x = np.arange(21) * 1.6
    ego = np.stack([x, 1.0 + 0 * x, 0 * x], axis=1)  # a metre to the left, over the line
    row = {"x": x, "y": 5.0 - np.arange(21) * 0.2, "speed": 8.06}
    assert score(episode(ego, 8.0, row)).contacts[0].how == "side"
    assert score(episode(ego, 8.0, row)).no_collision == 0.0


def test_who_stands_is_hit_without_fault() -> None:
    marks = score(episode(None, 0.0, {"x": 30.0 - np.arange(21) * 1.6, "yaw": np.pi, "speed": 8.0}))
    assert [contact.how for contact in marks.contacts] == ["stopped ego"]
    assert marks.no_collision == 1.0 and marks.infractions["vehicle"] == 0


def test_who_comes_to_rest_in_what_they_hit_did_not_stand() -> None:
    x = np.minimum(np.arange(21) * 1.6, 16.0)
    speed = np.where(np.arange(21) < 10, 8.0, 0.0)
    marks = score(episode(np.stack([x, 0 * x, 0 * x], axis=1), speed, {"x": 20.2}))
    assert marks.contacts[0].frame == 10 and marks.no_collision == 0.0


def test_reversing_turns_front_and_rear() -> None:
    """Into a follower that rolls: from the front, though it is behind the ego's back."""
    x = -np.arange(21) * 0.4
    row = {"x": -12.0 + np.arange(21) * 0.2, "speed": 1.0}
    marks = score(episode(np.stack([x, 0 * x, 0 * x], axis=1), -2.0, row))
    assert [contact.how for contact in marks.contacts] == ["front"]


def test_what_is_met_in_the_given_frame_does_not_count() -> None:
    marks = score(episode(None, None, {"x": 1.0, "y": 1.0}))
    assert marks.contacts == () and marks.no_collision == 1.0


def test_each_agent_counts_once() -> None:
    far = np.where(np.arange(21) % 3 == 0, 3.0, 400.0)  # it comes and goes
    far[0] = 400.0
    marks = score(episode(np.zeros((21, 3)) + [0, 0, 0], 1.0, {"x": far}))
    assert len(marks.contacts) == 1 and marks.infractions["vehicle"] == 1


def test_solid_voxels_are_hit_and_surfaces_are_not() -> None:
    def marks(**classes: tuple[int, int, int]):
        return score(episode(touched=touching(21, **classes)))

    assert marks(building=(5, 8, 2)).no_collision == 0.5
    assert marks(building=(5, 8, 1)).no_collision == 1.0  # a speck
    assert marks(pole=(5, 6, 1), vegetation=(5, 6, 1)).no_collision_voxels == 0.5
    assert marks(vehicle=(5, 8, 4)).no_collision == 0.0
    assert marks(road=(0, 21, 90), ground=(3, 9, 40), sidewalk=(3, 9, 40)).no_collision == 1.0
    assert marks(building=(0, 9, 30)).no_collision == 1.0  # it stood there from the start
    assert marks(building=(5, 8, 2)).infractions == {"pedestrian": 0, "vehicle": 0, "static": 1}


def test_one_contact_is_one_though_it_flickers() -> None:
    touched = touching(81, pole=(4, 81, 6))
    touched[6:9] = touched[20:40] = 0
    assert score(episode(frames=81, touched=touched)).infractions["static"] == 1
    touched[41:68] = 0  # over five seconds later
    assert score(episode(frames=81, touched=touched)).infractions["static"] == 2


def test_voxels_of_who_has_a_box_are_judged_by_the_box() -> None:
    behind = {"x": -12.0 + np.arange(21) * 3.0, "speed": 15.0}
    marks = score(episode(None, None, behind, touched=touching(21, vehicle=(6, 11, 12))))
    assert marks.no_collision == 1.0 and [contact.how for contact in marks.contacts] == ["behind"]


def test_voxels_that_come_to_a_standing_ego_are_not_its_fault() -> None:
    assert score(episode(None, 0.0, touched=touching(21, vehicle=(5, 9, 9)))).no_collision == 1.0
