"""What LiDARs see: points on the surfaces that they claim, trigonometry, occlusion, and the kernels' twins."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dcgen.errors import WorldError
from dcgen.types import MOVABLE, PALETTE, AgentTracks, GridSpec, Semantics, pose_matrix
from scenarios.world.cut.voxelize import DECK_CM, boxes_of, cut_clip, cut_frame
from scenarios.world.sensor import cast as lidar_cast
from scenarios.world.sensor import lidar
from scenarios.world.sensor.cast import Beams, cast_rays
from scenarios.world.sensor.lidar import (
    LidarSpec,
    carlasc_lidars,
    lidar_rig,
    observe_clip,
    roof_lidar,
    seen_voxels,
    sweep_frame,
    sweep_picture,
)
from scenarios.world.store import World
from scenarios.world.town.tile import TownTile

RIG = LidarSpec(13, 0.3, -0.45, 37, 14.0, ((0.0, 0.0, 1.8), (1.0, -3.0, 3.1)))
ONE = replace(RIG, mounts_m=((0.0, 0.0, 1.8),))
FINE = LidarSpec(64, math.radians(2.0), math.radians(-24.8), 720, 30.0, ((0.0, 0.0, 1.8),))
GRID = GridSpec((42, 37, 11), (0.4, 0.5, 0.3), (-8.4, -9.25, -0.6))
NOBODY = AgentTracks.empty(1)
POSE = pose_matrix(0.3, -0.2, 0.0, 0.4)


def flat_tile(levels: int = 1, shape: tuple[int, int] = (220, 200)) -> TownTile:
    kind = np.zeros((levels, *shape), np.uint8)
    kind[0] = Semantics.GROUND
    spans = [np.zeros((3, *shape), dtype) for dtype in (np.uint8, np.int16, np.int16)]
    return TownTile((-22.0, -20.0), 0.2, 0.0, kind, np.zeros((levels, *shape), np.int16), *spans)


def add_block(
    tile: TownTile, low: tuple[float, float], high: tuple[float, float], top_m: float, kind: Semantics
) -> None:
    """A solid from the ground up over the cells between two corners."""
    (x0, y0), (x1, y1) = (tile.cell_of(np.array(corner) + 1e-6) for corner in (low, high))
    tile.span_class[0, x0:x1, y0:y1] = kind
    tile.span_hi_cm[0, x0:x1, y0:y1] = round(top_m * 100)


def cluttered_tile(seed: int) -> TownTile:
    """Rough ground, pieces of deck, and columns of up to three spans."""
    rng, tile = np.random.default_rng(seed), flat_tile(2)
    shape = tile.cells
    tile.surface_class[0] = rng.choice([6, 7, 8], shape)
    tile.surface_cm[0] = rng.integers(-9, 9, shape)
    tile.surface_class[1] = np.where(rng.random(shape) < 0.03, rng.choice([6, 8], shape), 0)
    tile.surface_cm[1] = rng.integers(250, 500, shape)
    kinds = np.where(rng.random(tile.span_class.shape) < 0.01, rng.choice([1, 2, 3, 5, 9], tile.span_class.shape), 0)
    tile.span_class[:] = np.take_along_axis(kinds, np.argsort(kinds == 0, axis=0, kind="stable"), axis=0)
    tile.span_lo_cm[:] = rng.integers(-50, 300, tile.span_class.shape)
    tile.span_hi_cm[:] = tile.span_lo_cm + rng.integers(1, 400, tile.span_class.shape)
    return tile


def crowd(seed: int, n: int = 9, frames: int = 1) -> AgentTracks:
    """Road users of all classes in a ring around the origin; some are cars with a cabin."""
    rng = np.random.default_rng(seed)
    angle, gap = rng.uniform(0, 7, (n, frames)), rng.uniform(5, 11, (n, frames))
    size = np.where(np.arange(n)[:, None] % 3 == 0, (4.4, 1.8, 1.5), rng.uniform(0.5, 2.5, (n, 3)))
    return AgentTracks(
        100 + np.arange(n),
        np.array([MOVABLE[1 if k % 3 == 0 else k % 2 * 2] for k in range(n)], np.uint8),
        size.astype(np.float32),
        np.stack([gap * np.cos(angle), gap * np.sin(angle), rng.uniform(-3, 3, (n, frames))], axis=2),
        rng.uniform(-0.1, 0.1, (n, frames)).astype(np.float32),
        np.zeros((n, frames), np.float32),
        np.ones((n, frames), bool),
    )


def one_car(x: float, y: float, yaw: float = 0.0) -> AgentTracks:
    car = crowd(0, 1)
    return replace(car, pose=np.array([[[x, y, yaw]]]), z_m=np.zeros((1, 1), np.float32))


def cast(tile: TownTile, agents: AgentTracks = NOBODY, pose=POSE, rig: LidarSpec = RIG, fast: bool = True):
    return cast_rays(tile, agents, pose, rig, np.random.default_rng(0), fast)


def look(tile: TownTile, rig: LidarSpec, agents: AgentTracks = NOBODY, pose=POSE, grid: GridSpec = GRID):
    """Labels [X, Y, Z] of the ego's own grid, and what the rig sees of them."""
    labels = cut_frame(tile, agents, 0, pose, grid).labels[0]
    return labels, seen_voxels(cast(tile, agents, pose, rig), rig, pose, labels, grid, pose)


