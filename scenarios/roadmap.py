"""A road network as plain nouns, in the right-handed world frame. N points along a lane, metres, radians."""

from __future__ import annotations

from dataclasses import dataclass

from dcgen.types import Doubles


@dataclass(frozen=True)
class Lane:
    """One lane of one lane section, its points in the direction of travel."""

    id: str  # "road:section:lane"
    road_id: int
    lane_id: int  # OpenDRIVE sign: > 0 runs against the reference line
    kind: str  # OpenDRIVE lane type in lower case: driving, sidewalk, shoulder, parking, biking, median, border ...
    centre_m: Doubles  # [N, 3]
    left_m: Doubles  # [N, 3] boundary on the left of travel
    right_m: Doubles  # [N, 3]
    width_m: Doubles  # [N]
    yaw_rad: Doubles  # [N]
    junction_id: int  # -1 outside junctions
    speed_limit_mps: float | None
    successors: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()
    left_change: str | None = None  # lane id a vehicle may change into, same direction
    right_change: str | None = None
    left_marking: str = "none"  # OpenDRIVE roadMark type: solid, broken, none ...
    right_marking: str = "none"

    @property
    def is_driving(self) -> bool:
        return self.kind in ("driving", "bidirectional", "entry", "exit", "onramp", "offramp")


@dataclass(frozen=True)
class Junction:
    id: int
    polygon_m: Doubles  # [N, 2] closed outline, first point not repeated


@dataclass(frozen=True)
class Crosswalk:
    polygon_m: Doubles  # [N, 3] first point not repeated


@dataclass(frozen=True)
class Signal:
    id: str
    kind: str  # "traffic_light", "stop", "yield", "speed_limit" or "other"
    position_m: tuple[float, float, float]
    yaw_rad: float
    value: float | None = None  # m/s for a speed limit


@dataclass(frozen=True)
class RoadMap:
    """Everything dcgen reads from an OpenDRIVE file."""

    name: str
    lanes: dict[str, Lane]
    junctions: tuple[Junction, ...]
    crosswalks: tuple[Crosswalk, ...]
    signals: tuple[Signal, ...]
    bounds_m: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max over every lane
