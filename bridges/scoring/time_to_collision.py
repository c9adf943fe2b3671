"""How soon the ego would meet somebody if all drove on as they do.

T frame, N agent. World frame, metres, seconds.
"""

from __future__ import annotations

import numpy as np

from bridges.episode import Episode
from bridges.scoring.boxes import Gaps, Mask
from bridges.scoring.collisions import AHEAD_COS, BEHIND_COS, direction_cos, first_contact
from dcgen.types import Doubles

LEAST_S = 0.95  # nuPlan's least_min_ttc: at this or less, the bound is broken
STANDING_MPS = 5e-3  # NAVSIM: a slower ego has no time to collision


def times_to_collision(episode: Episode, between: Gaps, in_lane: Mask, junction: Mask) -> Doubles:
    """[T] seconds to the first contact in each frame, inf where there is none.

    nuPlan's choice of agents, as in NAVSIM: those ahead, now or when they are met; those at the sides too where the
    ego is at a junction or not in its lane; never those met from behind, nor those that have been hit.
    """
    contact = between.contact_s()
    first = first_contact(between.within())
    live = np.isfinite(contact) & (np.arange(len(episode.ego)) <= first[:, None])
    now = between.offset_m[:2]
    then = now + between.rate_mps[:2] * np.where(live, contact, 0.0)
    now_cos, then_cos = (direction_cos(place[0], place[1], episode.speed_mps) for place in (now, then))
    wide = ~in_lane | junction
    counts = live & (then_cos >= BEHIND_COS) & (wide | (np.maximum(now_cos, then_cos) > AHEAD_COS))
    counts &= np.abs(episode.speed_mps) >= STANDING_MPS
    return np.where(counts, contact, np.inf).min(axis=0, initial=np.inf)


def time_to_collision(times_s: Doubles) -> float:
    """NAVSIM's {0, 1}: 0 once a contact is LEAST_S away or less. The given frame is not judged."""
    return float(not (times_s[1:] <= LEAST_S + 1e-9).any())
