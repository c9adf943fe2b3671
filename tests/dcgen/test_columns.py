"""Columns on any device against the CPU kernels of the world engine, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dcgen import column_law
from dcgen.columns import Columns
from dcgen.types import AgentTracks, Doubles, GridSpec, Semantics, carlasc_grid, nano_grid, pose_matrix
from scenarios.world.cut import voxelize
from scenarios.world.town.tile import TownTile

MAPS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "maps"
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
GRIDS = [
    GridSpec((12, 10, 7), (0.8, 0.8, 0.5), (-4.8, -4.0, -1.0)),
    GridSpec((33, 21, 5), (0.2, 0.2, 0.9), (-3.0, -2.0, -1.1)),
    GridSpec((15, 26, 11), (0.6, 1.0, 0.33), (-6.0, -13.0, -2.0)),
]


def random_tile(seed: int) -> TownTile:
    """Every cell its own: two levels, up to three spans."""
    rng, shape = np.random.default_rng(seed), (90, 110)
    kinds = rng.choice([0, 0, 0, 1, 2, 3, 5, 9], (3, *shape)).astype(np.uint8)
    kinds = np.take_along_axis(kinds, np.argsort(kinds == 0, axis=0, kind="stable"), axis=0)
    low = rng.integers(-300, 300, (3, *shape))
    return TownTile(
        (-9.0, -11.0),
        0.2,
        0.35,
        np.stack([rng.choice([6, 7, 8], shape), rng.choice([0, 0, 6, 8], shape)]).astype(np.uint8),
        np.stack([rng.integers(-300, 200, shape), rng.integers(150, 700, shape)]).astype(np.int16),
        kinds,
        low.astype(np.int16),
        (low + rng.integers(0, 600, low.shape)).astype(np.int16),
    )


def random_agents(rng: np.random.Generator, n: int, frames: int, centre: Doubles, reach_m: float) -> AgentTracks:
    pose = np.concatenate(
        [centre[:2] + rng.uniform(-1, 1, (n, frames, 2)) * reach_m, rng.uniform(-4, 4, (n, frames, 1))], 2
    )
    return AgentTracks(
        np.arange(n),
        rng.choice([4, 10, 11], n).astype(np.uint8),
        rng.uniform(0.4, 5, (n, 3)).astype(np.float32),
        pose,
        (centre[2] + rng.uniform(-1, 1, (n, frames))).astype(np.float32),
        rng.uniform(0, 1, (n, frames)).astype(np.float32),
        rng.random((n, frames)) > 0.2,
    )


def assert_equal(tile: TownTile, poses: Doubles, grid: GridSpec, device: str, seed: int, chunk_bytes: int) -> None:
    rng, frames = np.random.default_rng(seed), 3
    agents = [
        random_agents(rng, 20 * (b % 3), frames, pose[:3, 3], grid.extent_m[0] / 2) for b, pose in enumerate(poses)
    ]
    boxes = [voxelize.boxes_of(each, pose, grid) for each, pose in zip(agents, poses, strict=True)]
    static = Columns.from_tile(tile).to(device).cut(torch.from_numpy(poses), grid, chunk_bytes)
    stamped = static.stamp(boxes, frames, chunk_bytes)
    for b, pose in enumerate(poses):
        alone = voxelize.cut_static(tile, pose, grid)
        clip = voxelize.stamp_agents(alone, agents[b], pose, grid)
        assert np.array_equal(static.labels[b].cpu(), alone.labels)
        assert np.array_equal(static.surface_k[b].cpu(), alone.surface_k)
        assert np.array_equal(stamped.labels[b].cpu(), clip.labels)
        assert np.array_equal(stamped.moving[b].cpu(), clip.moving)
    assert stamped.moving.any() and len(np.unique(static.labels.cpu())) > 3


def test_the_law_is_the_world_engines() -> None:
    assert [column_law.WEIGHTS.get(c, 0) for c in Semantics] == list(voxelize.WEIGHTS)
    assert list(column_law.SURFACE_ORDER) == list(voxelize.SURFACE_ORDER)
    assert (column_law.FREE_WEIGHT, column_law.DECK_MM) == (voxelize.FREE_WEIGHT, 10 * voxelize.DECK_CM)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 28])
def test_many_grids_equal_the_kernel_one_by_one(grid: GridSpec, device: str, chunk_bytes: int) -> None:
    poses = np.stack([pose_matrix(1.3 * b, -0.7 * b, 0.4 * b, 0.6 + 1.1 * b) for b in range(4)])
    assert_equal(random_tile(1), poses, grid, device, 2, chunk_bytes)


@pytest.mark.parametrize("device", DEVICES)
def test_outside_the_tile_and_far_above_it(device: str) -> None:
    tile, grid = random_tile(3), GRIDS[0]
    poses = np.stack([pose_matrix(x, y, z, yaw) for x, y, z, yaw in ((40, 3, 0, 1), (-30, 25, 0.5, 2), (0, 0, 9e6, 3))])
    static = Columns.from_tile(tile).to(device).cut(poses, grid)
    for b, pose in enumerate(poses):
        assert np.array_equal(static.labels[b].cpu(), voxelize.cut_static(tile, pose, grid).labels)
        assert np.array_equal(static.surface_k[b].cpu(), voxelize.cut_static(tile, pose, grid).surface_k)


@pytest.mark.parametrize("device", DEVICES)
def test_no_grid_and_no_boxes(device: str) -> None:
    columns, grid = Columns.from_tile(random_tile(5)).to(device), GRIDS[1]
    assert columns.cut(np.zeros((0, 4, 4)), grid).stamp([], 2).labels.shape == (0, 2, *grid.shape)
    cut = columns.cut(np.eye(4)[None], grid)
    still = cut.stamp([voxelize.boxes_of(AgentTracks.empty(2), np.eye(4), grid)], 2)
    assert torch.equal(still.labels, cut.labels[:, None].repeat(1, 2, 1, 1, 1)) and not still.moving.any()
    with pytest.raises(ValueError, match="1 grids need as many lists of boxes, got 0"):
        cut.stamp([], 2)


@pytest.mark.parametrize("device", DEVICES)
def test_a_real_overpass(device: str) -> None:
    """A piece of Town04 where one road crosses another, seen from below, from above and from beside."""
    path = MAPS / "Town04.xodr"
    if not path.exists():
        pytest.skip("needs ../shared/data/maps/Town04.xodr")
    from scenarios import paint
    from scenarios.layout import rasterise
    from scenarios.roads import read_map
    from scenarios.world.town.town import build_town

    road_map = read_map(path)
    x, y, z = paint.crossing_points(paint.lane_quads(road_map))[0]
    tile = build_town(road_map, rasterise(road_map, bounds_m=(x - 60, y - 50, x + 60, y + 50)), 1)
    assert (tile.surface_class[1:] > 0).any() and (tile.span_class > 0).any()
    places = [(x, y, z, 0.4), (x - 9, y + 4, z - 6, 2.2), (x + 30, y - 17, z - 4, -1.0)]
    poses = np.stack([pose_matrix(*place) for place in places])
    for grid in (carlasc_grid(), nano_grid()):
        assert_equal(tile, poses, grid, device, 4, 1 << 28)
