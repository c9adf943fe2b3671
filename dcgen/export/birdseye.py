"""A frame from above: ahead is up, left is left. X/Y voxel axes, pixels from the upper left corner."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from dcgen.export.frame import EGO_SIZE_M, Frame, corners_m
from dcgen.export.props import EGO_COLOUR, PATH_COLOUR
from dcgen.export.surface import top_colours
from dcgen.types import PALETTE, Doubles

_FINE = 2  # drawn larger and shrunk, for smooth lines


def birdseye(frame: Frame, size_px: int) -> Image.Image:
    """The topmost voxel of each column, the agents' boxes with their heading, the ego and its path."""
    x_m, y_m, _ = frame.grid.extent_m
    scale = _FINE * size_px / max(x_m, y_m)  # pixels a metre
    size = (round(y_m * scale), round(x_m * scale))
    seen = np.ascontiguousarray(top_colours(frame)[::-1, ::-1])
    image = Image.fromarray(seen).resize(size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    corner = np.asarray(frame.grid.origin_m[:2]) + [x_m, y_m]

    def pixels(points_m: Doubles) -> list[tuple[float, float]]:
        away = (corner - points_m) * scale
        return [(float(y), float(x)) for x, y in away]

    line = max(2, round(0.35 * scale))
    if len(frame.path_m) > 1:
        draw.line(pixels(frame.path_m), fill=_mix(PATH_COLOUR, 0.45), width=line, joint="curve")
        if frame.ahead.sum() > 1:
            draw.line(pixels(frame.path_m[frame.ahead]), fill=PATH_COLOUR, width=line, joint="curve")
    for class_id, size_m, pose in zip(frame.agents.class_id, frame.agents.size_m, frame.agents.pose, strict=True):
        _box(draw, pixels(corners_m(size_m, pose)), None, _dark(class_id), max(2, line // 3))
    _box(draw, pixels(corners_m(EGO_SIZE_M, np.zeros(3))), EGO_COLOUR, (70, 20, 5), max(2, line // 3))
    return image.resize((max(1, size[0] // _FINE), max(1, size[1] // _FINE)), Image.Resampling.LANCZOS)


def _box(
    draw: ImageDraw.ImageDraw,
    ring: list[tuple[float, float]],
    fill: tuple[int, int, int] | None,
    outline: tuple[int, int, int],
    width: int,
) -> None:
    """A box and, over its front half, a notch that shows where it is going."""
    draw.polygon(ring, fill=fill, outline=outline, width=width)
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = ring
    middle = ((ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4)
    draw.line([ring[0], middle, ring[1]], fill=outline, width=width, joint="curve")


def _dark(class_id: int) -> tuple[int, int, int]:
    return _mix(tuple(int(v) for v in PALETTE[class_id]), -0.62)


def _mix(colour: tuple[int, ...], amount: float) -> tuple[int, int, int]:
    """Towards white for a positive amount, towards black for a negative one."""
    r, g, b = (round(c + (255 - c) * amount) if amount > 0 else round(c * (1 + amount)) for c in colour[:3])
    return (r, g, b)
