"""Traffic: the log as a noun, the smoothing of tracks, and real simulations on our own maps and on Town01."""

from __future__ import annotations

import dataclasses
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from shapely import STRtree
from shapely.geometry import Polygon

from dcgen.errors import MapError, MissingExtra, WorldError
from dcgen.types import Semantics
from scenarios.roads import read_map
from scenarios.sources import library_maps
from scenarios.world.traffic.checks import find_leaps
from scenarios.world.traffic.log import KINDS, TrafficLog, load_traffic, save_traffic
from scenarios.world.traffic.simulate import simulate
from scenarios.world.traffic.spec import TrafficPlan, TrafficSpec
from scenarios.world.traffic.sumo_pace import EASE_MPS2, LATERAL_MPS2, SLOWEST_MPS, Limits, bend_speeds, ease_in
from scenarios.world.traffic.sumo_population import vehicle_types
from scenarios.world.traffic.sumo_roads import sharpest_turn
from scenarios.world.traffic.sumo_run import Track, assemble, centre_track, retime


def small_log(n: int = 5, t: int = 23, seed: int = 0) -> TrafficLog:
    rng = np.random.default_rng(seed)
    return TrafficLog(
        dt_s=0.1,
        id=np.arange(10, 10 + n, dtype=np.int64),
        kind=rng.integers(0, len(KINDS), n).astype(np.uint8),
        class_id=rng.integers(0, 12, n).astype(np.uint8),
        size_m=rng.random((n, 3), np.float32) + 1,
        pose=rng.normal(0, 30, (n, t, 3)).astype(np.float32),
        z_m=rng.random((n, t), np.float32),
        speed_mps=rng.random((n, t), np.float32),
        valid=rng.random((n, t)) < 0.6,
    )


@pytest.fixture(scope="module")
def crossroads() -> TrafficLog:
    return simulate(library_maps()["crossroads"], 3, 25.0, TrafficSpec(warmup_s=20.0))


def test_log_survives_the_disk(tmp_path: Path) -> None:
    log, path = small_log(), tmp_path / "traffic.npz"
    save_traffic(log, path)
    back = load_traffic(path)
    for name in ("id", "kind", "class_id", "size_m", "pose", "z_m", "speed_mps", "valid"):
        np.testing.assert_array_equal(getattr(back, name), getattr(log, name))
    assert back.dt_s == log.dt_s
    assert [each.name for each in tmp_path.iterdir()] == ["traffic.npz"]


