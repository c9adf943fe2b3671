"""The other road users in a closed loop: as recorded, or yielding by the Intelligent Driver Model. N object, F frame.

Who yields follows its recorded path and never runs ahead of its recorded schedule; undisturbed it drives as recorded.
Beyond the last recorded frame everybody goes straight on at the last speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.planner import EgoState
from dcgen.types import AgentTracks, Doubles, Semantics
from scenarios.carfollow import LOOK_AHEAD_S, SUBSTEP_S, Driver, gap_ahead, idm_mps2
from scenarios.pathway import Path

DRIVERS = (Semantics.VEHICLE, Semantics.BICYCLE)
STANDING_M = 1.0  # who moves less in all is parked
BEYOND_M, STEP_M = 80.0, 1.0
FASTER = 1.2  # than ever recorded, to make up for lost time
LEAST_WISH_MPS = 3.0
EGO_CLASS = int(Semantics.VEHICLE)


@dataclass(frozen=True)
class TrafficState:
    """Everybody at one moment, in the world."""

    pose: Doubles  # [N, 3] x, y, yaw
    velocity: Doubles  # [N, 3] x, y, about z
    z_m: Doubles  # [N]
    speed_mps: Doubles  # [N]
    valid: NDArray[np.bool_]  # [N]
    shape_frame: NDArray[np.int64]  # [N] the recorded frame in which it looked as it does now


@dataclass(frozen=True)
class Recording:
    """The objects' tracks over the frames of a rollout, which may be more than were recorded."""

    pose: Doubles  # [N, F, 3] yaw unwrapped
    velocity: Doubles  # [N, F, 3] on the way to the next frame
    z_m: Doubles  # [N, F]
    speed_mps: Doubles  # [N, F]
    valid: NDArray[np.bool_]  # [N, F]


def carried_on(objects: AgentTracks, frames: int, dt_s: float) -> Recording:
    """The tracks over so many frames: cut off, or straight on at the last speed."""
    n, recorded = objects.valid.shape
    more = max(0, frames - recorded)
    after = np.arange(1, more + 1) * dt_s
    last, pace = objects.pose[:, -1:], objects.speed_mps[:, -1:].astype(np.float64)
    heading = np.stack([np.cos(last[..., 2]), np.sin(last[..., 2]), np.zeros((n, 1))], axis=-1)
    beyond = last + (pace * after)[..., None] * heading
    pose = np.concatenate([objects.pose, beyond], axis=1)[:, :frames]

    def longer(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.repeat(values[:, -1:], more, axis=1)], axis=1)[:, :frames]

    valid, speed = longer(objects.valid), longer(objects.speed_mps.astype(np.float64))
    pose = np.where(valid[..., None], pose, 0.0)
    pose[..., 2] = _unwrapped(pose[..., 2], valid)
    along = np.stack([speed * np.cos(pose[..., 2]), speed * np.sin(pose[..., 2]), np.zeros_like(speed)], axis=-1)
    step = np.diff(pose, axis=1) / dt_s
    both = (valid[:, 1:] & valid[:, :-1])[..., None]
    onward = np.concatenate([both, np.zeros((n, 1, 1), bool)], axis=1)
    so_far = np.concatenate([np.zeros((n, 1, 1), bool), both], axis=1)
    nothing = np.zeros((n, 1, 3))
    velocity = np.where(so_far, np.concatenate([nothing, step], axis=1), along)
    velocity = np.where(onward, np.concatenate([step, nothing], axis=1), velocity)
    return Recording(pose, velocity, longer(objects.z_m.astype(np.float64)), speed, valid)


def _unwrapped(yaw: Doubles, valid: NDArray[np.bool_]) -> Doubles:
    out = yaw.copy()
    for row, there in enumerate(valid):
        out[row, there] = np.unwrap(yaw[row, there])
    return out


@dataclass
class Yielding:
    """A driver on its recorded path, with its recorded schedule."""

    row: int
    driver: Driver
    schedule_m: Doubles  # [F] where on the path it is to be in each frame; NaN where it is not there
    first: int
    leaves_m: float  # where it is lost sight of; inf where it is there to the end


