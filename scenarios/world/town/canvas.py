"""The town while it is built: a tile's columns, and what may still stand where. X/Y cell axes, S span, L level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Doubles, Labels, Semantics
from scenarios.layout import ROAD, SIDEWALK, RoadRaster
from scenarios.world.town.tile import SPANS, TownTile

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Patch:
    """Some cells: window [x0, x0 + w) x [y0, y0 + h) and which of its cells are meant [w, h]."""

    x: slice
    y: slice
    mask: Mask

    def cells(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        i, j = np.nonzero(self.mask)
        return i + self.x.start, j + self.y.start


class Canvas:
    """Surfaces from the road raster, and spans added one by one. Nothing is ever added over a road."""

    def __init__(self, raster: RoadRaster, terrain_cm: NDArray[np.int16]) -> None:
        levels, x, y = raster.flags.shape
        self.raster = raster
        self.cell_m = raster.cell_m
        self.origin_m = np.asarray(raster.origin_m, np.float64)
        self.surface_class = np.zeros((levels, x, y), np.uint8)
        self.surface_cm = raster.height_cm.copy()
        self.surface_cm[0] = terrain_cm
        for level in range(levels):
            self.surface_class[level] = surface_of(raster.flags[level], ground_everywhere=level == 0)
        self.span_class = np.zeros((SPANS, x, y), np.uint8)
        self.span_lo_cm = np.zeros((SPANS, x, y), np.int16)
        self.span_hi_cm = np.zeros((SPANS, x, y), np.int16)
        self.road: Mask = np.asarray((raster.flags & ROAD > 0).any(axis=0))  # and what pave() adds: stays free
        self.taken: Mask = np.asarray((raster.flags > 0).any(axis=0))  # no building stands here

    def box(self, corners_m: Doubles) -> Patch:
        """Cells whose centres lie in a convex polygon [N, 2] given counter-clockwise."""
        x, y, px, py = self._window(corners_m.min(axis=0), corners_m.max(axis=0))
        inside = np.ones((len(px), len(py)), bool)
        for a, b in zip(corners_m, np.roll(corners_m, -1, axis=0), strict=True):
            inside &= (b[0] - a[0]) * (py[None] - a[1]) - (b[1] - a[1]) * (px[:, None] - a[0]) >= 0
        return Patch(x, y, inside)

    def disc(self, centre_m: Doubles, radius_m: float) -> Patch:
        """Cells whose centres lie within radius_m of a point."""
        x, y, px, py = self._window(centre_m - radius_m, centre_m + radius_m)
        return Patch(x, y, (px[:, None] - centre_m[0]) ** 2 + (py[None] - centre_m[1]) ** 2 <= radius_m**2)

    def _window(self, low_m: Doubles, high_m: Doubles) -> tuple[slice, slice, Doubles, Doubles]:
        size = self.road.shape
        first = np.clip(np.floor((low_m - self.origin_m) / self.cell_m).astype(int), 0, size)
        last = np.clip(np.ceil((high_m - self.origin_m) / self.cell_m).astype(int), first, size)
        px, py = (self.origin_m[k] + (np.arange(first[k], last[k]) + 0.5) * self.cell_m for k in range(2))
        return slice(first[0], last[0]), slice(first[1], last[1]), px, py

    def free(self, patch: Patch) -> bool:
        """Whether a building may stand on all of a patch."""
        return bool(patch.mask.any()) and not bool((self.taken[patch.x, patch.y] & patch.mask).any())

    def reserve(self, patch: Patch) -> None:
        """Keep later buildings and furniture off a patch."""
        self.taken[patch.x, patch.y] |= patch.mask

    def add(
        self,
        patch: Patch,
        kind: Semantics,
        low_m: float,
        high_m: float,
        flat_top: bool = False,
        over_taken: bool = True,
    ) -> None:
        """A solid from low_m to high_m above the terrain (flat_top: above its highest cell), never over a road.

        over_taken False also leaves out cells that something reserved.
        """
        barred = self.road if over_taken else self.taken
        keep = patch.mask & ~barred[patch.x, patch.y]
        x, y = Patch(patch.x, patch.y, keep).cells()
        if len(x) == 0:
            return
        ground = self.surface_cm[0, x, y].astype(np.int64)
        top = ground.max() if flat_top else ground
        self.add_cells(x, y, kind, ground + round(low_m * 100), np.broadcast_to(top + round(high_m * 100), x.shape))

    def add_cells(
        self,
        x: NDArray[np.intp],
        y: NDArray[np.intp],
        kind: Semantics,
        low_cm: NDArray,
        high_cm: NDArray,
    ) -> None:
        """Spans at absolute heights, in each cell's first free slot; full cells are left as they are."""
        slot = (self.span_class[:, x, y] > 0).sum(axis=0)
        ok = slot < SPANS
        slot, x, y = slot[ok], x[ok], y[ok]
        self.span_class[slot, x, y] = kind
        self.span_lo_cm[slot, x, y] = np.clip(low_cm[ok], -32000, 32000)
        self.span_hi_cm[slot, x, y] = np.clip(high_cm[ok], -32000, 32000)

    def add_tops(self, patch: Patch, kind: Semantics, low_m: float, top_m: Doubles) -> None:
        """A solid whose top [w, h] differs from cell to cell, in metres above the highest ground below it.

        Cells whose top is not above low_m stay free; nothing is added over a road.
        """
        keep = patch.mask & ~self.road[patch.x, patch.y] & (top_m > low_m)
        if not keep.any():
            return
        x, y = Patch(patch.x, patch.y, keep).cells()
        ground = self.surface_cm[0, x, y].astype(np.int64)
        top = ground.max() + np.round(top_m[keep] * 100).astype(np.int64)
        self.add_cells(x, y, kind, ground + round(low_m * 100), top)

    def pave(self, patch: Patch) -> None:
        """Keep everything off a patch that vehicles use."""
        self.road[patch.x, patch.y] |= patch.mask
        self.reserve(patch)

    def centres_m(self, patch: Patch) -> tuple[Doubles, Doubles]:
        """[w, 1] and [1, h] world coordinates of the centres of a patch's cells."""
        x = self.origin_m[0] + (np.arange(patch.x.start, patch.x.stop) + 0.5) * self.cell_m
        y = self.origin_m[1] + (np.arange(patch.y.start, patch.y.stop) + 0.5) * self.cell_m
        return x[:, None], y[None]

    def ground_cm(self, xy_m: Doubles) -> NDArray[np.int64]:
        """[...] terrain heights at points [..., 2]; those outside take the nearest cell's."""
        at = np.floor((xy_m - self.origin_m) / self.cell_m).astype(np.intp)
        i, j = (np.clip(at[..., k], 0, self.road.shape[k] - 1) for k in range(2))
        return self.surface_cm[0, i, j].astype(np.int64)

    def flags_at(self, xy_m: Doubles) -> Labels:
        """[...] union over levels of the raster's flags at points [..., 2]; 0 outside."""
        return flags_at(self.raster, xy_m)

    def tile(self) -> TownTile:
        origin = (float(self.origin_m[0]), float(self.origin_m[1]))
        return TownTile(
            origin,
            float(self.cell_m),
            float(self.raster.z0_m),
            self.surface_class,
            self.surface_cm,
            self.span_class,
            self.span_lo_cm,
            self.span_hi_cm,
        )


