"""What LiDARs see of a world: points, and the observed voxels of a labelled grid. T frame, X/Y/Z voxel axes.

A free voxel is observed when a ray passes through it. A voxel that is not free is observed when a ray ends in it or
against it. Rays end at the world itself, while labels are votes over a voxel's cells: a hit may lie in a voxel that
was voted free, or on the face between two. So both the voxel just before a hit and the first one behind it count where
they are not free, the latter no further away than a voxel's edge. What lies behind a surface stays out of sight, for no
ray goes on there, and so do voxels that a ray only grazes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import AgentTracks, Doubles, GridSpec, Labels, Semantics
from scenarios.paint import compiled
from scenarios.world.cut.voxelize import cut_clip, cut_frame
from scenarios.world.sensor import sight_kernels
from scenarios.world.sensor import twins as lidar_numpy
from scenarios.world.sensor.cast import Beams, Cast, Sweep, cast_rays, gather, heading, sweep_frame, sweep_picture
from scenarios.world.sensor.spec import LidarSpec, carlasc_lidars, lidar_rig, roof_lidar
from scenarios.world.store import World

__all__ = [
    "LidarSpec",
    "Observed",
    "Sweep",
    "carlasc_lidars",
    "lidar_rig",
    "observe_clip",
    "roof_lidar",
    "seen_voxels",
    "sweep_frame",
    "sweep_picture",
]

TOUCH_M = 0.01  # a hit this close to a face between two voxels touches both
SHORT_M = 1e-6  # rays stop short of what they hit: rounding must not carry them into a free voxel behind it
LOOKS = 5  # places behind a hit where its label is looked for
SPACING = 0.125  # of a voxel: rays closer to each other than this are not all followed


@dataclass(frozen=True)
class Observed:
    """Voxels that any sensor saw [T, X, Y, Z], free or not, and the frames' sweeps [T]."""

    observed: NDArray[np.bool_]
    sweeps: tuple[Sweep, ...]


def observe_clip(
    world: World,
    agents: AgentTracks,
    world_se3_ego: Doubles,
    grid: GridSpec,
    world_se3_anchor: Doubles | None,
    rig: LidarSpec,
    rng: np.random.Generator | int = 0,
    labels: Labels | None = None,
    fast: bool = True,
) -> Observed:
    """Sweeps and observed voxels of T frames.

    agents: T frames without the ego. world_se3_ego: [T, 4, 4] upright poses. world_se3_anchor: the pose [4, 4] of the
    grid, None where each frame's grid is the ego's own. labels: [T, X, Y, Z] in that grid; cut anew where they are not
    given. fast picks the numba kernels, else their numpy twins. Raises ValueError where the frames do not match.
    """
    frames = len(world_se3_ego)
    if agents.valid.shape[1] != frames:
        raise ValueError(f"a clip of {frames} poses needs agents of as many frames, got {agents.valid.shape[1]}")
    if labels is None and world_se3_anchor is not None:
        labels = cut_clip(world.tile, agents, world_se3_anchor, grid, fast).labels
    elif labels is None:
        cuts = [cut_frame(world.tile, agents, t, ego, grid, fast) for t, ego in enumerate(world_se3_ego)]
        labels = np.concatenate([cut.labels for cut in cuts])
    if labels.shape != (frames, *grid.shape):
        raise ValueError(f"labels need shape {(frames, *grid.shape)}, got {labels.shape}")
    rng, observed, sweeps = np.random.default_rng(rng), [], []
    for t, ego in enumerate(world_se3_ego):
        cast = cast_rays(world.tile, agents.frames(t, t + 1), ego, rig, rng, fast)
        sweeps.append(gather(cast, rig, rng))
        pose = ego if world_se3_anchor is None else world_se3_anchor
        observed.append(seen_voxels(cast, rig, ego, labels[t], grid, pose, fast))
    return Observed(np.stack(observed), tuple(sweeps))


def seen_voxels(
    cast: Cast,
    rig: LidarSpec,
    world_se3_ego: Doubles,
    labels: Labels,
    grid: GridSpec,
    world_se3_grid: Doubles,
    fast: bool = True,
) -> NDArray[np.bool_]:
    """[X, Y, Z] what the rays of one frame see of its labels in a grid at an upright pose [4, 4]."""
    beams = Beams.of(rig)
    observed, passed = np.zeros(labels.shape, np.bool_), np.zeros(labels.shape, np.bool_)
    voxel = np.asarray(grid.voxel_m)
    grid_se3_ego = np.linalg.inv(world_se3_grid) @ world_se3_ego
    azimuth = beams.azimuth_rad + heading(grid_se3_ego)
    steps = (np.cos(azimuth) / voxel[0], np.sin(azimuth) / voxel[1], beams.slope / voxel[2])
    thinned = (
        _from_m(rig.azimuths, 2 * np.pi / rig.azimuths, min(voxel[:2]) * SPACING),
        _from_m(rig.channels, float(np.diff(beams.slope, append=np.inf).min()), voxel[2] * SPACING),
    )
    looks = np.append(-TOUCH_M, np.linspace(TOUCH_M, max(voxel.max(), TOUCH_M), LOOKS))
    places = looks * beams.cosine[:, None]
    module: Any = sight_kernels if fast else lidar_numpy
    run: Any = compiled if fast else lambda kernel: kernel
    for turn, mount in zip(cast.turns, rig.mounts_m, strict=True):
        at = ((grid_se3_ego @ np.append(mount, 1.0))[:3] - grid.origin_m) / voxel
        where = (*(float(value) for value in at), *steps)
        run(module.pass_voxels)(*where, turn.distance_m - SHORT_M, *thinned, passed)
        run(module.end_voxels)(*where, turn.distance_m, turn.class_id, places, labels, observed)
    return observed | (passed & (labels == Semantics.FREE))


def _from_m(rays: int, apart: float, spacing_m: float) -> Doubles:
    """[rays] the distance from which on each ray of a fan is needed.

    Rays that stand `apart` for a metre of distance are closer than spacing_m to each other up to spacing_m / apart;
    there every second one is enough, in half that distance every fourth, and so on.
    """
    number = np.arange(rays)
    start = np.zeros(rays)
    for power in range(1, max(rays, 2).bit_length()):
        start = np.where((number % 2**power != 0) & (start == 0), spacing_m / apart / 2 ** (power - 1), start)
    return start
