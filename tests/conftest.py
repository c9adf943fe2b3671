"""Where the tests find real maps and routes, and a scene in which every axis differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcgen.types import (
    LAYOUT_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Command,
    GridSpec,
    Scene,
    Semantics,
    pose_matrix,
)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of CARLA maps and routes beside the checkout; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no CARLA maps and routes at {SHARED_DATA}")
    return SHARED_DATA


def small_scene(frames: int = 3, shape: tuple[int, int, int] = (11, 13, 7), seed: int = 0) -> Scene:
    """A scene that differs along every axis: a road bent to the left, a house on the left, a pole on the right."""
    x, y, z = shape
    grid = GridSpec(shape, (0.8, 0.7, 0.6), (-4.0, -5.0, -1.0))
    labels = np.zeros((frames, *shape), np.uint8)
    labels[..., 0] = Semantics.GROUND
    for i in range(x):
        middle = min(y - 2, 4 + i * i // 30)
        labels[:, i, middle - 2 : middle + 2, 0] = Semantics.ROAD
    labels[:, 1:4, y - 3 :, 1 : z - 1] = Semantics.BUILDING
    labels[:, x - 2, 1, 1 : z - 2] = Semantics.POLE
    labels[:, :, :, z - 1] = UNKNOWN
    for t in range(frames):
        labels[t, 5 + t % 3, 4, 1:3] = Semantics.VEHICLE
    rng = np.random.default_rng(seed)
    poses = np.stack([pose_matrix(1.5 * t, 0.2 * t, 0.01 * t, 0.1 * t) for t in range(frames)])
    n = 2
    agents = AgentTracks(
        id=np.array([7, 3], np.int64),
        class_id=np.array([Semantics.VEHICLE, Semantics.PEDESTRIAN], np.uint8),
        size_m=rng.random((n, 3), np.float32) + 1,
        pose=rng.normal(size=(n, frames, 3)),
        z_m=rng.random((n, frames), np.float32),
        speed_mps=rng.random((n, frames), np.float32),
        valid=rng.random((n, frames)) < 0.7,
    )
    return Scene(
        labels=labels,
        grid=grid,
        time_s=0.2 * np.arange(frames),
        world_se3_ego=poses,
        agents=agents,
        trajectory=rng.random((frames, 3), np.float32),
        command=np.full(frames, Command.LEFT, np.int8),
        layout=rng.random((frames, len(LAYOUT_CHANNELS), x, y)).astype(np.float16),
        known=rng.random((frames, *shape)) < 0.2,
        seed=12345678901,
        model="nano",
        model_sha256="ab" * 32,
        scenario="route: ä — left\n",
        metadata={"town": "Town01", "note": "été"},
    )


@pytest.fixture
def scene() -> Scene:
    return small_scene()
