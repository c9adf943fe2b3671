"""One closed loop, a frame at a time: what the ego sees, what it does, and what came of it. F frame, H history.

Whoever asks the planner drives the loop: `observe`, then `advance` with the answer, until `done`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bridges.episode import Episode
from bridges.planner import EGO_SIZE_M, WHEELBASE_M, AgentStates, Control, EgoState, Observation, Task, Trajectory
from bridges.rollout.bicycle import STEERING_RAD, advance, checked, to_world
from bridges.rollout.movers import Movers, Stamped, agents_in_grid
from bridges.rollout.road import lanes_of, road_field, speed_limit_mps
from bridges.rollout.route import RouteAhead, reference_of, route_of
from bridges.rollout.static_world import static_world
from bridges.rollout.traffic import Traffic, TrafficState
from dcgen.errors import SceneError
from dcgen.instances import with_motion
from dcgen.types import (
    NUM_CLASSES,
    UNKNOWN,
    AgentTracks,
    Command,
    Doubles,
    Floats,
    Scene,
    pose_matrix,
    wrap_angle,
)
from scenarios.chunk import command_of
from scenarios.layout import draw_agents

USUAL_DT_S = 0.2  # of a scene of one frame
USUAL_FRAMES = 16
SHORTEST_DT_S, LONGEST_DT_S = 0.01, 10.0
COMMAND_POINTS = 16  # of route ahead, that say whether it turns
ABOVE_GROUND_M = 0.15
AgentsMode = Literal["replay", "idm"]


@dataclass(frozen=True)
class LoopSettings:
    """What is asked of a closed loop. frames: how many, the start included; those of the scene unless given."""

    frames: int | None = None
    agents: AgentsMode = "replay"
    history: int = 4
    seed: int = 0
    map: Path | None = None
    speed_limit_mps: float | None = None


@dataclass(frozen=True)
class Moment:
    """A frame as it was."""

    ego: EgoState
    pose: Doubles  # [4, 4] world_se3_ego
    seen: Stamped
    layout: Floats  # [C, X, Y]
    state: TrafficState
    command: Command


class ClosedLoop:
    """A scene in which an ego drives. Raises SceneError, MapError."""

    def __init__(self, scene: Scene, settings: LoopSettings, name: str = "") -> None:
        scene = with_motion(scene)
        assert scene.instances is not None and scene.objects is not None
        self.settings, self.name, self._scene = settings, name or scene.metadata.get("name", "scene"), scene
        recorded = len(scene.time_s)
        self.dt_s = float(np.mean(np.diff(scene.time_s))) if recorded > 1 else USUAL_DT_S
        if not SHORTEST_DT_S <= self.dt_s <= LONGEST_DT_S:
            raise SceneError(
                f"/frames/time_s: frames {self.dt_s:g} s apart are none to drive by; "
                f"take a scene of {SHORTEST_DT_S:g} to {LONGEST_DT_S:g} s a frame"
            )
        self.frames = settings.frames or (recorded if recorded > 1 else USUAL_FRAMES)
        self._world = static_world(scene, scene.instances)
        self._movers = Movers(scene, scene.instances, scene.objects)
        self._traffic = Traffic(scene.objects, self.frames, self.dt_s, settings.agents == "idm")
        graph = lanes_of(settings.map)
        self.reference = reference_of(scene)
        self._stands = float(np.hypot(*np.diff(self.reference[:, :2], axis=0).T).sum()) < 0.5 and recorded > 1
        self.route = route_of(self.reference, self._world, graph)
        self.road = road_field(self._world, self.route, graph)
        steps = np.hypot(*np.diff(self.reference[:, :2], axis=0).T) / self.dt_s
        self.speed_limit_mps = settings.speed_limit_mps or speed_limit_mps(
            graph, self.reference, float(steps.max(initial=0.0))
        )
        self._ahead = RouteAhead(self.route)
        self.moments: list[Moment] = []
        self._plans: list[Doubles] = []
        self._look(_start(self.reference, self.dt_s))

    @property
    def task(self) -> Task:
        """What a planner is told first."""
        return Task(
            self.name, self.dt_s, self.frames, self._scene.grid, self.route.copy(), self.speed_limit_mps,
            self.settings.seed,
        )  # fmt: skip

    @property
    def done(self) -> bool:
        return len(self.moments) >= self.frames

    def observe(self) -> Observation:
        """What the ego sees now."""
        now = self.moments[-1]
        back = [self.moments[max(0, len(self.moments) - 1 - n)] for n in reversed(range(self.settings.history))]
        ego_se3_world = np.linalg.inv(now.pose)
        here, pose, motion = agents_in_grid(now.pose, now.state, self._scene.grid)
        objects = self._movers.objects
        return Observation(
            time_s=(len(self.moments) - 1) * self.dt_s,
            dt_s=self.dt_s,
            step=len(self.moments) - 1,
            ego=now.ego,
            grid=self._scene.grid,
            occupancy=np.stack([moment.seen.occupancy for moment in back]),
            now_se3_ego=np.stack([_exact(ego_se3_world @ moment.pose, moment is now) for moment in back]),
            flow_mps=now.seen.flow_mps.copy(),
            layout=now.layout.copy(),
            agents=AgentStates(objects.id[here], objects.class_id[here], objects.size_m[here], pose, motion[:, :2]),
            command=now.command,
            route=self._route_ahead.copy(),
        )

    def advance(self, answer: object) -> None:
        """Drive on by what a planner answered. Raises PlannerFault where that is no answer."""
        want = checked(answer)
        before = self.moments[-1].ego
        self._plans.append(_plan_in_world(before, want))
        ego = advance(before, want, self.dt_s)
        self._traffic.advance(before, EGO_SIZE_M)
        self._look(ego)

    def _look(self, ego: EgoState) -> None:
        """Cut the world at the ego and write the moment down."""
        grid, pose = self._scene.grid, self._pose(ego)
        state = self._traffic.state
        seen = self._movers.stamp(self._world.occupancy(grid, pose), pose, state)
        tracks = _tracks(self._movers.objects, [state])
        layout = np.concatenate([self._world.layout(grid, pose), draw_agents(tracks, pose, grid)[0]])
        self._route_ahead = self._ahead.points(ego)
        command = Command.STATIC if self._stands else command_of(self._route_ahead[:COMMAND_POINTS])
        self.moments.append(Moment(ego, pose, seen, layout, state, command))

    def _pose(self, ego: EgoState) -> Doubles:
        """[4, 4] where the ego stands: as high and as tilted as the scene's ego was nearest to there."""
        poses, line = self._scene.world_se3_ego, self.reference[:, :2]
        here = np.array([ego.x_m, ego.y_m])
        k = int(np.argmin(np.hypot(*(line - here).T)))
        z, near = float(poses[k, 2, 3]), [j for j in (k - 1, k + 1) if 0 <= j < len(line)]
        upright = pose_matrix(line[k, 0], line[k, 1], z, self.reference[k, 2])
        tilt = np.linalg.inv(upright) @ poses[k]
        for j in near:
            way = line[j] - line[k]
            part = float((here - line[k]) @ way / max(way @ way, 1e-9))
            if 0 < part <= 1:
                z += part * float(poses[j, 2, 3] - poses[k, 2, 3])
                break
        return np.asarray(pose_matrix(ego.x_m, ego.y_m, z, ego.yaw_rad) @ tilt)

    def episode(self, planner: str, failure: str = "", step_s: tuple[float, ...] = ()) -> Episode:
        """What happened so far."""
        egos = [moment.ego for moment in self.moments]
        touched, unknown = zip(*(self._touched(moment) for moment in self.moments), strict=True)
        return Episode(
            scene=self.name,
            planner=planner,
            dt_s=self.dt_s,
            ego=np.array([[ego.x_m, ego.y_m, ego.yaw_rad] for ego in egos]),
            speed_mps=np.array([ego.speed_mps for ego in egos]),
            acceleration_mps2=np.array([ego.acceleration_mps2 for ego in egos]),
            plans=tuple(self._plans),
            agents=_tracks(self._movers.objects, [moment.state for moment in self.moments]),
            touched=np.stack(touched),
            unknown=np.array(unknown, np.int64),
            road=self.road,
            route=self.route,
            reference=self.reference,
            speed_limit_mps=self.speed_limit_mps,
            wanted_frames=self.frames,
            failure=failure,
            step_s=step_s,
        )

    def _touched(self, moment: Moment) -> tuple[NDArray[np.int64], int]:
        """Voxels of each class within the ego's box and above the ground, and those of which nothing is known."""
        grid = self._scene.grid
        axes = [o + (np.arange(n) + 0.5) * v for n, v, o in zip(grid.shape, grid.voxel_m, grid.origin_m, strict=True)]
        length, width, height = EGO_SIZE_M
        above = (axes[2] - grid.voxel_m[2] / 2 >= ABOVE_GROUND_M) & (axes[2] <= height)
        inside = np.ix_(np.abs(axes[0]) <= length / 2, np.abs(axes[1]) <= width / 2, above)
        labels = moment.seen.occupancy[inside].ravel()
        return np.bincount(labels[labels != UNKNOWN], minlength=NUM_CLASSES), int((labels == UNKNOWN).sum())

    def scene(self, planner: str, failure: str = "") -> Scene:
        """What happened so far as a scene: every frame in the grid of the ego as it drove."""
        moments, frames = self.moments, len(self.moments)
        poses = np.stack([moment.pose for moment in moments])
        local = np.linalg.inv(poses[0]) @ poses
        yaw = wrap_angle(np.arctan2(local[:, 1, 0], local[:, 0, 0]))
        labels = np.stack([moment.seen.occupancy for moment in moments])
        states = [moment.state for moment in moments]
        told = {"planner": planner, "agents": self.settings.agents, **({"failure": failure} if failure else {})}
        recorded = len(self._scene.agents.id)
        objects = _tracks(self._movers.objects, states)
        return replace(
            self._scene,
            labels=labels,
            time_s=np.arange(frames, dtype=np.float64) * self.dt_s,
            world_se3_ego=poses,
            agents=objects.select(np.arange(len(objects.id)) < recorded),
            trajectory=np.stack([local[:, 0, 3], local[:, 1, 3], yaw], axis=1).astype(np.float32),
            command=np.array([moment.command for moment in moments], np.int8),
            layout=np.stack([moment.layout.astype(np.float16) for moment in moments]),
            known=labels != UNKNOWN,
            metadata={**self._scene.metadata, **told},
            instances=np.stack([moment.seen.instances for moment in moments]),
            flow_mps=np.stack([moment.seen.flow_mps.astype(np.float16) for moment in moments]),
            objects=objects,
        )