@pytest.mark.parametrize("seed", range(4))
def test_the_kernels_equal_their_twins(seed: int) -> None:
    tile, agents = cluttered_tile(seed), crowd(seed)
    pose, anchor = pose_matrix(0.3 * seed, -0.2, 0.1, 0.5 * seed * np.pi / 3), pose_matrix(1.0, 0.5, 0.2, 0.3)
    fast, slow = (cast(tile, agents, pose, RIG, each) for each in (True, False))
    for one, other in zip(fast.turns, slow.turns, strict=True):
        for name in ("distance_m", "class_id", "incidence", "box"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
    hits = np.concatenate([turn.class_id[turn.distance_m > 0] for turn in fast.turns])
    assert len(np.unique(hits)) > 7 and any((turn.box >= 0).any() for turn in fast.turns)
    labels = cut_clip(tile, agents, anchor, GRID).labels[0]
    seen = [seen_voxels(fast, RIG, pose, labels, GRID, anchor, each) for each in (True, False)]
    assert np.array_equal(*seen) and seen[0][labels > 0].any() and seen[0][labels == 0].any()


def test_ranges_over_flat_ground_are_trigonometry() -> None:
    turn = cast(flat_tile(), rig=ONE).turns[0]
    elevation = np.linspace(ONE.lower_rad, ONE.upper_rad, ONE.channels)
    down = elevation < -math.asin(1.8 / ONE.range_m)
    assert 3 < down.sum() < ONE.channels
    along = turn.distance_m / np.cos(elevation)
    assert np.allclose(along[:, down], 1.8 / np.sin(-elevation[down]))
    assert np.allclose(along[:, ~down], ONE.range_m) and not turn.class_id[:, ~down].any()
    assert (turn.class_id[:, down] == Semantics.GROUND).all()
    assert np.allclose(turn.incidence[:, down], np.sin(-elevation[down]))


def test_a_slope_in_steps_reflects_like_a_slope() -> None:
    tile = flat_tile()
    tile.surface_cm[0] = np.round(-2.0 * (np.arange(220) - 111))[:, None]  # falls 10 % along x
    turn = cast(tile, pose=pose_matrix(0.3, 0.1, 0.0, 0.0), rig=ONE).turns[0]
    elevation = np.linspace(ONE.lower_rad, ONE.upper_rad, ONE.channels)
    assert np.allclose(turn.incidence[0, 0], np.sin(-elevation[0] - math.atan(0.1)), atol=1e-3)
    assert turn.distance_m[0, 0] > turn.distance_m[ONE.azimuths // 2, 0] + 0.5


def test_points_lie_on_what_they_claim() -> None:
    tile, agents = cluttered_tile(5), crowd(5)
    rig = replace(FINE, azimuths=181, mounts_m=((0.0, 0.0, 1.8), (0.5, -2.0, 2.4)))
    sweep = sweep_frame(tile, agents, POSE, rig)
    world = sweep.points[:, :3].astype(np.float64) @ POSE[:3, :3].T + POSE[:3, 3]
    assert len(world) > 10_000
    static = sweep.agent_id < 0
    gap = np.full(len(world), np.inf)
    for nudge in np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) * 1e-5:  # points may lie between cells
        x, y = tile.cell_of(world[:, :2] + nudge)
        cell = (world[:, :2] - tile.origin_m) / tile.cell_m
        beside = np.abs(cell - np.round(cell)).min(axis=1) * tile.cell_m
        for kind, low, high in solids_of(tile, x, y):
            on_face = np.minimum(np.abs(world[:, 2] - low), np.abs(world[:, 2] - high))
            on_side = np.where((world[:, 2] > low - 1e-3) & (world[:, 2] < high + 1e-3), beside, np.inf)
            gap = np.where(kind == sweep.class_id, np.fmin(gap, np.minimum(on_face, on_side)), gap)
    assert gap[static].max() < 1e-3
    for row in np.flatnonzero(np.isin(agents.id, sweep.agent_id)):
        mine = sweep.agent_id == agents.id[row]
        assert (sweep.class_id[mine] == agents.class_id[row]).all()
        assert off_box(agents, row, world[mine]).max() < 2e-3
    assert np.isin(sweep.agent_id[~static], agents.id).all() and (~static).sum() > 100
    assert np.isin(sweep.class_id[static], MOVABLE).sum() == 0
    assert (sweep.points[:, 3] >= 0).all() and (sweep.points[:, 3] <= 1).all()


def solids_of(tile: TownTile, x, y):
    """(class, bottom, top) of every solid in some cells, sides and undersides of decks apart; NaN where none is."""
    terrain, deck = tile.surface_cm[:, x, y] / 100.0
    there = np.where(tile.surface_class[1, x, y] > 0, 0.0, np.nan)
    yield tile.surface_class[0, x, y], np.full(len(x), -np.inf), terrain
    yield tile.surface_class[1, x, y], deck - lidar_cast.STEP_M + there, deck + there
    yield np.full(len(x), Semantics.OTHER), deck - DECK_CM / 100 + there, deck - lidar_cast.STEP_M + there
    for s in range(3):
        yield tile.span_class[s, x, y], tile.span_lo_cm[s, x, y] / 100, tile.span_hi_cm[s, x, y] / 100


def off_box(agents: AgentTracks, row: int, world) -> np.ndarray:
    """How far points lie from the hull or the cabin of an agent, whichever is nearer."""
    around = GridSpec((1, 1, 1), (200.0, 200.0, 1.0), (-100.0, -100.0, 0.0))
    boxes = boxes_of(agents, np.eye(4), around)
    b = int(np.flatnonzero(boxes.row == row)[0])
    x, y, cos, sin, half_l, half_w, rear, front = boxes.shape_m[b]
    bottom, hull, cabin = boxes.heights_mm[b] / 1000
    dx, dy = world[:, 0] - x, world[:, 1] - y
    local = np.stack([dx * cos + dy * sin, dy * cos - dx * sin, world[:, 2]], axis=1)
    gaps = []
    for back, ahead, top in ((-half_l, half_l, hull), (max(rear, -half_l), min(front, half_l), cabin)):
        low, high = np.array([back, -half_w, bottom]), np.array([ahead, half_w, top])
        outside = np.linalg.norm(np.maximum(np.maximum(low - local, local - high), 0), axis=1)
        inside = np.minimum(local - low, high - local).min(axis=1)
        gaps.append(np.where(inside > 0, inside, outside))
    return np.minimum(*gaps)


def test_turning_world_and_ego_together_changes_nothing() -> None:
    tile, agents = cluttered_tile(2), crowd(2)
    x0, y0 = tile.origin_m
    turned = TownTile(
        (-(y0 + tile.cells[1] * tile.cell_m), x0),
        tile.cell_m,
        tile.z0_m,
        *(
            np.ascontiguousarray(np.rot90(getattr(tile, name), axes=(1, 2))).astype(getattr(tile, name).dtype)
            for name in ("surface_class", "surface_cm", "span_class", "span_lo_cm", "span_hi_cm")
        ),
    )
    pose = agents.pose @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + (0, 0, np.pi / 2)
    before = cast(tile, agents, POSE).turns
    after = cast(turned, replace(agents, pose=pose), pose_matrix(0.2, 0.3, 0.0, 0.4 + np.pi / 2)).turns
    for one, other in zip(before, after, strict=True):
        same = np.isclose(one.distance_m, other.distance_m, atol=1e-6) & (one.class_id == other.class_id)
        assert same.mean() > 0.995  # a ray through a corner of cells may fall to either side
        assert np.allclose(one.incidence[same], other.incidence[same], atol=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 1.1, -2.5])
