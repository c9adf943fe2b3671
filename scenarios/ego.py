"""Where the ego is in every frame, for each of the ways in which a scenario can say it. F frame, N route point."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dcgen.errors import ScenarioError
from dcgen.types import Doubles, Scene, pose_matrix, wrap_angle
from scenarios.follow import command_route, way_to
from scenarios.frames import carla_points_to_world, carla_to_world, carla_yaw_to_world
from scenarios.lane_graph import LaneGraph
from scenarios.roadmap import RoadMap
from scenarios.route import Route, drive, plan_route, random_route
from scenarios.routes import RouteSpec, read_trajectory
from scenarios.schema import Pose, Scenario, TimedPose
from scenarios.sources import name_of
from scenarios.street import extend, street_along, turning_path
from scenarios.trajectory import LoggedTrajectory

USUAL_MPS = 6.0  # to guess how far a scene goes before it is driven
TURN_MPS = 5.0
BEHIND_M = 40.0  # of the road that led to the start, drawn as if driven
FASTEST_MPS = 150.0
BLEND_S = 2.0  # a continued drive finds the middle of its lane within this time


@dataclass(frozen=True)
class EgoPlan:
    """The ego's poses, the line it follows and the roads below it."""

    world_se3_ego: Doubles  # [F, 4, 4] on the ground, upright
    speed_mps: Doubles  # [F]
    route_m: Doubles  # [N, 3]
    road_map: RoadMap | None
    route: Route | None = None


def plan_ego(
    scenario: Scenario, road_map: RoadMap | None, spec: RouteSpec | None, scene: Scene | None, frames: int, dt_s: float
) -> EgoPlan:
    """The ego's drive over that many frames. scene is the finished one that the scenario builds on, if any.

    Without a map the plan brings a street of its own (unless without_map says nothing). Raises ScenarioError.
    """
    if scene is not None and scenario.continue_from is not None:
        plan = _continued(scenario, road_map, spec, scene, frames, dt_s)
    elif scene is not None:
        plan = _as_recorded(scenario, road_map, scene, frames)
    elif scenario.trajectory is not None:
        plan = _as_logged(scenario, road_map, frames, dt_s)
    else:
        route = _route(scenario, road_map, spec, frames, dt_s)
        plan = _driven(scenario, road_map, route, frames, dt_s)
    if plan.road_map is None and scenario.without_map == "street":
        plan = replace(plan, road_map=street_along(plan.route_m))
    return plan


def place_of(pose: Pose | TimedPose, frame: str, first: Doubles | None, name: str) -> tuple[Doubles, float | None]:
    """A point [3] and yaw in the world frame. first [4, 4] is the ego's first pose, for frame `ego`."""
    yaw = None if pose.yaw_deg is None else float(np.radians(pose.yaw_deg))
    if frame == "carla":
        x, y, z, turned = carla_to_world(pose.x, pose.y, pose.z or 0.0, pose.yaw_deg or 0.0)
        return np.array([x, y, z]), None if yaw is None else turned
    point = np.array([pose.x, pose.y, pose.z or 0.0])
    if frame == "world":
        return point, yaw
    if first is None:
        raise ScenarioError(f"{name}: frame `ego` needs an ego that is placed already; give world or carla coordinates")
    heading = float(np.arctan2(first[1, 0], first[0, 0]))
    return first[:3, :3] @ point + first[:3, 3], None if yaw is None else float(wrap_angle(yaw + heading))


