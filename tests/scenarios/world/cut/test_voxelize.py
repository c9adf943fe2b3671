"""The labelling law, and the kernels against their twins."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest

from dcgen.types import AgentTracks, GridSpec, Semantics, carlasc_grid, nano_grid, pose_matrix
from scenarios.world.cut.clips import agents_near
from scenarios.world.cut.packing import packed
from scenarios.world.cut.voxelize import cut_clip, cut_frame, cut_static
from scenarios.world.store import World
from scenarios.world.town.tile import TownTile

GRID = GridSpec((12, 10, 7), (0.8, 0.8, 0.5), (-4.8, -4.0, -1.0))


def flat_tile(shape=(120, 100), levels=1) -> TownTile:
    surface = np.zeros((levels, *shape), np.uint8)
    surface[0] = Semantics.GROUND
    return TownTile(
        (-12.0, -10.0),
        0.2,
        0.0,
        surface,
        np.zeros((levels, *shape), np.int16),
        np.zeros((3, *shape), np.uint8),
        np.zeros((3, *shape), np.int16),
        np.zeros((3, *shape), np.int16),
    )


def random_tile(seed: int) -> TownTile:
    rng = np.random.default_rng(seed)
    tile = flat_tile((90, 110), levels=2)
    tile.surface_class[0] = rng.choice([6, 7, 8], tile.surface_class[0].shape)
    tile.surface_class[1] = rng.choice([0, 0, 6, 8], tile.surface_class[1].shape)
    tile.surface_cm[0] = rng.integers(-300, 200, tile.surface_cm[0].shape)
    tile.surface_cm[1] = rng.integers(150, 700, tile.surface_cm[1].shape)
    kinds = rng.choice([0, 0, 0, 1, 2, 3, 5, 9], tile.span_class.shape)
    tile.span_class[:] = np.take_along_axis(kinds, np.argsort(kinds == 0, axis=0, kind="stable"), axis=0)
    tile.span_lo_cm[:] = rng.integers(-300, 300, tile.span_class.shape)
    tile.span_hi_cm[:] = tile.span_lo_cm + rng.integers(0, 600, tile.span_class.shape)
    return tile


def random_agents(seed: int, n: int = 60, frames: int = 3) -> AgentTracks:
    rng = np.random.default_rng(seed)
    pose = rng.uniform(-9, 9, (n, frames, 3))
    return AgentTracks(
        np.arange(n),
        rng.choice([4, 10, 11], n).astype(np.uint8),
        rng.uniform(0.4, 5, (n, 3)).astype(np.float32),
        pose,
        rng.uniform(-1, 1, (n, frames)).astype(np.float32),
        rng.uniform(0, 1, (n, frames)).astype(np.float32),
        rng.random((n, frames)) > 0.2,
    )


def one_agent(kind: Semantics, size, x=0.0, y=0.0, yaw=0.0, speed=3.0) -> AgentTracks:
    return AgentTracks(
        np.array([5]),
        np.array([kind], np.uint8),
        np.array([size], np.float32),
        np.array([[[x, y, yaw]]]),
        np.zeros((1, 1), np.float32),
        np.full((1, 1), speed, np.float32),
        np.ones((1, 1), bool),
    )


@pytest.mark.parametrize("grid", [GRID, nano_grid(), GridSpec((9, 14, 11), (0.4, 0.4, 0.375), (-2.0, -3.0, -2.2))])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kernels_equal_their_twins(grid: GridSpec, seed: int) -> None:
    anchor = pose_matrix(1.3 * seed, -0.7, 0.31, 0.6 + seed)
    fast = cut_clip(random_tile(seed), random_agents(seed), anchor, grid)
    slow = cut_clip(random_tile(seed), random_agents(seed), anchor, grid, fast=False)
    assert np.array_equal(fast.labels, slow.labels)
    assert np.array_equal(fast.moving, slow.moving)
    assert fast.moving.any() and len(np.unique(fast.labels)) > 6


@pytest.mark.parametrize("yaw", [0.0, 0.3, 1.57, -2.0])
def test_flat_ground_fills_one_layer(yaw: float) -> None:
    cut = cut_static(flat_tile(), pose_matrix(0.3, 0.2, 0.0, yaw), GRID)
    assert (cut.labels[:, :, 2] == Semantics.GROUND).all()
    assert (cut.surface_k == 2).all()
    assert (np.delete(cut.labels, 2, axis=2) == 0).all()


def test_one_surface_a_column_and_obstacles_above_it() -> None:
    tile = random_tile(7)
    cut = cut_static(tile, pose_matrix(0, 0, 0.0, 0.4), GRID)
    surfaces = np.isin(cut.labels, [6, 7, 8])
    assert (surfaces.sum(axis=2) <= 1).all()
    k = np.arange(GRID.shape[2])
    solid = (cut.labels > 0) & ~surfaces
    assert not (solid & (k[None, None] <= cut.surface_k[..., None])).any()


def test_a_building_is_solid_from_the_surface_up_and_needs_a_quarter_of_the_top_voxel() -> None:
    for top_cm, last in ((112, 3), (113, 4)):  # layer 4 holds 1.0..1.5 m
        tile = flat_tile()
        tile.span_class[0, 60:80, 50:70] = Semantics.BUILDING
        tile.span_hi_cm[0, 60:80, 50:70] = top_cm
        column = cut_static(tile, pose_matrix(0, 0, 0, 0), GRID).labels[8, 7]
        assert list(column) == [0, 0, Semantics.GROUND, *[Semantics.BUILDING] * (last - 2), *[0] * (6 - last)]


def test_a_pole_is_never_lost_and_outranks_a_building() -> None:
    for yaw in np.linspace(0, 3, 13):
        tile = flat_tile()
        tile.span_class[0, 62:64, 53:55] = Semantics.POLE
        tile.span_hi_cm[0, 62:64, 53:55] = 500
        walled = dataclasses.replace(tile, span_class=tile.span_class.copy(), span_hi_cm=tile.span_hi_cm.copy())
        walled.span_class[1] = Semantics.BUILDING
        walled.span_hi_cm[1] = 500
        cut, again = (cut_static(each, pose_matrix(0.1 * yaw, 0, 0, yaw), GRID) for each in (tile, walled))
        assert 1 <= (cut.labels[:, :, 4] == Semantics.POLE).sum() <= 4
        assert np.array_equal(again.labels == Semantics.POLE, cut.labels == Semantics.POLE)


def test_outside_the_tile_is_ground_at_the_edge_height() -> None:
    tile = flat_tile()
    tile.surface_cm[:] = 60
    cut = cut_static(tile, pose_matrix(300, 40, 0, 0.5), GRID)
    assert (cut.labels[:, :, 3] == Semantics.GROUND).all()


def test_the_level_near_the_anchor_is_the_surface() -> None:
    tile = flat_tile(levels=2)
    tile.surface_class[1] = Semantics.ROAD
    tile.surface_cm[1] = 600
    grid = GridSpec((5, 6, 10), (0.8, 0.8, 0.8), (-2.0, -2.4, -1.6))
    below = cut_static(tile, pose_matrix(0, 0, 0.0, 0), grid).labels
    above = cut_static(tile, pose_matrix(0, 0, 6.0, 0), grid).labels
    assert (below[:, :, 2] == Semantics.GROUND).all() and (below[:, :, 8] == Semantics.OTHER).all()
    assert (above[:, :, 2] == Semantics.ROAD).all() and (above > 0).sum() == 30


def test_agents_stand_on_the_surface_and_slow_ones_do_not_move() -> None:
    tile = flat_tile()
    for speed in (0.4, 0.6):
        cut = cut_clip(tile, one_agent(Semantics.VEHICLE, (4.5, 1.8, 1.5), speed=speed), np.eye(4), GRID)
        vehicle = cut.labels[0] == Semantics.VEHICLE
        assert vehicle[:, :, 3].sum() > vehicle[:, :, 4].sum() > 0  # hull wider than cabin
        assert not vehicle[:, :, :3].any()
        assert np.array_equal(cut.moving[0], vehicle & (speed > 0.5))


def test_the_smallest_agent_is_seen_wherever_it_stands() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        x, y, yaw = rng.uniform(-3, 3, 3)
        cut = cut_clip(
            flat_tile(), one_agent(Semantics.PEDESTRIAN, (0.3, 0.3, 1.7), x, y), pose_matrix(0, 0, 0, yaw), GRID
        )
        assert (cut.labels == Semantics.PEDESTRIAN).any()


def test_turning_world_and_anchor_together_changes_nothing() -> None:
    agents = one_agent(Semantics.VEHICLE, (4.5, 1.8, 1.5), 1.0, 2.0, 0.3)
    turned = one_agent(Semantics.VEHICLE, (4.5, 1.8, 1.5), -2.0, 1.0, 0.3 + np.pi / 2)
    straight = cut_clip(flat_tile(), agents, pose_matrix(0, 0, 0, 0), GRID)
    rotated = cut_clip(flat_tile(), turned, pose_matrix(0, 0, 0, np.pi / 2), GRID)
    assert np.array_equal(straight.labels, rotated.labels)


def test_an_ego_frame_is_a_clip_of_one_frame() -> None:
    tile, agents = random_tile(4), random_agents(4)
    pose = pose_matrix(0.5, 0.1, 0.2, 1.0)
    frame = cut_frame(tile, agents, 2, pose, carlasc_grid())
    assert np.array_equal(frame.labels[0], cut_clip(tile, agents, pose, carlasc_grid()).labels[2])


def sloped_tile() -> TownTile:
    """A hill with blocks of alike cells on it, as towns have, a deck across and a stack of three spans."""
    tile = flat_tile((130, 90), levels=2)
    tile.surface_class[0, 40:60] = Semantics.ROAD
    tile.surface_cm[:] = (np.arange(130) * 2)[:, None] - 100
    tile.surface_class[1, :, 30:50] = Semantics.ROAD
    tile.surface_cm[1, :, 30:50] += 350
    tile.span_class[0, 70:100, 10:60] = Semantics.BUILDING
    tile.span_hi_cm[0] = tile.surface_cm[0] + 240
    for span, kind in enumerate((Semantics.VEGETATION, Semantics.OTHER, Semantics.BARRIER)):
        tile.span_class[span, 20:35, 5:80] = kind
        tile.span_lo_cm[span, 20:35, 5:80] = 90 * span - 60
        tile.span_hi_cm[span, 20:35, 5:80] = 90 * span
    return tile


@pytest.mark.parametrize(
    "pose", [(0.0, 0.0, 0.1, 0.0), (3.7, -2.2, 0.4, 2.1), (-9.0, 1.0, 3.4, -0.7), (8.0, 30.0, 0, 1)]
)
@pytest.mark.parametrize("grid", [GRID, nano_grid(), GridSpec((33, 21, 5), (0.2, 0.2, 0.9), (-3.0, -2.0, -1.1))])
def test_the_packed_tile_holds_all_that_the_law_asks_for(pose: tuple[float, ...], grid: GridSpec) -> None:
    tile, anchor = sloped_tile(), pose_matrix(*pose)
    fast, slow = cut_static(tile, anchor, grid), cut_static(tile, anchor, grid, fast=False)
    assert np.array_equal(fast.labels, slow.labels) and np.array_equal(fast.surface_k, slow.surface_k)


def test_equal_stacks_are_kept_once_and_a_cut_tile_cannot_change() -> None:
    tile = sloped_tile()
    small = packed(tile)
    stack = small.word >> np.uint64(32)
    x, y = np.nonzero((tile.span_class > 0).any(axis=0))
    assert np.array_equal(np.unique(stack), np.arange(len(small.stack_class)))
    assert np.array_equal(np.flatnonzero(stack), x * tile.cells[1] + y)
    for s in range(3):
        kinds = small.stack_class[stack[x * tile.cells[1] + y], s]
        assert np.array_equal(kinds, tile.span_class[s, x, y])
        low = small.stack_lo_mm[stack[x * tile.cells[1] + y], s]
        assert np.array_equal(low[kinds > 0], 10 * tile.span_lo_cm[s, x, y].astype(int)[kinds > 0])
    assert packed(tile) is small and packed(sloped_tile()) is not small
    with pytest.raises(ValueError, match="read-only"):
        tile.surface_cm[0, 3, 4] = 7


def test_a_packed_tile_goes_with_its_tile() -> None:
    tile = flat_tile()
    watch = weakref.ref(packed(tile))
    del tile
    gc.collect()
    assert watch() is None


def test_the_kernels_equal_their_twins_in_a_real_town(real_world: World) -> None:
    tracks, stride = real_world.traffic, 40
    for row in np.flatnonzero(tracks.valid[:, stride])[:5]:
        x, y, yaw = tracks.pose[row, stride].astype(float)
        pose = pose_matrix(x, y, float(tracks.z_m[row, stride]), yaw)
        agents = agents_near(real_world, int(row), stride, 2, 3, pose, carlasc_grid())
        fast, slow = (cut_clip(real_world.tile, agents, pose, carlasc_grid(), way) for way in (True, False))
        assert np.array_equal(fast.labels, slow.labels) and np.array_equal(fast.moving, slow.moving)