def test_what_stands_on_the_left_has_positive_y(yaw: float) -> None:
    pose = pose_matrix(0.3, -0.2, 0.0, yaw)
    x, y, _ = (pose @ [3.0, 6.0, 0.0, 1.0])[:3]
    sweep = sweep_frame(flat_tile(), one_car(x, y, yaw), pose, FINE)
    car = sweep.points[sweep.agent_id == 100]
    assert len(car) > 100 and np.allclose(car[:, 1].min(), 6.0 - 0.9, atol=0.01)
    assert abs(car[:, 0].mean() - 3.0) < 1.0 and car[:, 2].max() < 1.5 + 1e-3
    picture = sweep_picture(sweep, 20.0, 0.25)
    rows, columns = np.nonzero((picture == PALETTE[Semantics.VEHICLE]).all(axis=2))
    assert rows.max() < 80 < columns.mean()


def test_a_wall_hides_what_stands_behind_it() -> None:
    tile, car = flat_tile(), one_car(8.0, 0.0)
    assert (sweep_frame(tile, car, np.eye(4), FINE).agent_id == 100).sum() > 50
    add_block(tile, (4.0, -5.0), (4.4, 5.0), 3.0, Semantics.BARRIER)
    hidden = sweep_frame(tile, car, np.eye(4), FINE)
    assert not (hidden.agent_id == 100).any() and (hidden.class_id == Semantics.BARRIER).sum() > 500