def _route(scenario: Scenario, road_map: RoadMap | None, spec: RouteSpec | None, frames: int, dt_s: float) -> Route:
    name = name_of(scenario)
    target = scenario.target_speed_mps
    length = scenario.start_s_m + 60.0 + frames * dt_s * (14.0 if target is None else max(target, 1.0))
    if spec is not None:
        yaw = spec.yaw_rad
        return plan_route(road_map, spec.keypoints_m, yaw, f"{spec.source}: route {spec.id}", spec.town)
    if scenario.route is not None and scenario.route.keypoints is not None:
        points = np.array([(*point, 0.0)[:3] for point in scenario.route.keypoints])
        if scenario.route.frame == "carla":
            points = carla_points_to_world(points)
        return plan_route(road_map, points, None, f"{name}: route.keypoints")
    start = place_of(scenario.start, scenario.start.frame, None, f"{name}: start") if scenario.start else None
    if road_map is None:
        return _without_map(scenario, start, length)
    if scenario.goal is not None and start is not None:
        goal = place_of(scenario.goal, scenario.goal.frame, None, f"{name}: goal")
        yaws = None if start[1] is None or goal[1] is None else np.array([start[1], goal[1]])
        return plan_route(road_map, np.stack([start[0], goal[0]]), yaws, f"{name}: start and goal")
    if start is None and scenario.command is None:
        return random_route(road_map, scenario.seed, length)
    lead = float(np.clip(0.2 * frames * dt_s * USUAL_MPS, 3.0, 30.0))
    place = f"{name}: start" if start else f"{name}: command"
    command = scenario.command or "forward"
    return command_route(road_map, LaneGraph(road_map), command, length, scenario.seed, start, lead, place)


def _without_map(scenario: Scenario, start: tuple[Doubles, float | None] | None, length_m: float) -> Route:
    if scenario.goal is not None:
        raise ScenarioError(f"{name_of(scenario)}: goal: the way to it needs a map; add `map:` or --map FILE.xodr")
    point, yaw = start if start is not None else (np.zeros(3), 0.0)
    path = turning_path(scenario.command or "forward", length_m, (point[0], point[1], yaw or 0.0))
    return plan_route(None, np.column_stack([path, np.full(len(path), point[2])]), None, name_of(scenario))


def _speed(scenario: Scenario, on_map: bool) -> float | list[tuple[float, float]] | None:
    if scenario.command == "static":
        return 0.0
    if scenario.speed_profile is not None:
        return [(point.s_m, point.speed_mps) for point in scenario.speed_profile]
    if scenario.target_speed_mps is None and not on_map and scenario.command in ("left", "right"):
        return TURN_MPS
    return scenario.target_speed_mps


def _driven(scenario: Scenario, road_map: RoadMap | None, route: Route, frames: int, dt_s: float) -> EgoPlan:
    if scenario.start_s_m >= route.length_m:
        raise ScenarioError(
            f"{name_of(scenario)}: start_s_m: {scenario.start_s_m:g} m lies beyond the route's {route.length_m:.0f} m; "
            "start earlier"
        )
    ego = drive(route, frames, dt_s, scenario.start_s_m, _speed(scenario, road_map is not None))
    line = route.points_m
    if road_map is None:
        line = extend(line, BEHIND_M, 0.0, (float(route.yaw_rad[0]), float(route.yaw_rad[-1])))[:-1]
    else:
        line = np.concatenate([way_to(LaneGraph(road_map), route.lane_id[0], line[0], BEHIND_M), line])
    return EgoPlan(_poses(ego.pose, ego.z_m), ego.speed_mps, line, road_map, route)


def _poses(pose: Doubles, z_m: Doubles) -> Doubles:
    return np.stack([pose_matrix(x, y, z, yaw) for (x, y, yaw), z in zip(pose, z_m, strict=True)])


def _logged(scenario: Scenario, dt_s: float) -> LoggedTrajectory:
    source = scenario.trajectory
    assert source is not None
    if source.file is not None:
        return read_trajectory(scenario.place(source.file), source.frame, dt_s)
    poses = source.poses or ()
    points = np.array([(pose.x, pose.y, pose.z or 0.0) for pose in poses])
    slope = np.gradient(points[:, :2], axis=0)
    along = np.degrees(np.arctan2(slope[:, 1], slope[:, 0]))
    degrees = np.array([a if pose.yaw_deg is None else pose.yaw_deg for pose, a in zip(poses, along, strict=True)])
    yaw = np.radians(degrees)
    if source.frame == "carla":
        points, yaw = carla_points_to_world(points), carla_yaw_to_world(degrees)
    return LoggedTrajectory(
        np.array([pose.t_s for pose in poses]), np.column_stack([points[:, :2], wrap_angle(yaw)]), points[:, 2]
    )


