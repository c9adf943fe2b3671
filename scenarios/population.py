"""Traffic drawn by seed around a route: driving, cycling, parked, walking, crossing. Nobody overlaps, nobody is in
the ego's way. A agent, F frame; boxes are rows of x, y, yaw, length, width."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.carfollow import Driver, Mover, simulate_drivers
from scenarios.footprints import box_of, boxes_overlap, first_boxes, first_overlap, grown
from scenarios.pathway import lane_path, shifted
from scenarios.roadmap import Lane
from scenarios.schema import Traffic
from scenarios.spawn import Scene, Spot, size_between, spots_near
from scenarios.walkers import walkers

# kind, share, size from, size to
_VEHICLES = (
    ("car", 0.74, (3.7, 1.7, 1.42), (4.95, 1.95, 1.8)),
    ("van", 0.1, (4.9, 1.95, 2.0), (6.0, 2.1, 2.7)),
    ("truck", 0.06, (6.8, 2.3, 2.9), (9.0, 2.5, 3.5)),
    ("bus", 0.04, (10.5, 2.5, 3.0), (12.0, 2.55, 3.2)),
    ("motorcycle", 0.06, (2.0, 0.75, 1.45), (2.3, 0.9, 1.7)),
)
_BICYCLE = ((1.65, 0.6, 1.6), (1.85, 0.7, 1.85))
_CELL_M = 1.0
SPAWN_GAP_M = 2.5  # between bumpers at the start
EGO_GAP_M = 5.0
PARKED_GAP_M = 1.0
PUSH_M = 25.0  # whoever is this near to a driver that gets in the ego's way may be the reason
CYCLE_MPS = 4.5
ROUNDS = 6
BAY_ROWS = 4


def draw_population(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> tuple[list[Mover], list[Mover]]:
    """(the scene's own drivers and the driving population, in this order; the parked and the walking).

    Candidates are drawn, driven and dropped where they get in somebody's way, then others are drawn for them. As many
    as the map has room for; the same seed gives the same population.
    """
    taken = first_boxes([scene.ego], EGO_GAP_M) + first_boxes(scene.movers, SPAWN_GAP_M)
    taken += [grown(box_of(driver.path.at(0.0), driver.size_m), SPAWN_GAP_M) for driver in scene.drivers]
    given = [scene.ego, *scene.movers]
    parked = _settle(_parked(scene, traffic, rng), traffic.parked, taken, given)
    walking = _settle(walkers(scene, traffic, rng), traffic.pedestrians, taken, [*given, *parked])
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
        frame = first_overlap(driver, scene.ego)
        if frame is not None:
            gaps = [float(np.hypot(*(one.pose[frame, :2] - driver.pose[frame, :2]))) for one in followed[own:]]
            near = [gap < PUSH_M and fine for gap, fine in zip(gaps, good, strict=True)]
            good = [fine and not close for fine, close in zip(good, near, strict=True)]
    return followed, good


def _undisturbing(movers: list[Mover], others: list[Mover]) -> list[bool]:
    """Which movers overlap nobody of the others and no earlier mover, in any frame."""
    good: list[bool] = []
    for index, mover in enumerate(movers):
        kept = [movers[k] for k in range(index) if good[k]]
        good.append(all(first_overlap(mover, other) is None for other in [*others, *kept]))
    return good


def _placed(source: Iterator[Driver], count: int, taken: list[Doubles]) -> list[Driver]:
    """Up to count drivers whose first place is free; their places are added to taken."""
    placed: list[Driver] = []
    for driver in source if count > 0 else ():
        box = grown(box_of(driver.path.at(0.0), driver.size_m), SPAWN_GAP_M)
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
        box = grown(box_of(mover.pose[0], mover.size_m), PARKED_GAP_M if mover.class_id == Semantics.VEHICLE else 0.3)
        if boxes_overlap(box[None], np.array(taken)).any():
            continue
        if any(first_overlap(mover, other, 0.8 if other.is_ego else 0.1) is not None for other in [*avoid, *settled]):
            continue
        taken.append(box)
        settled.append(mover)
        if len(settled) == count:
            break
    return settled


def _vehicle_size(rng: np.random.Generator, longest_m: float = 20.0) -> tuple[float, float, float]:
    rows = [row for row in _VEHICLES if row[3][0] <= longest_m]
    share = np.array([row[1] for row in rows])
    row = rows[int(rng.choice(len(rows), p=share / share.sum()))]
    return size_between(row[2], row[3], rng)


def _drivers(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Driver]:
    outside = {key: lane for key, lane in scene.graph.lanes.items() if lane.junction_id < 0}
    for spot in spots_near(scene, outside, traffic.radius_m, rng):
        limit = outside[spot.lane].speed_limit_mps or 13.9
        wanted = (traffic.speed_mps or 0.85 * limit) * float(rng.uniform(0.8, 1.1))
        path = lane_path(scene.graph, spot.lane, spot.s_m, wanted * scene.seconds + 70.0, "random", rng)
        start = wanted * float(rng.choice([1.0, 0.8, 0.4], p=[0.6, 0.25, 0.15]))
        yield Driver(int(Semantics.VEHICLE), _vehicle_size(rng), path, wanted, start)


def _cyclists(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Driver]:
    outside = {key: lane for key, lane in scene.graph.lanes.items() if lane.junction_id < 0}
    for spot in spots_near(scene, outside, traffic.radius_m, rng):
        wanted = CYCLE_MPS * float(rng.uniform(0.7, 1.25))
        path = lane_path(scene.graph, spot.lane, spot.s_m, wanted * scene.seconds + 40.0, "random", rng)
        aside = float(outside[spot.lane].width_m[spot.row]) / 2 - 0.6
        yield Driver(int(Semantics.BICYCLE), size_between(*_BICYCLE, rng), shifted(path, -max(aside, 0.0)), wanted)


def _parked(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Mover]:
    """On parking lanes and wide shoulders: a car at the kerb of a driving lane would be in everybody's way."""
    bays = {k: lane for k, lane in scene.road_map.lanes.items() if lane.kind in ("parking", "shoulder")}
    for spot in spots_near(scene, bays, traffic.radius_m, rng):
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
