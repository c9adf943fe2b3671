"""Whose voxel it is and where it goes: laws of rigid motion, on boxes stamped by hand and on clips of worlds."""

from dataclasses import replace

import numpy as np
import pytest

from dcgen.dataset.motion import REACH, clip_motion, in_voxels, instances_of, owners, rigid_flow
from dcgen.types import AgentTracks, GridSpec, Semantics, pose_matrix
from tests.dcgen.dataset.driven import CAR, DT, GRID, HERE, WALKER, driven_clip, stamped, tracks


def both_flows(agents: AgentTracks, grid: GridSpec = GRID, poses=HERE):
    labels = stamped(agents, grid, poses)
    owner = owners(labels, agents, grid, poses)
    return labels, owner, *(rigid_flow(owner, agents, grid, poses, step) for step in (1, -1))


def test_every_stamped_voxel_finds_its_agent():
    agents = tracks(
        (*CAR, 2, 3, 0.5, 3, 0), (*CAR, -4, -5, 2.0, 0, 0), (*WALKER, 0, 0, 0, 1, 0), (*CAR, 30, 0, 0, 0, 0)
    )
    labels = stamped(agents)
    owner = owners(labels, agents, GRID, HERE)
    assert set(np.unique(owner)) == {0, 1, 2, 3}
    assert np.array_equal(owner > 0, np.isin(labels, (Semantics.VEHICLE, Semantics.PEDESTRIAN)))
    assert (owner == 3).any(axis=(1, 2, 3)).all() and np.array_equal(owner == 3, labels == Semantics.PEDESTRIAN)
    for row in range(3):
        alone = stamped(agents.select(np.arange(4) == row)) != 0
        assert (owner[alone & (stamped(agents) == agents.class_id[row])] == row + 1).mean() > 0.98


def test_a_voxel_belongs_to_the_nearest_box_of_its_class_within_reach():
    agents = tracks((*CAR, -3, 0, 0, 0, 0), (*CAR, 3, 0, 0, 0, 0), (*WALKER, 0.0, 0, 0, 0, 0))
    labels = np.zeros((5, *GRID.shape), np.uint8)
    labels[:, :, :, 2] = Semantics.VEHICLE  # a slab around two cars, whoever drew it
    owner = owners(labels, agents, GRID, HERE)[0, :, :, 2]
    x, y = GRID.centres_m()[:, :, 2, 0], GRID.centres_m()[:, :, 2, 1]
    gap = np.maximum(np.abs(np.abs(x) - 3) - 2.2, np.abs(y) - 0.95) / 0.5
    want = np.where(gap > REACH, -1, np.where(x < 0, 1, 2))
    assert np.array_equal(owner, want) and {-1, 1, 2} == set(np.unique(owner))
    assert instances_of(owner).min() == 0


def test_a_box_flows_by_its_way_along_its_heading():
    yaw = 0.6
    labels, owner, forward, backward = both_flows(tracks((*CAR, 0, 0, yaw, 1.0, 0)))
    way = np.array([0.2 * np.cos(yaw), 0.2 * np.sin(yaw), 0])
    car = owner == 1
    assert forward.dtype == np.float32 and car[0].sum() > 50
    assert np.allclose(forward[:-1][car[:-1]], way, atol=1e-6) and np.isnan(forward[-1]).all()
    assert np.allclose(backward[1:][car[1:]], -way, atol=1e-6) and np.isnan(backward[0]).all()
    assert (forward[:-1][~car[:-1]] == 0).all() and (backward[1:][~car[1:]] == 0).all()
    assert np.allclose(in_voxels(forward[0][car[0]], GRID.voxel_m), way / GRID.voxel_m, atol=1e-6)
    assert labels[0][car[0]].min() == Semantics.VEHICLE


def test_the_front_of_a_turning_car_swings_out():
    rate = 1.0
    _, owner, forward, _ = both_flows(tracks((*CAR, 0, 0, 0, 5.0, rate)))
    centres, car = GRID.centres_m(), owner[2] == 1
    front, rear = (car & (sign * centres[..., 0] > 1.5) for sign in (1, -1))
    assert forward[2][front][:, 1].mean() > 0.25 > -0.25 > forward[2][rear][:, 1].mean()
    turn = pose_matrix(1.0, 0, 0, rate * DT)[:3, :3] - np.eye(3)  # about the box's middle, which goes 1 m
    assert np.allclose(forward[2][car], centres[car] @ turn.T + [1, 0, 0], atol=1e-5)


