"""What is to be seen of a frame, and in which colours. X/Y/Z voxel axes, K paint: 0 nothing, classes, then objects."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.export.frame import Frame
from dcgen.types import NUM_CLASSES, PALETTE, SURFACES, UNKNOWN, Floats, Semantics

COLOURINGS = ("class", "instance")
ALL_CLASSES = frozenset(range(1, NUM_CLASSES))
_TALL = (Semantics.BUILDING, Semantics.VEGETATION)
_GOLDEN = 0.618033988749895  # hues that follow it never come close to one another


@dataclass(frozen=True)
class Look:
    """colour: by `class`, or by `instance` on grey. layout: the raster that the scene was made from, as its ground."""

    classes: frozenset[int] = ALL_CLASSES
    colour: str = "class"
    boxes: bool = False
    path: bool = True
    layout: bool = False

    def __post_init__(self) -> None:
        if self.colour not in COLOURINGS:
            raise ValueError(f"look.colour is one of {', '.join(COLOURINGS)}, got {self.colour}")
        if not self.classes <= ALL_CLASSES:
            raise ValueError(f"look.classes are ids of 1 to {NUM_CLASSES - 1}, got {sorted(self.classes)}")

    @property
    def drawn(self) -> frozenset[int]:
        """Classes whose voxels are drawn: a layout takes the place of the surfaces."""
        return self.classes - {int(kind) for kind in SURFACES} if self.layout else self.classes


def id_colour(number: int) -> tuple[int, int, int]:
    """The colour of an object, the same in every frame: strong, and another one than its neighbours' by number."""
    hue = (0.03 + number * _GOLDEN) % 1.0
    deep = (number // 7) % 3
    r, g, b = colorsys.hsv_to_rgb(hue, (0.92, 0.72, 0.85)[deep], (0.95, 1.0, 0.74)[deep])
    return (round(255 * r), round(255 * g), round(255 * b))


def grey_palette() -> Floats:
    """[12, 3] the classes' colours with little of their hue left, light enough to carry what is coloured."""
    colour = PALETTE.astype(np.float32)
    grey = colour @ np.array([0.299, 0.587, 0.114], np.float32)
    pale = 0.86 * grey[:, None] + 0.14 * colour
    return np.asarray(0.62 * pale + 0.38 * 205.0, dtype=np.float32)


def paint_of(frame: Frame, look: Look) -> tuple[NDArray[np.uint16], Floats]:
    """[X, Y, Z] paint of each voxel, 0 where nothing is drawn, and [K, Z, 3] the colour of a paint in a layer."""
    drawn = np.zeros(256, bool)
    drawn[sorted(look.drawn)] = True
    drawn[UNKNOWN] = False
    paint = np.where(drawn[frame.labels], frame.labels, 0).astype(np.uint16)
    flat = PALETTE.astype(np.float32)
    if look.colour == "instance":
        flat = grey_palette()
        if frame.instances is not None and frame.object_ids is not None:
            whose = np.where(paint > 0, frame.instances, 0)
            paint = np.where(whose > 0, whose + (NUM_CLASSES - 1), paint).astype(np.uint16)
            own = np.array([id_colour(int(number)) for number in frame.object_ids], np.float32)
            flat = np.concatenate([flat, own.reshape(-1, 3)])
    layers = frame.grid.shape[2]
    colours = np.repeat(flat[:, None], layers, axis=1)
    height = np.arange(layers, dtype=np.float32) / max(layers - 1, 1)
    for kind in _TALL:  # lighter with height
        colours[int(kind)] *= (0.86 + 0.2 * height)[:, None]
    return paint, colours.astype(np.float32)
