"""One sheet about one world: the town from above with its road users, a legend, a scale, and views along streets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import CLASS_NAMES, MOVABLE, PALETTE, SURFACES, Doubles, GridSpec, Semantics
from scenarios.world.cut.clips import sample_clip
from scenarios.world.store import World
from scenarios.world.street_view import street_view
from scenarios.world.town.picture import town_picture
from scenarios.world.town.tile import TownTile

Pixels = NDArray[np.uint8]
WIDTH = 1500
LEGEND = 240
MARGIN = 12
VIEW_ROWS = 270
TALLEST = 1000  # rows of the town's picture
EYE_M = 2.4
STREET_GRID = GridSpec((264, 264, 56), (0.3, 0.3, 0.3), (-8.1, -39.6, -4.2))
PAPER, INK = (250, 250, 248), (45, 45, 50)


def world_sheet(world: World, seed: int = 0, views: int = 6) -> Pixels:
    """[rows, WIDTH, 3] the town and `views` pictures, three in a row, from road users of the traffic."""
    from PIL import Image, ImageDraw, ImageFont

    across = WIDTH - LEGEND - 3 * MARGIN
    town, pixel_m = _town(world, across, TALLEST)
    pictures = [street_picture(world, seed + n, (VIEW_ROWS, (WIDTH - 4 * MARGIN) // 3)) for n in range(views)]
    head, lines = 44, -(-views // 3)
    top = head + max(town.shape[0], 27 * len(CLASS_NAMES) + 60) + MARGIN
    sheet = Image.new("RGB", (WIDTH, top + lines * (VIEW_ROWS + MARGIN)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    x, y = (round(n * world.tile.cell_m) for n in world.tile.cells)
    title = f"{world.name}   seed {world.seed}   {x} x {y} m   {len(world.parked.id)} parked cars"
    pen.text((MARGIN, 12), title, fill=INK, font=ImageFont.load_default(20))
    sheet.paste(Image.fromarray(town), (MARGIN + (across - town.shape[1]) // 2, head))
    _legend(pen, font, world.tile, (WIDTH - LEGEND, head))
    _scale(pen, font, pixel_m, (WIDTH - LEGEND, top - 34))
    for n, picture in enumerate(pictures):
        at = (MARGIN + (n % 3) * (picture.shape[1] + MARGIN), top + (n // 3) * (VIEW_ROWS + MARGIN))
        sheet.paste(Image.fromarray(picture), at)
    return np.asarray(sheet)


def _town(world: World, columns: int, rows: int) -> tuple[Pixels, float]:
    """The town from above with its road users, as large as fits, and the metres that a pixel spans."""
    from PIL import Image

    x, y = world.tile.cells
    fit_m = max(x / columns, y / rows) * world.tile.cell_m
    step_m = max(1, int(fit_m / world.tile.cell_m)) * world.tile.cell_m
    town = draw_road_users(world, town_picture(world.tile, step_m), step_m)
    if fit_m <= step_m:
        return town, step_m
    size = (round(town.shape[1] * step_m / fit_m), round(town.shape[0] * step_m / fit_m))
    return np.asarray(Image.fromarray(town).resize(size, Image.Resampling.BOX)), fit_m


def draw_road_users(world: World, town: Pixels, step_m: float) -> Pixels:
    """A town_picture, step_m a pixel, with parked cars and with whoever is there half-way through the traffic."""
    from PIL import Image, ImageDraw

    log = world.traffic
    frame = log.frames // 2
    rows = np.flatnonzero(log.valid[:, frame])
    pose = np.concatenate([log.pose[rows, frame].astype(np.float64), world.parked.pose[:, 0]])
    size = np.concatenate([log.size_m[rows], world.parked.size_m]).astype(np.float64)
    kind = np.concatenate([log.class_id[rows], world.parked.class_id])
    picture = Image.fromarray(town)
    pen = ImageDraw.Draw(picture)
    for (x, y, yaw), (length, width, _), label in zip(pose, size, kind, strict=True):
        along = np.array([np.cos(yaw), np.sin(yaw)]) * length / 2
        side = np.array([-np.sin(yaw), np.cos(yaw)]) * width / 2
        corners = np.array([along + side, along - side, -along - side, -along + side]) + (x, y)
        at = (corners - np.array(world.tile.origin_m)) / step_m
        pen.polygon([(float(u), float(town.shape[0] - v)) for u, v in at], fill=tuple(map(int, PALETTE[label])))
    return np.asarray(picture)


def street_picture(world: World, seed: int, size: tuple[int, int]) -> Pixels:
    """[rows, columns, 3] the street ahead of a road user that seed picks, from EYE_M above its ground."""
    clip = sample_clip(world, seed, STREET_GRID, 2, 0.2)
    x, y, yaw = (float(v) for v in clip.conditions.trajectory[1])
    eye: Doubles = np.array([x, y, EYE_M])
    return street_view(clip.labels[1], STREET_GRID, eye, yaw, size)


def solid_shares(tile: TownTile) -> dict[int, float]:
    """Share of each class in the volume of everything that stands in the town."""
    volume = np.zeros(len(CLASS_NAMES))
    for kind, low, high in zip(tile.span_class, tile.span_lo_cm, tile.span_hi_cm, strict=True):
        volume += np.bincount(kind.ravel(), weights=(high - low.astype(np.float64)).ravel(), minlength=len(volume))
    volume[Semantics.FREE] = 0
    return {k: float(v) for k, v in enumerate(volume / max(volume.sum(), 1.0))}


def _legend(pen: Any, font: Any, tile: TownTile, at: tuple[int, int]) -> None:
    """A swatch and a name for each class; surfaces by area, solids by volume."""
    solid = solid_shares(tile)
    area = np.bincount(tile.surface_class[0].ravel(), minlength=len(CLASS_NAMES)) / tile.surface_class[0].size
    row = at[1]
    for kind, name in enumerate(CLASS_NAMES):
        if kind == Semantics.FREE:
            continue
        share = "" if kind in MOVABLE else f"   {100 * (area[kind] if kind in SURFACES else solid[kind]):.1f} %"
        pen.rectangle((at[0], row, at[0] + 22, row + 16), fill=tuple(map(int, PALETTE[kind])))
        pen.text((at[0] + 32, row - 1), name + share, fill=INK, font=font)
        row += 27
    pen.text((at[0], row + 4), "surfaces: of the area", fill=INK, font=font)
    pen.text((at[0], row + 24), "solids: of their volume", fill=INK, font=font)


def _scale(pen: Any, font: Any, pixel_m: float, at: tuple[int, int]) -> None:
    """A bar of a round length, about a hundred pixels long."""
    length_m = min((20, 50, 100, 200, 500), key=lambda metres: abs(metres / pixel_m - 130))
    pen.line((at[0], at[1] + 18, at[0] + round(length_m / pixel_m), at[1] + 18), fill=INK, width=4)
    pen.text((at[0], at[1] - 4), f"{length_m} m", fill=INK, font=font)