def splatted(owner: np.ndarray, flow: np.ndarray, grid: GridSpec) -> np.ndarray:
    """[X, Y, Z] the instances of a frame, each voxel put where its flow points."""
    at = np.floor((grid.centres_m() + flow - grid.origin_m) / grid.voxel_m)
    out = np.zeros(grid.shape, np.int32)
    inside = (owner > 0) & np.isfinite(at).all(axis=-1) & (at >= 0).all(axis=-1) & (at < grid.shape).all(axis=-1)
    out[tuple(at[inside].astype(int).T)] = owner[inside]
    return out


def test_forward_flow_carries_instances_onto_the_next_frame_and_backward_onto_the_last():
    agents = tracks((*CAR, 0, 4, 0.3, 6.0, 0.5), (*CAR, 0, -4, -1.2, 4.0, 0), (*WALKER, 5, 0, 1, 2.0, 0))
    _, owner, forward, backward = both_flows(agents)
    for t in range(4):
        for here, there, flow in ((t, t + 1, forward), (t + 1, t, backward)):
            moved = splatted(owner[here], flow[here], GRID)
            hit = ((moved == owner[there]) & (moved > 0)).sum() / ((moved > 0) | (owner[there] > 0)).sum()
            stay = ((owner[here] == owner[there]) & (owner[here] > 0)).sum()
            stay = stay / ((owner[here] > 0) | (owner[there] > 0)).sum()
            assert hit > 0.72 > stay + 0.1, (t, hit, stay)


def test_turning_the_world_turns_the_flow():
    grid = GridSpec((24, 24, 6), (0.5, 0.5, 0.6), (-6, -6, -0.6))
    agents = tracks((*CAR, 1, 2, 0.4, 4.0, 0.7), (*WALKER, -3, -2, 1, 2.0, 0))
    pose = agents.pose.copy()
    pose[..., 0], pose[..., 1] = -agents.pose[..., 1], agents.pose[..., 0]
    pose[..., 2] += np.pi / 2
    _, owner, forward, _ = both_flows(agents, grid)
    _, owner_turned, forward_turned, _ = both_flows(replace(agents, pose=pose), grid)
    assert np.array_equal(np.rot90(owner, axes=(1, 2)), owner_turned) and (owner == 2).any()
    turned = np.rot90(forward, axes=(1, 2))
    turned = np.stack([-turned[..., 1], turned[..., 0], turned[..., 2]], axis=-1)
    assert np.allclose(turned, forward_turned, atol=1e-6, equal_nan=True)


def test_the_world_flows_against_an_ego_that_drives():
    """A car that keeps pace with the ego stands still in its grid; the world comes towards it."""
    agents = tracks((*CAR, 4, 0, 0, 5.0, 0), (*CAR, 0, 4, 0, 0, 0))
    poses = np.stack([pose_matrix(1.0 * (t - 2), 0, 0, 0) for t in range(5)])
    _, owner, forward, backward = both_flows(agents, poses=poses)
    assert np.allclose(forward[1][owner[1] == 1], 0, atol=1e-6)
    for name in (0, 2):
        assert np.allclose(forward[1][owner[1] == name], [-1, 0, 0], atol=1e-6)
        assert np.allclose(backward[1][owner[1] == name], [1, 0, 0], atol=1e-6)
    turning = np.stack([pose_matrix(0, 0, 0, 0.1 * t) for t in range(5)])
    none = AgentTracks.empty(5)
    flow = rigid_flow(np.zeros((5, *GRID.shape), np.int32), none, GRID, turning, 1)
    want = GRID.centres_m() @ (pose_matrix(0, 0, 0, -0.1)[:3, :3].T - np.eye(3))
    assert np.allclose(flow[2], want, atol=1e-5)


