"""What is asked of a recording, in a form that travels to another process as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcgen.errors import CarlaError
from dcgen.types import GridSpec, nano_grid

MOST_TICK_S = 0.1  # CARLA's physics grows unstable above


@dataclass(frozen=True)
class RecordOrder:
    """`clips` clips of `frames` frames, dt_s apart, from the server at host:port into a data set's folder.

    The ego drives a route (a CARLA route file), else where the traffic manager takes it. map: the town to load; the
    route's own, or the one the server shows, where it is None. LiDARs are as CarlaSC's: one above the ego, the others
    at offsets that the seed draws. Everything random follows from seed, part by part.
    """

    folder: Path
    clips: int = 8
    host: str = "127.0.0.1"
    port: int = 2000
    seed: int = 0
    map: str | None = None
    route: Path | None = None
    route_id: str | None = None
    grid: GridSpec = nano_grid()  # noqa: RUF009 (frozen)
    frames: int = 8
    dt_s: float = 0.2
    vehicles: int = 40
    walkers: int = 20
    lidars: int = 20
    channels: int = 64
    points_per_second: int = 1_300_000
    range_m: float = 50.0
    points: bool = True  # keep the sweeps of the LiDAR above the ego
    part_clips: int = 8  # kept together: what a broken recording loses at most
    connect_s: float = 20.0
    load_s: float = 120.0
    tick_s: float = 30.0  # the longest that a tick may take
    sensor_s: float = 10.0  # the longest wait for a sweep

    def __post_init__(self) -> None:
        least = {"clips": 1, "frames": 2, "lidars": 1, "channels": 1, "vehicles": 0, "walkers": 0, "part_clips": 1}
        for name, low in {**least, "seed": 0, "points_per_second": 100}.items():
            if getattr(self, name) < low:
                raise CarlaError(f"{name}: {getattr(self, name)} is too few; pass at least {low}")
        for name in ("dt_s", "range_m", "connect_s", "load_s", "tick_s", "sensor_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise CarlaError(f"{name}: {getattr(self, name)} is no length or time; pass a positive number")
        if not 0 < self.port < 65536:
            raise CarlaError(f"port: {self.port} is no TCP port; pass 1 to 65535")

    @property
    def ticks_a_frame(self) -> int:
        """The world's clock ticks as fast as CARLA allows and no faster than is needed."""
        return max(1, math.ceil(self.dt_s / MOST_TICK_S - 1e-9))

    @property
    def tick_dt_s(self) -> float:
        return self.dt_s / self.ticks_a_frame

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    def to_dict(self) -> dict[str, Any]:
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RecordOrder:
        """The inverse of to_dict, also after JSON."""
        grid = GridSpec(**{key: tuple(value) for key, value in values["grid"].items()})
        route = None if values["route"] is None else Path(values["route"])
        return RecordOrder(**{**values, "folder": Path(values["folder"]), "route": route, "grid": grid})
