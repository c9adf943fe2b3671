"""What stands along streets: lamps, trees, hedges, fences, rails, signals and street boxes; and what carries decks."""

from __future__ import annotations

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.layout import CROSSWALK, ROAD, SIDEWALK
from scenarios.roadmap import RoadMap
from scenarios.world.blocks import STEP_M, Blocks, Edge, Zone
from scenarios.world.canvas import Canvas, rectangle
from scenarios.world.lots import plant_tree

POLE_M = 0.4
LAMP_SPACING_M = 26.0
LAMP_INSET_M = 0.45
FENCE_INSET_M = 1.2
FENCE_M = 0.6
TREE_INSET_M = 2.6
TREE_SPACING_M = 9.0
RAIL_INSET_M = 0.6
STEEP_M = 1.5
MEDIAN_END_M = 7.0


def furnish(blocks: Blocks, road_map: RoadMap, canvas: Canvas) -> None:
    """Everything along the block edges, then the map's own signals and the decks."""
    place_signals(road_map, canvas)
    for edge in blocks.edges:
        rng = np.random.default_rng(edge.seed + 2)
        if edge.urban and _raised(edge, canvas):
            _lamps_behind(edge, canvas, LAMP_SPACING_M, 1.6)
            _strip(edge, canvas, Semantics.BARRIER, 1.0, FENCE_M, RAIL_INSET_M)
        elif edge.urban:
            _lamps(edge, canvas, LAMP_SPACING_M)
            _boxes(edge, canvas, rng)
            _street_trees(edge, canvas, rng)
            _boundary(edge, canvas, rng)
        else:
            _open_road(edge, canvas, rng)
            _cabinets(edge, canvas, 5.0, 80.0)
    _medians(road_map, canvas, np.random.default_rng(blocks.edges[0].seed if blocks.edges else 0))
    furnish_decks(canvas)


def _medians(road_map: RoadMap, canvas: Canvas, rng: np.random.Generator) -> None:
    """Hedges along half of the medians that are wide enough, open at their ends and at crosswalks."""
    for key in sorted(road_map.lanes):
        lane = road_map.lanes[key]
        planted = rng.random() < 0.5
        if lane.kind != "median" or not planted or float(np.median(lane.width_m)) < 1.8:
            continue
        line = lane.centre_m[:, :2]
        s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        around = line[:, None] + np.array([[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3]])
        crossing = (np.bitwise_or.reduce(canvas.flags_at(around), axis=1) & CROSSWALK) > 0
        for k in range(len(line) - 1):
            step = line[k + 1] - line[k]
            length = float(np.linalg.norm(step))
            if s[k] < MEDIAN_END_M or s[-1] - s[k + 1] < MEDIAN_END_M or crossing[k] or length < 0.05:
                continue
            middle = (line[k] + line[k + 1]) / 2
            canvas.add(canvas.box(rectangle(middle, step / length, length + 0.2, 0.8)), Semantics.VEGETATION, 0.0, 1.0)


def _post(canvas: Canvas, at_m: Doubles, height_m: float) -> bool:
    patch = canvas.box(rectangle(at_m, np.array([1.0, 0.0]), POLE_M, POLE_M))
    keep = patch.mask & ~canvas.taken[patch.x, patch.y]
    if keep.sum() < 3:
        return False
    canvas.add(patch, Semantics.POLE, 0.0, height_m, over_taken=False)
    canvas.reserve(patch)
    return True


def _places(edge: Edge, first_m: float, spacing_m: float, inset_m: float) -> list[tuple[int, Doubles]]:
    """Sample indices and points at regular spacing, inset_m into the block."""
    marks = np.arange(first_m, edge.length_m - 1.0, spacing_m)
    index = np.minimum((marks / STEP_M).astype(int), len(edge.point_m) - 1)
    return [(int(k), edge.point_m[k] + edge.inward[k] * inset_m) for k in index]


