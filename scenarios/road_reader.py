"""carla.Map -> RoadMap, in a process of its own as a bad file can end it: python -m scenarios.road_reader IN OUT."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from dcgen.errors import MapError
from dcgen.types import Doubles
from scenarios.frames import carla_points_to_world, carla_to_world, carla_yaw_to_world
from scenarios.opendrive import OpenDrive, RoadRow, SectionRow, parse_opendrive, to_mps
from scenarios.road_links import link_lanes
from scenarios.roadmap import Crosswalk, Junction, Lane, RoadMap, Signal

if TYPE_CHECKING:
    import carla

STEP_M, CURVE_STEP_M = 1.0, 0.5
URBAN_MPS = 50 / 3.6
END_M = 1e-3  # stay this far inside a section: carla looks its neighbour up at the very end
CPU_S, CPU_S_A_MB, MEMORY_BYTES = 15, 2, 2 << 30  # Town04, 3.4 MB, takes 1 s and 0.2 GB
MOST_COORDINATE_M, MOST_WIDTH_M, MOST_STEP_M = 1e6, 100.0, 100.0
_KINDS = {"1000001": "traffic_light", "206": "stop", "205": "yield", "274": "speed_limit"}


def read_text(text: str, name: str) -> RoadMap:
    """Reads OpenDRIVE text in this process. Raises MapError; whatever carla does to the process happens here."""
    import carla

    odr = parse_opendrive(text, name)
    try:
        world = carla.Map(name, text)
    except Exception as error:  # carla raises RuntimeError, IndexError and more
        raise MapError(f"{name}: CARLA cannot build a map of it ({error}); export the OpenDRIVE file again") from None
    landmarks = {str(mark.id): mark for mark in world.get_all_landmarks()}  # references repeat a signal
    lanes: dict[str, Lane] = {}
    for road in odr.roads.values():
        signs = _road_signs(landmarks.values(), road.id, odr)
        for section in road.sections:
            for lane in _section_lanes(world, road, section, signs):
                lanes[lane.id] = lane
    if not any(lane.is_driving for lane in lanes.values()):
        raise MapError(f"{name}: has no driving lane; export the road network with its lanes")
    lanes = link_lanes(odr, lanes)
    for lane in lanes.values():
        _check_shape(lane, name)
    points = np.concatenate([p[:, :2] for lane in lanes.values() for p in (lane.left_m, lane.right_m)])
    low, high = points.min(axis=0), points.max(axis=0)
    return RoadMap(
        name,
        lanes,
        tuple(_junctions(lanes)),
        tuple(_crosswalks(world, odr)),
        tuple(_signal(mark, odr) for mark in landmarks.values()),
        (float(low[0]), float(low[1]), float(high[0]), float(high[1])),
    )


def _check_shape(lane: Lane, name: str) -> None:
    """Raises MapError for what no road looks like: CARLA computes whatever the numbers in the file say."""
    points = np.concatenate([lane.centre_m, lane.left_m, lane.right_m])
    step = np.linalg.norm(np.diff(lane.centre_m, axis=0), axis=1)
    for problem, holds in (
        (f"lies beyond {MOST_COORDINATE_M / 1000:.0f} km", np.abs(points).max() > MOST_COORDINATE_M),
        (f"is wider than {MOST_WIDTH_M:.0f} m", lane.width_m.max() > MOST_WIDTH_M),
        (f"leaps by more than {MOST_STEP_M:.0f} m", step.max(initial=0.0) > MOST_STEP_M),
    ):
        if holds or not np.isfinite(points).all():
            raise MapError(f"{name}: road {lane.road_id}: its lane {lane.lane_id} {problem}; mend or remove the road")


def _stations(road: RoadRow, section: SectionRow) -> Doubles:
    """s of the samples: about 1 m apart, 0.5 m where the road bends."""
    start, end = section.start_s + END_M / 2, section.end_s - END_M / 2
    cuts = {start, end}
    cuts.update(s for curve in road.curves for s in curve if start + 0.05 < s < end - 0.05)
    edges = sorted(cuts)
    pieces = []
    for a, b in itertools.pairwise(edges):
        middle = (a + b) / 2
        step = CURVE_STEP_M if any(c[0] <= middle <= c[1] for c in road.curves) else STEP_M
        pieces.append(np.linspace(a, b, max(1, int(np.ceil((b - a) / step - 1e-6))) + 1)[:-1])
    return np.concatenate([*pieces, np.array([end])])


def _section_lanes(world: carla.Map, road: RoadRow, section: SectionRow, signs: dict[int, float]) -> list[Lane]:
    wanted = [row for row in section.lanes.values() if row.id != 0 and row.kind != "none"]
    if not wanted:
        return []
    stations = _stations(road, section)
    samples = {row.id: _sample(world, road.id, row.id, stations) for row in wanted}
    middle = _sample(world, road.id, 0, stations)
    samples = {lane_id: s for lane_id, s in samples.items() if np.isfinite(s[:, 0]).sum() >= 2}
    if not samples:
        return []
    to_left = _leftward({0: middle, **samples} if np.isfinite(middle[:, 0]).all() else samples)
    lanes = []
    for row in wanted:
        if row.id in samples:
            limit = row.speed_mps or _road_limit(road, section) or signs.get(1 if row.id > 0 else -1)
            lanes.append(_lane(road, section, row.id, _mended(samples[row.id]), to_left, limit))
    return lanes


def _sample(world: carla.Map, road_id: int, lane_id: int, stations: Doubles) -> Doubles:
    """[N, 5] x, y, z, yaw, width along +s in the world frame; NaN where carla has no such lane."""
    out = np.full((len(stations), 5), np.nan)
    look = world.get_waypoint_xodr
    for i, s in enumerate(stations.tolist()):
        try:
            point = look(road_id, lane_id, s)
        except (IndexError, RuntimeError):
            continue  # carla sees no such lane where the file's tables do
        if point is not None:
            pose = point.transform
            place = pose.location
            out[i] = place.x, place.y, place.z, pose.rotation.yaw, point.lane_width if lane_id else 0.0
    out[:, :3] = carla_points_to_world(out[:, :3])
    out[:, 3] = carla_yaw_to_world(out[:, 3]) - (np.pi if lane_id > 0 else 0.0)
    out[~np.isfinite(out).all(axis=1)] = np.nan
    return out


def _mended(sample: Doubles) -> Doubles:
    """Fills NaN rows from their neighbours."""
    good = np.isfinite(sample[:, 0])
    if good.all():
        return sample
    at, fixed = np.arange(len(sample)), sample.copy()
    fixed[:, 3] = np.interp(at, at[good], np.unwrap(sample[good, 3]))
    for column in (0, 1, 2, 4):
        fixed[:, column] = np.interp(at, at[good], sample[good, column])
    return fixed


def _leftward(samples: dict[int, Doubles]) -> Doubles:
    """[N, 2] unit vectors to the left of +s: across the lanes, or from yaw where all lanes have closed up.

    A lane's own yaw follows its centre line, which slants where it widens; borders lie across the reference line.
    """
    high, low = _mended(samples[max(samples)]), _mended(samples[min(samples)])
    across = high[:, :2] - low[:, :2]
    length = np.linalg.norm(across, axis=1, keepdims=True)
    yaws = np.array([_mended(sample)[:, 3] for sample in samples.values()])
    by_yaw = np.stack([-np.sin(yaws).mean(axis=0), np.cos(yaws).mean(axis=0)], axis=1)
    by_yaw /= np.maximum(np.linalg.norm(by_yaw, axis=1, keepdims=True), 1e-9)
    return np.asarray(np.where(length > 0.3, across / np.maximum(length, 1e-9), by_yaw))


def _lane(
    road: RoadRow, section: SectionRow, lane_id: int, sample: Doubles, to_left: Doubles, limit: float | None
) -> Lane:
    centre, width = sample[:, :3].copy(), np.abs(sample[:, 4])
    half = np.concatenate([to_left * (width / 2)[:, None], np.zeros((len(width), 1))], axis=1)
    left, right, yaw = centre + half, centre - half, _headings(centre, sample[:, 3])
    if lane_id > 0:  # driven against s
        centre, left, right, width = centre[::-1], right[::-1], left[::-1], width[::-1]
        yaw = yaw[::-1] + np.pi
    row = section.lanes[lane_id]
    inner = section.lanes.get(lane_id - 1 if lane_id > 0 else lane_id + 1)
    drivable = row.kind in ("driving", "bidirectional", "entry", "exit", "onramp", "offramp")
    if limit is None and drivable and road.junction < 0:
        limit = URBAN_MPS
    return Lane(
        f"{road.id}:{section.index}:{lane_id}",
        road.id,
        lane_id,
        row.kind,
        np.ascontiguousarray(centre),
        np.ascontiguousarray(left),
        np.ascontiguousarray(right),
        np.ascontiguousarray(width),
        np.ascontiguousarray((yaw + np.pi) % (2 * np.pi) - np.pi),
        road.junction,
        limit,
        left_marking=inner.mark if inner is not None else "none",
        right_marking=row.mark,
    )


def _headings(centre: Doubles, yaw: Doubles) -> Doubles:
    """[N] headings along +s of the centre line itself; carla's yaw where the points coincide."""
    step = np.diff(centre[:, :2], axis=0)
    length = np.linalg.norm(step, axis=1)
    if len(centre) < 3 or length.min() < 1e-3:
        return yaw
    along = np.concatenate([[0.0], np.cumsum(length)])
    slope = np.gradient(centre[:, :2], along, axis=0, edge_order=2)
    return np.asarray(np.arctan2(slope[:, 1], slope[:, 0]))