def flags_at(raster: RoadRaster, xy_m: Doubles) -> Labels:
    """[...] union over levels of the flags at points [..., 2]; 0 outside."""
    at = np.floor((xy_m - raster.origin_m) / raster.cell_m).astype(np.intp)
    size = raster.flags.shape[1:]
    inside = np.all((at >= 0) & (at < size), axis=-1)
    i, j = (np.clip(at[..., k], 0, size[k] - 1) for k in range(2))
    return np.where(inside, np.bitwise_or.reduce(raster.flags[:, i, j], axis=0), 0).astype(np.uint8)


def surface_of(flags: Labels, ground_everywhere: bool) -> Labels:
    """The surface class that a layout with these flags shows: road, sidewalk, else ground."""
    known = np.where(flags & SIDEWALK > 0, Semantics.SIDEWALK, Semantics.GROUND)
    known = np.where(flags & ROAD > 0, Semantics.ROAD, known).astype(np.uint8)
    return known if ground_everywhere else np.where(flags > 0, known, 0).astype(np.uint8)


def rectangle(centre_m: Doubles, along: Doubles, length_m: float, width_m: float) -> Doubles:
    """[4, 2] corners, counter-clockwise, of a rectangle with its length along a unit vector."""
    across = np.array([-along[1], along[0]])
    a, b = along * (length_m / 2), across * (width_m / 2)
    return np.stack([centre_m - a - b, centre_m + a - b, centre_m + a + b, centre_m - a + b])
