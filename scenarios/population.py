"""Traffic drawn by seed around a route: driving, cycling, parked, walking, crossing. Nobody overlaps, nobody is in
the ego's way. A agent, F frame; boxes are rows of x, y, yaw, length, width."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.carfollow import Driver, Mover, simulate_drivers
from scenarios.lane_graph import LaneGraph
from scenarios.pathway import Path, lane_path, make_path, shifted
from scenarios.roadmap import Lane, RoadMap
from scenarios.schema import Traffic

# kind, share, size from, size to
_VEHICLES = (
    ("car", 0.74, (3.7, 1.7, 1.42), (4.95, 1.95, 1.8)),
    ("van", 0.1, (4.9, 1.95, 2.0), (6.0, 2.1, 2.7)),
    ("truck", 0.06, (6.8, 2.3, 2.9), (9.0, 2.5, 3.5)),
    ("bus", 0.04, (10.5, 2.5, 3.0), (12.0, 2.55, 3.2)),
    ("motorcycle", 0.06, (2.0, 0.75, 1.45), (2.3, 0.9, 1.7)),
)
_BICYCLE = ((1.65, 0.6, 1.6), (1.85, 0.7, 1.85))
_PEDESTRIAN = ((0.45, 0.5, 1.5), (0.6, 0.65, 1.95))
_CELL_M = 1.0
SPAWN_GAP_M = 2.5  # between bumpers at the start
EGO_GAP_M = 5.0
PARKED_GAP_M = 1.0
PUSH_M = 25.0  # whoever is this near to a driver that gets in the ego's way may be the reason
CYCLE_MPS = 4.5
CROSSING_SHARE = 0.35
ROUNDS = 6
BAY_ROWS = 4


@dataclass(frozen=True)
class Scene:
    """What a population is drawn into."""

    road_map: RoadMap
    graph: LaneGraph
    ego: Mover
    movers: list[Mover]  # with given poses
    drivers: list[Driver]  # of the scenario file
    route_m: Doubles
    dt_s: float
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames * self.dt_s


@dataclass(frozen=True)
class Spot:
    """A place on a lane of any kind."""

    lane: str
    s_m: float
    row: int


def draw_population(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> tuple[list[Mover], list[Mover]]:
    """(the scene's own drivers and the driving population, in this order; the parked and the walking).

    Candidates are drawn, driven and dropped where they get in somebody's way, then others are drawn for them. As many
    as the map has room for; the same seed gives the same population.
    """
    taken = _first_boxes([scene.ego], EGO_GAP_M) + _first_boxes(scene.movers, SPAWN_GAP_M)
    taken += [_grown(_box(driver.path.at(0.0), driver.size_m), SPAWN_GAP_M) for driver in scene.drivers]
    given = [scene.ego, *scene.movers]
    parked = _settle(_parked(scene, traffic, rng), traffic.parked, taken, given)
    walking = _settle(_walkers(scene, traffic, rng), traffic.pedestrians, taken, [*given, *parked])
    standing = parked + walking
    sources = {
        int(Semantics.VEHICLE): (_drivers(scene, traffic, rng), traffic.vehicles),
        int(Semantics.BICYCLE): (_cyclists(scene, traffic, rng), traffic.bicycles),
    }
    kept: list[Driver] = []
    for attempt in itertools.count():
        missing = False
        for class_id, (source, wanted) in sources.items():
            count = wanted - sum(driver.class_id == class_id for driver in kept)
            new = _placed(source, count, taken) if attempt < ROUNDS else []
            missing |= len(new) > 0
            kept += new
        followed, good = _try(scene, kept, standing)
        if all(good) and (not missing or attempt >= ROUNDS or len(kept) >= traffic.vehicles + traffic.bicycles):
            return followed, standing
        kept = [driver for driver, fine in zip(kept, good, strict=True) if fine]
    raise AssertionError("unreachable")


def _try(scene: Scene, kept: list[Driver], standing: list[Mover]) -> tuple[list[Mover], list[bool]]:
    """Drive everybody; who of those kept disturbs nobody: overlaps no one and pushes no driver of the file."""
    own = len(scene.drivers)
    given = [scene.ego, *scene.movers, *standing]
    followed = simulate_drivers(scene.drivers + kept, given, scene.dt_s, scene.frames)
    good = _undisturbing(followed[own:], [*given, *followed[:own]])
    for driver in followed[:own]:
        frame = _first_overlap(driver, scene.ego)
        if frame is not None:
            gaps = [float(np.hypot(*(one.pose[frame, :2] - driver.pose[frame, :2]))) for one in followed[own:]]
            near = [gap < PUSH_M and fine for gap, fine in zip(gaps, good, strict=True)]
            good = [fine and not close for fine, close in zip(good, near, strict=True)]
    return followed, good


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


def _span(boxes: Doubles, along: Doubles) -> Doubles:
    turn = boxes[..., 2] - along
    return (np.abs(np.cos(turn)) * boxes[..., 3] + np.abs(np.sin(turn)) * boxes[..., 4]) / 2


def _box(pose: Doubles, size_m: tuple[float, float, float]) -> Doubles:
    return np.array([*pose[:3], size_m[0], size_m[1]])


def _grown(box: Doubles, gap_m: float) -> Doubles:
    """The box with half the gap more at its front and back, and a little at its sides."""
    return box + np.array([0.0, 0.0, 0.0, gap_m, 0.4])


def _first_boxes(movers: list[Mover], gap_m: float) -> list[Doubles]:
    return [_grown(_box(mover.pose[0], mover.size_m), gap_m) for mover in movers]


def _boxes_over_time(mover: Mover) -> Doubles:
    """[F, 5]"""
    size = np.broadcast_to(mover.size_m[:2], (len(mover.pose), 2))
    return np.concatenate([mover.pose, size], axis=1)


def _first_overlap(one: Mover, other: Mover, margin_m: float = 0.2) -> int | None:
    """The first frame in which two overlap."""
    offset = one.pose[:, :2] - other.pose[:, :2]
    close = np.flatnonzero((offset**2).sum(axis=1) < (sum(one.size_m[:2]) + sum(other.size_m[:2])) ** 2 / 4 + 4.0)
    grown = _boxes_over_time(other) + np.array([0, 0, 0, margin_m, margin_m])
    mine = _boxes_over_time(one)
    return next((int(k) for k in close if boxes_overlap(mine[k : k + 1], grown[k : k + 1])[0, 0]), None)


def _undisturbing(movers: list[Mover], others: list[Mover]) -> list[bool]:
    """Which movers overlap nobody of the others and no earlier mover, in any frame."""
    good: list[bool] = []
    for index, mover in enumerate(movers):
        kept = [movers[k] for k in range(index) if good[k]]
        good.append(all(_first_overlap(mover, other) is None for other in [*others, *kept]))
    return good


def _placed(source: Iterator[Driver], count: int, taken: list[Doubles]) -> list[Driver]:
    """Up to count drivers whose first place is free; their places are added to taken."""
    placed: list[Driver] = []
    for driver in source if count > 0 else ():
        box = _grown(_box(driver.path.at(0.0), driver.size_m), SPAWN_GAP_M)
        if not boxes_overlap(box[None], np.array(taken)).any():
            taken.append(box)
            placed.append(driver)
            if len(placed) == count:
                break
    return placed


def _settle(source: Iterator[Mover], count: int, taken: list[Doubles], avoid: list[Mover]) -> list[Mover]:
    """Up to count movers whose first place is free and who never overlap those to avoid."""
    settled: list[Mover] = []
    for mover in source if count > 0 else ():
        box = _grown(_box(mover.pose[0], mover.size_m), PARKED_GAP_M if mover.class_id == Semantics.VEHICLE else 0.3)
        if boxes_overlap(box[None], np.array(taken)).any():
            continue
        if any(_first_overlap(mover, other, 0.8 if other.is_ego else 0.1) is not None for other in [*avoid, *settled]):
            continue
        taken.append(box)
        settled.append(mover)
        if len(settled) == count:
            break
    return settled


def _spots(scene: Scene, lanes: dict[str, Lane], radius_m: float, rng: np.random.Generator) -> list[Spot]:
    """Places every few metres on these lanes within radius of the ego's path, in a random order."""
    path = scene.ego.pose[:: max(1, int(1.0 / scene.dt_s)), :2]
    spots = []
    for key in sorted(lanes):
        centre = lanes[key].centre_m[:, :2]
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(centre, axis=0).T))])
        near = np.hypot(*(centre[:, None] - path).transpose(2, 0, 1)).min(axis=1) < radius_m
        rows = np.flatnonzero(near & (np.mod(np.round(along), 3) < 1))
        spots += [Spot(key, float(along[row]), int(row)) for row in rows]
    return [spots[k] for k in rng.permutation(len(spots))]


