"""From terms to one number: the score of NAVSIM v2 and the one of the CARLA leaderboard.

Both lie in 0..1. Penalties multiply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from bridges.scoring.collisions import Contact

MULTIPLIERS = ("no_collision", "drivable_area", "driving_direction", "traffic_lights")
# NAVSIM v2's extended PDM score
WEIGHTS = {
    "progress": 5.0,
    "time_to_collision": 5.0,
    "lane_keeping": 2.0,
    "history_comfort": 2.0,
    "extended_comfort": 2.0,
}
# CARLA leaderboard 2.0, each time it happens; scenes hold neither lights nor signs
PENALTIES = {"pedestrian": 0.5, "vehicle": 0.6, "static": 0.65}


def epdms(terms: Mapping[str, float], not_measured: Collection[str] = ()) -> float:
    """Product of the multipliers times the weighted mean of the rest.

    What was not measured multiplies by 1 and has no weight.
    """
    product = 1.0
    for name in MULTIPLIERS:
        product *= terms[name]
    weights = {name: weight for name, weight in WEIGHTS.items() if name not in not_measured}
    total = sum(weights.values())
    mean = sum(weight * terms[name] for name, weight in weights.items()) / total if total else 1.0
    return min(max(product * mean, 0.0), 1.0)


def infractions(contacts: Sequence[Contact]) -> dict[str, int]:
    """How often the ego ran into what. The leaderboard asks for no fault, only that the ego was not standing."""
    count = Counter[str](contact.kind for contact in contacts if counts(contact))
    return {kind: count[kind] for kind in PENALTIES}


def counts(contact: Contact) -> bool:
    """Whether the leaderboard would punish it."""
    return contact.at_fault if contact.how == "voxels" else contact.how != "stopped ego"


def penalty(count: Mapping[str, int]) -> float:
    """Product of the penalties, each to the power of its count."""
    product = 1.0
    for kind, factor in PENALTIES.items():
        product *= factor ** count[kind]
    return product


def driving_score(completion: float, count: Mapping[str, int]) -> float:
    """Route completion times the penalties."""
    return completion * penalty(count)
