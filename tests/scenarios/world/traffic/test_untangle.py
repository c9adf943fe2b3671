"""Checks of a traffic log, and the pass that takes out who overlaps, strays or leaps."""

import dataclasses
import json

import numpy as np
import pytest
from shapely import Polygon

from dcgen.types import Semantics
from scenarios.world.store import World
from scenarios.world.traffic.checks import check_traffic, find_leaps, find_overlaps, off_surface
from scenarios.world.traffic.log import TrafficLog
from scenarios.world.traffic.untangle import MOST_OFF_SURFACE, MOST_OVERLAP, select_tracks, untangle


def crowd(n: int = 30, frames: int = 7, seed: int = 0) -> TrafficLog:
    """Boxes thrown on a square, some above others."""
    rng = np.random.default_rng(seed)
    pose = np.concatenate([rng.uniform(0, 40, (n, frames, 2)), rng.uniform(-3, 3, (n, frames, 1))], axis=2)
    return TrafficLog(
        0.1,
        np.arange(5, 5 + n),
        np.zeros(n, np.uint8),
        np.full(n, Semantics.VEHICLE, np.uint8),
        rng.uniform(0.6, 9.0, (n, 3)).astype(np.float32),
        pose.astype(np.float32),
        rng.choice([0.0, 6.0], (n, frames)).astype(np.float32),
        np.ones((n, frames), np.float32),
        rng.random((n, frames)) < 0.7,
    )


def joined(log: TrafficLog, other: TrafficLog) -> TrafficLog:
    names = ("id", "kind", "class_id", "size_m", "pose", "z_m", "speed_mps", "valid")
    parts = {name: np.concatenate([getattr(log, name), getattr(other, name)]) for name in names}
    return TrafficLog(log.dt_s, **{**parts, "id": np.arange(1, len(parts["id"]) + 1)})


def shifted(log: TrafficLog, row: int, dx: float, dy: float) -> TrafficLog:
    """One track of the log, moved."""
    one = select_tracks(log, np.arange(len(log.id)) == row)
    return dataclasses.replace(one, pose=one.pose + np.array([dx, dy, 0], np.float32))


@pytest.fixture(scope="module")
def traffic(street: World) -> TrafficLog:
    """The street's own, its bicycle so far to the right that the truck passes it by."""
    pose = street.traffic.pose.copy()
    pose[4, :, 1] -= 0.4
    return dataclasses.replace(street.traffic, pose=pose)


def test_overlaps_are_those_of_polygons() -> None:
    log = crowd()
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    want = set()
    for t in range(log.frames):
        rows = np.flatnonzero(log.valid[:, t])
        boxes = {}
        for row in rows:
            x, y, yaw = log.pose[row, t].astype(float)
            turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
            boxes[row] = Polygon(corners * (log.size_m[row, :2].astype(float) - 0.1) @ turn.T + (x, y))
        for i in rows:
            want |= {
                (i, j, t) for j in rows if i < j and log.z_m[i, t] == log.z_m[j, t] and boxes[i].intersects(boxes[j])
            }
    found = find_overlaps(log)
    assert set(zip(found.a.tolist(), found.b.tolist(), found.frame.tolist(), strict=True)) == want
    assert 10 < len(want) == len(found.a)
    assert found.agent_frames() == len({(row, t) for i, j, t in want for row in (i, j)})
    every = find_overlaps(log, every=3)
    assert set(every.frame.tolist()) <= {0, 3, 6} and len(every.a) == sum(t % 3 == 0 for _, _, t in want)


def test_everybody_on_the_street_is_where_they_belong(street: World, traffic: TrafficLog) -> None:
    assert not off_surface(traffic, street.raster).any()
    figures = check_traffic(traffic, street.raster)
    json.dumps(figures)
    assert figures["overlap_share"] == figures["teleports"] == figures["off_surface_share"] == 0
    assert figures["kinds_a_frame"]["car"] == pytest.approx(traffic.valid[[0, 2, 3]].sum() / 240, abs=0.01)
    assert figures["speed_mps"]["pedestrian"]["p50"] == pytest.approx(1.2) and figures["turning_share"] == 0
    standing = traffic.valid[3].sum() / traffic.valid[:4].sum()
    assert figures["standing_share"] == pytest.approx(standing, abs=1e-4)


@pytest.mark.parametrize(("row", "dy", "wrong"), [(0, -6.0, "vehicle"), (4, -6.0, "bicycle"), (5, 6.0, "pedestrian")])
def test_who_leaves_their_surface_is_seen_and_goes(
    street: World, traffic: TrafficLog, row: int, dy: float, wrong: str
) -> None:
    log = joined(traffic, shifted(traffic, row, 0.0, dy))
    off = off_surface(log, street.raster)
    assert off[-1].sum() == log.valid[-1].sum() and not off[:-1].any()
    assert check_traffic(log, street.raster)["off_surface"][wrong] > 0.1
    clean = untangle(log, street.raster)
    assert clean.id.tolist() == log.id[:-1].tolist()
    assert max(check_traffic(clean, street.raster)["off_surface"].values()) <= MOST_OFF_SURFACE


def test_the_worst_overlaps_go_and_no_more(street: World, traffic: TrafficLog) -> None:
    log = joined(traffic, shifted(traffic, 0, 1.0, 0.3))
    assert check_traffic(log)["overlap_share"] > 0.05
    clean = untangle(log, street.raster)
    assert len(clean.id) == len(log.id) - 1 and check_traffic(clean)["overlap_share"] <= MOST_OVERLAP
    assert untangle(clean, street.raster) is clean
    np.testing.assert_array_equal(clean.valid.sum(axis=1), log.valid.sum(axis=1)[np.isin(log.id, clean.id)])


def test_leaps_and_spins_are_seen(street: World, traffic: TrafficLog) -> None:
    log, pose = traffic, traffic.pose.copy()
    assert not find_leaps(log).any()
    pose[0, 50:, 0] += 3.0
    pose[1, 70, 2] += 1.0
    leaps = find_leaps(dataclasses.replace(log, pose=pose))
    assert np.argwhere(leaps).tolist() == [[0, 49], [1, 69], [1, 70]]
    clean = untangle(dataclasses.replace(log, pose=pose), street.raster)
    assert clean.id.tolist() == log.id[2:].tolist()
