"""Pictures of towns and clips: bird's eye with a slant of shade, and an oblique view. Rows of pixels, PALETTE."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import LAYOUT_CHANNELS, PALETTE, Clip, GridSpec, Labels, Semantics, nano_grid
from scenarios.world.cut.clips import sample_clip
from scenarios.world.sheet import world_sheet
from scenarios.world.store import World
from scenarios.world.town.picture import town_picture

Pixels = NDArray[np.uint8]
HEAD, PAPER = 36, 245  # rows above a clip's views, and what they are on


def top_view(labels: Labels, scale: int = 4) -> Pixels:
    """[Y * scale, X * scale, 3] one frame [X, Y, Z] from above: its highest voxels, x to the right, y up."""
    nz = labels.shape[2]
    seen = (labels > 0) & (labels < len(PALETTE))
    k = nz - 1 - seen[..., ::-1].argmax(axis=2)
    empty = ~seen.any(axis=2)
    kind = np.take_along_axis(labels, k[..., None], axis=2)[..., 0]
    shade = 0.7 + 0.3 * k / max(nz - 1, 1)
    colour = PALETTE[np.where(empty, 0, kind)] * shade[..., None]
    colour[empty] = 0
    picture = colour.astype(np.uint8).transpose(1, 0, 2)[::-1]
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def oblique_view(labels: Labels, scale: int = 4) -> Pixels:
    """[rows, columns, 3] one frame [X, Y, Z] seen from the south at a slant: cubes painted back to front."""
    nx, ny, nz = labels.shape
    high, deep = scale, max(2, (scale * 2) // 3)
    picture = np.full((ny * deep + nz * high + deep, nx * scale, 3), 245, np.uint8)
    rows = picture.shape[0]
    for j in range(ny - 1, -1, -1):
        for k in range(nz):
            line = labels[:, j, k]
            solid = np.flatnonzero((line > 0) & (line < len(PALETTE)))
            if len(solid) == 0:
                continue
            base = rows - j * deep - k * high
            colour = PALETTE[line[solid]].astype(np.float64)
            columns = (solid[:, None] * scale + np.arange(scale)).ravel()
            top = np.repeat(np.clip(colour * (0.85 + 0.4 * k / max(nz, 8)), 0, 255).astype(np.uint8), scale, axis=0)
            side = np.repeat((colour * 0.6).astype(np.uint8), scale, axis=0)
            picture[max(base - high, 0) : base, columns] = side[None]
            picture[max(base - high - deep, 0) : base - high, columns] = top[None]
    return picture


def clip_picture(clip: Clip, scale: int = 4) -> Pixels:
    """[rows, columns, 3] views of a clip side by side, each with its title, below the clip's source.

    First and last frame from above, the layout, what is observed where that is known, the middle frame at a slant.
    """
    middle = clip.conditions.frames // 2
    views = {"first frame": top_view(clip.labels[0], scale), "last frame": top_view(clip.labels[-1], scale)}
    views["layout, middle frame"] = layout_view(clip, scale)
    if clip.observed is not None:
        views["observed, middle frame"] = _observed_view(clip, middle, scale)
    views["middle frame"] = oblique_view(clip.labels[middle], scale)
    rows = max(view.shape[0] for view in views.values())
    picture = np.concatenate(
        [np.pad(v, ((HEAD, rows - v.shape[0]), (0, 6), (0, 0)), constant_values=PAPER) for v in views.values()], axis=1
    )
    return _titled(picture, clip.source, views)


def _observed_view(clip: Clip, frame: int, scale: int) -> Pixels:
    """[Y * scale, X * scale, 3] a frame from above, dark where no voxel of a column is seen, its points in white."""
    assert clip.observed is not None
    seen = clip.observed[frame].any(axis=2).T[::-1].repeat(scale, axis=0).repeat(scale, axis=1)
    picture = (top_view(clip.labels[frame], scale) * np.where(seen, 1.0, 0.3)[..., None]).astype(np.uint8)
    if clip.points is not None:
        grid = clip.conditions.grid
        grid_se3_ego = np.linalg.inv(clip.world_se3_grid[frame]) @ clip.conditions.world_se3_ego[frame]
        xy = clip.points[frame][:, :3] @ grid_se3_ego[:2, :3].T + grid_se3_ego[:2, 3]
        at = np.floor((xy - grid.origin_m[:2]) / grid.voxel_m[:2] * scale).astype(np.intp)
        inside = np.all((at >= 0) & (at < (picture.shape[1], picture.shape[0])), axis=1)
        x, y = at[inside].T
        picture[picture.shape[0] - 1 - y, x] = 255
    return picture


def _titled(picture: Pixels, source: str, views: dict[str, Pixels]) -> Pixels:
    """The picture with the source and the views' titles written into its head."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    pen, font, x = ImageDraw.Draw(image), ImageFont.load_default(13), 4
    pen.text((x, 2), "".join(c if c.isprintable() else "?" for c in source), (20, 20, 25), font)
    for title, view in views.items():
        pen.text((x, HEAD // 2 + 1), title, (90, 90, 95), font)
        x += view.shape[1] + 6
    return np.asarray(image)


def layout_view(clip: Clip, scale: int = 4) -> Pixels:
    """[Y * scale, X * scale, 3] the middle frame's layout: what a user's map and agents say."""
    conditions = clip.conditions
    layers = dict(zip(LAYOUT_CHANNELS, conditions.layout[conditions.frames // 2], strict=True))
    picture = np.full((*conditions.grid.shape[:2], 3), 235.0)
    colours = {
        "road": PALETTE[Semantics.ROAD], "junction": (120, 105, 130), "sidewalk": PALETTE[Semantics.SIDEWALK],
        "crosswalk": (240, 240, 200), "marking": (255, 255, 255), "route": (250, 160, 60),
        "vehicle": PALETTE[Semantics.VEHICLE], "bicycle": PALETTE[Semantics.BICYCLE],
        "pedestrian": PALETTE[Semantics.PEDESTRIAN],
    }  # fmt: skip
    for name, colour in colours.items():
        share = layers[name][..., None] * (0.5 if name in ("route", "junction") else 1.0)
        picture = picture * (1 - share) + np.asarray(colour, np.float64) * share
    view = np.clip(picture, 0, 255).astype(np.uint8).transpose(1, 0, 2)[::-1]
    return view.repeat(scale, axis=0).repeat(scale, axis=1)


def contact_sheet(clips: list[Clip], scale: int = 4) -> Pixels:
    """[rows, columns, 3] one row of views a clip."""
    rows = [np.pad(clip_picture(clip, scale), ((0, 6), (0, 0), (0, 0)), constant_values=245) for clip in clips]
    return np.concatenate(rows, axis=0)


def save_picture(pixels: Pixels, path: Path) -> None:
    """Write a PNG, whole or not at all. Raises WorldError."""
    from PIL import Image

    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        Image.fromarray(pixels).save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        raise WorldError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def preview_world(
    world: World, out_dir: Path, clips: int = 6, seed: int = 0, grid: GridSpec | None = None
) -> list[Path]:
    """town.png, clips.png and sheet.png (town, legend and street views) of a world in out_dir; their paths."""
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    save_picture(town_picture(world.tile), out_dir / "town.png")
    drawn = [sample_clip(world, seed + n, grid or nano_grid(), 8, 0.2) for n in range(clips)]
    save_picture(contact_sheet(drawn), out_dir / "clips.png")
    save_picture(world_sheet(world, seed), out_dir / "sheet.png")
    return [out_dir / name for name in ("town.png", "clips.png", "sheet.png")]