def _lamps(edge: Edge, canvas: Canvas, spacing_m: float) -> None:
    for _, at in _places(edge, spacing_m / 2 if edge.length_m < 60 else 6.0, spacing_m, LAMP_INSET_M):
        _post(canvas, at, 6.0)


def _boxes(edge: Edge, canvas: Canvas, rng: np.random.Generator) -> None:
    """A bus shelter on some streets, else street cabinets, where there is room before the buildings."""
    if rng.random() < 0.3 and edge.length_m > 30:
        _box(edge, canvas, int(rng.uniform(0.25, 0.75) * edge.length_m / STEP_M), (4.0, 1.6), 2.4, 0.3)
    else:
        _cabinets(edge, canvas, 0.3, 45.0)


def _cabinets(edge: Edge, canvas: Canvas, inset_m: float, spacing_m: float) -> None:
    for mark in np.arange(15.0, edge.length_m, spacing_m):
        _box(edge, canvas, int(mark / STEP_M), (1.2, 1.2), 1.5, inset_m)


def _box(edge: Edge, canvas: Canvas, index: int, size_m: tuple[float, float], height_m: float, inset_m: float) -> None:
    index = min(index, len(edge.point_m) - 1)
    at = edge.point_m[index] + edge.inward[index] * (size_m[1] / 2 + inset_m)
    patch = canvas.box(rectangle(at, edge.along(index), *size_m))
    if canvas.free(patch):
        canvas.add(patch, Semantics.OTHER, 0.0, height_m)
        canvas.reserve(patch)


def _street_trees(edge: Edge, canvas: Canvas, rng: np.random.Generator) -> None:
    chance = {Zone.RESIDENTIAL: 0.6, Zone.PARK: 0.8, Zone.INDUSTRIAL: 0.3}.get(edge.zone, 0.0)
    if rng.random() >= chance:
        return
    radius, top = rng.uniform(1.9, 2.3), rng.uniform(5.5, 6.5)
    for _, at in _places(edge, 4.0, TREE_SPACING_M, TREE_INSET_M):
        plant_tree(canvas, at, radius, top)


def _boundary(edge: Edge, canvas: Canvas, rng: np.random.Generator) -> None:
    """One kind of boundary along the whole edge, open at regular entrances."""
    kinds: dict[Zone, tuple[tuple[Semantics, float, float], ...]] = {
        Zone.RESIDENTIAL: ((Semantics.VEGETATION, 1.3, 0.4), (Semantics.BARRIER, 1.2, 0.35)),
        Zone.INDUSTRIAL: ((Semantics.BARRIER, 2.0, 0.8),),
        Zone.PARK: ((Semantics.BARRIER, 1.2, 0.3), (Semantics.VEGETATION, 1.2, 0.3)),
    }
    draw = rng.random()
    for kind, height, share in kinds.get(edge.zone, ()):
        if draw < share:
            width = 0.8 if kind == Semantics.VEGETATION else FENCE_M
            _strip(edge, canvas, kind, height, width, FENCE_INSET_M, period_m=18.0, gap_m=3.5)
            return
        draw -= share


def _strip(
    edge: Edge,
    canvas: Canvas,
    kind: Semantics,
    height_m: float,
    width_m: float,
    inset_m: float,
    period_m: float = 0.0,
    gap_m: float = 0.0,
) -> None:
    """A strip that follows the edge, with a gap of gap_m every period_m."""
    line = edge.point_m + edge.inward * inset_m
    for k in range(len(line) - 1):
        if period_m and (k * STEP_M) % period_m < gap_m:
            continue
        step = line[k + 1] - line[k]
        length = float(np.linalg.norm(step))
        if not 0.05 < length < 3.0:
            continue
        patch = canvas.box(rectangle((line[k] + line[k + 1]) / 2, step / length, length + 0.2, width_m))
        canvas.add(patch, kind, 0.0, height_m, over_taken=False)
        canvas.reserve(patch)


