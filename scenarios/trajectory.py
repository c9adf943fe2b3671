"""Logged ego trajectories: KITTI poses.txt (T x 12) and CSV t,x,y,yaw -> LoggedTrajectory. T frames."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dcgen.errors import ScenarioError
from dcgen.types import Doubles, wrap_angle
from scenarios.reading import read_file

MAX_BYTES = 20_000_000
MAX_COORDINATE_M = 1e7  # poses may be in UTM
_COLUMNS = {
    "t": ("t", "time", "time_s", "timestamp", "t_s"),
    "x": ("x", "x_m", "pos_x"),
    "y": ("y", "y_m", "pos_y"),
    "z": ("z", "z_m", "pos_z"),
    "yaw": ("yaw", "yaw_rad", "heading", "theta"),
    "yaw_deg": ("yaw_deg", "heading_deg"),
}


@dataclass(frozen=True)
class LoggedTrajectory:
    """Ego poses over time in the world frame."""

    time_s: Doubles  # [T], strictly growing
    pose: Doubles  # [T, 3] x, y, yaw
    z_m: Doubles  # [T]

    def __post_init__(self) -> None:
        t = len(self.time_s)
        if self.time_s.shape != (t,) or self.pose.shape != (t, 3) or self.z_m.shape != (t,):
            raise ValueError(f"trajectory needs pose [{t}, 3] and z_m [{t}], got {self.pose.shape}, {self.z_m.shape}")


def read_trajectory(path: Path, frame: Literal["world", "carla"] = "world", dt_s: float = 0.1) -> LoggedTrajectory:
    """Reads poses.txt or CSV, told apart by content. `carla`: y and yaw are turned over.

    poses.txt takes its times from a times.txt beside it, else dt_s apart. A camera's frame (z forward, y down) is
    recognised by its motion. CSV yaw is in radians, or in degrees in a column yaw_deg. Raises ScenarioError.
    """
    path = Path(path)
    rows = _rows(path)
    if len(rows[0][1]) == 12:
        logged = _from_matrices(path, rows, dt_s)
    else:
        logged = _from_columns(path, rows)
    if frame == "carla":
        pose = logged.pose * np.array([1.0, -1.0, -1.0])
        logged = LoggedTrajectory(logged.time_s, pose, logged.z_m)
    return logged


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of the lines that hold something."""
    raw = read_file(path, MAX_BYTES, "poses.txt or a CSV file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path.name}: byte {error.start} is not text; pass poses.txt or a CSV file") from None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                fields = next(csv.reader([line])) if "," in line else line.split()
            except csv.Error as error:
                raise ScenarioError(f"{path.name}: line {number}: {error}; pass poses.txt or a CSV file") from None
            rows.append((number, [f.strip() for f in fields]))
    if not rows:
        raise ScenarioError(f"{path.name}: is empty; pass poses.txt or a CSV file")
    return rows


def _numbers(path: Path, rows: list[tuple[int, list[str]]], width: int) -> Doubles:
    out = np.empty((len(rows), width))
    for index, (number, fields) in enumerate(rows):
        place = f"{path.name}: line {number}"
        if len(fields) != width:
            raise ScenarioError(f"{place}: needs {width} numbers like the lines before, got {len(fields)}; mend it")
        try:
            out[index] = [float(f) for f in fields]
        except ValueError:
            raise ScenarioError(f"{place}: holds something other than numbers; mend it") from None
        if not (np.isfinite(out[index]).all() and np.abs(out[index]).max() < MAX_COORDINATE_M * 1e3):
            raise ScenarioError(f"{place}: holds NaN, infinity or a huge number; mend it")
    if len(out) < 2:
        raise ScenarioError(f"{path.name}: a trajectory needs at least 2 poses, got {len(out)}; add the missing ones")
    return out


