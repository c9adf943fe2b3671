"""What the ego ran into, by boxes and by voxels, and whose fault it was.

T frame, N agent. World frame, metres, seconds. Frame 0 is given, so what is met there already is nobody's doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bridges.episode import Episode
from bridges.planner import WHEELBASE_M
from bridges.scoring.boxes import Gaps, Mask, gaps
from dcgen.types import Doubles, Semantics

Kind = Literal["pedestrian", "vehicle", "static"]
Manner = Literal["stopped ego", "stopped agent", "behind", "front", "side", "voxels"]

STOPPED_MPS = 0.05  # nuPlan and NAVSIM: slower counts as stopped
BEHIND_COS = np.cos(np.radians(150.0))  # nuPlan: further round than this from the axle is behind
AHEAD_COS = np.cos(np.radians(30.0))
KINDS: dict[int, Kind] = {
    int(Semantics.PEDESTRIAN): "pedestrian",
    int(Semantics.VEHICLE): "vehicle",
    int(Semantics.BICYCLE): "vehicle",
}
SOLID: dict[Kind, tuple[Semantics, ...]] = {
    "static": (Semantics.BUILDING, Semantics.BARRIER, Semantics.OTHER, Semantics.POLE, Semantics.VEGETATION),
    "vehicle": (Semantics.VEHICLE, Semantics.BICYCLE),
    "pedestrian": (Semantics.PEDESTRIAN,),
}
SPECK_VOXELS = 1  # so many voxels in the box are forgiven: a generated scene holds specks
BOXED_M = 1.0  # voxels of road users are those of a box that is no further from the ego's than this
REST_S = 5.0  # contact that begins anew sooner than this is the same contact (CARLA leaderboard)


@dataclass(frozen=True)
class Contact:
    """The ego and something else begin to touch."""

    frame: int
    kind: Kind
    how: Manner
    at_fault: bool
    agent: int | None = None  # its id; None for voxels


def moving(episode: Episode) -> Mask:
    """[T] the ego drives in the frame or did in the one before: it may come to rest in what it hits."""
    fast = np.abs(episode.speed_mps) > STOPPED_MPS
    return fast | np.concatenate([fast[:1], fast[:-1]])


def direction_cos(ahead_m: Doubles, aside_m: Doubles, speed_mps: Doubles) -> Doubles:
    """Cosine of the angle from the way the ego drives to places in its frame, about the axle that trails."""
    ahead = np.where(speed_mps < 0, -ahead_m, ahead_m) + WHEELBASE_M / 2
    return ahead / np.maximum(np.hypot(ahead, aside_m), 1e-9)


def episode_gaps(episode: Episode) -> Gaps:
    length, width, _ = episode.ego_size_m
    return gaps(episode.ego, (length, width), episode.speed_mps, episode.agents)


def first_contact(meets: Mask) -> NDArray[np.int64]:
    """[N] frame in which each agent is met first; T where never, -1 where in the given frame already."""
    first = np.where(meets.any(axis=1), np.argmax(meets, axis=1), meets.shape[1])
    return np.where(first == 0, -1, first)


def box_contacts(episode: Episode, between: Gaps, in_lane: Mask) -> tuple[Contact, ...]:
    """Agents whose boxes the ego's box meets, each once, judged in the frame where it begins.

    nuPlan's classes, as in NAVSIM: at fault is who drives into what stands, hits with the front, or is hit at the
    side while not in its lane. A stopped ego is not at fault, nor one hit from behind. The ego reversing, its rear
    is its front.
    """
    meets = between.within()
    first = first_contact(meets)
    who = np.flatnonzero((first > 0) & (first < meets.shape[1]))
    when = first[who]
    agents, drives = episode.agents, moving(episode)
    ahead, aside = between.offset_m[:2, who, when]
    behind = direction_cos(ahead, aside, episode.speed_mps[when]) < BEHIND_COS
    stands = np.abs(agents.speed_mps[who, when]) <= STOPPED_MPS
    front = bumper_meets(episode, who, when)
    found = []
    for n, t, at_rear, stopped, at_front in zip(who, when, behind, stands, front, strict=True):
        how: Manner
        if not drives[t]:
            how = "stopped ego"
        elif stopped:
            how = "stopped agent"
        elif at_rear:
            how = "behind"
        else:
            how = "front" if at_front else "side"
        fault = how in ("stopped agent", "front") or (how == "side" and not in_lane[t])
        kind = KINDS.get(int(agents.class_id[n]), "static")
        found.append(Contact(int(t), kind, how, bool(fault), int(agents.id[n])))
    return tuple(found)


def bumper_meets(episode: Episode, who: NDArray[np.int64], when: NDArray[np.int64]) -> Mask:
    """[K] whether the edge of the ego's box that leads the way meets agent who[k] in frame when[k]."""
    length, width, _ = episode.ego_size_m
    edge, sign = episode.ego.copy(), np.where(episode.speed_mps < 0, -1.0, 1.0)
    edge[:, 0] += sign * length / 2 * np.cos(edge[:, 2])
    edge[:, 1] += sign * length / 2 * np.sin(edge[:, 2])
    chosen = np.zeros(len(episode.agents.id), bool)
    chosen[who] = True
    meets = gaps(edge, (0.0, width), episode.speed_mps, episode.agents.select(chosen)).within()
    return meets[np.searchsorted(np.flatnonzero(chosen), who), when]


def voxel_contacts(episode: Episode, between: Gaps) -> tuple[Contact, ...]:
    """Where solid voxels come to lie in the ego's box while it drives.

    Voxels of road users count where no box is near that accounts for them: the box rule judges those.
    """
    boxed = between.within(BOXED_M).any(axis=0)
    drives = moving(episode)
    rest = round(REST_S / episode.dt_s)
    found = []
    for kind, classes in SOLID.items():
        count = episode.touched[:, list(classes)].sum(axis=1)
        inside = count > SPECK_VOXELS
        if kind != "static":
            inside &= ~boxed
        frames = np.flatnonzero(inside)
        begins = frames[np.diff(frames, prepend=-rest - 1) > rest]
        found += [Contact(int(t), kind, "voxels", bool(drives[t])) for t in begins if t > 0]
    return tuple(found)


def no_collision(contacts: tuple[Contact, ...]) -> float:
    """NAVSIM's {0, .5, 1}: 0 with a road user at the ego's fault, .5 with a thing that stands, else 1."""
    return min((0.5 if contact.kind == "static" else 0.0 for contact in contacts if contact.at_fault), default=1.0)
