"""Frames are cut by the poses: nothing is lost in a grid's own frame, and the layout turns with the ego."""

from dataclasses import replace

import numpy as np
import pytest

from dcgen.canvas import Canvas
from dcgen.frames import Chunk, FrameCutter, join_scenes
from dcgen.instances import with_motion
from dcgen.types import (
    AGENT_CHANNELS,
    HEIGHT_SCALE_M,
    LAYOUT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    GridSpec,
    Semantics,
    pose_matrix,
)
from tests.conftest import small_scene
from tests.dcgen.small import FRAMES, GRID, chunk, street

COS, SIN = (len(STATIC_CHANNELS) + AGENT_CHANNELS.index(n) for n in ("heading_cos", "heading_sin"))
HEIGHT = STATIC_CHANNELS.index("height")
YAWS = [0.0, 0.3, np.pi / 4, np.pi / 2, 2.2, -3.0]


def cutter(grid=GRID):
    return FrameCutter(Canvas(min(grid.voxel_m) / 2), grid)


def random_static(grid=GRID, seed=0):
    return np.random.default_rng(seed).integers(0, 9, size=grid.shape).astype(np.uint8)


@pytest.mark.parametrize("yaw", YAWS)
@pytest.mark.parametrize("voxel_m", [(0.8, 0.8, 0.8), (0.4, 0.9, 0.375)])
def test_what_is_painted_is_read_back_whole_at_any_angle(yaw, voxel_m):
    grid = replace(GRID, voxel_m=voxel_m)
    cut, static, pose = cutter(grid), random_static(grid), pose_matrix(12.34, -7.77, 3.21, yaw)
    cut.paint(pose, static)
    assert np.array_equal(cut.static(pose), static)


def test_painting_again_changes_nothing():
    cut, pose = cutter(), pose_matrix(1.0, 2.0, 0.1, 0.7)
    cut.paint(pose, random_static())
    moved = pose_matrix(3.0, 2.5, 0.1, 1.1)
    before, here = cut.static(moved), cut.static(pose)
    cut.paint(moved, random_static(seed=1))
    after = cut.static(moved)
    seen = before != UNKNOWN
    assert seen.any() and not seen.all()
    assert np.array_equal(after[seen], before[seen]) and (after != UNKNOWN).all()
    assert np.array_equal(cut.static(pose), here)


def test_unknown_is_not_painted():
    cut, pose, static = cutter(), pose_matrix(0, 0, 0, 0.2), random_static()
    static[:8] = UNKNOWN
    cut.paint(pose, static)
    assert np.array_equal(cut.static(pose), static)


