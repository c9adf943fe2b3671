"""What traffic to simulate, as plain numbers that a user may set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from dcgen.errors import WorldError

MOST_DENSITY = 5.0
SLOWEST, FASTEST = 0.2, 2.0


@dataclass(frozen=True)
class TrafficSpec:
    """How dense, how mixed and how fast. Densities are factors: 1 fills a map as a usual town is filled.

    Shares are of the motor vehicles; what trucks, buses, vans and motorcycles leave are cars. `speed` multiplies the
    map's speed limits and the pace of bicycles and pedestrians; bends and turns are still taken with care.
    Raises WorldError for a value out of its range.
    """

    vehicles: float = 1.0
    pedestrians: float = 1.0
    bicycles: float = 1.0
    vans: float = 0.09
    trucks: float = 0.07
    buses: float = 0.05
    motorcycles: float = 0.07
    speed: float = 1.0
    dt_s: float = 0.1
    warmup_s: float = 60.0

    def __post_init__(self) -> None:
        bounds = {
            **dict.fromkeys(("vehicles", "pedestrians", "bicycles"), (0.0, MOST_DENSITY)),
            **dict.fromkeys(("vans", "trucks", "buses", "motorcycles"), (0.0, 1.0)),
            "speed": (SLOWEST, FASTEST),
            "dt_s": (0.02, 1.0),
            "warmup_s": (0.0, 3600.0),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not low <= value <= high:
                raise WorldError(f"traffic.{name}: {value!r} is not a number from {low:g} to {high:g}; change it")
        if self.vans + self.trucks + self.buses + self.motorcycles > 1.0 + 1e-9:
            raise WorldError("traffic: vans, trucks, buses and motorcycles add up to more than 1, the whole; lower one")

    def shares(self) -> dict[str, float]:
        """Share of every kind of motor vehicle."""
        rest = max(0.0, 1.0 - self.vans - self.trucks - self.buses - self.motorcycles)
        return {
            "car": rest,
            "van": self.vans,
            "truck": self.trucks,
            "bus": self.buses,
            "motorcycle": self.motorcycles,
        }

    def to_dict(self) -> dict[str, float]:
        """Every field by its name, ready for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TrafficSpec:
        """The spec of such a dict; fields that are absent keep their default. Raises WorldError for unknown ones."""
        known = [field.name for field in fields(TrafficSpec)]
        for name in values:
            if name not in known:
                raise WorldError(f"traffic.{name}: no such parameter; there are {', '.join(known)}")
        return TrafficSpec(**values)


@dataclass(frozen=True)
class TrafficPlan:
    """What to simulate, where and for how long. Raises WorldError where there is no time to simulate."""

    map_path: str
    seed: int
    seconds: float
    spec: TrafficSpec

    def __post_init__(self) -> None:
        if not self.spec.dt_s <= self.seconds < float("inf"):
            raise WorldError(f"cannot simulate {self.seconds} s in steps of {self.spec.dt_s} s; ask for more --seconds")

    @property
    def frames(self) -> int:
        return round(self.seconds / self.spec.dt_s)

    def to_dict(self) -> dict[str, Any]:
        return {"map_path": self.map_path, "seed": self.seed, "seconds": self.seconds, "spec": self.spec.to_dict()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TrafficPlan:
        return TrafficPlan(**{**values, "spec": TrafficSpec.from_dict(values["spec"])})
