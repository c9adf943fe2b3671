"""Whether what stands still is the same when it is seen again. T frame, X/Y/Z voxel axes, V voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dcgen.eval.tally import NOTHING, Tally
from dcgen.types import MOVABLE, UNKNOWN, Doubles, GridSpec, Labels, Semantics

GAPS = (1, 4, 16)
NOT_STATIC = (Semantics.FREE, *MOVABLE, UNKNOWN)


@dataclass(frozen=True)
class Consistency:
    """Static voxels with the same label where they are seen again: in the very voxel, or in it or one beside it."""

    exact: Tally = NOTHING
    tolerant: Tally = NOTHING

    def __add__(self, other: Consistency) -> Consistency:
        return Consistency(self.exact + other.exact, self.tolerant + other.tolerant)


@dataclass(frozen=True)
class EgoFrames:
    """Labels [T, X, Y, Z], each in the frame of its own pose world_se3_ego [T, 4, 4]."""

    labels: Labels
    world_se3_ego: Doubles
    grid: GridSpec

    def __post_init__(self) -> None:
        frames = len(self.world_se3_ego)
        if self.labels.shape != (frames, *self.grid.shape) or self.world_se3_ego.shape != (frames, 4, 4):
            raise ValueError(f"labels needs shape {(frames, *self.grid.shape)}, got {self.labels.shape}")


def static_consistency(scene: EgoFrames, gaps: Sequence[int] = GAPS) -> Consistency:
    """Over all frames that lie a gap apart and between which the ego moved half a voxel or more, both ways.

    The centre of every occupied static voxel is moved by the poses into the other frame. It counts where it falls
    into the grid onto a voxel that is known and holds no mover. Frames cut at different poses cannot agree exactly:
    see the figure of a real scene beside this one.
    """
    out, labels, pose = Consistency(), scene.labels, scene.world_se3_ego
    for gap in gaps:
        for t in range(len(labels) - gap):
            there = np.linalg.inv(pose[t + gap]) @ pose[t]
            if np.linalg.norm(there[:2, 3]) < scene.grid.voxel_m[0] / 2:
                continue
            out += seen_again(labels[t], labels[t + gap], there, scene.grid)
            out += seen_again(labels[t + gap], labels[t], np.linalg.inv(there), scene.grid)
    return out


def seen_again(first: Labels, second: Labels, second_se3_first: Doubles, grid: GridSpec) -> Consistency:
    """Static voxels of one frame [X, Y, Z] looked up in another."""
    voxels = np.argwhere(~np.isin(first, NOT_STATIC))
    label = first[tuple(voxels.T)]
    origin, size = np.array(grid.origin_m), np.array(grid.voxel_m)
    centre = origin + (voxels + 0.5) * size
    moved = centre @ second_se3_first[:3, :3].T + second_se3_first[:3, 3]
    place = np.floor((moved - origin) / size).astype(np.int64)
    inside = np.all((place >= 0) & (place < grid.shape), axis=1)
    place, label = place[inside], label[inside]
    target = second[tuple(place.T)]
    seen = ~np.isin(target, (*MOVABLE, UNKNOWN))
    place, label, target = place[seen], label[seen], target[seen]
    exact = target == label
    near = exact | _beside(second, place, label)
    return Consistency(Tally(int(exact.sum()), len(label)), Tally(int(near.sum()), len(label)))


def _beside(frame: Labels, place: NDArray[np.int64], label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[V] whether one of the 26 voxels around each place has the label."""
    padded = np.pad(frame, 1, constant_values=UNKNOWN)
    found = np.zeros(len(label), bool)
    for step in product((0, 1, 2), repeat=3):
        found |= padded[tuple((place + step).T)] == label
    return found
