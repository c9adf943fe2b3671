"""A share as two counts, so that shares of many clips add up to the share of all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """`hits` out of `total`. Also an intersection over a union, or one count over another."""

    hits: float = 0
    total: float = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.hits + other.hits, self.total + other.total)

    @property
    def share(self) -> float:
        """hits / total, NaN where nothing was counted."""
        return float(self.hits / self.total) if self.total else math.nan


NOTHING = Tally()


def summed(tallies: Iterable[Tally]) -> Tally:
    return sum(tallies, NOTHING)
