"""Street furniture along the edges of blocks: lamps, signs, benches, bins, kiosks, bus stops; and the map's signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.layout import ROAD, SIDEWALK
from scenarios.roadmap import RoadMap
from scenarios.world.town.blocks import STEP_M, Blocks, Edge
from scenarios.world.town.boundaries import boundary, guard_rail, raised
from scenarios.world.town.canvas import Canvas, rectangle
from scenarios.world.town.construction import road_works
from scenarios.world.town.greenery import street_trees
from scenarios.world.town.style import TownStyle, Zone

POLE_M = 0.4
LAMP_M = 6.0
TALL_LAMP_M = 8.0
LAMP_SPACING_M = 26.0
LAMP_INSET_M = 0.45
STOP_SPACING_M = 160.0
_CITY = (Zone.DOWNTOWN, Zone.PARK)
_LIVED_IN = (Zone.DOWNTOWN, Zone.RESIDENTIAL, Zone.PARK)


@dataclass(frozen=True)
class Piece:
    """A box that stands along streets, its length along them, every spacing_m where chance allows."""

    kind: Semantics
    size_m: tuple[float, float, float]
    inset_m: float
    spacing_m: float
    chance: float
    zones: tuple[Zone, ...]


PIECES = (
    Piece(Semantics.OTHER, (1.2, 1.2, 1.5), 0.3, 45.0, 0.5, tuple(Zone)),  # street cabinet
    Piece(Semantics.OTHER, (2.8, 2.2, 2.8), 0.4, 130.0, 0.35, _CITY),  # kiosk
    Piece(Semantics.OTHER, (1.2, 1.2, 3.0), 0.3, 110.0, 0.35, (Zone.DOWNTOWN,)),  # advertising column
    Piece(Semantics.OTHER, (1.8, 0.6, 0.8), 0.3, 34.0, 0.5, _CITY),  # bench
    Piece(Semantics.OTHER, (0.6, 0.6, 1.1), 0.3, 52.0, 0.5, _LIVED_IN),  # bin
    Piece(Semantics.OTHER, (0.4, 0.4, 0.9), 0.3, 95.0, 0.5, (Zone.DOWNTOWN, Zone.RESIDENTIAL)),  # hydrant
    Piece(Semantics.POLE, (0.4, 0.4, 2.6), 0.45, 64.0, 0.5, tuple(Zone)),  # sign
)


def furnish(blocks: Blocks, canvas: Canvas, style: TownStyle) -> None:
    """Everything along the block edges."""
    for edge in blocks.edges:
        if edge.narrow:
            continue
        rng = np.random.default_rng(edge.seed + 2)
        steep = raised(edge, canvas)
        guard_rail(edge, canvas, steep)
        if steep.mean() > 0.5:
            lamps(edge, canvas, style, LAMP_SPACING_M if edge.urban else 38.0, 1.6, TALL_LAMP_M)
        elif edge.urban:
            _street(edge, canvas, style, rng)
        else:
            _open_road(edge, canvas, style, rng)


def _street(edge: Edge, canvas: Canvas, style: TownStyle, rng: np.random.Generator) -> None:
    lamps(edge, canvas, style, LAMP_SPACING_M, LAMP_INSET_M, LAMP_M)
    bus_stops(edge, canvas, style, np.random.default_rng([edge.seed, 7]))
    road_works(edge, canvas, style, np.random.default_rng([edge.seed, 8]))
    _pieces(edge, canvas, style)
    street_trees(edge, canvas, style, rng)
    boundary(edge, canvas, style, rng)


def _open_road(edge: Edge, canvas: Canvas, style: TownStyle, rng: np.random.Generator) -> None:
    """Guard rails beside fast roads, lamps beside the rest, sometimes rows of trees."""
    railed, road_side = rng.random() < 0.7, np.random.default_rng([edge.seed, 8])
    if edge.fast and railed and edge.length_m > 20 and style.furniture > 0:
        guard_rail(edge, canvas)
        lamps(edge, canvas, style, 38.0, 1.6, TALL_LAMP_M)
    elif edge.length_m > 30:
        lamps(edge, canvas, style, 34.0, LAMP_INSET_M, TALL_LAMP_M)
        road_works(edge, canvas, style, road_side)
        street_trees(edge, canvas, style, rng)
        if edge.zone not in (Zone.RURAL, Zone.PARK):
            boundary(edge, canvas, style, rng)
    for mark in np.arange(15.0, edge.length_m, 80.0):
        if road_side.random() < style.furniture:
            stand(edge, canvas, int(mark / STEP_M), Semantics.OTHER, (1.2, 1.2, 1.5), 5.0)


def lamps(edge: Edge, canvas: Canvas, style: TownStyle, spacing_m: float, inset_m: float, height_m: float) -> None:
    """A row of lamps; sparser or denser than spacing_m as the style says."""
    if style.furniture == 0:
        return
    spacing_m *= float(np.clip(0.5 / style.furniture, 0.75, 3.0))
    first = spacing_m / 2 if edge.length_m < 60 else 6.0
    for mark in np.arange(first, edge.length_m - 1.0, spacing_m):
        k = min(int(mark / STEP_M), len(edge.point_m) - 1)
        _post(canvas, edge.point_m[k] + edge.inward[k] * inset_m, height_m)


def _post(canvas: Canvas, at_m: Doubles, height_m: float) -> bool:
    patch = canvas.box(rectangle(at_m, np.array([1.0, 0.0]), POLE_M, POLE_M))
    keep = patch.mask & ~canvas.taken[patch.x, patch.y]
    if keep.sum() < 3:
        return False
    canvas.add(patch, Semantics.POLE, 0.0, height_m, over_taken=False)
    canvas.reserve(patch)
    return True


def _pieces(edge: Edge, canvas: Canvas, style: TownStyle) -> None:
    for number, piece in enumerate(PIECES):
        if edge.zone not in piece.zones:
            continue
        rng = np.random.default_rng([edge.seed, 20 + number])
        for mark in np.arange(rng.uniform(4.0, piece.spacing_m), edge.length_m - 3.0, piece.spacing_m):
            if rng.random() < 2 * style.furniture * piece.chance:
                stand(edge, canvas, int(mark / STEP_M), piece.kind, piece.size_m, piece.inset_m)
    if edge.zone is Zone.DOWNTOWN and edge.seed % 5 == 0 and style.furniture > 0.2:  # bollards before a front
        for mark in np.arange(0.3 * edge.length_m, min(0.3 * edge.length_m + 13.0, edge.length_m - 2), 2.4):
            stand(edge, canvas, int(mark / STEP_M), Semantics.OTHER, (0.4, 0.4, 1.0), 0.2)


def stand(
    edge: Edge, canvas: Canvas, index: int, kind: Semantics, size_m: tuple[float, float, float], inset_m: float
) -> bool:
    """A box beside the street. False where its place is taken."""
    index = min(index, len(edge.point_m) - 1)
    at = edge.point_m[index] + edge.inward[index] * (size_m[1] / 2 + inset_m)
    patch = canvas.box(rectangle(at, edge.along(index), *size_m[:2]))
    if not canvas.free(patch):
        return False
    canvas.add(patch, kind, 0.0, size_m[2])
    canvas.reserve(patch)
    return True


def bus_stops(edge: Edge, canvas: Canvas, style: TownStyle, rng: np.random.Generator) -> None:
    """A shelter (back wall, bench, roof on two legs) and the pole of the stop, now and then along a street."""
    for mark in np.arange(rng.uniform(18.0, 60.0), edge.length_m - 12.0, STOP_SPACING_M):
        if rng.random() >= 0.9 * style.furniture or edge.zone is Zone.RURAL:
            continue
        index = int(mark / STEP_M)
        at, along, inward = edge.point_m[index] + edge.inward[index] * 0.2, edge.along(index), edge.inward[index]
        whole = canvas.box(rectangle(at + inward * 0.8, along, 4.4, 1.6))
        if not canvas.free(whole):
            continue
        parts = [
            (rectangle(at + inward * 1.4, along, 4.4, 0.4), 0.0, 2.4),
            (rectangle(at + inward, along, 3.2, 0.6), 0.0, 0.8),
        ]
        parts += [(rectangle(at + inward * 0.3 + along * u, along, 0.4, 0.4), 0.0, 2.4) for u in (-2.0, 2.0)]
        parts += [(rectangle(at + inward * 0.8, along, 4.4, 1.6), 2.4, 2.8)]
        for corners, low, high in parts:
            canvas.add(canvas.box(corners), Semantics.OTHER, low, high)
        canvas.reserve(whole)
        _post(canvas, at + along * 3.4 + inward * 0.3, 2.8)


def place_signals(road_map: RoadMap, canvas: Canvas) -> None:
    """A post for every signal of the map, on the nearest free land, else on the nearest sidewalk."""
    angle = np.arange(16) * (np.pi / 8)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    offsets = np.concatenate([np.zeros((1, 2)), *(ring * r for r in np.arange(0.4, 7.0, 0.4))])
    seen: list[Doubles] = []
    for signal in road_map.signals:
        at = np.asarray(signal.position_m[:2], np.float64)
        if any(np.hypot(*(at - other)) < 1.5 for other in seen):
            continue
        seen.append(at)
        height = 5.5 if signal.kind == "traffic_light" else 2.6
        flags = canvas.flags_at(at + offsets)
        for wanted in (flags == 0, (flags & SIDEWALK > 0) & (flags & ROAD == 0)):
            spots = (at + offsets)[wanted]
            if any(_stand(canvas, spot, height) for spot in spots):
                break


def _stand(canvas: Canvas, at_m: Doubles, height_m: float) -> bool:
    patch = canvas.box(rectangle(at_m, np.array([1.0, 0.0]), POLE_M, POLE_M))
    if patch.mask.sum() < 4 or (canvas.road[patch.x, patch.y] & patch.mask).any():
        return False
    canvas.add(patch, Semantics.POLE, 0.0, height_m)
    canvas.reserve(patch)
    return True
