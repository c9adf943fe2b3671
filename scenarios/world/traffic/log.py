"""Every road user over time, and how that is kept. N agent, T frame; world frame, box centres."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import AgentTracks, Doubles, Floats, Semantics, wrap_angle

FORMAT = "dcgen-traffic-1"
KINDS = ("car", "van", "truck", "bus", "motorcycle", "bicycle", "pedestrian")
CLASS_OF_KIND = {
    **dict.fromkeys(("car", "van", "truck", "bus", "motorcycle"), Semantics.VEHICLE),
    "bicycle": Semantics.BICYCLE,
    "pedestrian": Semantics.PEDESTRIAN,
}
MOST_MPS = 60.0  # nobody is faster
_DTYPES = {
    "id": np.int64,
    "kind": np.uint8,
    "class_id": np.uint8,
    "size_m": np.float32,
    "pose": np.float32,
    "z_m": np.float32,
    "speed_mps": np.float32,
    "valid": np.bool_,
}


@dataclass(frozen=True)
class Samples:
    """Some tracks at some instants."""

    pose: Doubles  # [n, T, 3]
    z_m: Floats  # [n, T]
    speed_mps: Floats  # [n, T]
    valid: NDArray[np.bool_]  # [n, T]


@dataclass(frozen=True)
class TrafficLog:
    """Every road user of a simulation. Poses are of the box centre; z is SUMO's height of the road below."""

    dt_s: float
    id: NDArray[np.int64]  # [N]
    kind: NDArray[np.uint8]  # [N] index into KINDS
    class_id: NDArray[np.uint8]  # [N]
    size_m: Floats  # [N, 3] length, width, height
    pose: Floats  # [N, T, 3] x, y, yaw
    z_m: Floats  # [N, T]
    speed_mps: Floats  # [N, T]
    valid: NDArray[np.bool_]  # [N, T]

    def __post_init__(self) -> None:
        n, t = self.valid.shape
        want = {
            "id": (n,),
            "kind": (n,),
            "class_id": (n,),
            "size_m": (n, 3),
            "pose": (n, t, 3),
            "z_m": (n, t),
            "speed_mps": (n, t),
        }
        for name, shape in want.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"traffic.{name} needs shape {shape}, got {getattr(self, name).shape}")
        if not 0 < self.dt_s < float("inf"):
            raise ValueError(f"traffic.dt_s needs a positive time, got {self.dt_s}")

    @property
    def frames(self) -> int:
        return self.valid.shape[1]

    def instants(self, start_frame: int, frames: int, stride: float = 1) -> NDArray[Any]:
        """[T] frames of the log, start, start + stride, ...: integers, or floats where stride is no whole number."""
        last = start_frame + (frames - 1) * stride
        if start_frame < 0 or frames < 1 or not stride > 0 or last > self.frames - 1 + 1e-9:
            raise ValueError(f"frames {start_frame}..{last:g} by {stride:g} leave the log of {self.frames} frames")
        at = start_frame + np.arange(frames) * stride
        return at if at.dtype.kind == "f" else at.astype(np.int64)

    def sample(self, rows: NDArray[Any], at: NDArray[Any]) -> Samples:
        """Tracks `rows` [n] at frames `at` [T] of the log. Between frames: straight lines, the shorter way to turn.

        Between frames a track is there if it is at both neighbours.
        """
        pick = np.asarray(rows)[:, None]
        low = np.floor(at + 1e-9).astype(np.int64)
        pose, valid = self.pose[pick, low].astype(np.float64), self.valid[pick, low]
        z, speed = self.z_m[pick, low], self.speed_mps[pick, low]
        share = np.where(at - low > 1e-6, at - low, 0.0)
        if share.any():
            high = low + (share > 0)
            valid = valid & self.valid[pick, high]
            step = self.pose[pick, high] - pose
            step[..., 2] = wrap_angle(step[..., 2])
            pose = np.where(valid[..., None], pose + step * share[:, None], 0.0)
            pose[..., 2] = wrap_angle(pose[..., 2])
            z = np.where(valid, z + (self.z_m[pick, high] - z) * share, 0).astype(np.float32)
            speed = np.where(valid, speed + (self.speed_mps[pick, high] - speed) * share, 0).astype(np.float32)
        return Samples(pose, z, speed, valid)

    def rows_near(self, at: NDArray[Any], centre_m: tuple[float, float], radius_m: float) -> NDArray[np.intp]:
        """Tracks that come within radius_m of a point at one of the frames `at` [T]."""
        low, centre = np.floor(at + 1e-9).astype(np.int64), np.asarray(centre_m, np.float32)
        slack = MOST_MPS * self.dt_s if at.dtype.kind == "f" else 0.0
        near = self.valid[:, low] & (np.abs(self.pose[:, low, :2] - centre) <= radius_m + slack).all(axis=2)
        rows = np.flatnonzero(near.any(axis=1))
        seen = self.sample(rows, at)
        offset = seen.pose[..., :2].astype(np.float32) - centre
        inside = (np.einsum("ntc,ntc->nt", offset, offset) <= radius_m**2) & seen.valid
        return np.asarray(rows[inside.any(axis=1)])

    def window(
        self,
        start_frame: int,
        frames: int,
        stride: float = 1,
        centre_m: tuple[float, float] | None = None,
        radius_m: float | None = None,
    ) -> AgentTracks:
        """Agents over frames start, start + stride, ...; z_m is zero, for the caller knows the ground.

        With a centre and a radius only those agents are kept that come that near in some frame.
        """
        at = self.instants(start_frame, frames, stride)
        if centre_m is not None and radius_m is not None:
            rows = self.rows_near(at, centre_m, radius_m)
        else:
            rows = np.arange(len(self.id))
            rows = rows[self.sample(rows, at).valid.any(axis=1)]
        seen = self.sample(rows, at)
        zero = np.zeros((len(rows), frames), np.float32)
        return AgentTracks(
            self.id[rows], self.class_id[rows], self.size_m[rows], seen.pose, zero, seen.speed_mps, seen.valid
        )


def save_traffic(log: TrafficLog, path: Path) -> None:
    """Write the log as a compressed .npz, whole or not at all."""
    path = Path(path)
    arrays: dict[str, Any] = {name: getattr(log, name) for name in _DTYPES}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, format=np.array(FORMAT), dt_s=np.array(log.dt_s), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise WorldError(f"{path}: cannot be written ({reason}); free the disk or choose another folder") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_traffic(path: Path) -> TrafficLog:
    """Read a log back. Raises WorldError for anything that is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["format"]) != FORMAT:
                raise WorldError(f"{path}: format {file['format']} is not {FORMAT}; simulate the traffic again")
            arrays = {name: file[name] for name in _DTYPES}
            dt_s = float(file["dt_s"])
        for name, dtype in _DTYPES.items():
            if arrays[name].dtype != dtype:
                raise WorldError(
                    f"{path}: {name} is {arrays[name].dtype}, not {np.dtype(dtype)}; simulate the traffic again"
                )
        if not all(np.isfinite(arrays[name]).all() for name in ("size_m", "pose", "z_m", "speed_mps")):
            raise WorldError(f"{path}: holds what is no number; simulate the traffic again")
        return TrafficLog(dt_s, **arrays)
    except WorldError:
        raise
    except FileNotFoundError:
        raise WorldError(f"{path}: no such traffic log; simulate the traffic first") from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own on a damaged file
        raise WorldError(f"{path}: not a traffic log ({type(error).__name__}); simulate the traffic again") from error
