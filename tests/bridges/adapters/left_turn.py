"""A road that turns to the left, an agent and a wall on its left, and a car that drives there as a planner says."""

from __future__ import annotations

import numpy as np

from bridges.planner import AgentStates, Control, EgoState, Observation, Planner, Task, Trajectory
from bridges.rollout.bicycle import advance, checked
from bridges.rollout.route import in_frame
from dcgen.types import LAYOUT_CHANNELS, Command, Doubles, GridSpec, Semantics

GRID = GridSpec((40, 48, 6), (0.8, 0.8, 0.8), (-8.0, -19.2, -1.2))
DT_S = 0.2
START = EgoState(30.0, -12.0, 0.4, 5.0)
WALL_AHEAD_M, WALL_LEFT_M = 4.0, 6.0
AGENT = np.array([6.0, 9.0, 0.3])  # in the frame of the start
AGENT_MPS = np.array([1.5, 0.0])  # in the world


def to_world(ego: EgoState, pose: Doubles) -> Doubles:
    c, s = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    return np.array([ego.x_m + c * pose[0] - s * pose[1], ego.y_m + s * pose[0] + c * pose[1], ego.yaw_rad + pose[2]])


def route(side: int = 1, radius_m: float = 14.0) -> Doubles:
    """[R, 3] in the world: 8 m straight on and a quarter of a circle to the left (side -1: to the right), and on."""
    rows = [np.array([float(s), 0.0, 0.0]) for s in range(9)]
    for k in range(1, 60):
        angle = min(k / radius_m, np.pi / 2)
        beyond = max(0.0, k - radius_m * np.pi / 2)
        x = 8.0 + radius_m * np.sin(angle) + beyond * np.cos(angle)
        y = radius_m * (1 - np.cos(angle)) + beyond * np.sin(angle)
        rows.append(np.array([x, side * y, side * angle]))
    return np.array([to_world(START, row) for row in rows])


def observation(ego: EgoState, step: int = 0, side: int = 1) -> Observation:
    whole = route(side)
    first = int(np.argmin(np.hypot(whole[:, 0] - ego.x_m, whole[:, 1] - ego.y_m)))
    world = to_world(START, AGENT)
    world[:2] += AGENT_MPS * step * DT_S
    pose = in_frame(ego, world[None])
    c, s = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    velocity = np.array([[c * AGENT_MPS[0] + s * AGENT_MPS[1], -s * AGENT_MPS[0] + c * AGENT_MPS[1]]])
    labels = np.zeros((2, *GRID.shape), np.uint8)
    labels[..., 1] = Semantics.ROAD
    i = int((WALL_AHEAD_M - GRID.origin_m[0]) / 0.8)
    j = int((WALL_LEFT_M - GRID.origin_m[1]) / 0.8)
    labels[:, i : i + 3, j, 2:4] = Semantics.BARRIER
    return Observation(
        time_s=step * DT_S,
        dt_s=DT_S,
        step=step,
        ego=ego,
        grid=GRID,
        occupancy=labels,
        now_se3_ego=np.repeat(np.eye(4)[None], 2, axis=0),
        flow_mps=np.zeros((*GRID.shape, 3), np.float32),
        layout=np.zeros((len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float32),
        agents=AgentStates(
            np.array([7]),
            np.array([Semantics.VEHICLE], np.uint8),
            np.array([[4.2, 1.8, 1.5]], np.float32),
            pose,
            velocity,
        ),
        command=Command.LEFT if side > 0 else Command.RIGHT,
        route=in_frame(ego, whole[first : first + 50]),
    )


def task(side: int = 1, frames: int = 20) -> Task:
    return Task("turn", DT_S, frames, GRID, route(side), 8.0, seed=3)


def drive(planner: Planner, side: int = 1, steps: int = 15) -> list[EgoState]:
    """The ego before the first answer and after each."""
    egos = [START]
    planner.reset(task(side))
    for step in range(steps):
        answer = planner.plan(observation(egos[-1], step, side))
        assert isinstance(answer, (Trajectory, Control))
        egos.append(advance(egos[-1], checked(answer), DT_S))
    planner.close()
    return egos


def turned(egos: list[EgoState]) -> float:
    """Radians to the left from the first to the last."""
    return float(np.unwrap([ego.yaw_rad for ego in egos])[-1] - egos[0].yaw_rad)


def is_left(of: tuple[float, float, float], x: float, y: float) -> bool:
    """Whether a point lies to the left of a right-handed pose x, y, yaw."""
    return -np.sin(of[2]) * (x - of[0]) + np.cos(of[2]) * (y - of[1]) > 0
