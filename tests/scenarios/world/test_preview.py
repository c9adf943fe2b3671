"""Pictures: sizes, colours, files."""

import numpy as np
import pytest
from PIL import Image

from dcgen.errors import WorldError
from dcgen.types import Semantics, nano_grid
from scenarios.world.cut.clips import make_clip
from scenarios.world.cut.recipe import ClipRecipe, Pick
from scenarios.world.preview import HEAD, clip_picture, oblique_view, preview_world, save_picture, top_view
from scenarios.world.store import World
from scenarios.world.town.picture import town_picture


def test_north_is_up_and_east_is_right() -> None:
    labels = np.zeros((5, 7, 3), np.uint8)
    labels[4, 6, 0] = Semantics.VEHICLE
    picture = top_view(labels, scale=2)
    assert picture.shape == (14, 10, 3)
    assert picture[0, -1].any() and not picture[-1].any() and not picture[0, 0].any()


def test_the_oblique_view_draws_near_things_over_far_ones() -> None:
    labels = np.zeros((4, 6, 3), np.uint8)
    labels[:, 0, :] = Semantics.BUILDING
    hidden = labels.copy()
    hidden[:, 1, 0] = Semantics.VEHICLE
    assert np.array_equal(oblique_view(labels), oblique_view(hidden))
    labels[1, 5, 0] = Semantics.VEHICLE
    assert not np.array_equal(oblique_view(labels), oblique_view(hidden))


def test_what_is_observed_is_bright_and_points_are_white(street: World) -> None:
    pick = Pick(0, 60, 3)
    plain, seen = (make_clip(street, pick, ClipRecipe(nano_grid(), 3, 0.2, lidar=lidar)) for lidar in ("", "roof"))
    narrow, wide = clip_picture(plain), clip_picture(seen)
    assert wide.shape[1] == narrow.shape[1] + 64 * 4 + 6 and wide.shape[0] == narrow.shape[0]
    view = wide[HEAD : HEAD + 256, 3 * (256 + 6) : 3 * (256 + 6) + 256].astype(int)
    whole = top_view(seen.labels[1]).astype(int)
    white, kept = (view == 255).all(axis=2), (view == whole).all(axis=2)
    assert (
        0.005 < white.mean() < 0.6 and kept.mean() > 0.02 and (view.sum(axis=2) < 0.5 * whole.sum(axis=2)).mean() > 0.05
    )


def test_previews_are_written(street: World, tmp_path) -> None:
    paths = preview_world(street, tmp_path / "out", clips=2)
    assert [path.name for path in paths] == ["town.png", "clips.png", "sheet.png"]
    town = np.asarray(Image.open(paths[0]))
    assert town.shape == town_picture(street.tile).shape
    assert len(np.unique(town.reshape(-1, 3), axis=0)) > 10


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    with pytest.raises(WorldError, match="cannot be written"):
        save_picture(np.zeros((2, 3, 3), np.uint8), tmp_path / "no" / "such.png")
