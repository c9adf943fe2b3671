"""How the ego moves: a kinematic bicycle, its limits, and how it follows a trajectory. N pose of a plan.

x, y, yaw are of the box's centre, in the world. It is the point that never slips sideways, as poses of scenes and plans
have it: their yaw is the direction in which the centre moves.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.planner import WHEELBASE_M, Control, EgoState, Trajectory
from dcgen.types import Doubles, wrap_angle

STEERING_RAD, STEERING_RADPS = 0.6, 0.8  # of the front wheels, and how fast they turn
ACCELERATE_MPS2, BRAKE_MPS2 = 4.0, 8.0
FASTEST_MPS = 50.0
SUBSTEP_S = 0.05
# What no car can do: an answer beyond is a fault, while one beyond the limits above is driven as well as can be.
IMPOSSIBLE_MPS, IMPOSSIBLE_MPS2, IMPOSSIBLE_RAD = 70.0, 30.0, 1.3
MOST_POSES = 1000
FARTHEST = 1e5  # of a plan, in metres, radians and seconds
HORIZON_S = 0.6  # within which it is to be where the plan says
LOOK_S, LEAST_LOOK_M = 0.5, 1.6  # ahead of the centre, on the plan
STANDING_M = 0.3  # a plan shorter than this is no way to steer along


class PlannerFault(Exception):
    """What a planner did wrong; the episode ends with these words."""


def checked(answer: object) -> Trajectory | Control:
    """The answer, if it is one that a car could be given. Raises PlannerFault."""
    if isinstance(answer, Control):
        return _checked_control(answer)
    if isinstance(answer, Trajectory):
        return _checked_trajectory(answer)
    raise PlannerFault(f"answered with {type(answer).__name__}, not with a Trajectory or a Control")


def _checked_control(control: Control) -> Control:
    try:
        acceleration, steering = float(control.acceleration_mps2), float(control.steering_rad)
    except (TypeError, ValueError, OverflowError):
        raise PlannerFault("answered with a Control whose fields are not numbers") from None
    if not np.isfinite([acceleration, steering]).all():
        raise PlannerFault(f"answered with a Control of {acceleration} m/s2 and {steering} rad")
    if abs(acceleration) > IMPOSSIBLE_MPS2 or abs(steering) > IMPOSSIBLE_RAD:
        raise PlannerFault(
            f"asked for an impossible motion: {acceleration:g} m/s2 and {steering:g} rad, beyond "
            f"{IMPOSSIBLE_MPS2:g} m/s2 or {IMPOSSIBLE_RAD:g} rad"
        )
    return Control(acceleration, steering)


def _checked_trajectory(trajectory: Trajectory) -> Trajectory:
    try:
        time, pose = np.asarray(trajectory.time_s, np.float64), np.asarray(trajectory.pose, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise PlannerFault("answered with a Trajectory whose fields are not arrays of numbers") from None
    if pose.ndim != 2 or pose.shape[1] != 3 or time.shape != pose.shape[:1] or not 1 <= len(time) <= MOST_POSES:
        raise PlannerFault(
            f"answered with a Trajectory of shapes {time.shape} and {pose.shape}, not [N] and [N, 3] "
            f"with N from 1 to {MOST_POSES}"
        )
    if not (np.isfinite(time).all() and np.isfinite(pose).all()):
        raise PlannerFault("answered with a Trajectory that holds NaN or infinity")
    if max(np.abs(pose).max(), time.max()) > FARTHEST:
        raise PlannerFault(f"answered with a Trajectory that reaches beyond {FARTHEST:g} m, rad or s")
    steps = np.diff(time, prepend=0.0)
    if (steps <= 0).any():
        raise PlannerFault("answered with a Trajectory whose times do not rise from above 0")
    speed = np.hypot(*np.diff(pose[:, :2], axis=0, prepend=np.zeros((1, 2))).T) / steps
    if speed.max() > IMPOSSIBLE_MPS:
        raise PlannerFault(
            f"asked for an impossible motion: {speed.max():.0f} m/s at {time[int(speed.argmax())]:g} s, "
            f"beyond {IMPOSSIBLE_MPS:g} m/s"
        )
    return Trajectory(time, pose)


def advance(ego: EgoState, answer: Trajectory | Control, dt_s: float) -> EgoState:
    """The ego dt_s later. Its acceleration is then the mean over that time."""
    parts = max(1, round(dt_s / SUBSTEP_S))
    follow = None if isinstance(answer, Control) else Follower(ego, answer)
    now = ego
    for part in range(parts):
        want = answer if follow is None else follow.control(now, part * dt_s / parts)
        assert isinstance(want, Control)
        now = substep(now, want, dt_s / parts)
    return replace(now, acceleration_mps2=(now.speed_mps - ego.speed_mps) / dt_s)


def substep(ego: EgoState, want: Control, step_s: float) -> EgoState:
    """A short moment at a constant acceleration: it runs along an arc."""
    turn = STEERING_RADPS * step_s
    steering = float(np.clip(want.steering_rad, -STEERING_RAD, STEERING_RAD))
    steering = float(np.clip(steering, ego.steering_rad - turn, ego.steering_rad + turn))
    acceleration = float(np.clip(want.acceleration_mps2, -BRAKE_MPS2, ACCELERATE_MPS2))
    speed = float(np.clip(ego.speed_mps + acceleration * step_s, 0.0, FASTEST_MPS))
    moving_s = step_s if speed > 0 or acceleration >= 0 else min(step_s, ego.speed_mps / -acceleration)
    way = (ego.speed_mps + speed) / 2 * moving_s
    bend = float(np.tan((steering + ego.steering_rad) / 2)) / WHEELBASE_M
    yaw = ego.yaw_rad + way * bend
    middle, chord = (ego.yaw_rad + yaw) / 2, way * float(np.sinc(way * bend / 2 / np.pi))
    return EgoState(
        x_m=float(ego.x_m + chord * np.cos(middle)),
        y_m=float(ego.y_m + chord * np.sin(middle)),
        yaw_rad=float(wrap_angle(yaw)),
        speed_mps=speed,
        acceleration_mps2=acceleration,
        yaw_rate_radps=speed * float(np.tan(steering)) / WHEELBASE_M,
        steering_rad=steering,
    )


def to_world(ego: EgoState, pose: Doubles) -> Doubles:
    """[N, 3] poses of the ego frame in the world."""
    c, s = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    x, y = ego.x_m + c * pose[:, 0] - s * pose[:, 1], ego.y_m + s * pose[:, 0] + c * pose[:, 1]
    return np.stack([x, y, pose[:, 2] + ego.yaw_rad], axis=1)


class Follower:
    """Pure pursuit along a trajectory (Coulter, 1992), and the acceleration that is in time a little later on."""

    def __init__(self, ego: EgoState, trajectory: Trajectory) -> None:
        start = np.array([[ego.x_m, ego.y_m]])
        self._points = np.concatenate([start, to_world(ego, trajectory.pose)[:, :2]])
        self._time_s = np.concatenate([[0.0], trajectory.time_s])
        way = np.diff(self._points, axis=0)
        length = np.hypot(*way.T)
        self._s_m = np.concatenate([[0.0], np.cumsum(length)])
        first = int(np.argmax(length > 1e-3))
        heading = np.array([np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)])
        # It does not drive backwards: it brakes.
        self._stands = bool(self._s_m[-1] < STANDING_M or way[first] @ heading < 0)
        moved = np.flatnonzero(length > 1e-3)
        self._ahead = way[moved[-1]] / length[moved[-1]] if len(moved) else heading

    def control(self, ego: EgoState, time_s: float) -> Control:
        """What to do time_s after the trajectory was made."""
        here = self._progress(ego)
        horizon = max(min(HORIZON_S, float(self._time_s[-1]) - time_s), 0.1)
        target = 0.0 if self._stands else float(np.interp(time_s + horizon, self._time_s, self._s_m))
        here_m = 0.0 if self._stands else here
        acceleration = 2 * (target - here_m - ego.speed_mps * horizon) / horizon**2
        if self._stands:
            acceleration = -ego.speed_mps / horizon
            return Control(acceleration, ego.steering_rad)
        aim = self._at(here + max(LEAST_LOOK_M, LOOK_S * ego.speed_mps)) - np.array([ego.x_m, ego.y_m])
        angle = float(np.arctan2(aim[1], aim[0])) - ego.yaw_rad
        return Control(acceleration, float(np.arctan2(2 * WHEELBASE_M * np.sin(angle), np.hypot(*aim))))

    def _progress(self, ego: EgoState) -> float:
        """Metres along the trajectory at which the ego's centre is."""
        start, way = self._points[:-1], np.diff(self._points, axis=0)
        square = np.maximum((way**2).sum(axis=1), 1e-12)
        away = np.array([ego.x_m, ego.y_m]) - start
        part = np.clip((away * way).sum(axis=1) / square, 0.0, 1.0)
        gap = np.hypot(*(away - part[:, None] * way).T)
        nearest = int(np.argmin(gap))
        s = float(self._s_m[nearest] + part[nearest] * np.sqrt(square[nearest]))
        beyond = float((np.array([ego.x_m, ego.y_m]) - self._points[-1]) @ self._ahead)
        return s + max(0.0, beyond) if nearest == len(way) - 1 and part[nearest] == 1.0 else s

    def _at(self, s_m: float) -> Doubles:
        point = np.array([np.interp(s_m, self._s_m, self._points[:, axis]) for axis in (0, 1)])
        return point + max(0.0, s_m - float(self._s_m[-1])) * self._ahead