def _size(low: tuple[float, ...], high: tuple[float, ...], rng: np.random.Generator) -> tuple[float, float, float]:
    share = rng.random(3)
    length, width, height = (a + p * (b - a) for a, b, p in zip(low, high, share, strict=True))
    return (float(length), float(width), float(height))


def _vehicle_size(rng: np.random.Generator, longest_m: float = 20.0) -> tuple[float, float, float]:
    rows = [row for row in _VEHICLES if row[3][0] <= longest_m]
    share = np.array([row[1] for row in rows])
    row = rows[int(rng.choice(len(rows), p=share / share.sum()))]
    return _size(row[2], row[3], rng)


def _drivers(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Driver]:
    outside = {key: lane for key, lane in scene.graph.lanes.items() if lane.junction_id < 0}
    for spot in _spots(scene, outside, traffic.radius_m, rng):
        limit = outside[spot.lane].speed_limit_mps or 13.9
        wanted = (traffic.speed_mps or 0.85 * limit) * float(rng.uniform(0.8, 1.1))
        path = lane_path(scene.graph, spot.lane, spot.s_m, wanted * scene.seconds + 70.0, "random", rng)
        start = wanted * float(rng.choice([1.0, 0.8, 0.4], p=[0.6, 0.25, 0.15]))
        yield Driver(int(Semantics.VEHICLE), _vehicle_size(rng), path, wanted, start)


