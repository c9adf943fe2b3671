"""Clips: what they hold, that they repeat, and that worlds survive the disk."""

import itertools
import json

import numpy as np
import pytest
from scipy.spatial import cKDTree

from dcgen.errors import WorldError
from dcgen.types import UNKNOWN, GridSpec, Semantics, nano_grid
from scenarios.layout import JUNCTION
from scenarios.world.cut.candidates import EgoMix, find_candidates
from scenarios.world.cut.clips import cut_world, make_clip, picks, sample_clip
from scenarios.world.cut.recipe import ClipRecipe
from scenarios.world.store import World, load_world, save_world

GRID = GridSpec((34, 30, 8), (0.8, 0.8, 0.8), (-13.6, -12.0, -2.0))


def test_a_clip_holds_its_agents_but_not_its_ego(street: World) -> None:
    clip = cut_world(street, 0, 60, GRID, frames=6, dt_s=0.2)
    conditions = clip.conditions
    assert 1 not in conditions.agents.id and 2 in conditions.agents.id
    assert conditions.known.min() == UNKNOWN
    assert conditions.world_se3_anchor[0, 3] == pytest.approx(5 + 5.0 * 6.6, abs=0.05)
    assert conditions.world_se3_anchor[2, 3] == pytest.approx(0.02 * 38.0, abs=0.02)
    assert conditions.trajectory[3] == pytest.approx([0, 0, 0], abs=1e-4)
    assert conditions.trajectory[:, 0] == pytest.approx((np.arange(6) - 3) * 1.0, abs=0.02)
    assert (clip.labels[:, 17, 15, 3:5] == 0).all()  # where the ego stands it is free
    assert not (clip.moving & ~np.isin(clip.labels, [4, 10, 11])).any()
    assert clip.moving.any()


def test_parked_cars_are_agents_that_stand(street: World) -> None:
    agents = sample_clip(street, 3, nano_grid(), 8, 0.2).conditions.agents
    parked = agents.id >= 1_000_000
    assert parked.any() and not agents.speed_mps[parked].any()
    assert (np.ptp(agents.pose[parked], axis=1) == 0).all()


def test_labels_agree_with_the_layout(real_world: World) -> None:
    layers = {"road": 0, "sidewalk": 3}
    for seed in range(6):
        clip = sample_clip(real_world, seed, nano_grid(), 8, 0.2)
        for name, channel in layers.items():
            share = clip.conditions.layout_static[channel]
            label = (clip.labels[4] == Semantics[name.upper()]).any(axis=2)
            assert label[share > 0.6].all() and not label[share < 0.3].any()
        inside = clip.conditions.layout_agents[4, 0] > 0.9
        assert ((clip.labels[4] == Semantics.VEHICLE).any(axis=2)[inside]).mean() > 0.98


def test_the_route_is_the_egos_own_path(real_world: World) -> None:
    for seed in range(8):
        clip = sample_clip(real_world, seed, nano_grid(), 8, 0.2, EgoMix(0.5, 0.5, 0, 0))
        route = clip.conditions.layout_static[5]
        x, y = ((clip.conditions.trajectory[:, k] + 25.6) / 0.8 for k in (0, 1))
        assert (route[x.astype(int), y.astype(int)] > 0.3).all()


def test_the_mix_of_egos_is_kept(real_world: World) -> None:
    found = find_candidates(real_world.traffic, 8, 2, real_world.raster)
    rng = np.random.default_rng(0)
    for name in ("turning", "busy", "standing", "junction"):
        group = {(int(found.row[k]), int(found.start[k])) for k in getattr(found, name)}
        assert 0 < len(group) < len(found.row)
        alone = EgoMix(**{**dict.fromkeys(EgoMix().to_dict(), 0.0), name: 1.0})
        assert all(found.draw(alone, rng) in group for _ in range(50))
    standing = {(int(found.row[k]), int(found.start[k])) for k in found.standing}
    share = np.mean([found.draw(EgoMix(0.0, 0.0, 0.1, 0.0), rng) in standing for _ in range(600)])
    assert 0.05 < share < 0.16


def test_junction_clips_are_at_junctions(real_world: World) -> None:
    raster, log = real_world.raster, real_world.traffic
    found = find_candidates(log, 16, 1.5, raster)
    cells = np.argwhere((raster.flags[:, ::2, ::2] & JUNCTION > 0).any(axis=0)) * 2 * raster.cell_m + raster.origin_m
    middle = log.pose[found.row, found.start + 12, :2]
    gap_m = cKDTree(cells).query(middle)[0]
    at = np.zeros(len(middle), bool)
    at[found.junction] = True
    moving = np.zeros(len(middle), bool)
    moving[found.driving] = True
    assert gap_m[at].max() < 17.0 and (gap_m[moving & ~at] > 13.0).all()
    assert len(find_candidates(log, 16, 1.5).junction) == 0


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (128, 0.2), (32, 2.5), (40, 3)])
def test_candidates_are_there_for_the_whole_clip(street: World, frames: int, stride: float) -> None:
    log = street.traffic
    found = find_candidates(log, frames, stride)
    for row, start in zip(found.row, found.start, strict=True):
        assert log.sample(np.array([row]), log.instants(int(start), frames, stride)).valid.all()
        assert log.class_id[row] == Semantics.VEHICLE
    moved = {k for group in (found.standing, found.driving) for k in group.tolist()}
    assert moved == set(range(len(found.row))) and not set(found.standing) & set(found.driving)


