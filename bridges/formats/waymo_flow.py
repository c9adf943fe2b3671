"""Waymo's occupancy flow challenge: `<scene>/NNNNNN.npz`, named by the present frame. K waypoint, H/W row and column.

A bird's-eye view 256 x 256 at 3.2 pixels a metre in the present ego frame: the ego at column 128, row 192, heading up.
K = 8 waypoints 1 s apart. observed and occluded are vehicles that are there in the present frame, and that are not
yet; 255 is occupied. flow is backward, in pixels: (columns, rows) from a pixel to where its vehicle was 1 s before.
known: 1 where the scene knows the column below the pixel; elsewhere nothing is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridges.formats.motion import frame_step, instances_at, tracks_of, world_se3_boxes
from bridges.formats.packing import npz_bytes
from bridges.formats.writing import Named, Put
from dcgen.errors import DatasetError
from dcgen.types import UNKNOWN, Doubles, Scene, Semantics

SIZE, EGO_COLUMN, EGO_ROW, PIXELS_A_M = 256, 128, 192, 3.2
WAYPOINTS, STEP_S, OCCUPIED = 8, 1.0, 255


def write(scene: Scene, named: Named, put: Put) -> None:
    """A sample for each second of the scene that has WAYPOINTS seconds ahead of it. Raises DatasetError."""
    step, seconds = frame_step(scene, STEP_S)
    if abs(seconds - STEP_S) > 1e-3:
        raise DatasetError(
            f"waymo-flow needs frames a whole second apart, the scene's make {seconds:g} s; "
            "make the scene with frames 0.1, 0.2, 0.25, 0.5 or 1 s apart"
        )
    if len(scene.time_s) <= WAYPOINTS * step:
        raise DatasetError(
            f"waymo-flow needs {WAYPOINTS * step + 1} frames ({WAYPOINTS} s ahead of the present one), "
            f"the scene has {len(scene.time_s)}; make a longer one"
        )
    for present in range(0, len(scene.time_s) - WAYPOINTS * step, step):
        shapes = {"observed": 1, "occluded": 1, "flow": 2, "known": 1}
        members = {
            name: np.zeros((WAYPOINTS, SIZE, SIZE, last), np.int8 if name == "flow" else np.uint8)
            for name, last in shapes.items()
        }
        for k in range(WAYPOINTS):
            _waypoint(scene, present, present + (k + 1) * step, step, {name: a[k] for name, a in members.items()})
        put(f"{named.name}/{present:06d}.npz", npz_bytes(members))


def pixel_points_m() -> Doubles:
    """[H, W, 3] where the middle of each pixel lies in the ego frame, on the ground."""
    rows, columns = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    ahead, left = (EGO_ROW - rows) / PIXELS_A_M, (EGO_COLUMN - columns) / PIXELS_A_M
    return np.stack([ahead, left, np.zeros_like(ahead)], axis=-1)


def _waypoint(scene: Scene, present: int, t: int, step: int, out: dict[str, NDArray]) -> None:
    """Fill the arrays [H, W, 1 or 2] of the waypoint at frame t."""
    world_se3_bev = scene.world_se3_ego[present]
    points = pixel_points_m() @ world_se3_bev[:3, :3].T + world_se3_bev[:3, 3]
    labels, instances = scene.labels[t], instances_at(scene, t)
    column, inside = _columns(scene, t, points)
    vehicle = labels == Semantics.VEHICLE
    lowest = vehicle.argmax(axis=2)  # the voxel that names the column's vehicle
    owner = np.take_along_axis(instances, lowest[..., None], axis=2)[..., 0]
    occupied = inside & vehicle.any(axis=2)[column]
    name = np.where(occupied, owner[column], 0).astype(np.int64)
    objects = tracks_of(scene)
    later = np.append(False, ~objects.valid[:, present])[name]
    out["observed"][..., 0][occupied & ~later] = OCCUPIED
    out["occluded"][..., 0][occupied & later] = OCCUPIED
    out["known"][..., 0] = inside & (labels != UNKNOWN).any(axis=2)[column]
    before, now = world_se3_boxes(objects, t - step), world_se3_boxes(objects, t)
    for n in np.unique(name[name > 0]):
        row = n - 1
        if objects.valid[row, t] and objects.valid[row, t - step]:
            mine = name == n
            back = before[row] @ np.linalg.inv(now[row])
            shift_m = points[mine] @ (back[:3, :3] - np.eye(3)).T + back[:3, 3]
            ahead, left, _ = world_se3_bev[:3, :3].T @ shift_m.T
            pixels = np.round(-PIXELS_A_M * np.stack([left, ahead], axis=-1))
            out["flow"][mine] = np.clip(pixels, -128, 127).astype(np.int8)


def _columns(scene: Scene, t: int, points: Doubles) -> tuple[tuple[NDArray, NDArray], NDArray[np.bool_]]:
    """The scene's column [H, W] below each world point in frame t, clipped to the grid, and whether it lies inside."""
    pose, grid = scene.world_se3_ego[t], scene.grid
    local = ((points - pose[:3, 3]) @ pose[:3, :3])[..., :2]
    index = np.floor((local - np.array(grid.origin_m[:2])) / np.array(grid.voxel_m[:2]) + 1e-9).astype(np.int64)
    inside = ((index >= 0) & (index < np.array(grid.shape[:2]))).all(axis=-1)
    index = np.clip(index, 0, np.array(grid.shape[:2]) - 1)
    return (index[..., 0], index[..., 1]), inside