def test_a_wall_is_observed_on_its_front_and_hides_what_lies_behind() -> None:
    tile = flat_tile()
    add_block(tile, (5.2, -5.0), (6.8, 5.0), 2.4, Semantics.BUILDING)  # four voxels thick
    labels, seen = look(tile, FINE, pose=np.eye(4))
    wall = labels == Semantics.BUILDING
    x = np.flatnonzero(wall.any(axis=(1, 2)))
    across = slice(14, 23)  # y from -2.25 to 2.25 m
    top = np.flatnonzero(wall[x[0], 18])
    low = top[:-2]  # the upper ones are above the rays' fan
    assert len(x) == 4 and len(low) > 4
    assert seen[x[0], across, low[0] : low[-1] + 1].all()
    assert not seen[x[1] :, across].any()  # inside the wall, behind it, and the ground there
    assert (labels[31 : x[0], across, low[0] :] == Semantics.FREE).all()
    assert seen[31 : x[0], across, low[0] : low[-1] + 1].all()
    ground = labels[31 : x[0], across] == Semantics.GROUND
    assert ground.any() and seen[31 : x[0], across][ground].all()


@pytest.mark.parametrize("floor_m", [-0.6, -0.75, -0.599, -0.601])
def test_flat_ground_is_seen_and_nothing_below_it(floor_m: float) -> None:
    """Wherever the ground lies in its voxel, on a face between two as well."""
    grid = GridSpec((40, 36, 9), (0.4, 0.4, 0.3), (2.0, -7.2, floor_m))
    labels, seen = look(flat_tile(), replace(FINE, channels=512, azimuths=1500), grid=grid)
    ground = labels == Semantics.GROUND
    layer = int(np.flatnonzero(ground.any(axis=(0, 1)))[0])
    assert not seen[:, :, :layer].any()
    rings = np.hypot(*np.meshgrid(grid.centres_m()[:, 0, 0, 0], grid.centres_m()[0, :, 0, 1], indexing="ij"))
    assert seen[:, :, layer][(rings > 4.3) & (rings < 9.0)].all() and ground[:, :, layer].all()


