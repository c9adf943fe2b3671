"""Recordings with an ego and road users that drive as told, in a small grid. All sizes differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dcgen.forecast.config import ForecastConfig
from dcgen.forecast.windows import Recording, Windows
from dcgen.types import GridSpec, Semantics, pose_matrix
from tests.dcgen.dataset.driven import CAR, DT, WALKER, stamp, tracks

GRID = GridSpec((32, 24, 5), (0.8, 0.8, 0.8), (-12.8, -9.6, -0.8))
CONFIG = ForecastConfig(GRID, DT, 3, (1, 3), (8, 12))
FRAMES = 8


def drive(
    seed: int = 0, ego_mps: float = 4.0, users_mps: float = 3.0, frames: int = FRAMES, anchored: bool = False
) -> Recording:
    """A road past a wall; a car along, a parked one, a walker across; the ego bends to the left."""
    rng = np.random.default_rng(seed)
    agents = tracks(
        (*CAR, rng.uniform(-4, 4), 3.0, 0.0, users_mps, 0), (*CAR, -5, -6, 0.3, 0, 0),
        (*WALKER, 4, rng.uniform(-3, 3), 1.6, users_mps / 2, 0), frames=frames,
    )  # fmt: skip
    at = (np.arange(frames) - frames // 2) * DT
    poses = np.stack([pose_matrix(ego_mps * t, 0.05 * ego_mps * t * t, 0, 0.1 * ego_mps * t) for t in at])
    grids = np.broadcast_to(poses[frames // 2], poses.shape) if anchored else poses
    cuts = [stamp(agents.frames(t, t + 1), pose, GRID) for t, pose in enumerate(grids)]
    labels = np.concatenate([cut.labels for cut in cuts])
    points = GRID.centres_m()
    for frame, world_se3_grid in zip(labels, grids, strict=True):
        world = points @ world_se3_grid[:3, :3].T + world_se3_grid[:3, 3]
        wall = (world[..., 1] > 6) & (world[..., 1] < 8) & (world[..., 2] > 0) & (frame == Semantics.FREE)
        frame[wall] = Semantics.BUILDING
    return Recording(labels, np.concatenate([cut.moving for cut in cuts]), poses, grids, agents)


@dataclass
class Drives:
    """Some recordings of the grid, as Recordings."""

    found: list[Recording]
    name: str = "drives"
    about: str = "drives"
    grid: GridSpec = GRID
    dt_s: float = DT

    @property
    def frames(self) -> list[int]:
        return [len(each.labels) for each in self.found]

    def __getitem__(self, index: int) -> Recording:
        return self.found[index]


def windows(count: int = 3, config: ForecastConfig = CONFIG, stride: int = 1, **how) -> Windows:
    return Windows(Drives([drive(seed, **how) for seed in range(count)]), config, stride)


def turned(angles: list[float], shifts: list[tuple[float, float, float]]) -> torch.Tensor:
    """[N, 4, 4] poses on the ground."""
    return torch.from_numpy(np.stack([pose_matrix(*shift, angle) for angle, shift in zip(angles, shifts, strict=True)]))
