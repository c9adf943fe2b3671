"""The road users of a scenario as tracks over all frames: keyframed, lane-following, or drawn by seed.

N agent, F frame. World frame, box centres on the ground. The ego is not among them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

from dcgen.errors import ScenarioError
from dcgen.types import AgentTracks, Doubles, Floats, Semantics, wrap_angle
from scenarios.carfollow import Driver, Mover, simulate_drivers
from scenarios.frames import carla_to_world
from scenarios.lane_graph import LaneGraph
from scenarios.pathway import lane_path, path_ahead
from scenarios.population import draw_population
from scenarios.roadmap import RoadMap
from scenarios.schema import Agent, Pose, TimedPose, Traffic
from scenarios.spawn import Scene

CLASS_OF = {
    **dict.fromkeys(("vehicle", "car", "van", "truck", "bus", "motorcycle"), Semantics.VEHICLE),
    "bicycle": Semantics.BICYCLE,
    "pedestrian": Semantics.PEDESTRIAN,
}
USUAL_SIZE_M = {
    "vehicle": (4.5, 1.85, 1.55),
    "car": (4.5, 1.85, 1.55),
    "van": (5.5, 2.05, 2.4),
    "truck": (8.5, 2.45, 3.3),
    "bus": (11.5, 2.5, 3.1),
    "motorcycle": (2.1, 0.8, 1.6),
    "bicycle": (1.75, 0.65, 1.7),
    "pedestrian": (0.55, 0.6, 1.75),
}
EGO_SIZE_M = (4.6, 1.95, 1.6)
STILL_MPS = 0.05


class Ground:
    """The height of the road or the sidewalk nearest to a place; level 0 without a map."""

    def __init__(self, road_map: RoadMap | None) -> None:
        points = [lane.centre_m for lane in road_map.lanes.values()] if road_map else []
        self._points = np.concatenate(points) if points else np.zeros((1, 3))
        self._tree = cKDTree(self._points[:, :2])

    def height_m(self, xy_m: Doubles, near_z_m: float) -> Doubles:
        """[n] heights below xy [n, 2]; of several levels the one nearest to near_z_m."""
        distance, index = self._tree.query(xy_m, k=min(8, len(self._points)))
        distance, index = np.reshape(distance, (len(xy_m), -1)), np.reshape(index, (len(xy_m), -1))
        z = self._points[index, 2]
        far = np.where(distance < distance[:, :1] + 4.0, np.abs(z - near_z_m), np.inf)
        same = np.abs(far - far.min(axis=1, keepdims=True)) < 1.0  # one level: then the nearest point counts
        return np.take_along_axis(z, np.argmax(same, axis=1)[:, None], axis=1)[:, 0]


def scenario_agents(
    agents: Sequence[Agent],
    traffic: Traffic | None,
    road_map: RoadMap | None,
    world_se3_ego: Doubles,
    route_m: Doubles,
    dt_s: float,
    seed: int,
    name: str = "scenario",
    taken_ids: Collection[int] = (),
    graph: LaneGraph | None = None,
) -> AgentTracks:
    """Tracks of the agents of a scenario file and of its traffic over the frames of world_se3_ego [F, 4, 4].

    route_m [N, 2 or 3] is the line the ego follows; taken_ids are given to no new agent. Raises ScenarioError.
    """
    graph = graph or (LaneGraph(road_map) if road_map else None)
    ground = Ground(road_map)
    ego = ego_mover(world_se3_ego, dt_s)
    frames = len(world_se3_ego)
    movers: list[Mover] = []
    drivers: list[Driver] = []
    for index, agent in enumerate(agents):
        place = f"{name}: agents[{index}]"
        if agent.follow is not None:
            drivers.append(_driver(agent, graph, world_se3_ego, route_m, frames * dt_s, seed + index, place))
        else:
            keys = agent.keyframes or ()
            movers.append(keyframed(keys, agent.frame, size_of(agent), CLASS_OF[agent.class_], world_se3_ego, dt_s))
    if traffic is not None and graph is not None and road_map is not None:
        scene = Scene(road_map, graph, ego, movers, drivers, route_m, dt_s, frames)
        chosen = traffic.seed if traffic.seed is not None else seed
        followed, population = draw_population(scene, traffic, np.random.default_rng([chosen, 77]))
    else:
        if traffic is not None:
            raise ScenarioError(f"{name}: traffic: needs a map to drive on; add `map`")
        followed, population = simulate_drivers(drivers, [ego, *movers], dt_s, frames), []
    ids = _ids(agents, len(followed) - len(drivers) + len(population), taken_ids)
    moving, standing = iter(followed), iter(movers)
    listed = [next(moving) if agent.follow is not None else next(standing) for agent in agents]
    if not listed and not followed and not population:
        return AgentTracks.empty(frames)
    return tracks_of([*listed, *moving, *population], ids, ground, float(world_se3_ego[0, 2, 3]))


def size_of(agent: Agent) -> tuple[float, float, float]:
    return agent.size_m or USUAL_SIZE_M[agent.class_]


def ego_mover(world_se3_ego: Doubles, dt_s: float) -> Mover:
    """The ego as others see it."""
    yaw = np.unwrap(np.arctan2(world_se3_ego[:, 1, 0], world_se3_ego[:, 0, 0]))
    pose = np.column_stack([world_se3_ego[:, :2, 3], yaw])
    return Mover(int(Semantics.VEHICLE), EGO_SIZE_M, pose, _speed(pose, dt_s), is_ego=True)


def keyframed(
    keyframes: Sequence[TimedPose],
    frame: str,
    size_m: tuple[float, float, float],
    class_id: int,
    world_se3_ego: Doubles,
    dt_s: float,
) -> Mover:
    """A road user that passes through keyframes: smoothly between them, standing before the first and after the last.

    frame "ego" is that of the ego's first pose. Without yaw_deg it looks where it goes.
    """
    at = np.arange(len(world_se3_ego)) * dt_s
    times = np.array([key.t_s for key in keyframes])
    placed = [to_world(key.x, key.y, key.yaw_deg, frame, world_se3_ego[0]) for key in keyframes]
    xy = np.array([(x, y) for x, y, _ in placed])
    if len(times) == 1:
        path, slope = np.repeat(xy, len(at), axis=0), np.zeros((len(at), 2))
    else:
        curve = PchipInterpolator(times, xy, axis=0)
        inside = np.clip(at, times[0], times[-1])
        path, slope = curve(inside), curve(inside, 1)
    yaws = [yaw for _, _, yaw in placed]
    if all(yaw is not None for yaw in yaws):
        yaw = np.interp(at, times, np.unwrap(np.array(yaws, np.float64)))
    else:
        yaw = _course(slope, next((yaw for yaw in yaws if yaw is not None), 0.0))
    pose = np.column_stack([path, yaw])
    return Mover(int(class_id), size_m, pose, _speed(pose, dt_s))


def to_world(
    x: float, y: float, yaw_deg: float | None, frame: str, world_se3_first: Doubles
) -> tuple[float, float, float | None]:
    """A pose of a scenario file as x, y, yaw of the world frame."""
    if frame == "carla":
        wx, wy, _, yaw = carla_to_world(x, y, 0.0, yaw_deg or 0.0)
        return wx, wy, None if yaw_deg is None else yaw
    yaw_rad = None if yaw_deg is None else float(np.radians(yaw_deg))
    if frame == "ego":
        wx, wy = (float(v) for v in (world_se3_first @ np.array([x, y, 0.0, 1.0]))[:2])
        turn = float(np.arctan2(world_se3_first[1, 0], world_se3_first[0, 0]))
        return wx, wy, None if yaw_rad is None else yaw_rad + turn
    return x, y, yaw_rad


def tracks_of(movers: Sequence[Mover], ids: Sequence[int], ground: Ground, near_z_m: float) -> AgentTracks:
    """The movers as AgentTracks, with the ground's height below them. All have the same number of frames."""
    if not movers:
        raise ValueError("no movers; use AgentTracks.empty(frames)")
    pose = np.stack([mover.pose for mover in movers])
    z: Floats = np.stack([ground.height_m(one[:, :2], near_z_m) for one in pose]).astype(np.float32)
    pose[..., 2] = wrap_angle(pose[..., 2])
    return AgentTracks(
        np.array(ids, np.int64),
        np.array([mover.class_id for mover in movers], np.uint8),
        np.array([mover.size_m for mover in movers], np.float32),
        pose,
        z,
        np.stack([mover.speed_mps for mover in movers]).astype(np.float32),
        np.ones(pose.shape[:2], bool),
    )


