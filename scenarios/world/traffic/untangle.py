"""Road users that SUMO drove through each other, off their road or in leaps are left out. N agent, T frame.

Whole tracks go, the worst first, until what is left keeps to the bars: nobody blinks in and out beside an ego.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from dcgen.types import Semantics
from scenarios.layout import RoadRaster
from scenarios.world.traffic.checks import Overlaps, find_leaps, find_overlaps, off_surface
from scenarios.world.traffic.log import TrafficLog

MOST_OVERLAP = 0.002  # of the agent-frames
MOST_OFF_SURFACE = 0.005  # of the agent-frames of a class


def untangle(log: TrafficLog, raster: RoadRaster) -> TrafficLog:
    """The log without the tracks that leap, and without those that leave their surface or overlap others most."""
    log = select_tracks(log, np.asarray(~find_leaps(log).any(axis=1)))
    log = select_tracks(log, _keep_to_surface(log, raster))
    return select_tracks(log, _keep_apart(log, find_overlaps(log)))


def select_tracks(log: TrafficLog, keep: NDArray[np.bool_]) -> TrafficLog:
    """The tracks for which keep [N] is true, their ids as they were."""
    if keep.all():
        return log
    names = ("id", "kind", "class_id", "size_m", "pose", "z_m", "speed_mps", "valid")
    return dataclasses.replace(log, **{name: getattr(log, name)[keep] for name in names})


def _keep_to_surface(log: TrafficLog, raster: RoadRaster) -> NDArray[np.bool_]:
    """[N] false for the tracks that leave their surface longest, as few as bring each class below the bar."""
    off = off_surface(log, raster).sum(axis=1)
    seen = log.valid.sum(axis=1)
    keep = np.ones(len(off), np.bool_)
    for kind in (Semantics.VEHICLE, Semantics.BICYCLE, Semantics.PEDESTRIAN):
        members = np.flatnonzero(log.class_id == kind)
        wrong, total = int(off[members].sum()), int(seen[members].sum())
        for row in members[np.argsort(-off[members], kind="stable")]:
            if wrong <= MOST_OFF_SURFACE * total:
                break
            keep[row] = False
            wrong, total = wrong - int(off[row]), total - int(seen[row])
    return keep


def _keep_apart(log: TrafficLog, overlaps: Overlaps) -> NDArray[np.bool_]:
    """[N] false for the tracks that overlap others longest, one after another until the rest is below the bar."""
    seen = log.valid.sum(axis=1)
    keep = np.ones(len(seen), np.bool_)
    a, b, frame = overlaps.a, overlaps.b, overlaps.frame
    while len(a):
        met = np.unique(np.concatenate([a * log.frames + frame, b * log.frames + frame]))
        if len(met) <= MOST_OVERLAP * seen[keep].sum():
            break
        worst = int(np.bincount(met // log.frames, minlength=len(seen)).argmax())
        keep[worst] = False
        left = (a != worst) & (b != worst)
        a, b, frame = a[left], b[left], frame[left]
    return keep