def _from_matrices(path: Path, rows: list[tuple[int, list[str]]], dt_s: float) -> LoggedTrajectory:
    matrices = _numbers(path, rows, 12).reshape(-1, 3, 4)
    turn, place = matrices[:, :, :3], matrices[:, :, 3]
    wrong = np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) > 0.05
    wrong |= np.linalg.det(turn) < 0  # a mirror image
    if wrong.any():
        line = rows[int(np.argmax(wrong))][0]
        raise ScenarioError(f"{path.name}: line {line}: its first 3x3 is no rotation; write r11 r12 r13 tx r21 ...")
    moved = np.diff(place, axis=0)
    along_x = float(np.einsum("ti,ti->t", moved, turn[:-1, :, 0]).sum())
    along_z = float(np.einsum("ti,ti->t", moved, turn[:-1, :, 2]).sum())
    if along_z > 2 * abs(along_x):  # KITTI's camera: x right, y down, z forward
        axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
        turn, place = axes @ turn @ axes.T, place @ axes.T
    yaw = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
    times = _times(path, len(place), dt_s)
    return _checked(path, LoggedTrajectory(times, np.column_stack([place[:, :2], yaw]), place[:, 2].copy()), rows)


def _times(path: Path, frames: int, dt_s: float) -> Doubles:
    beside = path.with_name("times.txt")
    if not beside.is_file() or beside == path:
        return np.arange(frames, dtype=np.float64) * dt_s
    times = _numbers(beside, _rows(beside), 1)[:, 0]
    if len(times) != frames:
        raise ScenarioError(f"{beside.name}: has {len(times)} times for {frames} poses of {path.name}; match them")
    return times


def _from_columns(path: Path, rows: list[tuple[int, list[str]]]) -> LoggedTrajectory:
    head = [f.lower() for f in rows[0][1]]
    columns = {key: head.index(n) for key, names in _COLUMNS.items() for n in names if n in head}
    if columns:
        missing = [key for key in ("t", "x", "y") if key not in columns]
        if missing or not {"yaw", "yaw_deg"} & columns.keys():
            need = ", ".join(missing or ["yaw"])
            raise ScenarioError(
                f"{path.name}: line {rows[0][0]}: lacks the column {need}; add it, columns are t,x,y,yaw"
            )
        rows = rows[1:]
    else:
        if len(head) != 4:
            raise ScenarioError(
                f"{path.name}: line {rows[0][0]}: {len(head)} columns; write t,x,y,yaw (CSV) or 12 numbers (poses.txt)"
            )
        columns = {"t": 0, "x": 1, "y": 2, "yaw": 3}
    values = _numbers(path, rows, len(head))
    yaw = np.radians(values[:, columns["yaw_deg"]]) if "yaw_deg" in columns else values[:, columns["yaw"]]
    if "yaw_deg" not in columns and np.abs(yaw).max() > 30.0:
        raise ScenarioError(f"{path.name}: yaw goes up to {np.abs(yaw).max():.0f} rad; name the column yaw_deg")
    z = values[:, columns["z"]] if "z" in columns else np.zeros(len(values))
    pose = np.column_stack([values[:, columns["x"]], values[:, columns["y"]], yaw])
    return _checked(path, LoggedTrajectory(values[:, columns["t"]].copy(), pose, np.array(z)), rows)


def _checked(path: Path, logged: LoggedTrajectory, rows: list[tuple[int, list[str]]]) -> LoggedTrajectory:
    backwards = np.diff(logged.time_s) <= 0
    if backwards.any():
        line = rows[int(np.argmax(backwards)) + 1][0]
        raise ScenarioError(f"{path.name}: line {line}: its time is not later than the line before; sort the poses")
    far = np.abs(np.column_stack([logged.pose[:, :2], logged.z_m])).max(axis=1) > MAX_COORDINATE_M
    if far.any():
        line = rows[int(np.argmax(far))][0]
        raise ScenarioError(f"{path.name}: line {line}: lies beyond {MAX_COORDINATE_M:.0e} m; shift the origin")
    pose = logged.pose.copy()
    pose[:, 2] = wrap_angle(pose[:, 2])
    return LoggedTrajectory(logged.time_s, pose, logged.z_m)