def test_a_mix_is_checked_and_survives_json() -> None:
    mix = EgoMix(0.5, 0.25, 0.0, 0.125)
    assert EgoMix.from_dict(json.loads(json.dumps(mix.to_dict()))) == mix
    for bad in ({"turning": 1.5}, {"busy": -0.1}, {"standing": float("nan")}, {"junction": "x"}, {"turn": 0.1}):
        with pytest.raises(WorldError, match=next(iter(bad))):
            EgoMix.from_dict(bad)
    with pytest.raises(WorldError, match="more than 1"):
        EgoMix(0.6, 0.6, 0.0, 0.0)


def test_frames_between_those_of_the_log_lie_on_the_way(street: World) -> None:
    """A twentieth of a second: every other frame is the log's own, the others are half-way."""
    whole = cut_world(street, 0, 60, GRID, frames=4, dt_s=0.1).conditions
    fine = cut_world(street, 0, 60, GRID, frames=7, dt_s=0.05).conditions
    place = {int(each): k for k, each in enumerate(fine.agents.id)}
    rows = [place[int(each)] for each in whole.agents.id]
    np.testing.assert_array_equal(fine.world_se3_ego[::2], whole.world_se3_ego)
    np.testing.assert_array_equal(fine.agents.pose[rows][:, ::2], whole.agents.pose)
    np.testing.assert_array_equal(fine.agents.speed_mps[rows][:, ::2], whole.agents.speed_mps)
    between = (whole.agents.pose[:, 1:] + whole.agents.pose[:, :-1]) / 2
    np.testing.assert_allclose(fine.agents.pose[rows][:, 1::2], between, atol=1e-5)


@pytest.mark.parametrize("dt_s", [0.02, 0.05, 1 / 30, 0.13, 0.25, 1 / 3])
def test_any_time_between_frames_will_do(street: World, dt_s: float) -> None:
    clip = sample_clip(street, 3, GRID, 9, dt_s, EgoMix(0, 0, 0, 0))
    step = np.hypot(*np.diff(clip.conditions.world_se3_ego[:, :2, 3], axis=0).T)
    np.testing.assert_allclose(step, 5.0 * dt_s, atol=1e-4)
    walker = clip.conditions.agents.select(clip.conditions.agents.class_id == Semantics.PEDESTRIAN)
    if len(walker.id) and walker.valid.all():
        np.testing.assert_allclose(np.diff(walker.pose[0, :, 0]), 1.2 * dt_s, atol=1e-4)
    assert clip.conditions.dt_s == dt_s


def test_picks_repeat_and_never_twice_the_same(street: World) -> None:
    recipe = ClipRecipe(GRID, 4, 0.2)
    one, two, other = (list(itertools.islice(picks(street, recipe, seed), 9)) for seed in (5, 5, 6))
    assert one == two != other and len({(pick.ego, pick.start) for pick in one}) == 9
    clip, again = (make_clip(street, one[3], recipe, layouts) for layouts in (True, False))
    assert np.array_equal(clip.labels, again.labels) and clip.source == again.source
    assert clip.conditions.layout_static.any() and not again.conditions.layout_static.any()
    assert np.array_equal(clip.conditions.trajectory, again.conditions.trajectory)


def test_a_recipe_survives_json() -> None:
    recipe = ClipRecipe(GRID, 7, 0.15, True, True, "roof", EgoMix(0.1, 0.2, 0.3, 0.4))
    assert ClipRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    for wrong in ({"frames": 0}, {"dt_s": float("nan")}, {"lidar": "radar"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ClipRecipe(**{"grid": GRID, "frames": 4, "dt_s": 0.2, **wrong})


def test_a_world_comes_back_equal(street: World, tmp_path) -> None:
    save_world(street, tmp_path / "w")
    again = load_world(tmp_path / "w")
    assert again.road_map.lanes.keys() == street.road_map.lanes.keys()
    one, two = (sample_clip(world, 9, GRID, 5, 0.1) for world in (street, again))
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.conditions.layout, two.conditions.layout)


def test_broken_worlds_are_named(street: World, tmp_path) -> None:
    with pytest.raises(WorldError, match="no finished world"):
        load_world(tmp_path / "none")
    save_world(street, tmp_path / "w")
    for name in ("raster.npz", "roads.npz", "traffic.npz"):
        whole = (tmp_path / "w" / name).read_bytes()
        (tmp_path / "w" / name).write_bytes(whole[:80])
        with pytest.raises(WorldError):
            load_world(tmp_path / "w")
        (tmp_path / "w" / name).write_bytes(whole)
    for quick in (0.019, 0.0, -0.1, float("nan")):
        with pytest.raises(WorldError, match=r"at least 0\.02"):
            sample_clip(street, 0, GRID, 4, quick)
    with pytest.raises(WorldError, match="simulate longer"):
        sample_clip(street, 0, GRID, 900, 0.1)
