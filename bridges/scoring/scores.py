"""An episode's marks: every term, what lies behind it, and two scores made of them.

T frame. Seconds, metres.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bridges.episode import Episode
from bridges.scoring.collisions import Contact, box_contacts, episode_gaps, no_collision, voxel_contacts
from bridges.scoring.comfort import history_comfort, motion, peaks
from bridges.scoring.compositions import driving_score, epdms, infractions
from bridges.scoring.consistency import extended_comfort
from bridges.scoring.progress import progress
from bridges.scoring.road import (
    Ground,
    drivable_area,
    driving_direction,
    ground,
    in_lane,
    lane_keeping,
    most_against_m,
    outside_share,
)
from bridges.scoring.route import Along, along
from bridges.scoring.time_to_collision import time_to_collision, times_to_collision

NO_SIGNALS = "a scene holds no state of traffic lights"
NOTHING_DRIVEN = "nothing was driven: one frame"


@dataclass(frozen=True)
class Scores:
    """Terms lie in 0..1, 1 is good. One that was not measured is 1, and not_measured says why."""

    scene: str
    planner: str
    frames: int
    # Multipliers of the extended PDM score
    no_collision: float  # the lesser of the next two
    no_collision_boxes: float
    no_collision_voxels: float
    drivable_area: float
    driving_direction: float
    traffic_lights: float
    # Its weighted terms
    progress: float
    time_to_collision: float
    lane_keeping: float
    history_comfort: float
    extended_comfort: float
    # Compositions
    epdms: float
    driving_score: float
    route_completion: float
    infractions: dict[str, int]  # that the leaderboard counts
    # Where they come from
    contacts: tuple[Contact, ...]
    least_time_to_collision_s: float | None  # None: nobody was in the way
    progress_m: float | None
    reference_m: float | None
    most_against_m: float  # against the lane's direction within a second
    outside_share: float  # of the way driven, off the road or against its direction
    comfort: dict[str, float]  # of each limited quantity the value nearest to its limit, or furthest beyond
    unknown_frames: int  # frames with voxels in the ego's box of which nothing is known
    failure: str = ""  # why both compositions are 0
    not_measured: dict[str, str] = field(default_factory=dict)
    forgiven: tuple[str, ...] = ()  # terms that the reference itself fails: they count as 1 in epdms

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers, texts, lists and dictionaries."""
        return {**asdict(self), "contacts": [asdict(contact) for contact in self.contacts]}


def score(episode: Episode) -> Scores:
    """The marks of one episode.

    Raises ValueError where it has no frame, or where the ego's motion is not finite.
    """
    _check(episode)
    marks, behind = _judge(episode)
    terms, not_measured = _sorted(marks, len(episode.ego))
    forgiven, failure = _forgiven(episode, terms), _failure(episode)
    completion = 0.0 if failure else terms["progress"] * (1.0 - behind["outside_share"])
    return Scores(
        scene=episode.scene,
        planner=episode.planner,
        frames=len(episode.ego),
        **terms,
        epdms=0.0 if failure else epdms({**terms, **dict.fromkeys(forgiven, 1.0)}, not_measured),
        driving_score=driving_score(completion, behind["infractions"]),
        route_completion=completion,
        **behind,
        failure=failure,
        not_measured=not_measured,
        forgiven=forgiven,
    )


Marks = dict[str, tuple[float, str]]  # of each term its value, and why it was not measured


def _judge(episode: Episode) -> tuple[Marks, dict[str, Any]]:
    """The terms, and what lies behind them by the names Scores has for it."""
    length, width, _ = episode.ego_size_m
    under = ground(episode.road, episode.ego, (length, width), episode.dt_s)
    way = along(episode.route, episode.ego)
    lane = in_lane(under, way, width)
    between = episode_gaps(episode)
    boxes, voxels = box_contacts(episode, between, lane), voxel_contacts(episode, between)
    times = times_to_collision(episode, between, lane, under.junction)
    least = float(times[1:].min(initial=np.inf))
    came, worst = progress(episode), peaks(motion(episode))
    marks = {
        "no_collision": (no_collision(boxes + voxels), ""),
        "no_collision_boxes": (no_collision(boxes), ""),
        "no_collision_voxels": (no_collision(voxels), _blind(episode)),
        "traffic_lights": (1.0, NO_SIGNALS),
        "progress": (came.ratio, "") if came else (1.0, "neither route nor reference has a length"),
        "time_to_collision": (time_to_collision(times), ""),
        "history_comfort": (history_comfort(worst), ""),
        "extended_comfort": extended_comfort(episode),
        **_road_terms(under, way),
    }
    return marks, {
        "infractions": infractions(boxes + voxels),
        "contacts": boxes + voxels,
        "least_time_to_collision_s": least if np.isfinite(least) else None,
        "progress_m": came.ego_m if came else None,
        "reference_m": came.reference_m if came else None,
        "most_against_m": most_against_m(under),
        "outside_share": outside_share(under),
        "comfort": worst,
        "unknown_frames": int((episode.unknown > 0).sum()),
    }


def _sorted(marks: Marks, frames: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Terms, and why some were not measured."""
    if frames == 1:
        marks = {name: (1.0, NOTHING_DRIVEN if name != "traffic_lights" else NO_SIGNALS) for name in marks}
    return {name: value for name, (value, _) in marks.items()}, {name: why for name, (_, why) in marks.items() if why}


def _check(episode: Episode) -> None:
    if not len(episode.ego):
        raise ValueError("episode has no frame: it begins with the one its planner was given")
    for name in ("ego", "speed_mps", "acceleration_mps2"):
        if not np.isfinite(getattr(episode, name)).all():
            raise ValueError(f"episode.{name} is not finite: end an episode where its planner's answer is not")


def _failure(episode: Episode) -> str:
    if episode.failure or len(episode.ego) >= episode.wanted_frames:
        return episode.failure
    return f"it ended after {len(episode.ego)} of {episode.wanted_frames} frames"


def _blind(episode: Episode) -> str:
    """Why voxels cannot tell."""
    if (episode.unknown[1:] > 0).all() and not episode.touched[1:].any():
        return "nothing is known of the space that the ego drove through"
    return ""


def _road_terms(under: Ground, way: Along | None) -> Marks:
    return {
        "drivable_area": drivable_area(under),
        "driving_direction": driving_direction(under),
        "lane_keeping": lane_keeping(under, way),
    }


def _forgiven(episode: Episode, terms: dict[str, float]) -> tuple[str, ...]:
    """Road terms that the reference fails as well: then the map is to blame, not the planner (NAVSIM v2's filter)."""
    reference = episode.reference[: len(episode.ego)]
    failed = [name for name in ("drivable_area", "driving_direction", "lane_keeping") if terms[name] < 1]
    if not failed or len(reference) < 2:
        return ()
    length, width, _ = episode.ego_size_m
    under = ground(episode.road, reference, (length, width), episode.dt_s)
    human = _road_terms(under, along(episode.route, reference))
    return tuple(name for name in failed if human[name][0] == 0.0)
