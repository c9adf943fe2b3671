"""Clips with all that a clip may hold, drawn by seed. All sizes differ."""

from __future__ import annotations

import numpy as np

from dcgen.dataset.spec import DatasetSpec
from dcgen.types import (
    AGENT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Clip,
    Command,
    Conditions,
    GridSpec,
    pose_matrix,
)

GRID = GridSpec((7, 5, 3), (0.8, 0.7, 0.6), (-2.8, -1.75, -0.6))
FRAMES = 4


def spec(clips: int = 11, **changes) -> DatasetSpec:
    values = {"part_clips": 4, "seed": 3, "observed": True, "points": True, "origin": {"kind": "drawn"}}
    return DatasetSpec(GRID, FRAMES, 0.2, clips, **(values | changes))


def full_clip(seed: int, ego_centred: bool = False) -> Clip:
    rng = np.random.default_rng(seed)
    shape, agents = (FRAMES, *GRID.shape), seed % 3
    poses = np.stack([pose_matrix(1.1 * t + seed, 0.2 * t, 0.0, 0.1 * t) for t in range(FRAMES)])
    labels = rng.integers(0, 12, shape).astype(np.uint8)
    labels[rng.random(shape) < 0.1] = UNKNOWN
    tracks = AgentTracks(
        rng.permutation(9)[:agents].astype(np.int64), rng.choice([4, 10, 11], agents).astype(np.uint8),
        rng.random((agents, 3), np.float32) + 1, rng.normal(size=(agents, FRAMES, 3)),
        rng.random((agents, FRAMES), np.float32), rng.random((agents, FRAMES), np.float32),
        rng.random((agents, FRAMES)) < 0.7,
    )  # fmt: skip
    conditions = Conditions(
        GRID, 0.2, poses[FRAMES // 2], poses, rng.random((FRAMES, 3), np.float32), Command(seed % 4),
        rng.random((len(STATIC_CHANNELS), *GRID.shape[:2]), np.float32),
        rng.random((FRAMES, len(AGENT_CHANNELS), *GRID.shape[:2]), np.float32),
        np.full(shape, UNKNOWN, np.uint8), tracks,
    )  # fmt: skip
    points = tuple(rng.random((int(n), 4), np.float32) for n in rng.integers(0, 6, FRAMES))
    return Clip(
        labels, rng.random(shape) < 0.2, conditions, f"clip ä {seed}", ego_centred, rng.random(shape) < 0.5, points
    )