def logged_frames(scenario: Scenario, dt_s: float) -> int:
    """How many frames, dt_s apart, the logged trajectory covers."""
    time = _logged(scenario, dt_s).time_s
    return max(1, int(np.floor((time[-1] - time[0]) / dt_s + 1e-6)) + 1)


def _as_logged(scenario: Scenario, road_map: RoadMap | None, frames: int, dt_s: float) -> EgoPlan:
    logged = _logged(scenario, dt_s)
    _check_pace(logged, f"{name_of(scenario)}: trajectory")
    at = np.arange(min(frames, logged_frames(scenario, dt_s))) * dt_s + logged.time_s[0]
    unwrapped = np.unwrap(logged.pose[:, 2])
    columns = (logged.pose[:, 0], logged.pose[:, 1], unwrapped, logged.z_m)
    x, y, yaw, z = (np.interp(at, logged.time_s, column) for column in columns)
    poses = extended(_poses(np.column_stack([x, y, wrap_angle(yaw)]), z), frames)
    if road_map is not None:
        _check_on_map(LaneGraph(road_map), poses, f"{name_of(scenario)}: trajectory")
    return EgoPlan(poses, speeds(poses, dt_s), _path(poses), road_map)


def _check_pace(logged: LoggedTrajectory, place: str) -> None:
    """Raises ScenarioError where the ego leaps: coordinates or times in other units, or a glitch of the sensor."""
    pace = np.linalg.norm(np.diff(logged.pose[:, :2], axis=0), axis=1) / np.diff(logged.time_s)
    first = int(np.argmax(pace))
    if pace[first] > FASTEST_MPS:
        raise ScenarioError(
            f"{place}: goes {pace[first]:.4g} m/s from pose {first} to pose {first + 1}, more than {FASTEST_MPS:.0f}; "
            "give metres and seconds, and leave broken poses out"
        )


def _check_on_map(graph: LaneGraph, poses: Doubles, place: str) -> None:
    """Raises ScenarioError when not one of some poses lies near a lane."""
    some = poses[np.linspace(0, len(poses) - 1, min(8, len(poses))).astype(int)]
    failed = 0
    for pose in some:
        try:
            graph.matches(pose[:3, 3], None, place)
        except ScenarioError:
            failed += 1
    if failed == len(some):
        graph.matches(some[0, :3, 3], None, place)


def extended(poses: Doubles, frames: int) -> Doubles:
    """[frames, 4, 4] the poses, going on straight at the last speed where they are too few."""
    missing = frames - len(poses)
    if missing <= 0:
        return poses[:frames]
    last = poses[-1]
    step = last[:3, 3] - poses[-2][:3, 3] if len(poses) > 1 else np.zeros(3)
    more = np.repeat(last[None], missing, axis=0)
    more[:, :3, 3] += np.arange(1, missing + 1)[:, None] * step
    return np.concatenate([poses, more])


def speeds(poses: Doubles, dt_s: float) -> Doubles:
    """[F] speed over ground at every pose."""
    if len(poses) < 2:
        return np.zeros(len(poses))
    return np.asarray(np.linalg.norm(np.gradient(poses[:, :2, 3], axis=0), axis=1) / dt_s)


def _path(poses: Doubles) -> Doubles:
    """[N, 3] the line of the poses, going on straight at both ends: what a recorded drive does not tell."""
    points = poses[:, :3, 3]
    moved = np.concatenate([[True], np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1) > 0.05])
    yaw = np.arctan2(poses[:, 1, 0], poses[:, 0, 0])
    return extend(points[moved], BEHIND_M, BEHIND_M, (float(yaw[0]), float(yaw[-1])))


def _as_recorded(scenario: Scenario, road_map: RoadMap | None, scene: Scene, frames: int) -> EgoPlan:
    """As the finished scene drives; outpainting sees it from further along its way."""
    dt_s = scene_dt_s(scene, scenario.dt_s)
    poses = extended(scene.world_se3_ego, frames)
    if scenario.outpaint is not None:
        poses = _shifted(poses, road_map, scenario.outpaint.along_m, f"{name_of(scenario)}: outpaint")
    return EgoPlan(poses, speeds(poses, dt_s), _path(poses), road_map)


