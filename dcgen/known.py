"""What is known of a chunk before it is generated. T frame, X/Y/Z voxel axes.

One mechanism completes scenes: history, inpainting, outpainting and a first frame differ only in which voxels are
known. Training draws them here at random; generation takes them from the canvas or from a recorded scene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dcgen.types import MOVABLE, UNKNOWN, Floats, GridSpec, Labels, Semantics


def agent_columns(layout_agents: Floats) -> NDArray[np.bool_]:
    """[T, X, Y] columns where a conditioned agent stands, one voxel wider: the static world does not settle them."""
    here = layout_agents[:, :3].max(axis=1) > 0
    wide = here.copy()
    wide[:, 1:] |= here[:, :-1]
    wide[:, :-1] |= here[:, 1:]
    wider = wide.copy()
    wider[:, :, 1:] |= wide[:, :, :-1]
    wider[:, :, :-1] |= wide[:, :, 1:]
    return wider


def static_of(labels: Labels) -> Labels:
    """[X, Y, Z] the world without its movers: a voxel's commonest immovable label over the frames, 255 if unseen.

    A voxel that only ever held movers is free.
    """
    usable = ~np.isin(labels, (*MOVABLE, UNKNOWN))
    # Votes in one pass a class present: chunks have few frames and few classes.
    best = np.zeros(labels.shape[1:], np.int16)
    out = np.where((labels != UNKNOWN).any(axis=0), np.uint8(Semantics.FREE), np.uint8(UNKNOWN))
    for label in np.unique(labels[usable]):
        votes = (labels == label).sum(axis=0, dtype=np.int16)
        out = np.where(votes > best, np.uint8(label), out)
        best = np.maximum(best, votes)
    return out


def settled(labels: Labels, known: Labels) -> Labels:
    """[X, Y, Z] static_of a finished chunk, in which the static labels that were known [T, X, Y, Z] stand."""
    given = static_of(np.where(np.isin(known, MOVABLE), np.uint8(UNKNOWN), known))
    return np.where(given != UNKNOWN, given, static_of(labels))


def world_known(static: Labels, layout_agents: Floats) -> Labels:
    """[T, X, Y, Z] a static world seen before, for every frame; columns of agents stay unknown above the road."""
    known = np.broadcast_to(static, (len(layout_agents), *static.shape)).copy()
    columns = agent_columns(layout_agents)[..., None] & (static == Semantics.FREE)
    known[columns] = UNKNOWN
    return known


def random_known(labels: Labels, layout_agents: Floats, grid: GridSpec, rng: np.random.Generator) -> Labels:
    """A random set of known voxels of a clip, shaped like the ones that generation meets.

    A fifth of all clips each: nothing known; the static world of a shifted and turned square (a chunk before) with
    its last frames; the first frames; all but a box; all but one side.
    """
    kind = rng.integers(5)
    unknown = np.full_like(labels, UNKNOWN)
    if kind == 0:
        return unknown
    frames, x, y, _ = labels.shape
    overlap = int(rng.integers(1, max(2, frames // 2)))
    if kind == 1:
        static = static_of(labels)
        static = np.where(_shifted_square(grid, rng)[..., None], static, np.uint8(UNKNOWN))
        known = world_known(static, layout_agents)
        seen = static != UNKNOWN
        known[:overlap][:, seen] = labels[:overlap][:, seen]
        return known
    if kind == 2:
        unknown[:overlap] = labels[:overlap]
        return unknown
    hole = np.zeros((x, y), bool)
    if kind == 3:
        size = rng.integers((x // 8, y // 8), (x // 2, y // 2))
        corner = rng.integers((0, 0), (x - size[0], y - size[1]))
        hole[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]] = True
    else:
        centres = grid.centres_m()[:, :, 0, :2] - np.array(grid.origin_m[:2]) - np.array(grid.extent_m[:2]) / 2
        angle = rng.uniform(-np.pi, np.pi)
        hole = centres @ np.array([np.cos(angle), np.sin(angle)]) > rng.uniform(-0.3, 0.4) * grid.extent_m[0]
    return np.where(hole[None, ..., None], np.uint8(UNKNOWN), labels)


def _shifted_square(grid: GridSpec, rng: np.random.Generator) -> NDArray[np.bool_]:
    """[X, Y] the columns that the same grid covered a moment ago, from a pose behind and turned."""
    centres = grid.centres_m()[:, :, 0, :2]
    angle = rng.normal(0, 0.35)
    shift = np.array([rng.uniform(-2, 0.45 * grid.extent_m[0]), rng.normal(0, 1.5)])
    turned = (centres + shift) @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    low = np.array(grid.origin_m[:2])
    return ((turned >= low) & (turned < low + np.array(grid.extent_m[:2]))).all(axis=-1)