def _cyclists(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Driver]:
    outside = {key: lane for key, lane in scene.graph.lanes.items() if lane.junction_id < 0}
    for spot in _spots(scene, outside, traffic.radius_m, rng):
        wanted = CYCLE_MPS * float(rng.uniform(0.7, 1.25))
        path = lane_path(scene.graph, spot.lane, spot.s_m, wanted * scene.seconds + 40.0, "random", rng)
        aside = float(outside[spot.lane].width_m[spot.row]) / 2 - 0.6
        yield Driver(int(Semantics.BICYCLE), _size(*_BICYCLE, rng), shifted(path, -max(aside, 0.0)), wanted)


def _parked(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Mover]:
    """On parking lanes and wide shoulders: a car at the kerb of a driving lane would be in everybody's way."""
    bays = {k: lane for k, lane in scene.road_map.lanes.items() if lane.kind in ("parking", "shoulder")}
    for spot in _spots(scene, bays, traffic.radius_m, rng):
        lane, size = bays[spot.lane], _vehicle_size(rng, 6.5)
        if not _is_wide(lane, spot) or lane.junction_id >= 0:
            continue
        x, y = lane.centre_m[spot.row, :2]
        pose = np.tile([x, y, float(lane.yaw_rad[spot.row] + rng.normal(0, 0.015))], (scene.frames, 1))
        yield Mover(int(Semantics.VEHICLE), size, pose, np.zeros(scene.frames))


def _is_wide(lane: Lane, spot: Spot) -> bool:
    """Whether a bay is at its full width from bumper to bumper."""
    around = lane.width_m[max(0, spot.row - BAY_ROWS) : spot.row + BAY_ROWS + 1]
    return len(around) == 2 * BAY_ROWS + 1 and bool(around.min() > 1.95 and np.ptp(around) < 0.05)