class Traffic:
    """Moves everybody, a frame at a time, aware of the ego where yields is true."""

    def __init__(self, objects: AgentTracks, frames: int, dt_s: float, yields: bool) -> None:
        self.objects, self.dt_s, self.frame = objects, dt_s, 0
        self.recording = carried_on(objects, frames, dt_s)
        self._recorded = objects.valid.shape[1]
        rows = [n for n in range(len(objects.id)) if objects.class_id[n] in DRIVERS] if yields else []
        found = [self._yielding(row) for row in rows]
        self._yielding_rows = [one for one in found if one is not None]
        self.state = self._now()

    def _yielding(self, row: int) -> Yielding | None:
        valid, pose = self.recording.valid[row], self.recording.pose[row]
        there = np.flatnonzero(valid)
        if not len(there):
            return None
        span = np.arange(there[0], there[-1] + 1)
        line = np.stack([np.interp(span, there, pose[there, axis]) for axis in range(3)], axis=1)
        s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line[:, :2], axis=0).T))])
        if s[-1] < STANDING_M:
            return None
        fastest = float(np.diff(s).max() / self.dt_s)
        wish = max(FASTER * fastest, LEAST_WISH_MPS)
        size = self.objects.size_m[row].astype(float)
        driver = Driver(
            int(self.objects.class_id[row]), (size[0], size[1], size[2]), _path(line, s, wish), wish, s_m=0.0,
            speed_mps=float(s[1] / self.dt_s),
        )  # fmt: skip
        schedule = np.full(len(valid), np.nan)
        schedule[span] = s
        stays = there[-1] == len(valid) - 1
        return Yielding(row, driver, schedule, int(there[0]), np.inf if stays else float(s[-1]))

    def _now(self) -> TrafficState:
        k, record = self.frame, self.recording
        pose, velocity, valid = record.pose[:, k].copy(), record.velocity[:, k].copy(), record.valid[:, k].copy()
        z, speed = record.z_m[:, k].copy(), record.speed_mps[:, k].copy()
        shape = np.full(len(valid), min(k, self._recorded - 1), np.int64)
        for one in self._yielding_rows:
            driver, row = one.driver, one.row
            valid[row] = k >= one.first and driver.s_m < one.leaves_m
            pose[row], speed[row] = driver.path.at(driver.s_m), driver.speed_mps
            heading = pose[row, 2]
            velocity[row] = speed[row] * np.cos(heading), speed[row] * np.sin(heading), self._turning(driver)
            known = np.flatnonzero(np.isfinite(one.schedule_m[: k + 1]))
            if len(known):
                near = known[np.searchsorted(one.schedule_m[known], driver.s_m + 1e-6, side="right") - 1]
                shape[row] = min(int(near), self._recorded - 1)
                z[row] = record.z_m[row, near]
        return TrafficState(pose, velocity, z, speed, valid, shape)

    @staticmethod
    def _turning(driver: Driver) -> float:
        ahead = driver.path.at(np.array([driver.s_m, driver.s_m + 1.0]))
        return float(driver.speed_mps * (ahead[1, 2] - ahead[0, 2]))

    def advance(self, ego: EgoState, ego_size_m: tuple[float, float, float]) -> None:
        """To the next frame. The ego is seen as it is now."""
        parts = max(1, int(np.ceil(self.dt_s / SUBSTEP_S - 1e-9)))
        if self._yielding_rows:
            for part in range(parts):
                self._drive(self.state, ego, ego_size_m, part / parts, 1 / parts)
        self.frame += 1
        self.state = self._now()

    def _drive(
        self, state: TrafficState, ego: EgoState, ego_size_m: tuple[float, float, float], part: float, step: float
    ) -> None:
        """A part of a frame of everybody who yields at once, from what all see at its beginning."""
        active = [one for one in self._yielding_rows if self.frame >= one.first]
        still = np.ones(len(state.valid), bool)
        still[[one.row for one in self._yielding_rows]] = False
        others = np.flatnonzero(state.valid & still)
        gone_s = part * self.dt_s
        body = np.array([ego.x_m, ego.y_m, ego.yaw_rad])
        moving = np.array([np.cos(ego.yaw_rad), np.sin(ego.yaw_rad), 0.0]) * ego.speed_mps
        times = (LOOK_AHEAD_S + gone_s)[:, None]
        future = np.stack(
            [one.driver.future() for one in active]
            + [state.pose[n] + state.velocity[n] * [1, 1, 0] * times for n in others]
            + [body + moving * times]
        )
        speeds = np.array([one.driver.speed_mps for one in active] + [*state.speed_mps[others], ego.speed_mps])
        sizes = np.array([one.driver.size_m[:2] for one in active] + [*self.objects.size_m[others, :2], ego_size_m[:2]])
        given = np.arange(len(future)) >= len(active)
        moves = []
        for index, one in enumerate(active):
            keep = np.arange(len(future)) != index
            gap, leader = gap_ahead(one.driver, future[keep], speeds[keep], sizes[keep], given[keep])
            moves.append(idm_mps2(one.driver.speed_mps, one.driver.wish_mps(), gap, leader))
        for one, acceleration in zip(active, moves, strict=True):
            self._move(one, acceleration, part, step)

    def _move(self, one: Yielding, acceleration: float, part: float, step: float) -> None:
        driver, step_s = one.driver, step * self.dt_s
        before, after = one.schedule_m[self.frame], one.schedule_m[min(self.frame + 1, len(one.schedule_m) - 1)]
        wanted = np.inf
        if np.isfinite(before) and np.isfinite(after):  # else it is late, and its recording is over
            wanted = (before + (after - before) * min(1.0, part + step) - driver.s_m) / step_s
        driver.speed_mps = float(max(0.0, min(driver.speed_mps + acceleration * step_s, wanted)))
        driver.s_m += driver.speed_mps * step_s


def _path(line: Doubles, s: Doubles, wish_mps: float) -> Path:
    """A recorded way [F, 3], a point at least every STEP_M metres, and straight on behind it."""
    moved = np.concatenate([[True], np.diff(s) > 1e-6])
    line, s = line[moved], s[moved]
    even = np.union1d(s, np.arange(0.0, s[-1], STEP_M))
    points = np.stack([np.interp(even, s, line[:, axis]) for axis in range(3)], axis=1)
    after = np.arange(STEP_M, BEYOND_M + STEP_M, STEP_M)
    heading = np.array([np.cos(line[-1, 2]), np.sin(line[-1, 2]), 0.0])
    points = np.concatenate([points, points[-1] + after[:, None] * heading])
    along = np.concatenate([even, even[-1] + after])
    return Path(points[:, :2], along, points[:, 2], np.full(len(along), wish_mps))