def test_the_layout_stands_still_at_the_anchor():
    c = chunk()
    assert np.allclose(cutter().layout(c, FRAMES // 2), c.layout[FRAMES // 2], atol=1e-6)


def test_the_layout_turns_with_the_ego():
    c = chunk()
    anchor = pose_matrix(4.0, 5.0, 0.6, 1.0)
    ego = anchor @ pose_matrix(0, 0, 0.8, np.pi / 2)
    poses = np.stack([ego, anchor, anchor, anchor])
    c = replace(c, world_se3_anchor=anchor, world_se3_ego=poses)
    square = replace(c.grid, shape=(24, 24, 8), origin_m=(-9.6, -9.6, -2.0))
    rng = np.random.default_rng(1)
    static = rng.uniform(0.1, 1, (len(STATIC_CHANNELS), 24, 24)).astype(np.float32)
    agents = rng.uniform(0, 1, (FRAMES, len(AGENT_CHANNELS), 24, 24)).astype(np.float32)
    c = replace(c, grid=square, layout_static=static, layout_agents=agents,
                known=np.full((FRAMES, 24, 24, 8), UNKNOWN, np.uint8))  # fmt: skip
    out = cutter(square).layout(c, 0)
    # The ego looks along the anchor's y axis: its x is the anchor's y, its y the anchor's -x.
    turned = np.rot90(c.layout[0], k=-1, axes=(1, 2))
    plain = [i for i in range(len(LAYOUT_CHANNELS)) if i not in (COS, SIN, HEIGHT)]
    assert np.allclose(out[plain], turned[plain], atol=1e-5)
    assert np.allclose(out[COS], turned[SIN], atol=1e-5) and np.allclose(out[SIN], -turned[COS], atol=1e-5)
    assert np.allclose(out[HEIGHT], turned[HEIGHT] - 0.8 / HEIGHT_SCALE_M, atol=1e-5)


def test_layout_outside_the_chunk_is_empty():
    c = chunk()
    far = np.stack([c.world_se3_anchor @ pose_matrix(10.0, 0, 0, 0)] * FRAMES)
    out = cutter().layout(replace(c, world_se3_ego=far), 1)
    assert not out[:, 4:].any() and out[:, :3].any()


def test_the_movers_of_shared_frames_move_into_the_new_grid():
    first = Chunk(chunk(0), street())
    later = chunk(2)
    moved = cutter().moved(first, replace(later, world_se3_anchor=first.conditions.world_se3_anchor), 1)
    assert np.array_equal(moved, street()[3])


def test_a_frame_is_the_canvas_and_the_first_chunk_s_movers():
    cut, c = cutter(), chunk()
    static = np.full(GRID.shape, Semantics.GROUND, np.uint8)
    cut.paint(c.world_se3_anchor, static)
    other = street()
    other[:] = Semantics.PEDESTRIAN
    made = cut.labels([Chunk(c, street()), Chunk(c, other)], FRAMES // 2, c.world_se3_anchor)
    car = street()[FRAMES // 2] == Semantics.VEHICLE
    assert (made[car] == Semantics.VEHICLE).all() and (made[~car] == Semantics.GROUND).all()
    behind = cut.labels([Chunk(c, other)], FRAMES + 3, c.world_se3_anchor)  # a frame that the chunk does not hold
    assert (behind == Semantics.GROUND).all()


def test_scenes_are_joined_in_order():
    parts = [small_scene(frames=n, seed=0) for n in (2, 3)]
    agents = [p.agents for p in parts]
    whole = join_scenes(parts)
    assert whole.labels.shape[0] == 5
    for name in ("labels", "world_se3_ego", "layout", "known", "trajectory", "command", "time_s"):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(p, name) for p in parts])), name
    assert np.array_equal(whole.agents.pose, np.concatenate([a.pose for a in agents], axis=1))
    assert np.array_equal(whole.agents.id, agents[0].id) and whole.metadata == parts[0].metadata


def test_the_motion_of_parts_is_joined_where_all_have_the_same_objects():
    parts = [with_motion(small_scene(frames=n)) for n in (2, 3)]
    other = replace(parts[1], objects=parts[1].objects.select(np.arange(len(parts[1].objects.id)) < 2))
    parts[1] = replace(parts[1], objects=replace(parts[1].objects, id=parts[0].objects.id))
    whole = join_scenes(parts)
    assert np.array_equal(whole.instances, np.concatenate([p.instances for p in parts])) and whole.instances.any()
    assert np.array_equal(whole.flow_mps, np.concatenate([p.flow_mps for p in parts]))
    assert np.array_equal(whole.objects.pose, np.concatenate([p.objects.pose for p in parts], axis=1))
    for second in (other, small_scene(frames=3)):
        mixed = join_scenes([parts[0], second])
        assert mixed.instances is None and mixed.flow_mps is None and mixed.objects is None


def test_parts_with_other_agents_are_refused():
    part = small_scene(frames=2)
    with pytest.raises(ValueError, match="same agents"):
        join_scenes([part, replace(part, agents=AgentTracks.empty(2))])


def test_grids_of_another_size_keep_their_axes():
    grid = GridSpec((6, 9, 5), (0.5, 0.5, 0.5), (-1.5, -2.0, -1.0))
    cut = cutter(grid)
    static = random_static(grid)
    cut.paint(pose_matrix(0.2, 0.1, 0.0, 0.5), static)
    assert cut.static(pose_matrix(0.2, 0.1, 0.0, 0.5)).shape == grid.shape