def test_free_voxels_are_seen_exactly_where_rays_pass() -> None:
    """Sparse rays are not thinned: all of them are followed, and they are sampled here every 2 mm."""
    tile, agents = cluttered_tile(3), crowd(3)
    rig = replace(RIG, azimuths=23, channels=7)
    labels, seen = look(tile, rig, agents)
    passed = np.zeros(GRID.shape, bool)
    beams = Beams.of(rig)
    for turn, mount in zip(cast(tile, agents, POSE, rig).turns, rig.mounts_m, strict=True):
        for a, azimuth in enumerate(beams.azimuth_rad):
            for c, slope in enumerate(beams.slope):
                s = np.arange(0.0, turn.distance_m[a, c], 0.002)
                points = np.stack([s * np.cos(azimuth), s * np.sin(azimuth), s * slope], axis=1) + mount
                at = np.floor((points - GRID.origin_m) / GRID.voxel_m).astype(int)
                i, j, k = at[((at >= 0) & (at < GRID.shape)).all(axis=1)].T
                passed[i, j, k] = True
    free = labels == Semantics.FREE
    assert (passed & free).sum() > 500
    assert not (passed & free & ~seen).sum() > 3  # samples may hit a voxel's edge
    assert (seen & free & ~passed).sum() <= 0.02 * passed.sum()  # less than 2 mm of a corner


def test_following_fewer_rays_near_the_sensor_loses_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tile, agents = cluttered_tile(4), crowd(4)
    labels, thinned = look(tile, FINE, agents)
    monkeypatch.setattr(lidar, "SPACING", 0.0)
    _, all_rays = look(tile, FINE, agents)
    assert not (thinned & ~all_rays).any()
    assert np.array_equal(thinned[labels > 0], all_rays[labels > 0])
    assert (all_rays & ~thinned).sum() < 0.03 * all_rays.sum()


def test_a_higher_sensor_sees_more() -> None:
    tile = flat_tile()
    add_block(tile, (3.0, -4.0), (3.4, 4.0), 1.2, Semantics.BARRIER)
    seen = [look(tile, replace(FINE, mounts_m=((0.0, 0.0, z),)))[1].sum() for z in (0.9, 1.5, 2.5)]
    assert seen[0] < seen[1] < seen[2]


def test_under_an_overpass_one_sees_its_underside() -> None:
    tile = flat_tile(2)
    tile.surface_class[1, 130:200] = Semantics.ROAD
    tile.surface_cm[1] = 600
    up = replace(FINE, upper_rad=0.6)
    below, above = (sweep_frame(tile, NOBODY, pose_matrix(8.0, 0.0, z, 0.0), up) for z in (0.0, 6.0))
    high = below.points[:, 2] > 3.0
    underside = high & (below.points[:, 2] < 5.2 + 1e-4)
    assert underside.sum() > 1000 and np.allclose(below.points[underside, 2], 5.2, atol=1e-4)
    assert (below.class_id[high] == Semantics.OTHER).all() and (below.class_id != Semantics.ROAD).all()
    road = above.class_id == Semantics.ROAD
    assert road.sum() > 1000 and np.allclose(above.points[road, 2], 0.0, atol=1e-4)
    assert (above.points[~road, 2] < -1).all()


def test_the_same_seed_gives_the_same_sweep_and_noise_is_along_the_ray() -> None:
    tile, agents = flat_tile(), crowd(6)
    rig = replace(ONE, noise_m=0.05, dropout=0.25, azimuths=400)
    one, same, other = (sweep_frame(tile, agents, POSE, rig, seed) for seed in (3, 3, 4))
    assert one.points.tobytes() == same.points.tobytes() and one.points.tobytes() != other.points.tobytes()
    clean = sweep_frame(tile, agents, POSE, replace(rig, noise_m=0.0, dropout=0.0))
    assert abs(len(one.class_id) / len(clean.class_id) - 0.75) < 0.03
    noisy = sweep_frame(tile, agents, POSE, replace(rig, dropout=0.0), 3)
    ranges = [np.linalg.norm(each.points[:, :3] - (0, 0, 1.8), axis=1) for each in (clean, noisy)]
    assert abs(np.std(ranges[1] - ranges[0]) - 0.05) < 0.005
    cosine = ((clean.points[:, :3] - (0, 0, 1.8)) * (noisy.points[:, :3] - (0, 0, 1.8))).sum(axis=1)
    assert np.allclose(cosine, ranges[0] * ranges[1], rtol=1e-5)


