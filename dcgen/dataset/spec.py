"""What a data set is: its clips' grid and frames, what they carry, and what made them. Kept as dataset.json."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dcgen.dataset.files import canonical, read_json, write_json
from dcgen.errors import DatasetError
from dcgen.types import GridSpec

FORMAT, VERSION = "dcgen-dataset", 1
NAME = "dataset.json"
PART_CLIPS = 64
MOST = 2**31 - 1


@dataclass(frozen=True)
class DatasetSpec:
    """The same spec in the same folder goes on where a build stopped; another one is refused.

    origin: what makes the clips, as JSON: {"kind": "worlds" | "carla" | "public", ...}. cut: clips are cut from worlds
    when they are read, and no shards are kept.
    """

    grid: GridSpec
    frames: int
    dt_s: float
    clips: int
    seed: int = 0
    ego_centred: bool = False
    observed: bool = False
    points: bool = False
    cut: bool = False
    part_clips: int = PART_CLIPS
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("frames", 1), ("clips", 1), ("seed", 0), ("part_clips", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= MOST:
                raise ValueError(f"dataset.{name} must be a whole number from {least} to {MOST}, got {value}")
        if not all(isinstance(size, int) for size in self.grid.shape) or not isinstance(self.origin, dict):
            raise ValueError("dataset.grid.shape needs whole numbers, and dataset.origin names")
        if not 0 < self.dt_s < float("inf"):
            raise ValueError(f"dataset.dt_s needs a positive time, got {self.dt_s}")

    @property
    def parts(self) -> int:
        return -(-self.clips // self.part_clips)

    def part_range(self, part: int) -> range:
        """Numbers of the clips of a part."""
        return range(part * self.part_clips, min((part + 1) * self.part_clips, self.clips))

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, X, Y, Z)."""
        return (self.frames, *self.grid.shape)

    @property
    def sha256(self) -> str:
        """Hex digest of all of it."""
        return hashlib.sha256(canonical(self.to_dict()).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> DatasetSpec:
        """The inverse of to_dict, also after JSON. Raises KeyError, TypeError or ValueError."""
        grid = {key: tuple(value) for key, value in values["grid"].items()}
        return DatasetSpec(**{**values, "grid": GridSpec(**grid)})


def save_spec(folder: Path, spec: DatasetSpec, made_by: dict[str, str]) -> None:
    """made_by: dcgen's version and commit."""
    write_json(folder / NAME, {"format": FORMAT, "version": VERSION, "spec": spec.to_dict(), "made_by": made_by})


def load_spec(folder: Path) -> tuple[DatasetSpec, dict[str, str]]:
    """(spec, made_by) of a data set's folder. Raises DatasetError."""
    path = folder / NAME
    if not path.is_file():
        raise DatasetError(f"{folder}: holds no data set; build one with `dcgen dataset build`")
    values = read_json(path, FORMAT, VERSION)
    try:
        return DatasetSpec.from_dict(values["spec"]), dict(values["made_by"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: {error}; build the data set again") from error