def test_flow_over_ground_is_that_of_a_grid_that_stands():
    """Along the axes of each frame's own grid: what stands is 0, what drives is as the standing grid has it, turned."""
    agents = tracks((*CAR, 4, 1, 0.4, 5.0, 0.5), (*CAR, 0, 4, 0, 0, 0))
    poses = np.stack([pose_matrix(1.0 * (t - 2), 0.1 * t, 0, 0.05 * t) for t in range(5)])
    _, owner, _, _ = both_flows(agents, poses=poses)
    for step in (1, -1):
        over, twin = (rigid_flow(owner, agents, GRID, poses, step, fast, over_ground=True) for fast in (True, False))
        assert np.array_equal(over, twin, equal_nan=True)
        assert not over[1:-1][owner[1:-1] != 1].any() and (owner == 2).any()
        for t in range(1, 4):
            here = np.broadcast_to(poses[t], (5, 4, 4))
            alike = rigid_flow(owner[t : t + 1], agents, GRID, here, step, first=t)[0]
            assert np.allclose(over[t], alike, atol=1e-6) and over[t][owner[t] == 1].any()


def test_what_is_not_known_is_not_a_number():
    agents = tracks((*CAR, 0, 0, 0, 1.0, 0))
    valid = np.array([[True, True, False, True, True]])
    labels = stamped(replace(agents, valid=valid))
    labels[:, 0, 0, 5] = Semantics.BICYCLE  # there is none
    owner = owners(labels, replace(agents, valid=valid), GRID, HERE)
    forward = rigid_flow(owner, replace(agents, valid=valid), GRID, HERE, 1)
    assert np.isnan(forward[1][owner[1] == 1]).all() and (owner[1] == 1).any() and not (owner[2] == 1).any()
    assert np.isfinite(forward[0][owner[0] == 1]).all() and np.isfinite(forward[3][owner[3] == 1]).all()
    assert (owner[:, 0, 0, 5] == -1).all() and np.isnan(forward[:, 0, 0, 5]).all()
    assert (forward[:4][owner[:4] == 0] == 0).all()


def random_case(seed: int):
    rng = np.random.default_rng(seed)
    rows = [
        ((CAR, WALKER, (Semantics.BICYCLE, (1.8, 0.7, 1.6)))[n % 3])
        + (rng.uniform(-9, 9), rng.uniform(-9, 9), rng.uniform(-4, 4), rng.uniform(0, 8), rng.normal())
        for n in range(9)
    ]  # fmt: skip
    agents = tracks(*rows)
    agents = replace(agents, valid=rng.random(agents.valid.shape) < 0.8)
    poses = np.stack([pose_matrix(0.5 * t, 0.1 * t, 0.02 * t, 0.05 * t) for t in range(5)])
    tilt = np.eye(4)
    tilt[:3, :3] = np.linalg.qr(np.eye(3) + 0.03 * rng.normal(size=(3, 3)))[0] * [[-1], [-1], [-1]]
    return agents, poses @ tilt if np.linalg.det(tilt) > 0 else poses


@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_equal_their_slow_twins(seed):
    agents, poses = random_case(seed)
    labels = np.random.default_rng(seed).integers(0, 12, (5, *GRID.shape)).astype(np.uint8)
    fast, slow = (owners(labels, agents, GRID, poses, kind) for kind in (True, False))
    assert np.array_equal(fast, slow) and len(np.unique(fast)) > 5
    for step in (1, -1, 2):
        flows = [rigid_flow(fast, agents, GRID, poses, step, kind) for kind in (True, False)]
        assert np.array_equal(*flows, equal_nan=True) and np.isfinite(flows[0]).any()
        part = rigid_flow(fast[1:3], agents, GRID, poses, step, first=1)
        assert np.array_equal(part, flows[0][1:3], equal_nan=True)


@pytest.mark.parametrize("ego_centred", [False, True])
def test_a_clip(ego_centred):
    clip = driven_clip(ego_centred=ego_centred)
    motion = clip_motion(clip)
    slow = clip_motion(clip, fast=False)
    for name in ("instances", "forward_m", "backward_m"):
        assert np.array_equal(getattr(motion, name), getattr(slow, name), equal_nan=name != "instances")
    moving = np.concatenate([[False], clip.conditions.agents.speed_mps[:, 0] > 0.5])
    assert np.array_equal(moving[motion.instances], clip.moving) and clip.moving.any()
    still = ~clip.moving[1:-1]
    assert (motion.forward_m[1:-1][still] == 0).all() != ego_centred
    assert np.allclose(motion.forward_m[1:-1][still], -motion.backward_m[1:-1][still], atol=0.25)
