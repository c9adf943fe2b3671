"""Episodes made by hand, and the same ones in a world that is turned, moved or mirrored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.episode import Episode, RoadField
from dcgen.types import NUM_CLASSES, AgentTracks, Semantics

CELL_M = 0.5
LANE_M = 3.5  # the ego's lane is |y| < 1.75, the oncoming one lies to its left


def road(length_m: float = 240.0, known: bool = True) -> RoadField:
    """A street along x from -40 m, of two lanes; beside it, ground."""
    x = int(length_m / CELL_M)
    origin = np.array([-40.0, -10.25])
    y = origin[1] + (np.arange(46) + 0.5) * CELL_M
    drivable = np.broadcast_to((y > -1.75) & (y < 5.25), (x, 46)).copy()
    heading = np.where(y < 1.75, 0.0, np.pi).astype(np.float32)
    heading = np.where(drivable, heading, np.nan).astype(np.float32)
    everywhere = np.full(drivable.shape, known)
    return RoadField(origin, CELL_M, drivable & everywhere, everywhere, np.where(everywhere, heading, np.nan))


def agents(*rows: dict, frames: int) -> AgentTracks:
    """Each row: x, y, yaw, speed (numbers or [T]), size (length, width), kind."""
    n = len(rows)
    pose, speed = np.zeros((n, frames, 3)), np.zeros((n, frames), np.float32)
    for k, row in enumerate(rows):
        for axis, name in enumerate(("x", "y", "yaw")):
            pose[k, :, axis] = row.get(name, 0.0)
        speed[k] = row.get("speed", 0.0)
    size = np.array([[*row.get("size", (4.0, 2.0)), 1.5] for row in rows], np.float32).reshape(n, 3)
    kind = np.array([row.get("kind", Semantics.VEHICLE) for row in rows], np.uint8)
    ids = np.arange(n, dtype=np.int64) + 70
    return AgentTracks(ids, kind, size, pose, np.zeros((n, frames), np.float32), speed, np.ones((n, frames), bool))


def episode(ego=None, speed=None, *rows: dict, frames: int = 21, dt_s: float = 0.2, **changes) -> Episode:
    """An ego that drives along x at 8 m/s, unless it is said otherwise, and agents."""
    if ego is None:
        x = np.arange(frames) * dt_s * (8.0 if speed is None else speed)
        ego = np.stack([x, np.zeros(frames), np.zeros(frames)], axis=1)
    frames = len(ego)
    speed = np.broadcast_to(np.asarray(8.0 if speed is None else speed, float), (frames,)).copy()
    reference = np.stack([np.arange(frames) * dt_s * 8.0, np.zeros(frames), np.zeros(frames)], axis=1)
    route = np.stack([np.arange(-5.0, 190.0), np.zeros(195), np.zeros(195)], axis=1)
    made = {
        "scene": "street",
        "planner": "hand",
        "dt_s": dt_s,
        "ego": ego,
        "speed_mps": speed,
        "acceleration_mps2": np.gradient(speed, dt_s) if frames > 1 else np.zeros(1),
        "plans": tuple(np.zeros((0, 4)) for _ in range(frames - 1)),
        "agents": agents(*rows, frames=frames),
        "touched": np.zeros((frames, NUM_CLASSES), np.int64),
        "unknown": np.zeros(frames, np.int64),
        "road": road(),
        "route": route,
        "reference": reference,
        "speed_limit_mps": 13.9,
        "wanted_frames": frames,
    }
    return Episode(**{**made, **changes})


def touching(frames: int, **classes: tuple[int, int, int]) -> np.ndarray:
    """[T, NUM_CLASSES] voxels of a class from a frame to another: building=(3, 5, 9) puts 9 in frames 3 and 4."""
    touched = np.zeros((frames, NUM_CLASSES), np.int64)
    for name, (start, stop, count) in classes.items():
        touched[start:stop, Semantics[name.upper()]] = count
    return touched


def moved(case: Episode, quarters: int = 0, shift_m: tuple[float, float] = (0.0, 0.0)) -> Episode:
    """The whole world turned by quarters about its origin and then shifted."""
    angle = quarters * np.pi / 2
    cos, sin = np.round(np.cos(angle)), np.round(np.sin(angle))
    turn = np.array([[cos, -sin], [sin, cos]])

    def poses(values: np.ndarray, first: int = 0) -> np.ndarray:
        out = np.array(values, float)
        out[..., first : first + 2] = values[..., first : first + 2] @ turn.T + shift_m
        out[..., first + 2] = (values[..., first + 2] + angle + np.pi) % (2 * np.pi) - np.pi
        return out

    field = case.road
    size = np.array(field.drivable.shape) * field.cell_m
    far = np.array([field.origin_m, field.origin_m + size]) @ turn.T
    heading = np.rot90(field.heading_rad, quarters) + np.float32(angle)
    turned = RoadField(
        far.min(axis=0) + shift_m,
        field.cell_m,
        np.rot90(field.drivable, quarters),
        np.rot90(field.known, quarters),
        heading,
    )
    return _with(case, poses, turned)


def mirrored(case: Episode) -> Episode:
    """The whole world with left for right."""

    def poses(values: np.ndarray, first: int = 0) -> np.ndarray:
        out = np.array(values, float)
        out[..., first + 1 : first + 3] *= -1
        return out

    field = case.road
    origin = np.array([field.origin_m[0], -field.origin_m[1] - field.drivable.shape[1] * field.cell_m])
    flipped = [array[:, ::-1] for array in (field.drivable, field.known, -field.heading_rad)]
    return _with(case, poses, RoadField(origin, field.cell_m, *flipped))


def _with(case: Episode, poses, field: RoadField) -> Episode:  # type: ignore[no-untyped-def]
    return replace(
        case,
        ego=poses(case.ego),
        plans=tuple(poses(plan, 1) for plan in case.plans),
        agents=replace(case.agents, pose=poses(case.agents.pose)),
        road=field,
        route=poses(case.route),
        reference=poses(case.reference),
    )
