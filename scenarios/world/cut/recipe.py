"""What a clip cut from a world looks like, and which one it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dcgen.types import GridSpec
from scenarios.world.cut.candidates import EgoMix

LIDARS = ("", "roof", "carlasc")


@dataclass(frozen=True)
class ClipRecipe:
    """What a clip looks like, whatever the world.

    ego_centred: every frame in the grid of its own ego pose, else all in one at the middle pose. hollow: solids as a
    LiDAR sees them, without what they enclose. lidar: the rig that observes ("" for none).
    """

    grid: GridSpec
    frames: int
    dt_s: float
    ego_centred: bool = False
    hollow: bool = False
    lidar: str = ""
    mix: EgoMix = field(default_factory=EgoMix)

    def __post_init__(self) -> None:
        if self.frames < 1 or not 0 < self.dt_s < float("inf"):
            raise ValueError(f"recipe needs frames >= 1 and a positive dt_s, got {self.frames} and {self.dt_s}")
        if self.lidar not in LIDARS:
            raise ValueError(f"recipe.lidar {self.lidar!r} is none of {', '.join(LIDARS[1:])}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ClipRecipe:
        """The inverse of to_dict, also after JSON. Raises KeyError, TypeError or ValueError."""
        grid = GridSpec(**{key: tuple(value) for key, value in values["grid"].items()})
        return ClipRecipe(**{**values, "grid": grid, "mix": EgoMix.from_dict(values["mix"])})


@dataclass(frozen=True)
class Pick:
    """One clip of a world: the ego's row and first frame in the traffic log, and a seed for what its sensors draw."""

    ego: int
    start: int
    seed: int