def test_a_sensor_inside_a_solid_sees_nothing() -> None:
    tile = flat_tile()
    add_block(tile, (-2.0, -2.0), (2.0, 2.0), 3.0, Semantics.BUILDING)
    labels, seen = look(tile, ONE)
    assert not seen.any() and len(sweep_frame(tile, NOBODY, POSE, ONE).class_id) == 0
    assert look(tile, replace(ONE, mounts_m=((0.0, 0.0, 3.5),)))[1].any() and labels.any()


def test_a_clip_in_one_grid_and_frame_by_frame(street: World) -> None:
    xy = np.array([[40.0, -1.75], [41.2, -1.7], [42.5, -1.6]])
    ego = np.stack([pose_matrix(*at, float(street.tile.ground_z_m(at)), 0.05) for at in xy])
    agents = crowd(8, frames=3)
    agents = replace(agents, pose=agents.pose + (41.0, -1.7, 0.0), z_m=np.full((9, 3), ego[1, 2, 3], np.float32))
    grid = GridSpec((60, 44, 9), (0.4, 0.4, 0.4), (-12.0, -8.8, -1.0))
    rig = replace(FINE, azimuths=90, channels=16)
    anchored = observe_clip(street, agents, ego, grid, ego[1], rig)
    centred = observe_clip(street, agents, ego, grid, None, rig)
    labels = cut_clip(street.tile, agents, ego[1], grid).labels
    slow = observe_clip(street, agents, ego, grid, ego[1], rig, labels=labels, fast=False)
    assert np.array_equal(anchored.observed, slow.observed) and anchored.observed.shape == (3, *grid.shape)
    assert np.array_equal(anchored.observed[1], centred.observed[1])
    assert not np.array_equal(anchored.observed[0], centred.observed[0])
    for one, other in zip(anchored.sweeps, centred.sweeps, strict=True):
        assert one.points.tobytes() == other.points.tobytes()
    assert {-1} < set(anchored.sweeps[0].agent_id.tolist()) <= {-1, *agents.id.tolist()}
    with pytest.raises(ValueError, match="as many frames"):
        observe_clip(street, agents, ego[:2], grid, None, rig)
    with pytest.raises(ValueError, match="labels need shape"):
        observe_clip(street, agents, ego, grid, None, rig, labels=labels[:, 1:])


def test_presets_and_their_json() -> None:
    for rig in (roof_lidar(), carlasc_lidars(3), replace(RIG, noise_m=0.02)):
        assert LidarSpec.from_dict(json.loads(json.dumps(rig.to_dict()))) == rig
    rig = carlasc_lidars(3)
    assert rig == lidar_rig("carlasc", 3) != lidar_rig("carlasc", 4) and lidar_rig("roof") == roof_lidar()
    gaps = np.hypot(*np.array(rig.mounts_m)[:, :2].T)
    assert rig.mounts_m[0] == (-0.5, 0.0, 1.8) and len(gaps) == 20 and 10 < gaps.max() <= 20
    assert abs(rig.azimuths * rig.channels * 10 - 1.3e6) < 1e3
    with pytest.raises(WorldError, match="roof, carlasc"):
        lidar_rig("front")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 0}, "channels"),
        ({"upper_rad": -1.0}, "lower_rad"),
        ({"range_m": math.nan}, "range_m"),
        ({"dropout": 1.0}, "dropout"),
        ({"mounts_m": ()}, "mounts_m"),
        ({"mounts_m": ((0.0, 1.0),)}, "mounts_m"),
    ],
)
def test_a_lidar_that_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RIG, **change)
