"""Shapes of buildings as parts in a lot's own frame: u along the street, v away from it, metres.

A plan is a list of parts; where parts overlap the higher one stands. Walls are straight, flat tops level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.world.town.canvas import Canvas, Patch, rectangle
from scenarios.world.town.style import Zone

STOREY_M = 3.0
STEEPEST_M = 4.0  # of ground below one building

Plan = list["Part"]


@dataclass(frozen=True)
class Part:
    """A box [u0, u1] x [v0, v1]; a gable rises rise_m above the eaves to a ridge along u (or along v)."""

    u0: float
    u1: float
    v0: float
    v1: float
    height_m: float
    rise_m: float = 0.0
    ridge_along_u: bool = True
    round: bool = False  # a tank or silo within the box

    def tops_m(self, u: Doubles, v: Doubles) -> Doubles:
        """Height above ground at points (u, v), 0 outside the part."""
        inside = (u >= self.u0) & (u < self.u1) & (v >= self.v0) & (v < self.v1)
        a, b = (u - (self.u0 + self.u1) / 2) / (self.u1 - self.u0), (v - (self.v0 + self.v1) / 2) / (self.v1 - self.v0)
        if self.round:
            inside &= a * a + b * b <= 0.25
        slope = 1.0 - 2.0 * np.abs(b if self.ridge_along_u else a)
        return np.where(inside, self.height_m + self.rise_m * slope, 0.0)


@dataclass(frozen=True)
class Site:
    """A lot's rectangle: the left end of its front as seen from the street is at u = 0, the front at v = 0."""

    origin_m: Doubles  # [2]
    along: Doubles  # [2] unit vector along u
    width_m: float
    depth_m: float

    @property
    def inward(self) -> Doubles:
        return np.array([-self.along[1], self.along[0]])

    def point_m(self, u: float, v: float) -> Doubles:
        return self.origin_m + self.along * u + self.inward * v

    def corners_m(self, margin_m: float = 0.0) -> Doubles:
        """[4, 2] counter-clockwise."""
        centre = self.point_m(self.width_m / 2, self.depth_m / 2)
        return rectangle(centre, self.along, self.width_m + 2 * margin_m, self.depth_m + 2 * margin_m)

    def uv_m(self, canvas: Canvas, patch: Patch) -> tuple[Doubles, Doubles]:
        """[w, h] the site's own coordinates of a patch's cells."""
        x, y = canvas.centres_m(patch)
        x, y = x - self.origin_m[0], y - self.origin_m[1]
        return x * self.along[0] + y * self.along[1], y * self.along[0] - x * self.along[1]


def can_build(site: Site, canvas: Canvas) -> Patch | None:
    """The site's cells where all of them are free and nearly level."""
    patch = canvas.box(site.corners_m())
    if not canvas.free(patch):
        return None
    ground = canvas.surface_cm[0, patch.x, patch.y][patch.mask]
    return patch if int(ground.max()) - int(ground.min()) < 100 * STEEPEST_M else None


def build(site: Site, patch: Patch, plan: Plan, canvas: Canvas) -> None:
    """Raise a plan on a site's cells, and keep everything else off them."""
    u, v = site.uv_m(canvas, patch)
    tops = np.zeros(patch.mask.shape)
    for part in plan:
        np.maximum(tops, part.tops_m(u, v), out=tops)
    canvas.add_tops(patch, Semantics.BUILDING, 0.0, tops)
    canvas.reserve(patch)


def _storeys(height_m: float) -> float:
    return max(1, round(height_m / STOREY_M)) * STOREY_M