def _ids(agents: Sequence[Agent], more: int, taken: Collection[int]) -> list[int]:
    """Ids as given; the others count up from 1 past those that are in use."""
    used = {agent.id for agent in agents if agent.id is not None} | set(taken)
    free = (number for number in range(1, len(used) + len(agents) + more + 2) if number not in used)
    return [agent.id if agent.id is not None else next(free) for agent in agents] + [next(free) for _ in range(more)]


def _driver(
    agent: Agent,
    graph: LaneGraph | None,
    world_se3_ego: Doubles,
    route_m: Doubles,
    seconds: float,
    seed: int,
    place: str,
) -> Driver:
    """A lane-following agent at the start of its path."""
    follow = agent.follow
    assert follow is not None
    if graph is None or not graph.lanes:
        raise ScenarioError(f"{place}.follow: needs a map with driving lanes; add `map` or give keyframes")
    rng = np.random.default_rng([seed, 5])
    reach_m = follow.speed_mps * seconds + 80.0
    if follow.start is not None:
        lane, s_m = _lane_at(follow.start, graph, world_se3_ego, f"{place}.follow.start")
    else:
        lane, s_m = path_ahead(graph, route_m, world_se3_ego[0], follow.ahead_m or 0.0, f"{place}.follow")
        lane, s_m = beside(graph, lane, s_m, follow.lane_offset, follow.oncoming, f"{place}.follow")
    path = lane_path(graph, lane, s_m, reach_m, follow.turn, rng)
    return Driver(int(CLASS_OF[agent.class_]), size_of(agent), path, follow.speed_mps)


