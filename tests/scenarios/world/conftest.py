"""Worlds to test with: a street drawn by hand with its own traffic, and a real map with SUMO's."""

from pathlib import Path

import numpy as np
import pytest

from dcgen.types import Semantics
from scenarios.layout import rasterise
from scenarios.roadmap import Lane, RoadMap, Signal
from scenarios.world.store import World, assemble_world
from scenarios.world.traffic.log import TrafficLog

MAPS = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "maps"
FRAMES = 240


def street_lane(lane_id: int, kind: str, y_m: float, width_m: float, length_m: float, speed=13.0) -> Lane:
    """A lane along x, towards +x for negative ids."""
    n = int(length_m) + 1
    x, flip = np.linspace(0, length_m, n), lane_id > 0
    line = [np.stack([x, np.full(n, y), 0.02 * x], axis=1) for y in (y_m, y_m + width_m / 2, y_m - width_m / 2)]
    centre, left, right = (each[::-1] for each in (line[0], line[2], line[1])) if flip else line
    return Lane(
        f"1:0:{lane_id}",
        1,
        lane_id,
        kind,
        centre,
        left,
        right,
        np.full(n, width_m),
        np.full(n, np.pi * flip),
        -1,
        speed,
    )


def street_map(length_m: float = 160.0) -> RoadMap:
    """Two driving lanes, a parking lane on the right, sidewalks on both sides; it rises 2 cm a metre."""
    rows = [(-1, "driving", -1.75, 3.5), (-2, "parking", -4.75, 2.5), (-3, "sidewalk", -7.5, 3.0)]
    rows += [(1, "driving", 1.75, 3.5), (2, "sidewalk", 5.0, 3.0)]
    lanes = {lane.id: lane for lane in (street_lane(*row, length_m) for row in rows)}
    light = Signal("7", "traffic_light", (90.0, -8.0, 1.8), 0.0)
    return RoadMap("street", lanes, (), (), (light,), (0.0, -9.0, length_m, 6.5))


def street_traffic(length_m: float = 160.0) -> TrafficLog:
    """A car and a truck each way, a standing car, a bicycle and a walker."""
    rows = [
        (0, Semantics.VEHICLE, (4.5, 1.8, 1.5), 5.0, -1.75, 5.0),
        (2, Semantics.VEHICLE, (8.0, 2.4, 3.2), 25.0, -1.75, 5.0),
        (0, Semantics.VEHICLE, (4.2, 1.8, 1.5), 150.0, 1.75, -5.0),
        (0, Semantics.VEHICLE, (4.2, 1.8, 1.5), 158.0, 1.75, 0.0),
        (5, Semantics.BICYCLE, (1.8, 0.6, 1.7), 45.0, -3.0, 3.0),
        (6, Semantics.PEDESTRIAN, (0.5, 0.6, 1.7), 40.0, -7.5, 1.2),
    ]
    n, t = len(rows), np.arange(FRAMES) * 0.1
    pose = np.zeros((n, FRAMES, 3), np.float32)
    for row, (_, _, _, x, y, speed) in enumerate(rows):
        pose[row] = np.stack([x + speed * t, np.full(FRAMES, y), np.full(FRAMES, np.pi * (speed < 0))], axis=1)
    valid = (pose[..., 0] > 3) & (pose[..., 0] < length_m - 3) | (np.arange(n) == 3)[:, None]
    speed = np.abs(np.array([row[5] for row in rows], np.float32))[:, None].repeat(FRAMES, axis=1)
    return TrafficLog(
        0.1,
        np.arange(1, n + 1),
        np.array([row[0] for row in rows], np.uint8),
        np.array([row[1] for row in rows], np.uint8),
        np.array([row[2] for row in rows], np.float32),
        np.where(valid[..., None], pose, 0).astype(np.float32),
        np.where(valid, 0.02 * pose[..., 0], 0).astype(np.float32),
        np.where(valid, speed, 0).astype(np.float32),
        valid,
    )


@pytest.fixture(scope="session")
def street() -> World:
    road_map = street_map()
    return assemble_world(road_map, rasterise(road_map), street_traffic(), seed=5)


@pytest.fixture(scope="session")
def real_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Town10HD with twenty seconds of SUMO traffic, read back from its folder."""
    from scenarios.world.store import build_world, load_world

    path = MAPS / "Town10HD.xodr"
    if not path.exists():
        pytest.skip("needs ../shared/data/maps/Town10HD.xodr")
    pytest.importorskip("libsumo", reason="needs SUMO")
    folder = tmp_path_factory.mktemp("worlds") / "town10"
    build_world(path, folder, seed=1, traffic_seconds=20.0)
    return load_world(folder)
