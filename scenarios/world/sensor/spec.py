"""What LiDARs a car carries: their rays and where they stand. S sensor."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dcgen.errors import WorldError

RIGS = ("roof", "carlasc")


@dataclass(frozen=True)
class LidarSpec:
    """One or several alike spinning LiDARs that stand upright on the ego.

    mounts_m: [S] positions x, y, z in the ego frame, whose z = 0 is the ground below the ego. noise_m: standard
    deviation of the range, along the ray. dropout: share of the rays that return nothing and see nothing.
    """

    channels: int
    upper_rad: float
    lower_rad: float
    azimuths: int
    range_m: float
    mounts_m: tuple[tuple[float, float, float], ...]
    noise_m: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.channels < 1 or self.azimuths < 1:
            raise ValueError(f"lidar needs channels and azimuths, got {self.channels} and {self.azimuths}")
        if not -1.5 <= self.lower_rad <= self.upper_rad <= 1.5:
            raise ValueError(
                f"lidar needs -1.5 <= lower_rad <= upper_rad <= 1.5, got {self.lower_rad} and {self.upper_rad}"
            )
        if not 0 < self.range_m < math.inf:
            raise ValueError(f"lidar.range_m needs a positive length, got {self.range_m}")
        if not 0 <= self.noise_m < math.inf or not 0 <= self.dropout < 1:
            raise ValueError(f"lidar needs noise_m >= 0 and 0 <= dropout < 1, got {self.noise_m} and {self.dropout}")
        mounts = np.asarray(self.mounts_m, np.float64)
        if mounts.ndim != 2 or mounts.shape[1] != 3 or len(mounts) < 1 or not np.isfinite(mounts).all():
            raise ValueError(f"lidar.mounts_m needs positions x, y, z, got {self.mounts_m}")
        if len(mounts) > 255:
            raise ValueError(f"lidar.mounts_m holds {len(mounts)} sensors; 255 are the most")
        object.__setattr__(self, "mounts_m", tuple((float(x), float(y), float(z)) for x, y, z in mounts))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> LidarSpec:
        """The inverse of to_dict, also after JSON. Raises TypeError or ValueError."""
        return LidarSpec(**values)


def roof_lidar() -> LidarSpec:
    """One LiDAR on the roof with the field of view and the resolution of a Velodyne HDL-64E at 10 Hz."""
    return LidarSpec(64, math.radians(2.0), math.radians(-24.8), 2048, 80.0, ((0.0, 0.0, 1.8),))


def carlasc_lidars(seed: int) -> LidarSpec:
    """CarlaSC's set-up: one LiDAR on the ego and 19 around it, 1.3 million points a second each, at 10 Hz."""
    rng = np.random.default_rng(seed)
    angle, gap = rng.uniform(0, 2 * np.pi, 19), 20.0 * np.sqrt(rng.random(19))
    around = [(float(r * np.cos(a)), float(r * np.sin(a)), 1.8) for a, r in zip(angle, gap, strict=True)]
    return LidarSpec(64, math.radians(2.0), math.radians(-25.0), 2031, 50.0, ((-0.5, 0.0, 1.8), *around))


def lidar_rig(name: str, seed: int = 0) -> LidarSpec:
    """A rig by its name, one of RIGS; seed places CarlaSC's. Raises WorldError for another name."""
    if name == "roof":
        return roof_lidar()
    if name == "carlasc":
        return carlasc_lidars(seed)
    raise WorldError(f"no LiDAR is called {name!r}; choose one of {', '.join(RIGS)}")
