"""An episode from above: who is gone at its end is not drawn there."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from bridges.episode import Episode
from bridges.rollout.picture import picture
from dcgen.types import PALETTE, Semantics
from tests.bridges.rollout.small_worlds import scene_of
from tests.bridges.scoring.episodes import episode


def drawn_in_its_colour(made: Episode) -> int:
    """Pixels near the vehicles' colour."""
    image = np.asarray(Image.open(io.BytesIO(picture(made, scene_of(car=False), ()))).convert("RGB"), np.int16)
    return int((np.abs(image - PALETTE[Semantics.VEHICLE]).max(axis=2) < 24).sum())


def test_only_who_is_there_at_the_end_has_a_body() -> None:
    stays = episode(None, None, {"x": 14.0, "y": 3.0})
    leaves = stays.agents.valid.copy()
    leaves[:, 9:] = False
    gone = replace(stays, agents=replace(stays.agents, valid=leaves))
    assert drawn_in_its_colour(stays) > 200 and drawn_in_its_colour(gone) == 0
    moving = np.linspace(4.0, 24.0, len(stays.ego))
    driven = episode(None, None, {"x": moving, "y": 3.0})
    left = replace(driven, agents=replace(driven.agents, valid=leaves))
    assert drawn_in_its_colour(driven) > drawn_in_its_colour(left) > 20  # its way is still seen
