"""What a finished track says of its object: size, heading and a smooth way. K sightings, N object, T frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcgen.instances.kalman import smoothed
from dcgen.instances.tracker import ACCEL_MPS2, CUT_SIGMA_VOXELS, SIGMA_VOXELS, Track
from dcgen.types import AgentTracks, Doubles, GridSpec, Semantics

STILL_MPS = 0.3  # slower than this is standing


def tracks_of(found: Sequence[Track], time_s: Doubles, grid: GridSpec) -> AgentTracks:
    """Tracks over all frames of a scene; ids from 1 on."""
    n, t = len(found), len(time_s)
    out = AgentTracks(
        np.arange(1, n + 1),
        np.array([track.class_id for track in found], np.uint8),
        np.ones((n, 3), np.float32),
        np.zeros((n, t, 3)),
        np.zeros((n, t), np.float32),
        np.zeros((n, t), np.float32),
        np.zeros((n, t), bool),
    )
    for row, track in enumerate(found):
        _fill(out, row, track, time_s, grid)
    return out


def _fill(out: AgentTracks, row: int, track: Track, time_s: Doubles, grid: GridSpec) -> None:
    voxel = max(grid.voxel_m[:2])
    sigmas = [(CUT_SIGMA_VOXELS if view.outward.any() else SIGMA_VOXELS) * voxel for view in track.views]
    times = time_s[track.frames]
    centres = [view.centre_m for view in track.views]
    state = smoothed(times, centres, sigmas, ACCEL_MPS2[Semantics(track.class_id)])
    speed = np.hypot(*state[:, 2:].T)
    moves = speed >= STILL_MPS
    heading = np.where(moves, np.arctan2(state[:, 3], state[:, 2]), 0.0)
    bottom, top = (np.median([getattr(v, name) for v in track.views]) for name in ("bottom_m", "top_m"))
    place = state[:, :2] if moves.any() else np.broadcast_to(state[:, :2].mean(axis=0), (len(state), 2))
    out.pose[row, track.frames] = np.column_stack([place, heading])
    out.z_m[row, track.frames] = bottom
    out.speed_mps[row, track.frames] = np.where(moves, speed, 0.0)
    out.valid[row, track.frames] = True
    spread = max((np.ptp(v.columns_m, axis=0) for v in track.views), key=lambda s: float(s.sum())) + voxel
    out.size_m[row] = *spread, max(top - bottom, 0.1)