def _open_road(edge: Edge, canvas: Canvas, rng: np.random.Generator) -> None:
    """Guard rails beside fast and raised roads, lamps beside the rest, sometimes rows of trees."""
    if _raised(edge, canvas) or (edge.fast and rng.random() < 0.7 and edge.length_m > 20):
        _strip(edge, canvas, Semantics.BARRIER, 1.0, FENCE_M, RAIL_INSET_M)
        _lamps_behind(edge, canvas, 38.0, 1.6)
    elif edge.length_m > 30:
        _lamps_behind(edge, canvas, 34.0, LAMP_INSET_M)
        if rng.random() < 0.5:
            radius, top = rng.uniform(2.0, 2.4), rng.uniform(5.5, 6.5)
            for _, at in _places(edge, 5.0, 10.0, 4.0):
                plant_tree(canvas, at, radius, top)


def _raised(edge: Edge, canvas: Canvas) -> bool:
    """Whether the street lies well above the land beside it."""
    near, away = (
        canvas.surface_cm[0][canvas_cells(canvas, edge.point_m + edge.inward * inset_m)].astype(np.int64)
        for inset_m in (-1.0, 12.0)
    )
    return float(np.median(near - away)) > 100 * STEEP_M


def _lamps_behind(edge: Edge, canvas: Canvas, spacing_m: float, inset_m: float) -> None:
    for _, at in _places(edge, 8.0, spacing_m, inset_m):
        _post(canvas, at, 8.0)


def canvas_cells(canvas: Canvas, xy_m: Doubles) -> tuple[np.ndarray, np.ndarray]:
    """Cell indices of points [N, 2], those outside moved to the edge."""
    at = np.floor((xy_m - canvas.origin_m) / canvas.cell_m).astype(np.intp)
    return np.clip(at[:, 0], 0, canvas.road.shape[0] - 1), np.clip(at[:, 1], 0, canvas.road.shape[1] - 1)


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


def furnish_decks(canvas: Canvas) -> None:
    """Rails along the open sides of decks and pillars below them, clear of the road underneath."""
    if len(canvas.surface_class) < 2:
        return
    from scipy import ndimage

    whole = canvas.surface_class[1] > 0
    if not whole.any():
        return
    x, y = (np.flatnonzero(whole.any(axis=axis)) for axis in (1, 0))
    cut = (slice(max(x[0] - 20, 0), x[-1] + 21), slice(max(y[0] - 20, 0), y[-1] + 21))
    deck = whole[cut]
    height, below = canvas.surface_cm[1][cut].astype(np.int64), canvas.surface_cm[0][cut].astype(np.int64)
    away, nearest = ndimage.distance_transform_edt(~deck, return_indices=True)
    # Where the deck goes on as level 0 (a ramp at its height) its end is no open side.
    mapped = canvas.raster.flags[0][cut] > 0
    landing = mapped & (away < 12) & (np.abs(below - height[nearest[0], nearest[1]]) < 100)
    joined = ndimage.binary_closing(deck | landing, iterations=2)
    x, y = np.nonzero(deck & ~ndimage.binary_erosion(joined, iterations=3))
    level = height[x, y]
    canvas.add_cells(x + cut[0].start, y + cut[1].start, Semantics.BARRIER, level, level + 100)
    spots = deck & ~ndimage.binary_dilation(mapped, iterations=5)
    step, half = round(9.0 / canvas.cell_m), round(0.6 / canvas.cell_m)
    grid = np.zeros_like(spots)
    grid[::step, ::step] = True
    mark = ndimage.binary_dilation(grid & ndimage.binary_erosion(spots, iterations=half), iterations=half) & spots
    x, y = np.nonzero(mark)
    canvas.add_cells(x + cut[0].start, y + cut[1].start, Semantics.OTHER, below[x, y], height[x, y] - 60)
