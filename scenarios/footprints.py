"""Boxes on the ground, and whether they share any of it. A, B boxes: rows of x, y, yaw, length, width; F frame."""

from __future__ import annotations

import numpy as np

from dcgen.types import Doubles
from scenarios.carfollow import Mover


def boxes_overlap(a: Doubles, b: Doubles) -> np.ndarray:
    """[A, B] whether boxes a [A, 5] and b [B, 5] share ground (separating axes)."""
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)), bool)
    apart = np.zeros((len(a), len(b)), bool)
    offset = b[None, :, :2] - a[:, None, :2]
    for yaw in (a[:, None, 2] + 0 * b[None, :, 2], b[None, :, 2] + 0 * a[:, None, 2]):
        for turn in (0.0, np.pi / 2):
            axis = np.stack([np.cos(yaw + turn), np.sin(yaw + turn)], axis=-1)
            span = [_span(boxes, yaw + turn) for boxes in (a[:, None], b[None])]
            apart |= np.abs((offset * axis).sum(axis=-1)) > span[0] + span[1]
    return ~apart


def footprint(xy_m: Doubles, yaw: float, length_m: float, width_m: float, step_m: float = 0.4) -> Doubles:
    """[M, 2] points over an oriented rectangle, its border included."""
    a = np.linspace(-length_m / 2, length_m / 2, max(2, int(np.ceil(length_m / step_m)) + 1))
    b = np.linspace(-width_m / 2, width_m / 2, max(2, int(np.ceil(width_m / step_m)) + 1))
    u, v = (m.ravel() for m in np.meshgrid(a, b, indexing="ij"))
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([xy_m[0] + u * cos - v * sin, xy_m[1] + u * sin + v * cos], axis=1)


def _span(boxes: Doubles, along: Doubles) -> Doubles:
    turn = boxes[..., 2] - along
    return (np.abs(np.cos(turn)) * boxes[..., 3] + np.abs(np.sin(turn)) * boxes[..., 4]) / 2


def box_of(pose: Doubles, size_m: tuple[float, float, float]) -> Doubles:
    return np.array([*pose[:3], size_m[0], size_m[1]])


def grown(box: Doubles, gap_m: float) -> Doubles:
    """The box with half the gap more at its front and back, and a little at its sides."""
    return box + np.array([0.0, 0.0, 0.0, gap_m, 0.4])


def first_boxes(movers: list[Mover], gap_m: float) -> list[Doubles]:
    return [grown(box_of(mover.pose[0], mover.size_m), gap_m) for mover in movers]


def _boxes_over_time(mover: Mover) -> Doubles:
    """[F, 5]"""
    size = np.broadcast_to(mover.size_m[:2], (len(mover.pose), 2))
    return np.concatenate([mover.pose, size], axis=1)


def first_overlap(one: Mover, other: Mover, margin_m: float = 0.2) -> int | None:
    """The first frame in which two overlap."""
    offset = one.pose[:, :2] - other.pose[:, :2]
    close = np.flatnonzero((offset**2).sum(axis=1) < (sum(one.size_m[:2]) + sum(other.size_m[:2])) ** 2 / 4 + 4.0)
    wider = _boxes_over_time(other) + np.array([0, 0, 0, margin_m, margin_m])
    mine = _boxes_over_time(one)
    return next((int(k) for k in close if boxes_overlap(mine[k : k + 1], wider[k : k + 1])[0, 0]), None)
