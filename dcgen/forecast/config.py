"""What a forecaster is of: its grid and clock, how many frames it sees, which frames ahead it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dcgen.types import GridSpec

MOST_FRAMES = 1000


@dataclass(frozen=True)
class ForecastConfig:
    """past frames up to now; ahead: frames after now, ascending; widths: channels at a half, a quarter, an eighth."""

    grid: GridSpec
    dt_s: float
    past: int = 5
    ahead: tuple[int, ...] = (5, 10, 15)
    widths: tuple[int, ...] = (32, 48, 64)

    def __post_init__(self) -> None:
        if not 2 <= self.past <= MOST_FRAMES:
            raise ValueError(f"past must be 2 to {MOST_FRAMES} frames: motion shows in two; got {self.past}")
        if not self.ahead or list(self.ahead) != sorted({*self.ahead}) or self.ahead[0] < 1:
            raise ValueError(f"ahead needs ascending frames of at least 1, got {self.ahead}")
        if self.past + self.ahead[-1] > MOST_FRAMES:
            raise ValueError(f"past and ahead reach over {MOST_FRAMES} frames; make them shorter")
        if not 0 < self.dt_s < float("inf"):
            raise ValueError(f"dt_s needs a positive time, got {self.dt_s}")
        if len(self.widths) < 2 or any(width < 8 or width % 4 for width in self.widths):
            raise ValueError(f"widths need at least two multiples of 4 from 8 on, got {self.widths}")
        step = 2 ** len(self.widths)
        if self.grid.shape[0] % step or self.grid.shape[1] % step:
            raise ValueError(f"the network halves x and y to a multiple of {step} voxels, got {self.grid.shape}")

    @property
    def frames(self) -> int:
        """From the first past frame to the last one ahead."""
        return self.past + self.ahead[-1]

    @property
    def seconds(self) -> tuple[float, ...]:
        return tuple(round(frames * self.dt_s, 6) for frames in self.ahead)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ForecastConfig:
        """The inverse of to_dict, also after JSON. Raises KeyError, TypeError or ValueError."""
        grid = {name: tuple(value) for name, value in values["grid"].items()}
        lists = {name: tuple(int(n) for n in values[name]) for name in ("ahead", "widths")}
        return ForecastConfig(**{**values, **lists, "grid": GridSpec(**grid), "past": int(values["past"])})


def frames_of(seconds: Sequence[float], dt_s: float) -> tuple[int, ...]:
    """Seconds ahead as frames. Raises ValueError for times between two frames."""
    frames = [round(time / dt_s) for time in seconds]
    for time, count in zip(seconds, frames, strict=True):
        if count < 1 or abs(count * dt_s - time) > 1e-3 * dt_s:
            raise ValueError(f"{time:g} s is no whole number of frames of {dt_s:g} s")
    return tuple(frames)
