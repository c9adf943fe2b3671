"""What kind of town: shares of the zones, densities and heights. Every field has a measurable effect on the columns."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dcgen.errors import WorldError


class Zone(Enum):
    DOWNTOWN = "downtown"
    RESIDENTIAL = "residential"
    INDUSTRIAL = "industrial"
    PARK = "park"
    RURAL = "rural"


_MOST = {"height_scale": 4.0}


@dataclass(frozen=True)
class TownStyle:
    """Zones by their weights (any sum above 0 will do), amounts from 0 (none of it) to 1 (as much as fits).

    Raises ValueError that names the field.
    """

    downtown: float = 0.36
    residential: float = 0.38
    industrial: float = 0.10
    park: float = 0.13
    rural: float = 0.03
    density: float = 0.7  # of buildings: below 0.7 lots stay empty, above it gaps close and yards fill
    greenery: float = 0.5  # trees, hedges, groves
    furniture: float = 0.5  # lamps, benches, bins, stops, fences; rails of raised streets and the map's signals stay
    parking: float = 0.5  # parking lots, and cars in them and along streets
    construction: float = 0.3  # building sites and road works on free land
    height_scale: float = 1.0  # of buildings

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            most = _MOST.get(field.name, 1.0)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"style.{field.name} needs a number, got {value!r}")
            if not 0.0 <= value <= most:
                raise ValueError(f"style.{field.name} needs a number from 0 to {most:g}, got {value}")
        if sum(getattr(self, zone.value) for zone in Zone) <= 0:
            raise ValueError("style.downtown: give at least one of " + ", ".join(z.value for z in Zone) + " a share")
        if self.height_scale < 0.25:
            raise ValueError(f"style.height_scale needs a number from 0.25 to 4, got {self.height_scale}")

    def shares(self) -> dict[Zone, float]:
        """The zones' weights, their sum 1."""
        total = sum(getattr(self, zone.value) for zone in Zone)
        return {zone: getattr(self, zone.value) / total for zone in Zone}

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by field, ready for JSON."""
        return {name: float(value) for name, value in dataclasses.asdict(self).items()}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> TownStyle:
        """A style from some or all of its fields; the others are those of mixed(). Raises ValueError."""
        known = {field.name for field in dataclasses.fields(TownStyle)}
        for name in fields:
            if name not in known:
                raise ValueError(f"style.{name}: no such field; choose from {', '.join(sorted(known))}")
        return TownStyle(**fields)


def mixed() -> TownStyle:
    """Some of everything: the default."""
    return TownStyle()


def downtown() -> TownStyle:
    """Closed street fronts, towers, parking lots, little green."""
    return TownStyle(
        downtown=0.8, residential=0.1, industrial=0.0, park=0.1, rural=0.0,
        density=0.9, greenery=0.35, furniture=0.8, parking=0.7, construction=0.5, height_scale=1.5,
    )  # fmt: skip


def suburb() -> TownStyle:
    """Houses with gardens, hedges and street trees."""
    return TownStyle(
        downtown=0.05, residential=0.75, industrial=0.02, park=0.15, rural=0.03,
        density=0.65, greenery=0.8, furniture=0.45, parking=0.4, construction=0.2,
    )  # fmt: skip


def industrial() -> TownStyle:
    """Halls, tanks, fences and yards full of vehicles."""
    return TownStyle(
        downtown=0.05, residential=0.15, industrial=0.75, park=0.05, rural=0.0,
        density=0.75, greenery=0.2, furniture=0.4, parking=0.8, construction=0.5,
    )  # fmt: skip


def rural() -> TownStyle:
    """Farms, woods and long gaps between them."""
    return TownStyle(
        downtown=0.0, residential=0.15, industrial=0.05, park=0.1, rural=0.7,
        density=0.5, greenery=0.8, furniture=0.2, parking=0.15, construction=0.1,
    )  # fmt: skip


PRESETS = {make.__name__: make for make in (mixed, downtown, suburb, industrial, rural)}


def style_named(name: str) -> TownStyle:
    """The preset of that name. Raises WorldError that lists the names."""
    if name not in PRESETS:
        raise WorldError(f"style {name!r}: no such preset; choose from {', '.join(PRESETS)}")
    return PRESETS[name]()