def _road_limit(road: RoadRow, section: SectionRow) -> float | None:
    before = [limit for s, limit in road.speeds if s <= (section.start_s + section.end_s) / 2]
    return before[-1] if before else None


def _road_signs(landmarks: Any, road_id: int, odr: OpenDrive) -> dict[int, float]:
    """Lowest signed limit on a road, for lanes against s (1) and along s (-1)."""
    limits: dict[int, float] = {}
    for mark in landmarks:
        if mark.road_id == road_id:
            signal = _signal(mark, odr)
            if signal.kind == "speed_limit" and signal.value is not None:
                side = 1 if str(mark.orientation) == "Negative" else -1
                limits[side] = min(signal.value, limits.get(side, np.inf))
    return limits


def _signal(mark: Any, odr: OpenDrive) -> Signal:
    pose = mark.transform
    x, y, z, yaw = carla_to_world(pose.location.x, pose.location.y, pose.location.z, pose.rotation.yaw)
    kind, value = _KINDS.get(str(mark.type), "other"), None
    if kind == "speed_limit":
        # carla reports mph for a sign without a unit; CARLA's own signs, like Germany's 274, mean km/h.
        limit = to_mps(float(mark.value), odr.sign_unit.get(str(mark.id), "km/h"))
        value = limit if 0.5 < limit < 150 else None
    return Signal(str(mark.id), kind, (x, y, z), yaw, value)


