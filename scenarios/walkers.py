"""Who walks: along sidewalks, and over crosswalks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.carfollow import Mover
from scenarios.pathway import Path, make_path, shifted
from scenarios.roadmap import Lane
from scenarios.schema import Traffic
from scenarios.spawn import Scene, Spot, size_between, spots_near

PEDESTRIAN = ((0.45, 0.5, 1.5), (0.6, 0.65, 1.95))
CROSSING_SHARE = 0.35


def walkers(scene: Scene, traffic: Traffic, rng: np.random.Generator) -> Iterator[Mover]:
    """Along sidewalks, and over crosswalks; along shoulders where the map has no sidewalk near by."""
    for kind in ("sidewalk", "shoulder"):
        lanes = {k: lane for k, lane in scene.road_map.lanes.items() if lane.kind == kind and len(lane.width_m) > 1}
        spots = spots_near(scene, lanes, traffic.radius_m, rng)
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
    behind, before = line[: spot.row + 1][::-1], line[spot.row :]
    line, other = (behind, before) if backward else (before, behind)
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
            back = np.concatenate(points)[::-1][1:]
            points.append(back if len(back) else other[1:])  # who stands at the lane's end walks along it
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
    return Mover(int(Semantics.PEDESTRIAN), size_between(*PEDESTRIAN, rng), path.at(s), speed)


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
