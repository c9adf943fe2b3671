"""Cam4DOcc: `{segmentation,instance,flow}/<scene>_<lidar>.npz`, one sequence a file. T frame, X/Y/Z voxel axes, N row.

A sequence is PAST frames up to the present one and FUTURE ones, all in the frame of the PRESENT LiDAR (nuScenes': x to
the right, y ahead, 1.84 m above the road). Each file holds arr_0: T arrays of rows x, y, z, value. What is not
listed is background; unknown has no value of its own. What first comes into sight in the future is left out, as the
benchmark does. Flow is kept in cells four times as large, rows x, y, z and three numbers: from the cell to where the
middle of its instance was in the frame before (where it is, in the first frame that has it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.formats.class_tables import CAM4DOCC, NO_ROW
from bridges.formats.motion import frame_step, instances_at
from bridges.formats.openoccupancy import FRAME, GRID
from bridges.formats.packing import npz_bytes, objects, token
from bridges.formats.writing import Named, Put
from dcgen.canvas import grid_index
from dcgen.errors import DatasetError
from dcgen.types import Doubles, Scene

PAST, FUTURE = 3, 4  # frames, the present one among the past
STEP_S = 0.5
COARSE = 4


@dataclass(frozen=True)
class Movers:
    """The movable voxels of one frame in the target grid: places [N, 3], the one class [N], instances [N]."""

    place: NDArray[np.int64]
    class_id: NDArray[np.int16]
    instance: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_]) -> Movers:
        return Movers(self.place[keep], self.class_id[keep], self.instance[keep])


def write(scene: Scene, named: Named, put: Put) -> None:
    """A sequence for every present frame, STEP_S apart as nearly as the scene's frames allow. Raises DatasetError."""
    step, seconds = frame_step(scene, STEP_S)
    first, last = (PAST - 1) * step, len(scene.time_s) - 1 - FUTURE * step
    if last < first:
        raise DatasetError(
            f"cam4docc needs {(PAST + FUTURE - 1) * step + 1} frames ({PAST + FUTURE} of them, {seconds:g} s apart), "
            f"the scene has {len(scene.time_s)}; make a longer one"
        )
    for present in range(first, last + 1, step):
        times = [present + k * step for k in range(1 - PAST, FUTURE + 1)]
        frames = _sequence(scene, times, present)
        name = f"{named.name}_{token(named.name, present)}"
        kinds: dict[str, list[NDArray]] = {
            "segmentation": [np.column_stack([each.place, each.class_id]).astype(np.int16) for each in frames],
            "instance": [
                np.column_stack([each.place, each.instance])[each.instance > 0].astype(np.int16) for each in frames
            ],
            "flow": [*flow_rows(frames)],
        }
        for kind, rows in kinds.items():
            put(f"{kind}/{name}.npz", npz_bytes({"arr_0": objects(rows)}))


def _sequence(scene: Scene, times: list[int], present: int) -> list[Movers]:
    """The movers of each frame; instances are counted from 1 in the order of the scene's objects."""
    world_se3_target = FRAME.world_se3_target(scene.world_se3_ego[present])
    frames = [movers_at(scene, t, world_se3_target) for t in times]
    seen = np.unique(np.concatenate([each.instance for each in frames[:PAST]]))
    seen = seen[seen > 0]
    out = []
    for number, each in enumerate(frames):
        if number >= PAST:
            each = each.select((each.instance == 0) | np.isin(each.instance, seen))
        count = np.searchsorted(seen, each.instance) + 1
        out.append(Movers(each.place, each.class_id, np.where(each.instance > 0, count, 0)))
    return out


def movers_at(scene: Scene, t: int, world_se3_target: Doubles) -> Movers:
    """The movable voxels of frame t in a grid that stands anywhere: what lies at each of its voxels' centres."""
    listed = CAM4DOCC.apply(scene.labels[t]) != NO_ROW
    voxel, low = np.array(GRID.voxel_m), np.array(GRID.origin_m)
    found = np.argwhere(listed)
    target_se3_ego = np.linalg.inv(world_se3_target) @ scene.world_se3_ego[t]
    centres = np.array(scene.grid.origin_m) + (found + 0.5) * scene.grid.voxel_m
    centres = centres @ target_se3_ego[:3, :3].T + target_se3_ego[:3, 3]
    reach = np.abs(target_se3_ego[:3, :3]) @ (np.array(scene.grid.voxel_m) / 2)
    place = _places(centres - reach, centres + reach)
    points = (low + (place + 0.5) * voxel) @ world_se3_target[:3, :3].T + world_se3_target[:3, 3]
    index, inside = grid_index(scene.grid, scene.world_se3_ego[t], points)
    at = tuple(index.T)
    keep = inside & listed[at]
    instance = instances_at(scene, t)[at].astype(np.int64)
    return Movers(place, np.ones(len(place), np.int16), instance).select(keep)


def _places(low_m: Doubles, high_m: Doubles) -> NDArray[np.int64]:
    """[N, 3] every voxel of the grid that one of the boxes [M, 3] touches, in order, each once."""
    touched = np.zeros(GRID.shape, bool)
    voxel, low, shape = np.array(GRID.voxel_m), np.array(GRID.origin_m), np.array(GRID.shape)
    begin = np.clip(np.floor((low_m - low) / voxel), 0, shape).astype(np.int64)
    end = np.clip(np.ceil((high_m - low) / voxel), 0, shape).astype(np.int64)
    for (i, j, k), (a, b, c) in zip(begin, end, strict=True):
        touched[i:a, j:b, k:c] = True
    return np.argwhere(touched)


def flow_rows(frames: list[Movers]) -> list[NDArray[np.float32]]:
    """T arrays [N, 6] of cells that an instance fills: place, and the way to the instance's middle one frame before."""
    before: dict[int, Doubles] = {}
    known: set[int] = set()
    out = []
    for each in frames:
        cell, instance = coarse(each)
        now = {int(n): np.round(cell[instance == n].mean(axis=0)) for n in np.unique(instance)}
        rows = []
        for n, middle in now.items():
            aim = before.get(n) if n in known else middle
            if aim is not None:
                mine = cell[instance == n]
                rows.append(np.column_stack([mine, aim - mine]))
        out.append(np.concatenate([np.zeros((0, 6)), *rows]).astype(np.float32))
        known |= set(now)
        before = now
    return out


def coarse(movers: Movers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells [N, 3] of COARSE^3 voxels that any instance fills, and the commonest instance [N], the lowest of equals."""
    mine = movers.instance > 0
    pairs = np.column_stack([movers.place[mine] // COARSE, movers.instance[mine]])
    pairs, count = np.unique(pairs, axis=0, return_counts=True)
    pairs = pairs[np.lexsort((pairs[:, 3], -count, pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    fresh = np.ones(len(pairs), bool)
    fresh[1:] = (np.diff(pairs[:, :3], axis=0) != 0).any(axis=1)
    return pairs[fresh, :3], pairs[fresh, 3]