def scene_dt_s(scene: Scene, otherwise: float) -> float:
    return float(np.median(np.diff(scene.time_s))) if len(scene.time_s) > 1 else otherwise


def _shifted(poses: Doubles, road_map: RoadMap | None, along_m: float, place: str) -> Doubles:
    """The poses moved along their own path, which goes on along the lanes of the map, or straight."""
    path = _path(poses)[1:-1]
    yaw = np.arctan2(poses[:, 1, 0], poses[:, 0, 0])
    more = abs(along_m) + 5.0
    line = extend(path, more, more, (float(yaw[0]), float(yaw[-1])))
    if road_map is not None and along_m > 0:
        ahead = command_route(
            road_map, LaneGraph(road_map), "forward", more, 0, (path[-1], float(yaw[-1])), 0.0, place
        ).points_m
        beyond = np.cumsum(np.linalg.norm(np.diff(ahead[:, :2], axis=0, prepend=path[-1:, :2]), axis=1)) > 1.0
        line = np.concatenate([line[:-1], ahead[beyond]])
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line[:, :2], axis=0), axis=1))])
    moved = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(poses[:, :2, 3], axis=0), axis=1))])
    at = more + moved + along_m
    x, y, z = (np.interp(at, s, line[:, axis]) for axis in range(3))
    slope = np.stack([np.interp(at + d, s, line[:, axis]) for d in (-1.0, 1.0) for axis in range(2)], axis=1)
    return _poses(np.column_stack([x, y, np.arctan2(slope[:, 3] - slope[:, 1], slope[:, 2] - slope[:, 0])]), z)


def _continued(
    scenario: Scenario, road_map: RoadMap | None, spec: RouteSpec | None, scene: Scene, frames: int, dt_s: float
) -> EgoPlan:
    """The last frames of a scene, and a drive that goes on from its last pose at its last speed."""
    assert scenario.continue_from is not None
    given = min(scenario.continue_from.given_frames, len(scene.time_s))
    before = scene.world_se3_ego[-given:]
    last = before[-1]
    speed = float(speeds(scene.world_se3_ego, scene_dt_s(scene, dt_s))[-1])
    yaw = float(np.arctan2(last[1, 0], last[0, 0]))
    start_s = 0.0
    if scenario.route is not None:
        route = _route(scenario, road_map, spec, frames, dt_s)
        gap = np.linalg.norm(route.points_m[:, :2] - last[:2, 3], axis=1)
        if gap.min() > 5.0:
            raise ScenarioError(
                f"{name_of(scenario)}: route: passes {gap.min():.0f} m from the scene's last pose; route it there"
            )
        start_s = float(route.s_m[int(np.argmin(gap))])
    else:
        here = Pose(x=last[0, 3], y=last[1, 3], z=last[2, 3], yaw_deg=float(np.degrees(yaw)))
        route = _route(scenario.model_copy(update={"start": here}), road_map, None, frames, dt_s)
    wanted = _speed(scenario, road_map is not None)
    if wanted is None and road_map is None:
        wanted = max(speed, 1.0)
    ego = drive(route, frames - given + 1, dt_s, start_s, wanted, speed)
    fade = np.clip(1.0 - ego.time_s / BLEND_S, 0.0, 1.0) ** 2
    pose, z_m = ego.pose.copy(), ego.z_m.copy()
    pose[:, :2] += fade[:, None] * (last[:2, 3] - pose[0, :2])
    pose[:, 2] += fade * float(wrap_angle(yaw - pose[0, 2]))
    z_m += fade * (last[2, 3] - z_m[0])
    poses = np.concatenate([before, _poses(pose, z_m)[1:]])
    return EgoPlan(poses, speeds(poses, dt_s), np.concatenate([before[:, :3, 3], route.points_m]), road_map, route)
