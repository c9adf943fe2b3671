"""Layout IoU and the ego's free path on a street made by hand."""

import numpy as np
import pytest

from dcgen.eval.adherence import ego_path_free, layout_iou
from dcgen.types import UNKNOWN, Semantics
from tests.dcgen.eval.scenes import GRID, ROAD_COLUMNS, SURFACE, conditions, street


def road_iou(labels):
    return layout_iou(labels, conditions().layout_static, "road", Semantics.ROAD)


def test_a_street_as_laid_out_is_perfect_and_obstacles_on_it_change_nothing():
    labels = street()
    labels[:, 5:9, ROAD_COLUMNS, SURFACE + 1 :] = Semantics.VEHICLE
    assert road_iou(labels).share == 1
    assert layout_iou(labels, conditions().layout_static, "sidewalk", Semantics.SIDEWALK).share == 1


def test_missing_and_extra_columns_count_once_each():
    labels = street()
    labels[0, 0, 12, SURFACE] = Semantics.GROUND
    labels[0, 0, 2, SURFACE] = Semantics.ROAD
    expected = 40 * 6 * 3
    assert road_iou(labels).share == pytest.approx((expected - 1) / (expected + 1))


def test_unknown_columns_do_not_count():
    labels = street()
    labels[:, :7] = UNKNOWN
    assert road_iou(labels).share == 1 and road_iou(labels).total == 33 * 6 * 3


def test_a_road_at_any_height_is_a_road():
    labels = np.roll(street(), 1, axis=3)
    assert road_iou(labels).share == 1


@pytest.mark.parametrize(
    ("x_m", "y_m", "layer", "label", "free"),
    [
        (2.0, 0.4, SURFACE + 1, Semantics.POLE, False),
        (2.8, 0.4, SURFACE + 1, Semantics.POLE, True),  # before the bumper: half of 4.6 m is 2.3
        (2.0, 1.2, SURFACE + 1, Semantics.BUILDING, True),  # beside the door: half of 1.9 m is 0.95
        (2.0, 0.4, SURFACE + 3, Semantics.VEGETATION, True),  # a canopy above the roof
        (2.0, 0.4, SURFACE + 1, Semantics.VEHICLE, True),  # no static obstacle
        (2.0, 0.4, SURFACE, Semantics.BARRIER, True),  # at the surface itself, not above it
        (-2.0, -0.4, SURFACE + 1, Semantics.OTHER, False),
    ],
)
def test_what_is_in_the_egos_way(x_m, y_m, layer, label, free):
    labels = street()
    i, j = (int((v - o) / 0.8) for v, o in ((x_m, GRID.origin_m[0]), (y_m, GRID.origin_m[1])))
    if layer == SURFACE:
        labels[1, i, j, :SURFACE] = label
    else:
        labels[1, i, j, layer] = label
    found = ego_path_free(labels, conditions())
    assert (found.hits, found.total) == (3 if free else 2, 3)


def test_the_egos_box_turns_and_climbs_with_the_ego():
    labels = street(2)
    labels[:, 20, 17, SURFACE + 1] = Semantics.POLE  # 0.4 m ahead, 2.0 m to the left of the anchor
    ego = [(0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, np.pi / 2)]
    assert ego_path_free(labels, conditions(frames=2, ego=ego)).hits == 1
    high = street(1)
    high[:, 20, 15, SURFACE + 3] = Semantics.VEGETATION  # centre at 2.4 m
    assert ego_path_free(high, conditions(frames=1)).hits == 1
    assert ego_path_free(high, conditions(frames=1, ego=[(0.0, 0.0, 1.0, 0.0)])).hits == 0


def test_figures_do_not_depend_on_where_the_anchor_is_in_the_world():
    labels = street(2)
    labels[1, 21, 14, SURFACE + 1] = Semantics.POLE
    anchor = (310.0, -75.0, 4.0, 2.3)
    far = conditions(frames=2, anchor=anchor)
    assert ego_path_free(labels, far) == ego_path_free(labels, conditions(frames=2))
    assert ego_path_free(labels, far).share == 0.5


def test_frames_with_the_ego_outside_the_grid_are_left_out():
    ego = [(0.0, 0.0, 0.0, 0.0), (17.0, 0.0, 0.0, 0.0)]
    assert ego_path_free(street(2), conditions(frames=2, ego=ego)).total == 1