def _start(reference: Doubles, dt_s: float) -> EgoState:
    """The ego as the scene's own begins."""
    x, y, yaw = reference[0]
    if len(reference) < 2:
        return EgoState(float(x), float(y), float(yaw), 0.0)
    heading = np.array([np.cos(reference[:-1, 2]), np.sin(reference[:-1, 2])]).T
    speeds = np.maximum(0.0, (np.diff(reference[:, :2], axis=0) * heading).sum(axis=1) / dt_s)
    turn = float(wrap_angle(reference[1, 2] - yaw)) / dt_s
    speed = float(speeds[0])
    steering = float(np.clip(np.arctan(WHEELBASE_M * turn / max(speed, 1.0)), -STEERING_RAD, STEERING_RAD))
    acceleration = float(speeds[1] - speeds[0]) / dt_s if len(speeds) > 1 else 0.0
    return EgoState(float(x), float(y), float(yaw), speed, acceleration, turn, steering)


def _exact(pose: Doubles, is_now: bool) -> Doubles:
    return np.eye(4) if is_now else pose


def _plan_in_world(ego: EgoState, answer: Trajectory | Control) -> Doubles:
    """[N, 4] t, x, y, yaw."""
    if isinstance(answer, Control):
        return np.zeros((0, 4))
    return np.column_stack([answer.time_s, to_world(ego, answer.pose)])


def _tracks(objects: AgentTracks, states: list[TrafficState]) -> AgentTracks:
    """The objects as they moved over those moments."""
    return AgentTracks(
        objects.id,
        objects.class_id,
        objects.size_m,
        np.stack([state.pose for state in states], axis=1),
        np.stack([state.z_m for state in states], axis=1).astype(np.float32),
        np.stack([state.speed_mps for state in states], axis=1).astype(np.float32),
        np.stack([state.valid for state in states], axis=1),
    )
