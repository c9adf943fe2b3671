"""Which road user to follow, and from when: egos that turn, cross junctions, drive among others, stand. M candidate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import WorldError
from dcgen.types import MOVING_MPS, Floats, Semantics, wrap_angle
from scenarios.layout import JUNCTION, RoadRaster
from scenarios.world.traffic.log import TrafficLog

AHEAD_M = 20.0
NEAR_M = 20.0
JUNCTION_M = 15.0
TURN_RAD = 0.15
START_STEP_S = 0.5

Indices = NDArray[np.int32]


@dataclass(frozen=True)
class EgoMix:
    """Shares of clips whose ego turns, has moving neighbours, stands, or is at a junction in the middle of the clip.

    The rest follows any ego that drives. Raises WorldError where they are no shares.
    """

    turning: float = 0.25
    busy: float = 0.35
    standing: float = 0.06
    junction: float = 0.1

    def __post_init__(self) -> None:
        for name, share in self.to_dict().items():
            number = isinstance(share, (int, float)) and not isinstance(share, bool)
            if not number or not 0 <= share <= 1:
                raise WorldError(f"mix.{name}: {share!r} is not a number from 0 to 1; change it")
        if sum(self.to_dict().values()) > 1 + 1e-9:
            raise WorldError(f"mix: {', '.join(self.to_dict())} are shares that add up to more than 1; lower one")

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> EgoMix:
        """The mix of such a dict; absent shares keep their default. Raises WorldError for unknown ones."""
        known = [field.name for field in fields(EgoMix)]
        for name in values:
            if name not in known:
                raise WorldError(f"mix.{name}: no such share; there are {', '.join(known)}")
        return EgoMix(**values)


@dataclass(frozen=True)
class Candidates:
    """Egos and start frames to choose from: row into the traffic log [M], first frame [M], groups of them."""

    row: Indices
    start: Indices
    turning: Indices  # indices into row and start
    busy: Indices
    standing: Indices
    driving: Indices
    junction: Indices  # empty where nothing was said of the map

    def draw(self, mix: EgoMix, rng: np.random.Generator) -> tuple[int, int]:
        """(row, start) of one candidate."""
        draw, group = rng.random(), self.driving
        for name, share in mix.to_dict().items():
            if draw < share:
                group = getattr(self, name)
                break
            draw -= share
        if len(group) == 0:
            group = np.arange(len(self.row), dtype=np.int32)
        index = int(group[rng.integers(len(group))])
        return int(self.row[index]), int(self.start[index])


def find_candidates(log: TrafficLog, frames: int, stride: float, raster: RoadRaster | None = None) -> Candidates:
    """Every motor vehicle that is there for the whole clip, at starts START_STEP_S apart. Raises WorldError if none.

    A clip has a frame every `stride` frames of the log. Junctions are those of the raster.
    """
    span, middle = math.ceil((frames - 1) * stride - 1e-9), round((frames // 2) * stride)
    starts = np.arange(0, log.frames - span, max(1, round(START_STEP_S / log.dt_s)))
    vehicles = np.flatnonzero(log.class_id == Semantics.VEHICLE)
    valid = log.valid[vehicles]
    whole = valid[:, starts] & valid[:, starts + span]
    if not whole.any():
        raise WorldError(f"no vehicle is on the road for {frames} frames; simulate longer or denser traffic")
    path = np.cumsum(np.where(valid, log.speed_mps[vehicles], 0.0), axis=1) * log.dt_s
    ahead = path[:, -1:] - path[:, starts + middle]
    if (whole & (ahead >= AHEAD_M)).any():
        whole &= ahead >= AHEAD_M
    moved = (path[:, starts + span] - path[:, starts])[whole]
    turned = np.abs(_turned(log, vehicles, starts, span)[whole])
    which, column = np.nonzero(whole)
    row: Indices = vehicles[which].astype(np.int32)
    start: Indices = starts[column].astype(np.int32)
    standing = moved < MOVING_MPS * max(span, 1) * log.dt_s
    centre: Indices = (start + middle).astype(np.int32)
    busy = _moving_neighbours(log, row, centre) >= 2
    junction = np.zeros(len(row), np.bool_) if raster is None else _at_junction(log, row, centre, raster)
    groups = ((turned > TURN_RAD) & ~standing, busy & ~standing, standing, ~standing, junction & ~standing)
    return Candidates(row, start, *(np.flatnonzero(group).astype(np.int32) for group in groups))


def _turned(log: TrafficLog, rows: NDArray[np.intp], starts: NDArray[np.intp], span: int) -> Floats:
    """[V, S] net change of heading from each start over span frames, whole turns counted."""
    valid = log.valid[rows]
    turn = np.where(
        valid[:, 1:] & valid[:, :-1], wrap_angle(np.diff(log.pose[rows, :, 2].astype(np.float64), axis=1)), 0.0
    )
    total = np.concatenate([np.zeros((len(turn), 1)), np.cumsum(turn, axis=1)], axis=1)
    return (total[:, starts + span] - total[:, starts]).astype(np.float32)


def _moving_neighbours(log: TrafficLog, row: Indices, frame: Indices) -> NDArray[np.int32]:
    """[M] agents faster than MOVING_MPS within NEAR_M of the agent, at a frame each."""
    count = np.zeros(len(row), np.int32)
    order = np.argsort(frame, kind="stable")
    bounds = np.flatnonzero(np.diff(frame[order], prepend=-1))
    for here in np.split(order, bounds[1:]):
        t = int(frame[here[0]])
        moving = log.valid[:, t] & (log.speed_mps[:, t] > MOVING_MPS)
        x, y = log.pose[moving, t, 0], log.pose[moving, t, 1]
        own = log.pose[row[here], t]
        gap2 = (own[:, :1] - x) ** 2 + (own[:, 1:2] - y) ** 2
        count[here] = (gap2 <= NEAR_M**2).sum(axis=1) - moving[row[here]]
    return count


def _at_junction(log: TrafficLog, row: Indices, frame: Indices, raster: RoadRaster) -> NDArray[np.bool_]:
    """[M] whether the agent is on, or within JUNCTION_M of, the asphalt of a junction, at a frame each."""
    from scipy.ndimage import distance_transform_edt

    coarse = max(1, round(1.0 / raster.cell_m))  # to the metre
    inside = np.asarray((raster.flags[:, ::coarse, ::coarse] & JUNCTION > 0).any(axis=0))
    if not inside.any():
        return np.zeros(len(row), np.bool_)
    near = distance_transform_edt(~inside) * raster.cell_m * coarse <= JUNCTION_M
    cell = np.floor((log.pose[row, frame, :2] - raster.origin_m) / (raster.cell_m * coarse)).astype(np.intp)
    x, y = (np.clip(cell[:, axis], 0, near.shape[axis] - 1) for axis in (0, 1))
    return np.asarray(near[x, y])
