"""Drivers who follow a path and whoever is ahead on it (IDM), and wait for whoever crosses it. N driver, F frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dcgen.types import Doubles
from scenarios.pathway import Path

SUBSTEP_S = 0.1
LOOK_M = 60.0
TIME_GAP_S, MIN_GAP_M = 1.3, 2.0
ACCELERATE_MPS2, COMFORT_MPS2, BRAKE_MPS2 = 1.6, 2.2, 7.0
OVERSPEED_S, OVERSPEED_MPS2 = 0.3, 3.5  # how soon and how hard it slows down to what a bend allows
SIDE_M = 0.35  # what counts as beside the path, not on it
LOOK_AHEAD_S = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
CROSSING_RAD, CROSSING_S = 0.5, 1.6
REACH_M = 8.0  # half a bus, and a little


@dataclass(frozen=True)
class Mover:
    """A road user whose poses are known in every frame."""

    class_id: int
    size_m: tuple[float, float, float]
    pose: Doubles  # [F, 3] x, y, yaw
    speed_mps: Doubles  # [F]
    is_ego: bool = False

    def future(self, time_s: float, dt_s: float) -> Doubles:
        """[K, 3] poses at time_s + LOOK_AHEAD_S; it keeps its last speed beyond the last frame."""
        at = time_s + LOOK_AHEAD_S
        near = self._frames_near(time_s, dt_s)
        clock = near * dt_s
        x, y, yaw = (np.interp(at, clock, column) for column in self.pose[near].T)
        beyond = np.maximum(at - clock[-1], 0.0) * self.speed_mps[-1]
        return np.stack([x + beyond * np.cos(yaw), y + beyond * np.sin(yaw), yaw], axis=1)

    def speed_at(self, time_s: float, dt_s: float) -> float:
        near = self._frames_near(time_s, dt_s)
        return float(np.interp(time_s, near * dt_s, self.speed_mps[near]))

    def _frames_near(self, time_s: float, dt_s: float) -> np.ndarray:
        """The frames from just before time_s to just after the last look ahead, of those there are."""
        first = min(int(time_s / dt_s), len(self.pose) - 1)
        ahead = int(LOOK_AHEAD_S[-1] / dt_s) + 3
        return np.arange(max(0, first - 1), min(first + ahead, len(self.pose)))


@dataclass
class Driver:
    """A road user that follows a path from its start; poses are written down frame by frame."""

    class_id: int
    size_m: tuple[float, float, float]
    path: Path
    wanted_mps: float
    start_mps: float | None = None
    s_m: float = 0.0
    speed_mps: float = 0.0
    rows: list[tuple[float, float]] = field(default_factory=list)

    def begin(self) -> None:
        first = self.wanted_mps if self.start_mps is None else self.start_mps
        self.s_m, self.rows = 0.0, []
        self.speed_mps = min(first, float(self.path.limit_mps[: int(5 + first)].min()))

    def future(self) -> Doubles:
        """[K, 3] poses at LOOK_AHEAD_S from now, at its present speed."""
        return self.path.at(self.s_m + self.speed_mps * LOOK_AHEAD_S)

    def wish_mps(self) -> float:
        """The highest speed from which it can slow down to what the road allows ahead."""
        low, high = np.searchsorted(self.path.s_m, [self.s_m, self.s_m + 40.0])
        cut = slice(max(0, int(low) - 1), int(high) + 1)
        room = np.maximum(self.path.s_m[cut] - self.s_m, 0.0)
        allowed = np.sqrt(self.path.limit_mps[cut] ** 2 + 2 * COMFORT_MPS2 * room)
        return float(min(self.wanted_mps, allowed.min()))


def simulate_drivers(drivers: list[Driver], movers: list[Mover], dt_s: float, frames: int) -> list[Mover]:
    """Drive everybody for `frames` frames, aware of each other and of the movers (the ego among them)."""
    substeps = max(1, int(np.ceil(dt_s / SUBSTEP_S - 1e-9)))
    step_s = dt_s / substeps
    for driver in drivers:
        driver.begin()
    for index in range(frames):
        for part in range(substeps):
            if part == 0:
                for driver in drivers:
                    driver.rows.append((driver.s_m, driver.speed_mps))
            if index < frames - 1:
                _advance(drivers, movers, (index + part / substeps) * dt_s, step_s, dt_s)
    done = []
    for driver in drivers:
        s, speed = np.array(driver.rows).T
        done.append(Mover(driver.class_id, driver.size_m, driver.path.at(s), speed))
    return done


def _advance(drivers: list[Driver], movers: list[Mover], time_s: float, step_s: float, dt_s: float) -> None:
    """One step of everybody at once, from what all see at its beginning."""
    if not drivers:
        return
    poses = [driver.future() for driver in drivers] + [mover.future(time_s, dt_s) for mover in movers]
    future = np.stack(poses)  # [A, K, 3]
    speeds = np.array([d.speed_mps for d in drivers] + [m.speed_at(time_s, dt_s) for m in movers])
    sizes = np.array([d.size_m[:2] for d in drivers] + [m.size_m[:2] for m in movers])
    given = np.arange(len(future)) >= len(drivers)
    moves = []
    for index, driver in enumerate(drivers):
        near = np.hypot(*(future[:, 0, :2] - future[index, 0, :2]).T) < LOOK_M + 20.0
        near[index] = False
        others = np.flatnonzero(near)
        gap, closing_to = gap_ahead(driver, future[others], speeds[others], sizes[others], given[others])
        moves.append(_idm(driver, gap, closing_to))
    for driver, acceleration in zip(drivers, moves, strict=True):
        speed = max(0.0, driver.speed_mps + acceleration * step_s)
        driver.s_m += step_s * (driver.speed_mps + speed) / 2
        driver.speed_mps = speed


def gap_ahead(
    driver: Driver, future: Doubles, speeds: Doubles, sizes: Doubles, given: np.ndarray
) -> tuple[float, float]:
    """Metres free ahead, and the speed of what ends them: a leader, somebody who crosses first, the path's end."""
    path, half = driver.path, driver.size_m[0] / 2
    end = float(path.s_m[-1]) - driver.s_m - half
    low, high = np.searchsorted(path.s_m, [driver.s_m - 1.0, driver.s_m + LOOK_M])
    points, s, yaw = path.points_m[low:high], path.s_m[low:high], path.yaw_rad[low:high]
    if not len(future) or not len(points):
        return end, 0.0
    best, best_speed = end, 0.0
    flat = future.reshape(-1, 3)
    box = (flat[:, :2] > points.min(axis=0) - REACH_M) & (flat[:, :2] < points.max(axis=0) + REACH_M)
    rows = np.flatnonzero(box.all(axis=1))
    if not len(rows):
        return best, best_speed
    seen = flat[rows]
    square = (seen[:, None, 0] - points[:, 0]) ** 2 + (seen[:, None, 1] - points[:, 1]) ** 2
    nearest = square.argmin(axis=1)
    distance = np.sqrt(square[np.arange(len(rows)), nearest])
    other, k = np.divmod(rows, future.shape[1])
    turn = seen[:, 2] - yaw[nearest]
    along, across = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    length, width = sizes[other].T
    ahead = s[nearest] - driver.s_m
    free = ahead - half - (length * along + width * across) / 2
    hit = (distance < (driver.size_m[1] + width * along + length * across) / 2 + SIDE_M) & (ahead > 0.1)
    arrive = ahead / max(driver.speed_mps, 1.0)
    # Somebody crosses here at about the time of arrival, and goes first: a given mover, or whoever comes earlier.
    first = given[other] | (LOOK_AHEAD_S[k] < arrive)
    meets = (np.abs(arrive - LOOK_AHEAD_S[k]) < CROSSING_S) & (across > np.sin(CROSSING_RAD)) & (free >= 1.0)
    hit &= (k == 0) | (first & meets)
    free = np.where(k == 0, free, free - 1.5)
    toward = np.where(k == 0, speeds[other] * np.maximum(0.0, np.cos(turn)), 0.0)
    for row in np.flatnonzero(hit & (free < best)):
        if free[row] < best:
            best, best_speed = float(free[row]), float(toward[row])
    return best, best_speed


def _idm(driver: Driver, gap_m: float, leader_mps: float) -> float:
    return idm_mps2(driver.speed_mps, driver.wish_mps(), gap_m, leader_mps)


def idm_mps2(speed: float, wish: float, gap_m: float, leader_mps: float) -> float:
    """Acceleration of the Intelligent Driver Model (Treiber et al., 2000). Speeds in m/s; gap_m between bumpers."""
    wish = max(wish, 0.1)
    over = min(OVERSPEED_MPS2, (speed - wish) / OVERSPEED_S) / ACCELERATE_MPS2
    free = 1 - (speed / wish) ** 4 if speed <= wish else -over
    closing = speed * (speed - leader_mps) / (2 * np.sqrt(ACCELERATE_MPS2 * COMFORT_MPS2))
    wanted_gap = MIN_GAP_M + max(0.0, speed * TIME_GAP_S + closing)
    follow = (wanted_gap / max(gap_m, 0.1)) ** 2
    return float(max(-BRAKE_MPS2, ACCELERATE_MPS2 * (free - follow)))
