"""What stands and what moves in an observation, beside slow twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.planner import EGO_SIZE_M
from bridges.planners.course import course_of
from bridges.planners.obstacles import LEAST_SIGHT_M, obstacles_of, sight_m, solid_voxels, still_and_moving
from dcgen.types import SURFACES, UNKNOWN, Labels, Semantics
from tests.bridges.planners import road

TIMES = np.array([0.4, 0.8, 2.0])


def slow_solid(labels: Labels) -> np.ndarray:
    """Voxel by voxel."""
    out = np.zeros(labels.shape, bool)
    tall = int(np.ceil(EGO_SIZE_M[2] / road.GRID.voxel_m[2]))
    flat = int(-road.GRID.origin_m[2] // road.GRID.voxel_m[2])
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            ground = [k for k in range(labels.shape[2]) if labels[i, j, k] in tuple(SURFACES)]
            top = max(ground) if ground else flat
            for k in range(top + 1, min(top + 1 + tall, labels.shape[2])):
                out[i, j, k] = labels[i, j, k] not in (*SURFACES, Semantics.FREE, UNKNOWN)
    return out


def test_solid_voxels_are_those_of_the_slow_twin() -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 0, 0, 1, 4, 6, 8, 10, 255], size=road.GRID.shape).astype(np.uint8)
    assert np.array_equal(solid_voxels(labels, road.GRID), slow_solid(labels))


def test_what_hangs_above_the_roof_is_not_in_the_way() -> None:
    labels = np.zeros(road.GRID.shape, np.uint8)
    labels[..., 1] = Semantics.ROAD
    labels[40, 30, 5:] = Semantics.VEGETATION
    assert not solid_voxels(labels, road.GRID).any()
    labels[40, 30, 4] = Semantics.VEGETATION
    assert solid_voxels(labels, road.GRID).sum() == 1


def test_flow_parts_what_moves_from_what_stands() -> None:
    seen = road.observation(((10.0, 12.0, -1.0, 1.0), (5.0, 6.0, 6.0, 8.0)))
    flow = seen.flow_mps.copy()
    flow[36:40, :, :, 1] = 2.0  # x from 10 m on
    still, moving = still_and_moving(replace(seen, flow_mps=flow))
    centres = road.GRID.centres_m()[:, :, 0]
    assert moving.sum() == 4 * 4 and still.sum() == 2 * 4
    assert centres[moving][:, 0].min() > 10 and centres[still][:, 0].max() < 6


def test_history_fills_what_is_unknown_now() -> None:
    seen = road.observation(((10.0, 12.0, -1.0, 1.0),))
    labels, poses = seen.occupancy.copy(), seen.now_se3_ego.copy()
    labels[-1, 30:, :, :] = UNKNOWN
    poses[0, 0, 3] = -3.0  # the frame before was made 3 m further back
    still, _ = still_and_moving(replace(seen, occupancy=labels, now_se3_ego=poses))
    x = road.GRID.centres_m()[:, :, 0, 0][still]
    assert still.sum() == 16 and 7.0 < x.min() < x.max() < 9.0
    still, _ = still_and_moving(replace(seen, now_se3_ego=poses))
    assert road.GRID.centres_m()[:, :, 0, 0][still].min() > 10.0, "what is known now is believed"


def test_moving_voxels_of_an_agent_are_the_agents() -> None:
    seen = road.observation(((12.0, 15.0, -1.0, 1.0), (20.0, 21.0, -1.0, 0.0)), road.agents((13.5, 0.0, 0.0, 3.0, 0.0)))
    flow = seen.flow_mps.copy()
    flow[..., 0] = 3.0
    found = obstacles_of(replace(seen, flow_mps=flow), course_of(seen.route), TIMES)
    assert np.all(found.distance_m == 50.0)
    agent, *lumps = found.boxes.pose
    assert np.allclose(agent[:2], [13.5, 0.0]) and lumps and all(abs(lump[0] - 20.5) < 0.6 for lump in lumps)
    assert np.allclose(found.boxes.velocity_mps, [3.0, 0.0])
    assert np.allclose(found.boxes.at(TIMES)[2] - found.boxes.pose[:, :2], [6.0, 0.0])


def test_the_field_is_the_distance_to_the_nearest_centre() -> None:
    seen = road.observation(((10.0, 12.0, -1.0, 1.0),))
    found = obstacles_of(seen, course_of(seen.route), TIMES)
    still, _ = still_and_moving(seen)
    centres = road.GRID.centres_m()[:, :, 0, :2]
    slow = np.linalg.norm(centres[:, :, None] - centres[still], axis=-1).min(axis=-1)
    assert np.allclose(found.distance_m, slow, atol=1e-4)


def test_sight_ends_at_the_grid_and_where_nothing_is_known() -> None:
    seen = road.observation()
    course = course_of(seen.route)
    assert 27.5 <= sight_m(seen, course) <= 28.5  # the grid ends at 28 m
    labels = seen.occupancy.copy()
    labels[-1, 50:] = UNKNOWN  # from 17 m on
    assert 16.5 <= sight_m(replace(seen, occupancy=labels), course) <= 17.5
    nothing = np.full_like(labels, UNKNOWN)
    assert sight_m(replace(seen, occupancy=nothing), course) == LEAST_SIGHT_M
