"""Whether a scene keeps to its layout and leaves the ego's way free. T frame, X/Y/Z voxel axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.eval.tally import Tally
from dcgen.types import STATIC_CHANNELS, SURFACES, UNKNOWN, Conditions, Floats, GridSpec, Labels, Semantics

EGO_LENGTH_M = 4.6
EGO_WIDTH_M = 1.9
EGO_HEIGHT_M = 1.6
OBSTACLES = (
    Semantics.BUILDING,
    Semantics.BARRIER,
    Semantics.OTHER,
    Semantics.POLE,
    Semantics.VEGETATION,
)


def layout_iou(labels: Labels, layout_static: Floats, channel: str, surface: Semantics) -> Tally:
    """Bird's-eye IoU of the columns of labels [T, X, Y, Z] that hold `surface` with a channel above a half.

    The layout leaves out what lies outside the grid's z range. By the labelling law a column keeps its surface voxel
    under whatever stands on it. Columns that are wholly UNKNOWN count nowhere.
    """
    expected = layout_static[STATIC_CHANNELS.index(channel)] > 0.5
    found = (labels == surface).any(axis=3)
    known = (labels != UNKNOWN).any(axis=3)
    both, either = found & expected & known, (found | expected) & known
    return Tally(int(both.sum()), int(either.sum()))


def ego_path_free(labels: Labels, conditions: Conditions) -> Tally:
    """Frames in which no static obstacle stands where the ego does, of the frames with the ego in the grid.

    A voxel is in the way when its centre lies in the ego's box (length x width x height above its ground) and it is
    above the surface voxel of its column.
    """
    grid = conditions.grid
    ego = np.linalg.inv(conditions.world_se3_anchor) @ conditions.world_se3_ego
    free = inside = 0
    for frame, pose in zip(labels, ego, strict=True):
        at = (pose[:2, 3] - grid.origin_m[:2]) / grid.voxel_m[:2]
        if np.any(at < 0) or np.any(at >= grid.shape[:2]):
            continue
        inside += 1
        free += not np.any(ego_box(frame, pose, grid) & np.isin(frame, OBSTACLES))
    return Tally(free, inside)


def ego_box(frame: Labels, anchor_se3_ego: NDArray[np.float64], grid: GridSpec) -> NDArray[np.bool_]:
    """[X, Y, Z] voxels above the surface whose centres the ego's box holds."""
    x, y, z = (o + (np.arange(n) + 0.5) * v for o, n, v in zip(grid.origin_m, grid.shape, grid.voxel_m, strict=True))
    dx, dy, ground = x[:, None] - anchor_se3_ego[0, 3], y[None] - anchor_se3_ego[1, 3], anchor_se3_ego[2, 3]
    yaw = np.arctan2(anchor_se3_ego[1, 0], anchor_se3_ego[0, 0])
    along, across = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
    footprint = (np.abs(along) <= EGO_LENGTH_M / 2) & (np.abs(across) <= EGO_WIDTH_M / 2)
    surface = np.isin(frame, SURFACES)
    layers = np.arange(grid.shape[2])
    below = np.floor((ground - grid.origin_m[2]) / grid.voxel_m[2])  # where the column shows no surface
    top = np.where(surface.any(axis=2), (surface * (layers + 1)).max(axis=2) - 1, below)
    above = (layers > top[..., None]) & (z < ground + EGO_HEIGHT_M - 1e-6)
    return footprint[..., None] & above
