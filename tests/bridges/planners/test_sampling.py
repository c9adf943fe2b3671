"""The sampling planner: free ways, blocked ways, moving things, mirrors; clearances beside slow twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bridges.planner import Planner, Trajectory
from bridges.planners import OccupancySampling
from bridges.planners.candidates import OFFSETS_M, TIME_S, candidates
from bridges.planners.course import course_of
from bridges.planners.obstacles import FAR_M, Boxes, obstacles_of
from bridges.planners.sampling import DISC_M, box_clearance_m, still_clearance_m
from tests.bridges.planners import road


def answer(seen, limit_mps: float = 8.0) -> Trajectory:
    planner = OccupancySampling()
    planner.reset(road.task(limit_mps))
    return planner.plan(seen)


def test_it_is_a_planner() -> None:
    assert isinstance(OccupancySampling(), Planner)


def test_a_free_road_is_driven_straight_and_within_the_limit() -> None:
    plan = answer(road.observation())
    assert np.allclose(plan.pose[:, 1:], 0.0) and plan.pose[-1, 0] > 28.0
    assert (np.diff(plan.pose[:, 0]) / np.diff(plan.time_s)).max() < 8.0 + 1e-6


@pytest.mark.parametrize("block", [(14.0, 17.0, -0.4, 1.4), (14.0, 17.0, -1.4, 0.4)])
def test_it_passes_what_stands_in_its_lane_on_the_free_side(block: tuple) -> None:
    seen = road.observation((block,))
    plan = answer(seen)
    assert not road.touches(plan.pose, seen) and plan.pose[-1, 0] > 22.0
    side = plan.pose[np.argmin(np.abs(plan.pose[:, 0] - 15.5)), 1]
    assert np.sign(side) == -np.sign(block[2] + block[3]) and abs(side) > 1.0


@pytest.mark.parametrize("speed_mps", [3.0, 6.0, 8.0])
def test_it_stops_before_a_wall(speed_mps: float) -> None:
    seen = road.observation(((16.0, 18.0, -15.0, 15.0),), speed_mps=speed_mps)
    plan = answer(seen)
    assert not road.touches(plan.pose, seen) and plan.pose[-1, 0] + 2.3 < 16.0
    last_mps = np.hypot(*(plan.pose[-1, :2] - plan.pose[-2, :2])) / 0.2
    assert last_mps**2 / (2 * 2.0) < 16.0 - 2.3 - plan.pose[-1, 0], "it can still stop gently"


@pytest.mark.parametrize("blocks", [((14.0, 17.0, -0.4, 1.4),), ((12.0, 14.0, -2.0, 0.0), (24.0, 26.0, 0.5, 3.0))])
@pytest.mark.parametrize("radius_m", [np.inf, 40.0])
def test_a_mirrored_world_is_driven_in_mirror(blocks: tuple, radius_m: float) -> None:
    route = road.straight() if radius_m == np.inf else road.bend(radius_m)
    seen = road.observation(blocks, road.agents((20.0, 4.0, 3.1, -3.0, 0.2)), route)
    plan, other = answer(seen), answer(road.mirrored(seen))
    assert np.abs(plan.pose[:, 1]).max() > 0.4
    assert np.allclose(plan.pose * [1, -1, -1], other.pose, atol=1e-4)


def test_it_lets_pass_who_will_cross() -> None:
    """Nothing is in the way now; a car is to be there when the ego would be."""
    crossing = road.agents((15.0, -9.5, np.pi / 2, 0.0, 4.2))
    seen = road.observation(cars=crossing)
    plan, free = answer(seen), answer(road.observation())
    at = crossing.pose[0, :2] + plan.time_s[:, None] * crossing.velocity_mps[0]
    assert (np.hypot(*(plan.pose[:, :2] - at).T) > 3.2).all()
    assert not np.allclose(plan.pose, free.pose)


def test_voxels_that_move_are_let_pass_too() -> None:
    seen = road.observation(((14.0, 16.0, -10.0, -8.0),))
    flow = seen.flow_mps.copy()
    flow[..., 1] = 4.2
    plan = answer(replace(seen, flow_mps=flow))
    at = np.array([15.0, -9.0]) + plan.time_s[:, None] * [0.0, 4.2]
    assert (np.hypot(*(plan.pose[:, :2] - at).T) > 2.0).all()


def test_it_drives_no_faster_than_it_sees() -> None:
    fast = answer(road.observation(speed_mps=12.0), limit_mps=25.0)
    assert (np.diff(fast.pose[:, 0]) / 0.2).max() < 13.0, "25 m/s would be allowed; the grid ends at 28 m"


def test_the_same_is_answered_to_the_same() -> None:
    seen = road.observation(((14.0, 17.0, -0.4, 1.4),))
    assert answer(seen).pose.tobytes() == answer(seen).pose.tobytes()


def test_candidates_begin_where_the_ego_is_and_end_at_their_goals() -> None:
    route = road.straight() + [0.0, 0.7, 0.0]
    ways = candidates(course_of(route), 6.0, 8.0)
    assert set(ways.goal_m) == set(OFFSETS_M) and ways.pose.shape[1:] == (len(TIME_S), 3)
    first = np.hypot(*ways.pose[:, 0, :2].T)
    assert np.all(first < 6.0 * 0.2 + 0.3) and np.all(np.abs(ways.pose[:, 0, 1]) < 0.2)
    done = ways.s_m[:, -1] > 24.0
    assert done.any() and np.allclose(ways.left_m[done, -1], ways.goal_m[done], atol=1e-6)
    step = np.diff(ways.s_m, axis=1)
    assert np.all(step >= -1e-9) and np.all(ways.speed_mps <= 8.0 + 1e-9)
    # The heading is that of the way itself.
    quick = (np.hypot(*np.diff(ways.pose[..., :2], axis=1).T).T > 0.8)[:, 1:]
    course = np.arctan2(ways.pose[:, 2:, 1] - ways.pose[:, :-2, 1], ways.pose[:, 2:, 0] - ways.pose[:, :-2, 0])
    assert np.abs(course - ways.pose[:, 1:-1, 2])[quick].max() < 0.1


def test_still_clearance_is_that_of_the_slow_twin() -> None:
    seen = obstacles_of(road.observation(((10.0, 12.0, -1.0, 1.0),)), course_of(road.straight()), TIME_S)
    rng = np.random.default_rng(1)
    discs = rng.uniform([-7.0, -14.0], [27.0, 14.0], size=(3, 5, 4, 2)).astype(np.float32)  # [C, K, D, 2]
    fast = still_clearance_m(seen, np.moveaxis(discs, (3, 2), (0, 1)))
    for c in range(3):
        for k in range(5):
            slow = []
            for x, y in discs[c, k]:
                u, v = (x - seen.origin_m[0]) / 0.5, (y - seen.origin_m[1]) / 0.5
                i, j = int(u), int(v)
                a, b, f = u - i, v - j, seen.distance_m
                low = f[i, j] * (1 - b) + f[i, j + 1] * b
                slow.append(low * (1 - a) + (f[i + 1, j] * (1 - b) + f[i + 1, j + 1] * b) * a)
            assert fast[c, k] == pytest.approx(min(slow) - DISC_M, abs=1e-3)
    away = np.full((2, 1, 1, 1), 200.0, np.float32)
    assert still_clearance_m(seen, away)[0, 0] == pytest.approx(FAR_M - DISC_M)


def test_box_clearance_is_the_distance_to_the_box() -> None:
    boxes = Boxes(
        np.array([[5.0, 2.0, 0.6], [-3.0, 1.0, 0.0]]),
        np.array([[2.2, 0.9], [0.4, 0.3]]),
        np.array([[1.0, -2.0], [0.0, 0.0]]),
    )
    rng = np.random.default_rng(2)
    discs = rng.uniform(-8, 8, size=(2, 4, 6, 3)).astype(np.float32)  # [2, D, C, K]
    times = np.array([0.4, 0.8, 1.2])
    fast = box_clearance_m(boxes, discs, times)
    for c in range(6):
        for k in range(3):
            gaps = []
            for pose, half, velocity in zip(boxes.pose, boxes.half_m, boxes.velocity_mps, strict=True):
                u, v = np.meshgrid(np.linspace(-half[0], half[0], 200), np.linspace(-half[1], half[1], 200))
                cos, sin = np.cos(pose[2]), np.sin(pose[2])
                x = pose[0] + times[k] * velocity[0] + u * cos - v * sin
                y = pose[1] + times[k] * velocity[1] + u * sin + v * cos
                gaps += [np.hypot(x - discs[0, d, c, k], y - discs[1, d, c, k]).min() for d in range(4)]
            assert fast[c, k] == pytest.approx(min(gaps) - DISC_M, abs=0.03)
    nobody = Boxes(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 2)))
    assert (box_clearance_m(nobody, discs, times) == FAR_M).all()
