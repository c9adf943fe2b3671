"""Laws of the bird's-eye raster: what is painted, and that only the ego's own view of it counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dcgen.errors import MapError
from dcgen.types import AgentTracks, GridSpec, nano_grid, pose_matrix, wrap_angle
from scenarios.chunk import chunk_conditions
from scenarios.layout import (
    CROSSWALK,
    JUNCTION,
    MARKING,
    ROAD,
    SHOULDER,
    SIDEWALK,
    RoadRaster,
    crop_static,
    draw_agents,
    rasterise,
)
from scenarios.roadmap import Crosswalk, Junction, Lane, RoadMap
from tests.reference import crop_static_numpy, draw_agents_numpy

GRID = GridSpec((13, 17, 5), (0.8, 0.8, 0.8), (-5.2, -6.4, -2.0))


def turned(points, angle, shift=(0.0, 0.0, 0.0)):
    c, s = np.cos(angle), np.sin(angle)
    out = np.array(points, float)
    out[..., 0], out[..., 1] = c * points[..., 0] - s * points[..., 1], s * points[..., 0] + c * points[..., 1]
    return out + np.asarray(shift)[: out.shape[-1]]


def lane(
    lane_id, kind, y, width, z=0.0, road=1, angle=0.0, shift=(0.0, 0.0, 0.0), junction=-1, mark="solid", x=(-60, 60)
):
    """A straight lane along x at y, turned and shifted with its world."""
    n = int(x[1] - x[0]) + 1
    centre = np.stack([np.linspace(*x, n), np.full(n, float(y)), np.full(n, float(z))], axis=1)
    heading = 0.0
    if lane_id > 0:
        centre, heading = centre[::-1], np.pi
    left = centre + np.array([0, width / 2 * (1 if lane_id < 0 else -1), 0])
    right = 2 * centre - left
    return Lane(
        f"{road}:0:{lane_id}", road, lane_id, kind, turned(centre, angle, shift), turned(left, angle, shift),
        turned(right, angle, shift), np.full(n, float(width)), np.full(n, float(wrap_angle(heading + angle))),
        junction, 13.9, left_marking="broken" if abs(lane_id) == 1 else mark, right_marking=mark,
    )  # fmt: skip


def street(angle=0.0, shift=(0.0, 0.0, 0.0)):
    """Two driving lanes, a sidewalk on one side alone, a crossing road 6 m above, a crosswalk."""
    args = {"angle": angle, "shift": shift}
    lanes = [
        lane(-1, "driving", -1.75, 3.5, **args),
        lane(1, "driving", 1.75, 3.5, **args),
        lane(-2, "sidewalk", -4.75, 2.5, **args),
        lane(-1, "driving", 12.0, 4.0, z=6.0, road=2, angle=angle + np.pi / 2, shift=shift),
    ]
    crossing = np.array([[3.0, -3.5, 0.0], [6.0, -3.5, 0.0], [6.0, 3.5, 0.0], [3.0, 3.5, 0.0]])
    points = np.concatenate([each.centre_m for each in lanes])
    bounds = (*points[:, :2].min(axis=0), *points[:, :2].max(axis=0))
    return RoadMap(
        "street", {each.id: each for each in lanes}, (), (Crosswalk(turned(crossing, angle, shift)),), (), bounds
    )


def some_agents(frames=3):
    rng = np.random.default_rng(5)
    n = 9
    return AgentTracks(
        np.arange(n), rng.choice(np.array([10, 11, 4, 1], np.uint8), n), rng.uniform(0.4, 5, (n, 3)).astype(np.float32),
        np.concatenate([rng.uniform(-7, 7, (n, frames, 2)), rng.uniform(-9, 9, (n, frames, 1))], axis=2),
        rng.uniform(-4, 4, (n, frames)).astype(np.float32), rng.uniform(0, 15, (n, frames)).astype(np.float32),
        rng.random((n, frames)) < 0.8,
    )  # fmt: skip


def test_surfaces_lie_where_their_lanes_do():
    raster = rasterise(street())

    def at(x, y, level=0):
        i, j = np.floor((np.array([x, y]) - raster.origin_m) / raster.cell_m).astype(int)
        return int(raster.flags[level, i, j]), raster.height_cm[level, i, j]

    assert at(20.1, -1.7)[0] == ROAD and at(20.1, 3.3)[0] & ROAD
    assert at(20.1, -4.7)[0] == SIDEWALK and at(20.1, 4.7)[0] == 0
    assert at(4.5, 0.9)[0] == ROAD | CROSSWALK and at(7.0, 0.9)[0] == ROAD
    assert at(-11.9, 40.1) == (ROAD, 600), "a road that crosses nothing here is on level 0"
    assert at(-11.9, 0.9)[0] == ROAD and at(-11.9, 0.9)[1] == 0, "the lower road goes on below the deck"
    assert at(-11.9, 0.9, level=1) == (ROAD, 600) and at(20.1, 0.9, level=1)[0] == 0


def test_marks_are_thin_solid_lines_and_three_metre_dashes():
    raster = rasterise(street())
    j = lambda y: int(np.floor((y - raster.origin_m[1]) / raster.cell_m))  # noqa: E731
    i0, i1 = (int((x - raster.origin_m[0]) / raster.cell_m) for x in (-40, -16))
    middle = (raster.flags[0, i0:i1, j(0.0) - 1 : j(0.0) + 1] & MARKING > 0).any(axis=1)
    edge = raster.flags[0, i0:i1, j(-3.5) : j(-3.5) + 2] & MARKING > 0
    assert edge.any(axis=1).all(), "a solid line has no gaps"
    assert 0.4 < middle.mean() < 0.6, "dashes of 3 m and gaps of 3 m"
    runs = np.diff(np.flatnonzero(np.diff(middle.astype(int)) != 0))
    assert set(runs[:-1]) <= {14, 15, 16}
    assert (raster.flags[0] & MARKING > 0)[i0:i1].sum(axis=1).max() <= 8, "lines are lines, not lanes"
    assert not np.any((raster.flags & MARKING > 0) & (raster.flags & ROAD == 0))


def test_heights_follow_a_slope():
    sloped = street()
    each = sloped.lanes["1:0:-1"]
    up = np.array([0, 0, 0.05])
    z = lambda p: p + up * p[:, :1]  # noqa: E731
    climbing = replace(each, centre_m=z(each.centre_m), left_m=z(each.left_m), right_m=z(each.right_m))
    raster = rasterise(replace(sloped, lanes={each.id: climbing}))
    i, j = np.nonzero(raster.flags[0] & ROAD)
    x = raster.origin_m[0] + (i + 0.5) * raster.cell_m
    assert np.abs(raster.height_cm[0, i, j] - 5.0 * x).max() <= 0.51


def test_junction_corners_and_islands_are_paved_and_blocks_are_not():
    """Four arms whose lanes leave a 1.5 m island in the middle; the block corners stay bare."""
    lanes = []
    for k in range(4):
        for lane_id, y in ((-1, -2.5), (1, 2.5)):
            arm = lane(lane_id, "driving", y, 3.5, road=10 + k, angle=k * np.pi / 2, junction=7, x=(0, 15))
            lanes.append(arm)
    outline = np.array([[-4.2, -4.2], [4.2, -4.2], [4.2, 4.2], [-4.2, 4.2]]) * 3.4
    road_map = RoadMap("x", {each.id: each for each in lanes}, (Junction(7, outline),), (), (), (-15, -15, 15, 15))
    raster = rasterise(road_map)
    centre = np.floor((np.array([0.1, 0.1]) - raster.origin_m) / 0.2).astype(int)
    i, j = centre
    assert raster.flags[0, i, j] == ROAD | JUNCTION
    i, j = np.floor((np.array([10.0, 10.0]) - raster.origin_m) / 0.2).astype(int)
    assert raster.flags[0, i, j] == 0


def test_fast_crop_equals_its_slow_twin_bit_for_bit():
    rng = np.random.default_rng(3)
    flags = rng.integers(0, 256, (2, 61, 83)).astype(np.uint8) * (rng.random((2, 61, 83)) < 0.7)
    raster = RoadRaster(np.array([-7.3, -9.1]), 0.2, flags.astype(np.uint8),
                        rng.integers(-500, 500, flags.shape).astype(np.int16))  # fmt: skip
    route = np.cumsum(rng.normal(size=(12, 2)) * 2, axis=0)
    for yaw, z in ((0.0, 0.0), (0.71, 1.3), (-2.2, -0.8)):
        anchor = pose_matrix(-1.37, -1.05, z, yaw)
        fast, slow = crop_static(raster, anchor, GRID, route), crop_static_numpy(raster, anchor, GRID, route)
        assert fast.dtype == slow.dtype == np.float32 and (fast[:5] > 0).any()
        np.testing.assert_array_equal(fast, slow)


def test_fast_agents_equal_their_slow_twin_bit_for_bit():
    agents = some_agents()
    for yaw in (0.0, 1.1, -2.9):
        anchor = pose_matrix(0.3, -0.9, 0.7, yaw)
        fast, slow = draw_agents(agents, anchor, GRID), draw_agents_numpy(agents, anchor, GRID)
        assert (fast[:, :3] > 0).any()
        np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("angle", [np.pi / 2, -2.0, 0.3])
def test_turning_and_moving_the_world_changes_no_condition(angle):
    """Map, poses and agents turned together: the ego sees the same."""
    shift = np.array([310.3, -77.9, 12.5])
    grid = nano_grid()
    poses = np.stack([pose_matrix(1.1 * t - 3, -1.7 + 0.05 * t, 0.0, 0.04 * t) for t in range(5)])
    agents = some_agents(frames=5)
    world = pose_matrix(*shift, angle)
    moved = replace(
        agents,
        pose=np.concatenate([turned(agents.pose[..., :2], angle, shift), agents.pose[..., 2:] + angle], axis=2),
        z_m=agents.z_m + np.float32(shift[2]),
    )
    route = np.stack([np.linspace(-50, 50, 101), np.full(101, -1.75)], axis=1)
    here = chunk_conditions(rasterise(street()), poses, 0.2, agents, grid, route)
    there = chunk_conditions(
        rasterise(street(angle, shift)), world @ poses, 0.2, moved, grid, turned(route, angle, shift)
    )
    np.testing.assert_allclose(here.trajectory, there.trajectory, atol=1e-5)
    assert here.command == there.command
    np.testing.assert_allclose(here.layout_static[5], there.layout_static[5], atol=1e-5)
    difference = np.abs(here.layout_static - there.layout_static)
    for channel in (0, 3, 4):  # cells of 0.2 m fall otherwise: only at borders, and little
        assert difference[channel].mean() < 0.006 and (difference[channel] > 0.5).mean() < 0.001
    assert difference[1].mean() < 0.012
    assert difference[6].max() < 0.011, "heights agree to a centimetre's rounding"
    unequal = np.abs(here.layout_agents[:, :3] - there.layout_agents[:, :3]) > 1e-6
    assert unequal.mean() < 1e-3, "only sub-points on an edge may fall to the other side"
    both = (here.layout_agents[:, :3].max(axis=1) > 0) & ~unequal.any(axis=1)
    for channel in (3, 4, 5):
        np.testing.assert_allclose(
            here.layout_agents[:, channel][both], there.layout_agents[:, channel][both], atol=1e-5
        )


def test_moving_the_world_by_whole_cells_changes_nothing_at_all():
    poses = np.stack([pose_matrix(t, -1.75, 0.0, 0.0) for t in range(3)])
    agents = AgentTracks.empty(3)
    here = chunk_conditions(rasterise(street()), poses, 0.2, agents, GRID, None)
    there = chunk_conditions(
        rasterise(street(shift=(64.0, -32.0, 4.0))), pose_matrix(64.0, -32.0, 4.0, 0.0) @ poses, 0.2, agents, GRID, None
    )
    np.testing.assert_allclose(here.layout_static, there.layout_static, atol=1e-6)
    np.testing.assert_allclose(here.trajectory, there.trajectory, atol=1e-6)


def test_of_two_levels_the_ego_sees_its_own():
    raster = rasterise(street())
    below = crop_static(raster, pose_matrix(-12.0, -1.0, 0.0, 0.0), nano_grid(), None)
    above = crop_static(raster, pose_matrix(-12.0, -1.0, 6.0, 0.0), nano_grid(), None)
    column = (32, 33)
    assert below[0][column] == above[0][column] == 1.0
    assert below[6][column] == above[6][column] == 0.0, "the height that counts is that of the ego's own level"
    assert below[0][32 - 12, 32] == 1.0 and above[0][32 - 12, 32] == 0.0, "the road 6 m below is not there"


def test_heading_is_relative_to_the_ego_and_left_is_positive():
    agents = AgentTracks(
        np.array([1]), np.array([10], np.uint8), np.array([[4.0, 2.0, 1.5]], np.float32), np.array([[[3.0, 0.0, 1.0]]]),
        np.zeros((1, 1), np.float32), np.array([[5.0]], np.float32), np.ones((1, 1), bool),
    )  # fmt: skip
    drawn = draw_agents(agents, pose_matrix(0, 0, 0, 1.0 - np.pi / 2), nano_grid())
    covered = drawn[0, 0] > 0.99
    np.testing.assert_allclose(drawn[0, 3][covered], 0.0, atol=1e-6)
    np.testing.assert_allclose(drawn[0, 4][covered], 1.0, atol=1e-6)
    np.testing.assert_allclose(drawn[0, 5][covered], 0.5)
    area = drawn[0, 0].sum() * 0.64
    assert abs(area - 8.0) < 0.6, "the footprint is the box: fractions add up to its area"


def test_a_map_too_large_to_draw_is_refused_and_a_part_of_it_is_not():
    far = replace(street(), bounds_m=(-1e5, -1e5, 1e5, 1e5))
    with pytest.raises(MapError, match="too many"):
        rasterise(far)
    part = rasterise(far, bounds_m=(0.0, -10.0, 31.0, 10.0))
    assert part.flags.shape[1:] == (155, 100) and part.bounds_m == pytest.approx((0.0, -10.0, 31.0, 10.0))
    whole = rasterise(street())
    i, j = np.round((part.origin_m - whole.origin_m) / 0.2).astype(int)
    np.testing.assert_array_equal(part.flags[0], whole.flags[0, i : i + 155, j : j + 100])


@pytest.mark.parametrize("town", ["Town01", "Town04", "Town10HD"])
def test_real_towns(shared_data, town):
    """Every driving lane's centre is road at its own height; overpasses need the second level."""
    from scenarios.roads import read_map

    road_map = read_map(shared_data / "maps" / f"{town}.xodr")
    raster = rasterise(road_map)
    centres = np.concatenate([each.centre_m[1:-1] for each in road_map.lanes.values() if each.is_driving])
    i, j = np.floor((centres[:, :2] - raster.origin_m) / raster.cell_m).astype(int).T
    right = [
        (raster.flags[level, i, j] & ROAD > 0) & (np.abs(raster.height_cm[level, i, j] / 100 - centres[:, 2]) < 0.3)
        for level in range(len(raster.flags))
    ]
    assert np.any(right, axis=0).mean() > 0.999
    assert len(raster.flags) == (2 if town == "Town04" else 1)
    walks = np.concatenate([each.centre_m[1:-1] for each in road_map.lanes.values() if each.kind == "sidewalk"])
    i, j = np.floor((walks[:, :2] - raster.origin_m) / raster.cell_m).astype(int).T
    assert (raster.flags[0, i, j] & (SIDEWALK | ROAD) > 0).mean() > 0.98
    if town == "Town10HD":
        assert (raster.flags & CROSSWALK > 0).any() and (raster.flags & SHOULDER > 0).any()


def test_a_route_on_another_level_is_not_drawn():
    """A route with heights is seen only where it lies within the grid's z range."""
    x = np.linspace(-20, 20, 41)
    climbing = np.stack([x, np.zeros(41), np.where(x < 0, 0.0, 6.0)], axis=1)
    seen = crop_static(None, pose_matrix(0, 0, 0, 0), nano_grid(), climbing)[5]
    assert seen[8:30, 32].min() > 0.9 and not seen[36:].any()
    flat = crop_static(None, pose_matrix(0, 0, 0, 0), nano_grid(), climbing[:, :2])[5]
    assert flat[36:50, 32].min() > 0.9