def _block(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """A box, sometimes with a set-back top floor."""
    if h < 9 or rng.random() < 0.5:
        return [Part(0, w, 0, d, h)]
    return [Part(0, w, 0, d, h - STOREY_M), Part(1.6, w - 1.6, 1.6, d - 1.6, h)]


def _corner(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """An L: a front along the street and one wing behind it."""
    front, wing = d * rng.uniform(0.45, 0.6), w * rng.uniform(0.35, 0.5)
    low = max(STOREY_M, h - STOREY_M * int(rng.integers(0, 3)))
    at = 0.0 if rng.random() < 0.5 else w - wing
    return [Part(0, w, 0, front, h), Part(at, at + wing, 0, d, low)]


def _court(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """A U around a yard, open to the back or to the street."""
    front, wing = d * 0.45, w * rng.uniform(0.25, 0.32)
    low = max(STOREY_M, h - STOREY_M * int(rng.integers(0, 2)))
    v0 = 0.0 if rng.random() < 0.7 else d - front
    return [Part(0, w, v0, v0 + front, h), Part(0, wing, 0, d, low), Part(w - wing, w, 0, d, low)]


def _tower(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """A podium of one or two floors with a tower on it."""
    podium = STOREY_M * int(rng.integers(1, 3))
    inset_u, inset_v = w * rng.uniform(0.14, 0.22), d * rng.uniform(0.12, 0.2)
    return [Part(0, w, 0, d, podium), Part(inset_u, w - inset_u, inset_v, d - inset_v, h * 1.6)]


def _stepped(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """Two or three parts side by side, a floor apart."""
    cuts = np.linspace(0, w, int(rng.integers(2, 4)) + 1)
    low = [max(STOREY_M, h - STOREY_M * int(n)) for n in rng.integers(0, 3, len(cuts) - 1)]
    return [Part(a, b, 0, d, top) for a, b, top in zip(cuts, cuts[1:], low, strict=False)]


def _house(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    along = bool(rng.random() < 0.65)
    return [Part(0, w, 0, d, max(2.8, h - 2.2), 2.4, along)]


def _house_with_garage(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    car = min(3.6, 0.35 * w)
    left = rng.random() < 0.5
    body = (car, w) if left else (0.0, w - car)
    garage = (0.0, car) if left else (w - car, w)
    return [Part(*body, 0, d, max(2.8, h - 2.2), 2.2), Part(*garage, 1.0, min(d, 7.0), 2.8)]


def _house_with_wing(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    wing, eaves = 0.45 * w, max(2.8, h - 2.2)
    at = 0.0 if rng.random() < 0.5 else w - wing
    return [Part(0, w, 0.4 * d, d, eaves, 2.2), Part(at, at + wing, 0, 0.9 * d, eaves, 1.8, False)]


def _row_houses(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """Narrow houses wall to wall, every other front set back a little."""
    cuts = np.linspace(0, w, max(2, round(w / 6.0)) + 1)
    eaves, back = max(2.8, h - 2.0), float(rng.uniform(0.0, 1.6))
    return [Part(a, b, back * (k % 2), d, eaves + 0.6 * (k % 2), 2.0) for k, (a, b) in enumerate(pairwise(cuts))]


def _hall(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    if rng.random() < 0.5:
        return [Part(0, w, 0, d, h - 1.5, 1.5)]
    bays = np.linspace(0, w, max(2, round(w / 8.0)) + 1)
    return [Part(a, b, 0, d, h - 1.2, 1.2, False) for a, b in pairwise(bays)]


def _works(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """A hall with a lower office in front."""
    office = min(8.0, 0.35 * d)
    return [Part(0, w, office, d, h), Part(0, w * rng.uniform(0.4, 0.7), 0, office, max(STOREY_M, h - STOREY_M))]


def _tanks(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    """A hall on one side, round tanks on the other."""
    split, size = 0.6 * w, min(0.34 * w, 0.42 * d)
    tanks = [Part(w - size, w, v, v + size, h * rng.uniform(0.9, 1.4), round=True) for v in (0.0, size + 1.2)]
    return [Part(0, split, 0, d, h), *tanks]


def _barn(w: float, d: float, h: float, rng: np.random.Generator) -> Plan:
    return [Part(0, w, 0, d, h - 2.4, 2.8, bool(rng.random() < 0.5))]


_Maker = Callable[[float, float, float, np.random.Generator], Plan]
_MAKERS: dict[Zone, tuple[tuple[_Maker, ...], tuple[float, ...]]] = {
    Zone.DOWNTOWN: ((_block, _corner, _court, _tower, _stepped), (0.36, 0.16, 0.14, 0.14, 0.2)),
    Zone.RESIDENTIAL: ((_house, _house_with_garage, _house_with_wing), (0.4, 0.35, 0.25)),
    Zone.INDUSTRIAL: ((_hall, _works, _tanks, _block), (0.4, 0.3, 0.15, 0.15)),
    Zone.RURAL: ((_house, _house_with_garage, _barn), (0.45, 0.25, 0.3)),
}


def draw_plan(zone: Zone, width_m: float, depth_m: float, height_m: float, rng: np.random.Generator) -> Plan:
    """A building of the zone's kind that fills a lot of that width and depth."""
    makers, shares = _MAKERS[zone]
    maker = makers[int(rng.choice(len(makers), p=shares))]
    if zone is Zone.DOWNTOWN:
        height_m = _storeys(height_m)
    return maker(width_m, depth_m, height_m, rng)


def draw_row(width_m: float, depth_m: float, height_m: float, rng: np.random.Generator) -> Plan:
    """Row houses, for residential streets that are built wall to wall."""
    return _row_houses(width_m, depth_m, height_m, rng)