def _lane_at(start: Pose, graph: LaneGraph, world_se3_ego: Doubles, place: str) -> tuple[str, float]:
    x, y, yaw = to_world(start.x, start.y, start.yaw_deg, start.frame, world_se3_ego[0])
    z = start.z if start.z is not None else float(world_se3_ego[0, 2, 3])
    match = graph.matches(np.array([x, y, z]), yaw, place)[0]
    return match.lane, match.s_m


def beside(graph: LaneGraph, lane: str, s_m: float, offset: int, oncoming: bool, place: str) -> tuple[str, float]:
    """The lane `offset` lanes to the left (negative: right), or of the opposite direction, at the same place."""
    here = graph.lanes[lane]
    index = float(np.interp(s_m, graph.along_m[lane], np.arange(len(here.width_m))))
    rows = np.arange(len(here.width_m))
    point = np.array([np.interp(index, rows, here.centre_m[:, axis]) for axis in range(3)])
    yaw = float(here.yaw_rad[round(index)])
    left = np.array([-np.sin(yaw), np.cos(yaw)])
    if not oncoming and offset == 0:
        return lane, s_m
    wanted = wrap_angle(yaw + np.pi) if oncoming else yaw
    found = []
    for key, other in graph.lanes.items():
        gap = np.linalg.norm(other.centre_m[:, :2] - point[:2], axis=1)
        near = int(np.argmin(gap))
        side = float((other.centre_m[near, :2] - point[:2]) @ left)
        along = np.sqrt(max(gap[near] ** 2 - side**2, 0.0))
        if along < 2.0 and 1.5 < abs(side) < 30.0 and np.cos(other.yaw_rad[near] - wanted) > 0.7:
            found.append((abs(side), side, key, float(graph.along_m[key][near])))
    count = max(1, abs(offset)) if not oncoming else max(1, offset + 1) if offset >= 0 else 0
    row = sorted(one for one in found if (one[1] > 0) == (offset > 0 or oncoming))
    if not 1 <= count <= len(row):
        what = "oncoming lane" if oncoming else f"lane {abs(offset)} to the {'left' if offset > 0 else 'right'}"
        raise ScenarioError(f"{place}: no {what} beside the route there; give another ahead_m or lane_offset")
    return row[count - 1][2], row[count - 1][3]


def _speed(pose: Doubles, dt_s: float) -> Doubles:
    if len(pose) < 2:
        return np.zeros(len(pose))
    speed = np.hypot(*np.gradient(pose[:, :2], dt_s, axis=0).T)
    return np.asarray(np.where(speed < STILL_MPS, 0.0, speed))


def _course(velocity: Doubles, otherwise: float) -> Doubles:
    """[F] direction of a velocity [F, 2]; kept while standing, looked up ahead before the start."""
    moving = np.flatnonzero(np.hypot(*velocity.T) > STILL_MPS)
    if not len(moving):
        return np.full(len(velocity), otherwise)
    last = np.searchsorted(moving, np.arange(len(velocity)), side="right") - 1
    source = moving[np.maximum(last, 0)]
    return np.asarray(np.arctan2(velocity[source, 1], velocity[source, 0]))
