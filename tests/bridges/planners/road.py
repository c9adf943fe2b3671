"""Observations of a straight or bent road with things on it. All sizes differ; the ego looks along x."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.planner import AgentStates, EgoState, Observation, Task
from dcgen.types import LAYOUT_CHANNELS, Command, Doubles, GridSpec, Semantics

GRID = GridSpec((72, 60, 7), (0.5, 0.5, 0.6), (-8.0, -15.0, -1.2))
SPEED_MPS = 6.0


def task(limit_mps: float = 8.0) -> Task:
    return Task("road", 0.2, 20, GRID, np.zeros((2, 3)), limit_mps, 0)


def straight(points: int = 50) -> Doubles:
    return np.column_stack([np.arange(points, dtype=float), np.zeros(points), np.zeros(points)])


def bend(radius_m: float, points: int = 50) -> Doubles:
    """An arc; radius_m positive to the left."""
    angle = np.arange(points) / radius_m
    return np.column_stack([radius_m * np.sin(angle), radius_m * (1 - np.cos(angle)), angle])


def agents(*rows: tuple[float, float, float, float, float]) -> AgentStates:
    """Cars at x, y, yaw with velocity vx, vy."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    n = len(table)
    size = np.tile(np.array([4.4, 1.8, 1.5], np.float32), (n, 1))
    return AgentStates(
        np.arange(n) + 5, np.full(n, Semantics.VEHICLE, np.uint8), size, table[:, :3].copy(), table[:, 3:].copy()
    )


def observation(
    blocks: tuple[tuple[float, float, float, float], ...] = (),
    cars: AgentStates | None = None,
    route: Doubles | None = None,
    speed_mps: float = SPEED_MPS,
    frames: int = 2,
) -> Observation:
    """blocks: x0, x1, y0, y1 of voxels that stand on the road and that no agent explains."""
    labels = np.zeros((frames, *GRID.shape), np.uint8)
    labels[..., 1] = Semantics.ROAD
    centres = GRID.centres_m()[:, :, 0]
    for x0, x1, y0, y1 in blocks:
        inside = (centres[..., 0] > x0) & (centres[..., 0] < x1) & (centres[..., 1] > y0) & (centres[..., 1] < y1)
        labels[:, inside, 2:4] = Semantics.BARRIER
    layout = np.zeros((len(LAYOUT_CHANNELS), *GRID.shape[:2]), np.float32)
    layout[0] = 1.0
    return Observation(
        time_s=0.0,
        dt_s=0.2,
        step=0,
        ego=EgoState(3.0, -2.0, 0.7, speed_mps),
        grid=GRID,
        occupancy=labels,
        now_se3_ego=np.repeat(np.eye(4)[None], frames, axis=0),
        flow_mps=np.zeros((*GRID.shape, 3), np.float32),
        layout=layout,
        agents=agents() if cars is None else cars,
        command=Command.FORWARD,
        route=straight() if route is None else route,
    )


def mirrored(seen: Observation) -> Observation:
    """The same with left and right exchanged; GRID is symmetrical about y = 0."""
    side = np.array([1.0, -1.0, -1.0])
    cars = seen.agents
    return replace(
        seen,
        occupancy=seen.occupancy[:, :, ::-1].copy(),
        flow_mps=(seen.flow_mps[:, ::-1] * np.float32([1, -1, 1])).copy(),
        layout=seen.layout[:, :, ::-1].copy(),
        route=seen.route * side,
        agents=AgentStates(cars.id, cars.class_id, cars.size_m, cars.pose * side, cars.velocity_mps * side[:2]),
    )


def touches(pose: Doubles, seen: Observation) -> bool:
    """Whether the ego's box holds the centre of a barrier's column at one of the poses [N, 3]."""
    centres = GRID.centres_m()[:, :, 0, :2][(seen.occupancy[-1] == Semantics.BARRIER).any(axis=2)]
    for x, y, yaw in pose:
        dx, dy = centres[:, 0] - x, centres[:, 1] - y
        along, beside = dx * np.cos(yaw) + dy * np.sin(yaw), dy * np.cos(yaw) - dx * np.sin(yaw)
        if ((np.abs(along) < 2.3) & (np.abs(beside) < 0.95)).any():
            return True
    return False
