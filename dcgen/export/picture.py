"""One picture a frame: the world in 3D, the same from above, a title and a legend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcgen.export.birdseye import birdseye
from dcgen.export.camera import Camera, page_camera
from dcgen.export.frame import Frame
from dcgen.export.look import Look
from dcgen.export.mesh import Colour, Mesh
from dcgen.export.painter import BACKGROUND, paint
from dcgen.export.props import COMMAND_COLOURS, EGO_COLOUR, PATH_COLOUR
from dcgen.export.scenery import frame_mesh
from dcgen.export.worker import Open3DWorker, WorkerFailed
from dcgen.types import CLASS_NAMES, PALETTE

INK, PALE_INK, LINE = (32, 36, 44), (110, 118, 130), (214, 219, 226)

# What the legend shows, classes first.
LEGEND: dict[str, Colour] = {name: tuple(PALETTE[k].tolist()) for k, name in enumerate(CLASS_NAMES) if k > 0}
LEGEND |= {"ego": EGO_COLOUR, "ego path": PATH_COLOUR}

Draw3D = Callable[[Mesh, Camera], Image.Image]


@dataclass(frozen=True)
class Caption:
    """What the title strip says of the whole scene."""

    title: str
    note: str


@dataclass(frozen=True)
class PageSize:
    """Where things are on a picture `width_px` wide; every length is even, as films want it."""

    width_px: int = 1600

    @property
    def unit(self) -> float:
        return self.width_px / 1600

    def px(self, length: float) -> int:
        return max(2, 2 * round(length * self.unit / 2))

    @property
    def height_px(self) -> int:
        return self.px(860)

    @property
    def strip_px(self) -> int:
        return self.px(64)

    @property
    def side_px(self) -> int:
        return self.px(600)


@contextmanager
def three_d(tell: Callable[[str], None]) -> Iterator[Draw3D]:
    """A way to draw meshes: Open3D while it lives, else Pillow, said once."""
    with Open3DWorker() as worker:
        lost: list[str] = []

        def draw(mesh: Mesh, camera: Camera) -> Image.Image:
            if not lost:
                try:
                    return worker.draw(mesh, camera)
                except WorkerFailed as fault:
                    lost.append(str(fault))
                    tell(f"drawn with Pillow, since Open3D cannot: {fault}")
            return paint(mesh, camera)

        yield draw


def compose(frame: Frame, caption: Caption, page: PageSize, draw_3d: Draw3D, look: Look | None = None) -> Image.Image:
    """The whole page of one frame."""
    image = Image.new("RGB", (page.width_px, page.height_px), BACKGROUND)
    body = page.height_px - page.strip_px
    size = (page.width_px - page.side_px, body)
    world = draw_3d(frame_mesh(frame, look), page_camera(frame.grid, size))
    image.paste(world, (0, page.strip_px))
    margin = page.px(28)
    seen = birdseye(frame, page.side_px - 2 * margin)
    left, top = page.width_px - page.side_px + margin, page.strip_px + margin
    image.paste(seen, (left, top))
    draw = ImageDraw.Draw(image)
    draw.rectangle([left - 1, top - 1, left + seen.width, top + seen.height], outline=LINE)
    _title(draw, frame, caption, page)
    _legend(draw, frame, page, (left, top + seen.height + page.px(22)))
    return image


def _title(draw: ImageDraw.ImageDraw, frame: Frame, caption: Caption, page: PageSize) -> None:
    """The strip on top: what scene this is, and which moment of it."""
    draw.rectangle([0, 0, page.width_px, page.strip_px - 1], fill=(255, 255, 255))
    draw.line([0, page.strip_px - 1, page.width_px, page.strip_px - 1], fill=LINE)
    middle, margin = page.strip_px // 2, page.px(28)
    large, small = _font(26 * page.unit), _font(19 * page.unit)
    draw.text((margin, middle), caption.title, INK, large, anchor="lm")
    after = margin + draw.textlength(caption.title, large) + page.px(24)
    draw.text((after, middle), caption.note, PALE_INK, small, anchor="lm")
    moment = f"t = {frame.time_s:.2f} s   frame {frame.index + 1} of {frame.frames}   {3.6 * frame.speed_mps:.0f} km/h"
    right = page.width_px - margin
    draw.text((right, middle), moment, INK, small, anchor="rm")
    right -= round(draw.textlength(moment, small)) + page.px(22)
    name = frame.command.name
    half, width = page.px(17), round(draw.textlength(name, small))
    pill = [right - width - page.px(24), middle - half, right, middle + half]
    draw.rounded_rectangle(pill, radius=half, fill=COMMAND_COLOURS[frame.command])
    draw.text((right - page.px(12), middle), name, (255, 255, 255), small, anchor="rm")


def _legend(draw: ImageDraw.ImageDraw, frame: Frame, page: PageSize, corner: tuple[int, int]) -> None:
    """Swatches of the classes in this grid, in three columns."""
    present = set(np.unique(frame.labels).tolist())
    font, row, column, box = _font(18 * page.unit), page.px(30), page.px(182), page.px(18)
    for k, (name, colour) in enumerate(LEGEND.items()):
        x, y = corner[0] + (k % 3) * column, corner[1] + (k // 3) * row
        ink = INK if k + 1 in present or k + 1 >= len(CLASS_NAMES) else LINE
        draw.rounded_rectangle([x, y, x + box, y + box], radius=page.px(4), fill=colour)
        draw.text((x + box + page.px(8), y + box / 2), name, ink, font, anchor="lm")


def _font(size_px: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=max(8.0, size_px))
