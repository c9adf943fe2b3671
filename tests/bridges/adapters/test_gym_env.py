"""A scene as an environment of Gymnasium: its own checker, determinism, rewards and ends."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from bridges.adapters import as_gym_env, from_gym_policy
from bridges.rollout.closed_loop import LoopSettings
from bridges.rollout.drive import drive
from dcgen.errors import PlannerError, SceneError
from dcgen.scene_file import save_scene
from dcgen.types import LAYOUT_CHANNELS, AgentTracks, GridSpec, Scene, Semantics, pose_matrix

gymnasium = pytest.importorskip("gymnasium")
GRID = GridSpec((44, 26, 6), (0.5, 0.5, 0.6), (-5.0, -6.5, -1.2))
FRAMES = 7


def street(wall_m: float | None = None) -> Scene:
    """The ego drives 5 m/s along x; a wall stands across, wall_m ahead of its start."""
    labels = np.zeros((FRAMES, *GRID.shape), np.uint8)
    labels[..., 1] = Semantics.ROAD
    x = GRID.origin_m[0] + (np.arange(GRID.shape[0]) + 0.5) * GRID.voxel_m[0]
    for t in range(FRAMES):
        if wall_m is not None:
            labels[t, np.abs(x + t - wall_m) < 0.6, :, 2:4] = Semantics.BUILDING
    layout = np.zeros((FRAMES, len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float16)
    layout[:, 0] = 1.0
    return Scene(
        labels=labels,
        grid=GRID,
        time_s=np.arange(FRAMES) * 0.2,
        world_se3_ego=np.stack([pose_matrix(float(t), 0.0, 0.0, 0.0) for t in range(FRAMES)]),
        agents=AgentTracks.empty(FRAMES),
        trajectory=np.stack([[t, 0.0, 0.0] for t in range(FRAMES)]).astype(np.float32),
        command=np.ones(FRAMES, np.int8),
        layout=layout,
        known=np.zeros(labels.shape, bool),
    )


def test_gymnasiums_checker_finds_nothing_wrong() -> None:
    from gymnasium.utils.env_checker import check_env

    env = as_gym_env(street(), render_mode="rgb_array", size_px=60)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*render mode.*|.*spec.*|.*Box.*")
        check_env(env)


def test_reset_with_a_seed_begins_the_same_again() -> None:
    env = as_gym_env(street())
    runs = []
    for _ in range(2):
        shown, info = env.reset(seed=5)
        rows = [shown, env.step(np.array([0.2, 0.3], np.float32))[0]]
        runs.append((rows, info["pose"]))
    for one, two in zip(runs[0][0], runs[1][0], strict=True):
        assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    assert np.array_equal(runs[0][1], runs[1][1])


def test_it_is_truncated_where_the_scene_ends() -> None:
    env = as_gym_env(street())
    env.reset(seed=1)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(FRAMES - 1)]
    assert ends == [(False, False)] * (FRAMES - 2) + [(False, True)]
    with pytest.raises(PlannerError, match="call reset"):
        env.step(np.zeros(2, np.float32))


def test_progress_is_rewarded_and_a_collision_ends_it() -> None:
    from bridges.adapters.scene_env import COLLISION

    env = as_gym_env(street(wall_m=7.0))
    env.reset(seed=1)
    _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
    assert reward == pytest.approx(1.0, abs=0.05) and not terminated and not info["collision"]
    while not terminated:
        _, reward, terminated, truncated, info = env.step(np.array([0.0, 1.0], np.float32))
        assert not truncated or terminated
    assert info["collision"] and reward < COLLISION / 2
    assert 7.0 - 2.3 - 1.0 < info["pose"][0] + 0.6 < 8.0


@pytest.mark.parametrize("side", [1, -1])
def test_steer_is_positive_to_the_left(side: int) -> None:
    env = as_gym_env(street())
    env.reset(seed=1)
    for _ in range(3):
        shown, _, _, _, info = env.step(np.array([0.5 * side, 0.0], np.float32))
    assert side * info["pose"][2] > 0.05 and side * info["pose"][1] > 0
    assert side * shown["route"][10, 1] < 0, "the way straight on now lies on the other side"


def test_a_policy_sees_what_the_environment_shows() -> None:
    env, seen = as_gym_env(street()), []
    first, _ = env.reset(seed=0)

    def policy(observation):
        seen.append(observation)
        return np.array([0.1, 0.2])

    drive(street(), from_gym_policy(policy), LoopSettings())
    assert all(np.array_equal(first[name], seen[0][name]) for name in first)
    second = env.step(np.array([0.1, 0.2], np.float32))[0]
    assert all(np.allclose(second[name], seen[1][name], atol=1e-4) for name in second)


def test_the_picture_is_from_above() -> None:
    env = as_gym_env(street(wall_m=9.0), render_mode="rgb_array", size_px=88)
    env.reset(seed=0)
    picture = env.render()
    assert (
        picture.dtype == np.uint8
        and picture.shape == (88, 52, 3)
        and len(np.unique(picture.reshape(-1, 3), axis=0)) > 3
    )
    assert as_gym_env(street()).render_mode is None


def test_files_and_mistakes(tmp_path: Path) -> None:
    path = save_scene(street(), tmp_path / "street.h5")
    assert as_gym_env(path).reset(seed=0)[0]["occupancy"].shape == (4, *GRID.shape)
    with pytest.raises(SceneError):
        as_gym_env(tmp_path / "none.h5")
    with pytest.raises(PlannerError, match="'human'"):
        as_gym_env(street(), render_mode="human")
    with pytest.raises(PlannerError, match="call reset"):
        as_gym_env(street()).step(np.zeros(2, np.float32))