def test_damaged_logs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "traffic.npz"
    save_traffic(small_log(), path)
    raw = path.read_bytes()
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, format=np.array([{"a": 1}], dtype=object))
    for name, content in (("cut", raw[: len(raw) // 2]), ("empty", b""), ("text", b"not a log"), ("p", None)):
        bad = pickled if content is None else tmp_path / f"{name}.npz"
        if content is not None:
            bad.write_bytes(content)
        with pytest.raises(WorldError, match=bad.name):
            load_traffic(bad)
    with pytest.raises(WorldError, match="no such traffic log"):
        load_traffic(tmp_path / "absent.npz")
    with zipfile.ZipFile(path) as archive:
        assert "pose.npy" in archive.namelist()


def test_log_checks_its_shapes() -> None:
    log = small_log(n=4, t=7)
    with pytest.raises(ValueError, match="pose"):
        TrafficLog(
            log.dt_s, log.id, log.kind, log.class_id, log.size_m, log.pose[:, :6], log.z_m, log.speed_mps, log.valid
        )


def test_window_equals_a_plain_slice() -> None:
    log = small_log(n=9, t=31)
    tracks = log.window(4, 6, stride=3)
    at = [4 + 3 * k for k in range(6)]
    keep = [i for i in range(9) if any(log.valid[i, t] for t in at)]
    assert tracks.id.tolist() == log.id[keep].tolist()
    np.testing.assert_array_equal(tracks.pose, log.pose[keep][:, at].astype(np.float64))
    np.testing.assert_array_equal(tracks.valid, log.valid[keep][:, at])
    assert not tracks.z_m.any()


def test_window_keeps_who_comes_near() -> None:
    log = small_log(n=40, t=31, seed=2)
    tracks = log.window(1, 5, stride=2, centre_m=(3.0, -4.0), radius_m=25.0)
    at = [1 + 2 * k for k in range(5)]
    near = [
        i
        for i in range(40)
        if any(log.valid[i, t] and np.hypot(*(log.pose[i, t, :2] - np.array([3.0, -4.0]))) <= 25.0 for t in at)
    ]
    assert 0 < len(near) < 40
    assert tracks.id.tolist() == log.id[near].tolist()


def test_samples_between_frames_turn_the_shorter_way() -> None:
    log = small_log(n=4, t=9, seed=4)
    log.pose[0, :2, 2], log.valid[0, :2] = (3.1, -3.1), True
    log.valid[1, :2] = (True, False)
    at = np.array([0.25, 0.75, 1.0])
    seen = log.sample(np.array([0, 1]), at)
    first, second = log.pose[0, 0].astype(np.float64), log.pose[0, 1].astype(np.float64)
    turn = 2 * np.pi - 6.2
    assert seen.pose[0, 0, 2] == pytest.approx(3.1 + turn / 4, abs=1e-5) and seen.pose[0, 1, 2] < 0
    np.testing.assert_allclose(seen.pose[0, :2, :2], first[:2] + at[:2, None] * (second - first)[:2], atol=1e-4)
    assert seen.speed_mps[0, 0] == pytest.approx(0.75 * log.speed_mps[0, 0] + 0.25 * log.speed_mps[0, 1], abs=1e-6)
    assert not seen.valid[1].any() and not seen.pose[1, :2].any()
    np.testing.assert_array_equal(seen.pose[0, 2], log.pose[0, 1].astype(np.float64))
    assert seen.pose.dtype == np.float64 and seen.speed_mps.dtype == seen.z_m.dtype == np.float32


def test_windows_between_frames_keep_who_comes_near() -> None:
    log = small_log(n=40, t=31, seed=2)
    at = log.instants(1, 5, 2.5)
    assert at.tolist() == [1.0, 3.5, 6.0, 8.5, 11.0] and log.instants(1, 5, 2).dtype == np.int64
    slow = dataclasses.replace(log, pose=log.pose * np.float32([0.1, 0.1, 1.0]))
    seen = slow.sample(np.arange(40), at)
    gap = np.hypot(*(seen.pose[..., :2] - np.array([0.3, -0.4])).transpose(2, 0, 1))
    kept = slow.window(1, 5, 2.5, (0.3, -0.4), 2.5).id
    assert 0 < len(kept) < 40
    assert kept.tolist() == slow.id[((gap <= 2.5) & seen.valid).any(axis=1)].tolist()


@pytest.mark.parametrize(("start", "frames", "stride"), [(-1, 3, 1), (0, 0, 1), (0, 3, 0), (0, 24, 1), (5, 10, 2)])
def test_window_stays_inside_the_log(start: int, frames: int, stride: int) -> None:
    with pytest.raises(ValueError, match="leave the log"):
        small_log(t=23).window(start, frames, stride)


def test_box_centre_lies_half_a_length_behind_the_bumper() -> None:
    # SUMO's 60 degrees from north, clockwise, is a yaw of 30 degrees; 5 m/s along it.
    heading = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    rows = [(*(0.5 * k * heading), 60.0, 7.0) for k in range(60)]
    pose, z, speed = centre_track(Track("bus", (12.0, 2.5, 3.0), 0, rows), 0.1)
    np.testing.assert_allclose(pose[:, 2], np.pi / 6, atol=1e-6)
    front = pose[:, :2] + 6.0 * heading
    np.testing.assert_allclose(front, np.array(rows)[:, :2], atol=1e-6)
    np.testing.assert_allclose(speed, 5.0, atol=1e-6)
    assert set(z) == {7.0}


def test_who_stands_does_not_turn() -> None:
    rng = np.random.default_rng(0)
    rows = [(3.0, 4.0, 90.0 + float(rng.normal(0, 1e-3)), 0.0) for _ in range(50)]
    pose, _, speed = centre_track(Track("car", (4.0, 1.8, 1.5), 0, rows), 0.1)
    assert np.ptp(pose[:, 2]) < 1e-3 and not speed.any()


def test_a_leap_begins_a_new_track() -> None:
    rows = [(0.1 * k, 0.0, 90.0, 0.0) for k in range(20)] + [(100 + 0.1 * k, 0.0, 90.0, 0.0) for k in range(15)]
    log = assemble([Track("car", (4.0, 1.8, 1.5), 2, rows)], frames=40, dt_s=0.1)
    assert log.valid.sum(axis=1).tolist() == [20, 15]
    assert log.pose[0][log.valid[0]][:, 0].max() < 10 < 90 < log.pose[1][log.valid[1]][:, 0].min()


def test_sharpest_turn_sees_a_fold_and_not_a_bend() -> None:
    angle = np.linspace(0, np.pi / 2, 30)
    bend = 6.0 * np.stack([np.sin(angle), 1 - np.cos(angle)], axis=1)
    fold = np.array([[0.0, 0.0], [8.0, 0.0], [2.0, 1.0]])
    assert sharpest_turn(bend) < 0.5
    assert sharpest_turn(fold) > 2.0


def test_types_cover_every_kind() -> None:
    rows = vehicle_types(np.random.default_rng(1))
    assert {row["id"].rstrip("0123456789") for row in rows} == set(KINDS)
    assert len({row["id"] for row in rows}) == len(rows)


def test_missing_sumo_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sumo", None)
    with pytest.raises(MissingExtra, match=r"dcgen\[sumo\]"):
        simulate(library_maps()["crossroads"], 0, 1.0)


def test_bad_maps_are_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.xodr"
    bad.write_text("<OpenDRIVE><road", encoding="utf-8")
    with pytest.raises(MapError, match=r"bad\.xodr") as caught:
        simulate(bad, 0, 1.0)
    assert "\n" not in str(caught.value)
    with pytest.raises(MapError, match="no such map"):
        simulate(tmp_path / "absent.xodr", 0, 1.0)


@pytest.mark.parametrize("seconds", [0.0, -3.0, float("nan")])
def test_a_simulation_needs_time(seconds: float) -> None:
    with pytest.raises(WorldError, match="cannot simulate"):
        simulate(library_maps()["crossroads"], 0, seconds)


def test_every_kind_of_road_user_is_there(crossroads: TrafficLog) -> None:
    assert crossroads.frames == 250
    counts = np.bincount(crossroads.class_id, minlength=12)
    assert counts[Semantics.VEHICLE] >= 15 and counts[Semantics.BICYCLE] >= 1 and counts[Semantics.PEDESTRIAN] >= 15
    moving = crossroads.speed_mps[crossroads.class_id == Semantics.VEHICLE].max(axis=1) > 2.0
    assert moving.mean() > 0.7


def test_vehicles_keep_to_their_lanes(crossroads: TrafficLog) -> None:
    share, yaw_off = _on_lanes(crossroads, library_maps()["crossroads"])
    assert share > 0.98
    assert np.percentile(yaw_off, 95) < np.radians(10)


def test_pedestrians_walk_beside_the_road_or_cross_it(crossroads: TrafficLog) -> None:
    road_map = read_map(library_maps()["crossroads"])
    walks = np.concatenate([lane.centre_m[:, :2] for lane in road_map.lanes.values() if lane.kind == "sidewalk"])
    walking = crossroads.class_id == Semantics.PEDESTRIAN
    distance_m, _ = cKDTree(walks).query(crossroads.pose[walking][crossroads.valid[walking]][:, :2])
    assert (distance_m < 1.6).mean() > 0.65  # the others are crossing or waiting at a corner
    assert np.percentile(distance_m, 99) < 8.0


def test_nobody_leaps_and_hardly_anybody_overlaps(crossroads: TrafficLog) -> None:
    log = crossroads
    both = log.valid[:, 1:] & log.valid[:, :-1]
    step = np.hypot(*np.diff(log.pose[..., :2], axis=1).transpose(2, 0, 1))[both]
    assert step.max() < 0.1 * 20.0
    speed = log.speed_mps[:, 1:][both]
    assert np.abs(step / 0.1 - speed).max() < 3.0
    turn = np.abs((np.diff(log.pose[..., 2], axis=1) + np.pi) % (2 * np.pi) - np.pi)
    vehicles = both & (log.class_id == Semantics.VEHICLE)[:, None]
    assert turn[vehicles].max() / 0.1 < 1.5
    assert _overlap_share(log) < 0.02


def test_the_same_seed_gives_the_same_traffic() -> None:
    spec = TrafficSpec(vehicles=0.5, warmup_s=5.0)
    first, again, other = (simulate(library_maps()["ring"], s, 4.0, spec) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.pose, again.pose)
    np.testing.assert_array_equal(first.size_m, again.size_m)
    assert first.pose.shape != other.pose.shape or not np.array_equal(first.pose, other.pose)


def _present(log: TrafficLog) -> dict[str, float]:
    """Agents a frame by kind."""
    return {name: float(log.valid[log.kind == code].sum() / log.frames) for code, name in enumerate(KINDS)}


def test_densities_and_shares_are_kept() -> None:
    usual = _present(simulate(library_maps()["avenue"], 2, 3.0, TrafficSpec(warmup_s=10.0)))
    spec = TrafficSpec(
        vehicles=0.5, pedestrians=2.0, bicycles=0.0, trucks=0.5, buses=0.0, vans=0.0, motorcycles=0.0, warmup_s=10.0
    )
    other = _present(simulate(library_maps()["avenue"], 2, 3.0, spec))
    motors = ("car", "van", "truck", "bus", "motorcycle")
    assert sum(other[k] for k in motors) == pytest.approx(0.5 * sum(usual[k] for k in motors), abs=2.5)
    assert other["pedestrian"] == pytest.approx(2 * usual["pedestrian"], rel=0.15)
    assert usual["bicycle"] > 0 and usual["car"] > other["car"]
    assert other["bicycle"] == other["bus"] == other["van"] == other["motorcycle"] == 0
    assert 0.2 < other["truck"] / (other["truck"] + other["car"]) < 0.8 > usual["truck"] / usual["car"]


def test_the_speed_factor_and_the_step_are_kept() -> None:
    fast, slow = (
        simulate(library_maps()["avenue"], 4, 6.0, TrafficSpec(vehicles=0.3, speed=f, dt_s=0.2, warmup_s=20.0))
        for f in (1.0, 0.5)
    )
    assert fast.dt_s == slow.dt_s == 0.2 and fast.frames == 30
    for kind in (Semantics.VEHICLE, Semantics.PEDESTRIAN):
        quick, tame = (np.percentile(each.speed_mps[each.class_id == kind], 90) for each in (fast, slow))
        assert tame == pytest.approx(0.5 * quick, rel=0.25)


@pytest.mark.parametrize(
    ("name", "value"),
    [("vehicles", -0.1), ("speed", 0.0), ("dt_s", 0.001), ("warmup_s", float("nan")), ("trucks", 1.5), ("buses", "a")],
)
def test_a_spec_refuses_what_it_cannot_do(name: str, value: object) -> None:
    with pytest.raises(WorldError, match=name):
        TrafficSpec.from_dict({name: value})


def test_a_spec_survives_json() -> None:
    spec = TrafficSpec(vehicles=0.25, trucks=0.4, dt_s=0.05)
    plan = TrafficPlan("a.xodr", 3, 7.0, spec)
    assert TrafficPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert TrafficSpec.from_dict({}) == TrafficSpec()
    assert sum(spec.shares().values()) == pytest.approx(1.0)
    with pytest.raises(WorldError, match="lorries"):
        TrafficSpec.from_dict({"lorries": 1.0})
    with pytest.raises(WorldError, match="more than 1"):
        TrafficSpec(trucks=0.6, buses=0.6)


def test_a_gap_is_gone_over_at_an_even_pace() -> None:
    x = np.arange(80) * 1.0 + 2.5 * (np.arange(80) >= 40)
    path = np.column_stack([x, np.zeros(80), np.zeros(80), np.arange(80) * 0.1])
    even = retime(path, 5.0)
    gain = np.abs(np.diff(even[:, 0], 2)).max() / 0.01
    assert gain < 3.0 < np.abs(np.diff(path[:, 0], 2)).max() / 0.01
    np.testing.assert_allclose(even[[0, -1]], path[[0, -1]], atol=1e-3)
    corner = np.concatenate([np.stack([np.arange(20), np.zeros(20)], 1), np.stack([np.full(20, 19), np.arange(20)], 1)])
    assert (np.abs(retime(corner.astype(float), 3.0) - [19, 0]).min(axis=1) < 1e-9).all()  # no corner is cut


def test_a_walker_hurries_over_a_gap() -> None:
    rows = [(0.13 * k + 5.0 * (k >= 60), 0.0, 90.0, 0.0) for k in range(120)]
    log = assemble([Track("pedestrian", (0.5, 0.6, 1.7), 0, rows)], frames=120, dt_s=0.1)
    assert log.valid.all() and len(log.id) == 1
    assert 1.5 < log.speed_mps.max() < 3.0 and not find_leaps(log).any()
    assert len(assemble([Track("car", (4.0, 1.8, 1.5), 0, rows)], frames=120, dt_s=0.1).id) == 2


def test_bends_are_taken_with_care() -> None:
    angle = np.linspace(0, np.pi / 2, 60)
    bend = np.concatenate([[[-80.0, 0.0]], 30.0 * np.stack([np.sin(angle), 1 - np.cos(angle)], axis=1)])
    pace = bend_speeds(bend)
    assert pace[:10].min() > 30.0
    assert pace[-9:-4] == pytest.approx(np.sqrt(LATERAL_MPS2 * 30.0), rel=0.15)
    eased = ease_in(np.minimum(pace, 25.0), 4.0, SLOWEST_MPS)
    assert (eased <= pace + 1e-9).all() and eased[0] > eased[-1]
    braking = (eased[:-1] ** 2 - eased[1:] ** 2) / 8.0
    assert braking.max() <= EASE_MPS2 + 1e-6
    assert (eased[-1] ** 2 - SLOWEST_MPS**2) / 8.0 == pytest.approx(EASE_MPS2)


def test_limits_are_the_maps() -> None:
    road_map = read_map(library_maps()["avenue"])
    lane = max((lane for lane in road_map.lanes.values() if lane.is_driving), key=lambda lane: len(lane.centre_m))
    limits = Limits(road_map, 0.5)
    assert limits.at(lane.centre_m, 99.0) == pytest.approx(lane.speed_limit_mps * 0.5)
    assert limits.at(lane.centre_m + 1e5, 8.0) == 4.0


@pytest.mark.slow
def test_town01_in_its_own_coordinates(shared_data: Path) -> None:
    path = shared_data / "maps" / "Town01.xodr"
    log = simulate(path, 1, 10.0, TrafficSpec(warmup_s=15.0))
    assert (log.class_id == Semantics.VEHICLE).sum() >= 50
    share, yaw_off = _on_lanes(log, path)
    assert share > 0.97
    assert np.percentile(yaw_off, 95) < np.radians(10)


def _on_lanes(log: TrafficLog, path: Path) -> tuple[float, np.ndarray]:
    """Share of vehicle centres within half a lane of a driving lane's middle, and yaw against that lane."""
    lanes = [lane for lane in read_map(path).lanes.values() if lane.is_driving]
    points = np.concatenate([lane.centre_m[:, :2] for lane in lanes])
    yaw = np.concatenate([lane.yaw_rad for lane in lanes])
    half = np.concatenate([lane.width_m for lane in lanes]) / 2
    vehicles = log.class_id == Semantics.VEHICLE
    pose = log.pose[vehicles][:, ::10][log.valid[vehicles][:, ::10]]
    distance, index = cKDTree(points).query(pose[:, :2], k=6)
    off = np.abs((yaw[index] - pose[:, 2:] + np.pi) % (2 * np.pi) - np.pi).min(axis=1)
    return float((distance[:, 0] < half[index[:, 0]] + 0.05).mean()), off


def _overlap_share(log: TrafficLog) -> float:
    """Share of road users that lie over another by more than a tenth of the smaller one."""
    hit = total = 0
    for t in range(0, log.frames, 10):
        rows = np.flatnonzero(log.valid[:, t])
        boxes = [_polygon(log.pose[i, t], log.size_m[i]) for i in rows]
        a, b = STRtree(boxes).query(boxes, predicate="intersects")
        pairs = [
            (i, j)
            for i, j in zip(a, b, strict=True)
            if i < j and boxes[i].intersection(boxes[j]).area > 0.1 * min(boxes[i].area, boxes[j].area)
        ]
        hit += len({k for pair in pairs for k in pair})
        total += len(rows)
    return hit / total


def _polygon(pose: np.ndarray, size: np.ndarray) -> Polygon:
    c, s = np.cos(pose[2]), np.sin(pose[2])
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * size[:2] / 2
    return Polygon(corners @ np.array([[c, s], [-s, c]]) + pose[:2])