def _walkers(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Mover]:
    """Along sidewalks, and over crosswalks; along shoulders where the map has no sidewalk near by."""
    for kind in ("sidewalk", "shoulder"):
        lanes = {k: lane for k, lane in scene.road_map.lanes.items() if lane.kind == kind and len(lane.width_m) > 1}
        spots = _spots(scene, lanes, traffic.radius_m, rng)
        if spots:
            break
    crossings = _crossings(scene, traffic, rng)
    for spot in spots:
        if rng.random() < CROSSING_SHARE:
            crossing = next(crossings, None)
            if crossing is not None:
                yield crossing
        speed = traffic.walk_mps * float(rng.uniform(0.75, 1.2))
        path = _walk(lanes, spot, speed * scene.seconds + 5.0, rng)
        yield _walker(scene, path, speed, rng)


def _walk(lanes: dict[str, Lane], spot: Spot, length_m: float, rng: np.random.Generator) -> Path:
    """Along a sidewalk from a spot, either way, going on where the next begins and turning round at a dead end."""
    backward = bool(rng.random() < 0.5)
    here, line = spot.lane, lanes[spot.lane].centre_m[:, :2]
    line = line[: spot.row + 1][::-1] if backward else line[spot.row :]
    aside = float(rng.uniform(-0.25, 0.25) * lanes[here].width_m.max())
    points, driven, seen = [line], _length(line), {here}
    while driven < length_m:
        tail = points[-1][-1]
        ends = [
            (key, flip, float(np.hypot(*(lane.centre_m[-1 if flip else 0, :2] - tail))))
            for key, lane in lanes.items()
            for flip in (False, True)
            if key not in seen
        ]
        key, flip, gap = min(ends, key=lambda end: end[2], default=("", False, np.inf))
        if gap > 2.0:
            points.append(np.concatenate(points)[::-1][1:])
        else:
            seen.add(key)
            points.append(lanes[key].centre_m[:: -1 if flip else 1, :2])
        driven += max(_length(points[-1]), 0.5)
    whole = np.concatenate(points)
    if _length(whole) < 1.0:
        whole = np.array([whole[0], whole[0] + [1.0, 0.0]])
    return shifted(make_path(whole), aside)


def _length(line: Doubles) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum()) if len(line) > 1 else 0.0


def _walker(scene: Scene, path: Path, speed_mps: float, rng: np.random.Generator, start_m: float = 0.0) -> Mover:
    s = np.clip(start_m + speed_mps * scene.dt_s * np.arange(scene.frames), 0.0, path.s_m[-1])
    speed = np.where((s > 0) & (s < path.s_m[-1]), speed_mps, 0.0)
    return Mover(int(Semantics.PEDESTRIAN), _size(*_PEDESTRIAN, rng), path.at(s), speed)


def _crossings(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Mover]:
    """Pedestrians who start somewhere on the way over a crosswalk, in either direction."""
    path = scene.ego.pose[:, :2]
    for index in rng.permutation(len(scene.road_map.crosswalks)):
        corners = scene.road_map.crosswalks[int(index)].polygon_m[:4, :2]
        if len(corners) < 4 or np.hypot(*(corners.mean(axis=0) - path).T).min() > traffic.radius_m:
            continue
        edges = np.roll(corners, -1, axis=0) - corners
        length = np.hypot(*edges.T)
        # Over the road is along the longer sides of the zebra.
        k = int(np.argmax(length[:2] + length[2:]))
        way = edges[k] / length[k] * (1 if rng.random() < 0.5 else -1)
        side = np.array([-way[1], way[0]]) * float(rng.uniform(-0.3, 0.3) * length[1 - k])
        middle = corners.mean(axis=0) + side
        half = length[k] / 2 + 2.0
        line = make_path(np.array([middle - half * way, middle + half * way]))
        speed = traffic.walk_mps * float(rng.uniform(0.8, 1.2))
        yield _walker(scene, line, speed, rng, float(rng.uniform(-0.3, 0.6) * 2 * half))
