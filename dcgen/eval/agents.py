"""Whether conditioned agents stand where they should, and nobody else does. T frame, N box, V voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dcgen.eval.tally import Tally
from dcgen.types import MOVABLE, AgentTracks, Conditions, Doubles, GridSpec, Labels

REACH_M = 1.0
MARGIN_M = 2.0
TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner are one piece


@dataclass(frozen=True)
class Boxes:
    """Footprints of agents in a grid's frame."""

    centre_m: Doubles  # [N, 2]
    yaw_rad: Doubles  # [N]
    half_m: Doubles  # [N, 2] half length, half width
    ground_m: Doubles  # [N]
    class_id: NDArray[np.uint8]  # [N]

    def select(self, keep: NDArray[np.bool_]) -> Boxes:
        return Boxes(
            self.centre_m[keep], self.yaw_rad[keep], self.half_m[keep], self.ground_m[keep], self.class_id[keep]
        )

    def signed_distance_m(self, points_m: Doubles) -> Doubles:
        """[V, N] distance of points [V, 2] from each footprint, negative inside."""
        offset = points_m[:, None] - self.centre_m
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        along = np.abs(offset[..., 0] * cos + offset[..., 1] * sin) - self.half_m[:, 0]
        across = np.abs(offset[..., 1] * cos - offset[..., 0] * sin) - self.half_m[:, 1]
        outside = np.hypot(np.maximum(along, 0), np.maximum(across, 0))
        return np.asarray(outside + np.minimum(np.maximum(along, across), 0))


def boxes_of(agents: AgentTracks, frame: int, world_se3_grid: Doubles) -> Boxes:
    """The agents that are there in one frame, seen from an upright pose."""
    there = agents.valid[:, frame]
    cos, sin = world_se3_grid[0, 0], world_se3_grid[1, 0]
    dx, dy = (agents.pose[there, frame, axis] - world_se3_grid[axis, 3] for axis in (0, 1))
    return Boxes(
        centre_m=np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=1),
        yaw_rad=agents.pose[there, frame, 2] - np.arctan2(sin, cos),
        half_m=agents.size_m[there, :2].astype(np.float64) / 2,
        ground_m=agents.z_m[there, frame] - world_se3_grid[2, 3],
        class_id=agents.class_id[there],
    )


def well_inside(boxes: Boxes, grid: GridSpec) -> NDArray[np.bool_]:
    """[N] centre more than MARGIN_M from the sides of the grid, a layer of voxels above the ground in it."""
    low = np.array(grid.origin_m)
    high = low + grid.extent_m
    sides = np.all((boxes.centre_m > low[:2] + MARGIN_M) & (boxes.centre_m < high[:2] - MARGIN_M), axis=1)
    return np.asarray(sides & (boxes.ground_m >= low[2]) & (boxes.ground_m < high[2] - grid.voxel_m[2]))


def visible_centre_m(boxes: Boxes, index: int, grid: GridSpec) -> Doubles:
    """[2] centroid of the part of a footprint that lies in the grid."""
    along, across = np.meshgrid(*(np.linspace(-0.95, 0.95, 20) * h for h in boxes.half_m[index]), indexing="ij")
    cos, sin = np.cos(boxes.yaw_rad[index]), np.sin(boxes.yaw_rad[index])
    points = boxes.centre_m[index] + np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1)
    low = np.array(grid.origin_m[:2])
    kept = points[np.all((points >= low) & (points < low + grid.extent_m[:2]), axis=-1)]
    return np.asarray(kept.mean(axis=0) if len(kept) else boxes.centre_m[index])


def _columns_m(voxels: NDArray[np.intp], grid: GridSpec) -> Doubles:
    return np.asarray(np.array(grid.origin_m[:2]) + (voxels[:, :2] + 0.5) * np.array(grid.voxel_m[:2]))


def _largest_piece(voxels: NDArray[np.intp]) -> NDArray[np.intp]:
    first = voxels.min(axis=0)
    solid = np.zeros(voxels.max(axis=0) - first + 1, bool)
    solid[tuple((voxels - first).T)] = True
    pieces, count = ndimage.label(solid, TOUCHING)
    if count == 1:
        return voxels
    return np.argwhere(pieces == np.bincount(pieces[solid]).argmax()) + first


def agent_recall(labels: Labels, conditions: Conditions, within_m: float = REACH_M) -> dict[int, Tally]:
    """Conditioned agents found, of those well inside the grid, a frame each; by class id. Labels [T, X, Y, Z].

    A voxel of a movable class belongs to the nearest footprint of that class, if that is within REACH_M: so agents
    that touch share no voxel, and a blob that spans two cars counts for each with its own part. An agent is found
    when the largest connected piece of its voxels has its centroid, seen from above, within `within_m` of the
    centroid of the footprint (of its part in the grid).
    """
    grid = conditions.grid
    out = {int(label): Tally() for label in MOVABLE}
    for t, frame in enumerate(labels):
        boxes = boxes_of(conditions.agents, t, conditions.world_se3_anchor)
        for label in MOVABLE:
            mine = boxes.select(boxes.class_id == label)
            asked = np.flatnonzero(well_inside(mine, grid))
            voxels = np.argwhere(frame == label)
            if len(asked) == 0:
                continue
            distance = mine.signed_distance_m(_columns_m(voxels, grid))
            owner = np.where(distance.min(axis=1) <= REACH_M, distance.argmin(axis=1), -1)
            found = sum(
                _offset_m(voxels[owner == index], visible_centre_m(mine, index, grid), grid) <= within_m
                for index in asked.tolist()
            )
            out[label] += Tally(found, len(asked))
    return out


def _offset_m(voxels: NDArray[np.intp], centre_m: Doubles, grid: GridSpec) -> float:
    """How far the largest piece of an agent's voxels lies from where it should."""
    if len(voxels) == 0:
        return float("inf")
    centroid = _columns_m(_largest_piece(voxels), grid).mean(axis=0)
    return float(np.linalg.norm(centroid - centre_m))


def agent_precision(labels: Labels, conditions: Conditions) -> Tally:
    """Voxels of movable classes whose centre is within REACH_M of some conditioned footprint, seen from above."""
    hits = total = 0
    for t, frame in enumerate(labels):
        voxels = np.argwhere(np.isin(frame, MOVABLE))
        boxes = boxes_of(conditions.agents, t, conditions.world_se3_anchor)
        total += len(voxels)
        if len(voxels) and len(boxes.class_id):
            distance = boxes.signed_distance_m(_columns_m(voxels, conditions.grid)).min(axis=1)
            hits += int((distance <= REACH_M).sum())
    return Tally(hits, total)
