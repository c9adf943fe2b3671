"""How far the ego came along its route, beside the reference.

T frame, F frame of the reference. World frame, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridges.episode import Episode
from bridges.scoring.route import along

SHORT_M = 5.0  # NAVSIM's progress_distance_threshold: a shorter way asks for no progress


@dataclass(frozen=True)
class Progress:
    """Metres along the route."""

    ego_m: float
    reference_m: float

    @property
    def ratio(self) -> float:
        """0..1: the ego's share of the reference's way; 1 where that is short."""
        if self.reference_m <= SHORT_M:
            return 1.0
        return min(max(self.ego_m / self.reference_m, 0.0), 1.0)


def progress(episode: Episode) -> Progress | None:
    """Along the route, or along the reference's own way where there is no route; None where neither has a length."""
    reference = episode.reference[: episode.wanted_frames]
    last = min(len(episode.ego), len(reference)) - 1
    if last < 1:
        return None
    ends = reference[[0, -1]]
    wanted, line = along(episode.route, ends), episode.route
    if wanted is None:
        wanted, line = along(reference, ends), reference
    driven = along(line, episode.ego[[0, last]])
    if wanted is None or driven is None:
        return None
    return Progress(float(driven.arc_m[1] - driven.arc_m[0]), float(wanted.arc_m[1] - wanted.arc_m[0]))