def _junctions(lanes: dict[str, Lane]) -> list[Junction]:
    members: dict[int, list[Polygon]] = {}
    for lane in lanes.values():
        if lane.junction_id >= 0 and lane.is_driving:
            ring = np.concatenate([lane.left_m[:, :2], lane.right_m[::-1, :2]])
            members.setdefault(lane.junction_id, []).append(shapely.buffer(Polygon(ring), 0))
    junctions = []
    for junction_id, shapes in sorted(members.items()):
        area = shapely.buffer(shapely.buffer(shapely.union_all(shapes), 3.0), -2.99)
        if isinstance(area, MultiPolygon):
            area = area.convex_hull
        if isinstance(area, Polygon) and not area.is_empty:
            outline = np.asarray(shapely.simplify(area, 0.05).exterior.coords)[:-1, :2]
            junctions.append(Junction(junction_id, np.ascontiguousarray(outline)))
    return junctions


def _crosswalks(world: carla.Map, odr: OpenDrive) -> list[Crosswalk]:
    """Carla lists corners without saying where a polygon ends: closed ones repeat their first corner."""
    points = np.array([(p.x, p.y, p.z) for p in world.get_crosswalks()], dtype=np.float64).reshape(-1, 3)
    points = carla_points_to_world(points)
    closed = sorted({n for n, shut in odr.crosswalk_corners if shut} | {5})
    opened = Counter(n for n, shut in odr.crosswalk_corners if not shut).most_common(1)
    polygons, start = [], 0
    while start < len(points):
        sizes = [n for n in closed if start + n <= len(points)]
        shut = [n for n in sizes if np.linalg.norm(points[start + n - 1] - points[start]) < 1e-2]
        size = shut[0] if shut else (opened[0][0] if opened else 4)
        ring = points[start : start + size - (1 if shut else 0)]
        if len(ring) >= 3 and np.isfinite(ring).all():
            polygons.append(Crosswalk(np.ascontiguousarray(ring)))
        start += size
    return polygons


def _limit_itself(file_bytes: int) -> None:
    """A hostile file shall not take the machine: past these limits the system ends the process."""
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds = CPU_S + round(CPU_S_A_MB * file_bytes / 1e6)
    for what, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        _, highest = resource.getrlimit(what)
        soft = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(what, (soft, highest))


def main(arguments: list[str]) -> int:
    """Reads IN, writes OUT; a MapError goes to stderr as one line and the exit code is 3."""
    from scenarios.road_cache import save_map

    source, target = (Path(argument) for argument in arguments)
    _limit_itself(source.stat().st_size)
    try:
        save_map(read_text(source.read_text(encoding="utf-8"), source.stem), target)
    except MapError as error:
        print(f"MapError: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
