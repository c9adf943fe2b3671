"""Whether the ego stayed on the road, in its direction and in its lane.

T frame, X/Y cell. World frame, metres, seconds, radians. Frame 0 is given and not judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.episode import RoadField
from bridges.scoring.boxes import Mask, corners
from bridges.scoring.route import Along
from dcgen.types import Doubles

# NAVSIM's PDMScorerConfig
DIRECTION_WINDOW_S = 1.0
AGAINST_M = (2.0, 6.0)  # from here on .5, from here on 0
AGAINST_SHARE = 0.5  # CARLA leaderboard: the wrong lane is one whose direction is off by more than 120 degrees
LANE_DEVIATION_M = 0.5
LANE_WINDOW_S = 2.0
LANE_WIDTH_M = 3.5  # of the lane around the route: no field holds lane borders
NOT_KNOWN = "nothing is known of the road where the ego drove"


@dataclass(frozen=True)
class Ground:
    """The road under an ego, frame by frame."""

    off_road: Mask  # [T] a corner lies where it is known that no road is
    known: Mask  # [T] of some corner it is known what lies there
    outside: Mask  # [T] the centre is off the road, or the step to it went against its lane
    step_m: Doubles  # [T] driven since the frame before; 0 in the first
    against_m: Doubles  # [T] part of it that went against the lane's direction
    directed: Mask  # [T] the lane's direction is known at the centre
    junction: Mask  # [T] the centre is on the road, and no direction is known there
    dt_s: float


def ground(road: RoadField, ego: Doubles, size_m: tuple[float, float], dt_s: float) -> Ground:
    """What lies under the box of an ego [T, 3].

    The box is looked at half a cell smaller on each side: a border in a raster is only that well known.
    """
    smaller = (max(size_m[0] - road.cell_m, 0.0), max(size_m[1] - road.cell_m, 0.0))
    drivable, known, _ = _cells(road, corners(ego, smaller))
    centre_drivable, centre_known, heading = _cells(road, ego[:, :2])
    step = np.diff(ego[:, :2], axis=0, prepend=ego[:1, :2])
    length = np.hypot(step[:, 0], step[:, 1])
    directed = np.isfinite(heading)
    lane = np.where(directed, heading, 0.0)
    against = np.maximum(-(step[:, 0] * np.cos(lane) + step[:, 1] * np.sin(lane)), 0.0) * directed
    return Ground(
        off_road=np.any(known & ~drivable, axis=1),
        known=np.any(known, axis=1),
        outside=(centre_known & ~centre_drivable) | (against > AGAINST_SHARE * length),
        step_m=length,
        against_m=against,
        directed=directed,
        junction=centre_drivable & ~directed,
        dt_s=dt_s,
    )


def _cells(road: RoadField, xy_m: Doubles) -> tuple[Mask, Mask, NDArray[np.float64]]:
    """Drivable, known and heading at points [..., 2]; unknown and NaN outside the raster."""
    if road.drivable.size == 0:
        nothing = np.zeros(xy_m.shape[:-1], bool)
        return nothing, nothing, np.full(xy_m.shape[:-1], np.nan)
    cell, inside = road.cell_of(xy_m)
    at = (cell[..., 0], cell[..., 1])
    known = road.known[at] & inside
    heading = np.where(known, road.heading_rad[at].astype(np.float64), np.nan)
    return road.drivable[at] & known, known, heading


def drivable_area(under: Ground) -> tuple[float, str]:
    """NAVSIM's {0, 1}: all four corners on the road in every frame; and why it is not measured."""
    if not under.known[1:].any():
        return 1.0, NOT_KNOWN
    return float(not under.off_road[1:].any()), ""


def driving_direction(under: Ground) -> tuple[float, str]:
    """NAVSIM's {0, .5, 1}, by the most metres driven against the lane within a second."""
    if not under.directed[1:].any():
        return 1.0, "the direction of travel is known nowhere where the ego drove"
    most = most_against_m(under)
    return 1.0 - sum(limit <= most for limit in AGAINST_M) / 2, ""


def most_against_m(under: Ground) -> float:
    """Metres against the lane, at most, within the window."""
    window = max(round(DIRECTION_WINDOW_S / under.dt_s), 1)
    run = np.concatenate([np.zeros(window), np.cumsum(under.against_m)])
    return float(np.round((run[window:] - run[:-window]).max(initial=0.0), 9))


def lane_keeping(under: Ground, route: Along | None) -> tuple[float, str]:
    """NAVSIM v2's {0, 1}: 0 after 2 s in a row further than 0.5 m from the centre line.

    Frames in junctions, and where no direction is known, neither count nor end a run.
    """
    if route is None:
        return 1.0, "the episode has no route to follow"
    if not under.directed[1:].any():
        return 1.0, "the ego drove through junctions alone, or where no lane is known"
    judged = under.directed.copy()
    judged[0] = False
    away = np.abs(route.lateral_m[judged]) > LANE_DEVIATION_M
    needed = max(math.ceil(LANE_WINDOW_S / under.dt_s - 1e-9), 1)
    return float(longest_run(away) < needed), ""


def longest_run(on: Mask) -> int:
    """Length of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def in_lane(under: Ground, route: Along | None, width_m: float) -> Mask:
    """[T] the ego is wholly in the lane of its route, as far as the road and the route can tell."""
    inside = ~under.off_road
    if route is not None:
        inside &= np.abs(route.lateral_m) <= (LANE_WIDTH_M - width_m) / 2
    return inside


def outside_share(under: Ground) -> float:
    """Share of the way driven that went outside the lanes (CARLA leaderboard: off road, or against traffic)."""
    driven = float(under.step_m.sum())
    return float(under.step_m[under.outside].sum()) / driven if driven > 1e-6 else 0.0
