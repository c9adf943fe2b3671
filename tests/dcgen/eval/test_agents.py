"""Agents found and phantoms counted on a street made by hand."""

import numpy as np
import pytest

from dcgen.eval.agents import agent_precision, agent_recall, boxes_of
from dcgen.eval.tally import summed
from dcgen.types import Semantics, pose_matrix
from tests.dcgen.eval.scenes import SURFACE, conditions, stamp, street, tracks

CAR = Semantics.VEHICLE
WALKER = Semantics.PEDESTRIAN


def car(x_m, y_m, yaw=0.0):
    return (CAR, x_m, y_m, yaw, 4.8, 2.4)


def recall(labels, rows, **kwargs):
    return summed(agent_recall(labels, conditions(rows, **kwargs)).values())


def test_agents_where_they_should_be():
    labels = street()
    stamp(labels, CAR, 4.0, 0.4, 4.8, 2.4)
    stamp(labels, WALKER, -3.6, 5.2, 0.8, 0.8)
    rows = [car(4.0, 0.4), (WALKER, -3.6, 5.2, 0.0, 0.5, 0.5)]
    found = agent_recall(labels, conditions(rows))
    assert (found[CAR].hits, found[CAR].total) == (3, 3) and found[WALKER].share == 1
    assert agent_precision(labels, conditions(rows)).share == 1


@pytest.mark.parametrize(("shift_m", "found"), [(0.0, 3), (0.8, 3), (1.6, 0), (4.0, 0)])
def test_a_car_out_of_place_is_not_found(shift_m, found):
    labels = street()
    stamp(labels, CAR, 4.0 + shift_m, 0.4, 4.8, 2.4)
    assert recall(labels, [car(4.0, 0.4)]).hits == found


def test_the_class_matters():
    labels = street()
    stamp(labels, Semantics.BICYCLE, 4.0, 0.4, 4.8, 2.4)
    assert recall(labels, [car(4.0, 0.4)]).hits == 0


def test_touching_cars_each_count_with_their_own_part():
    labels = street()
    stamp(labels, CAR, 2.4, 0.4, 9.6, 2.4)  # one blob, two cars bumper to bumper
    rows = [car(0.0, 0.4), car(4.8, 0.4)]
    assert recall(labels, rows).share == 1
    only_one = street()
    stamp(only_one, CAR, 0.0, 0.4, 4.8, 2.4)
    assert recall(only_one, rows).share == 0.5


def test_crumbs_are_no_car():
    labels = street()
    stamp(labels, CAR, 1.6, 0.4, 0.8, 0.8)  # a piece at the rear, and a smaller one at the front that mends the mean
    labels[:, 27, 15, SURFACE + 1] = CAR
    assert recall(labels, [car(4.0, 0.4)]).hits == 0


def test_agents_at_the_rim_are_not_asked_for_and_a_clipped_bus_is_found():
    labels = street()
    stamp(labels, CAR, 12.4, 0.4, 7.2, 2.4)  # a bus of 12 m at x = 13, of which 9 m are in the grid
    bus = (CAR, 13.0, 0.4, 0.0, 12.0, 2.4)
    assert recall(labels, [bus]).total == 3 and recall(labels, [bus]).hits == 3
    assert recall(labels, [car(14.5, 0.4)]).total == 0
    assert recall(labels, [car(4.0, -10.5)]).total == 0


def test_agents_that_are_not_there_or_below_the_grid_are_not_asked_for():
    there = conditions([car(4.0, 0.4), car(-4.0, 0.4)])
    there.agents.valid[0, 1] = False
    there.agents.z_m[1] = -3.0
    assert agent_recall(street(), there)[CAR].total == 2


def test_phantoms_lower_precision():
    labels = street()
    stamp(labels, CAR, 4.0, 0.4, 4.8, 2.4)
    real = int((labels == CAR).sum())
    stamp(labels, WALKER, -10.0, 7.6, 0.8, 0.8)
    phantom = int((labels == WALKER).sum())
    found = agent_precision(labels, conditions([car(4.0, 0.4)]))
    assert phantom > 0 and (found.hits, found.total) == (real, real + phantom)
    assert agent_precision(labels, conditions()).hits == 0
    assert np.isnan(agent_precision(street(), conditions([car(4.0, 0.4)])).share)


def test_turning_the_world_changes_nothing():
    labels = street()
    stamp(labels, CAR, 4.0, 0.4, 4.8, 2.4)
    anchor = (120.0, -40.0, 2.0, 2.1)
    at = pose_matrix(*anchor) @ [4.0, 0.4, 0.0, 1.0]
    turned = conditions([(CAR, at[0], at[1], 2.1, 4.8, 2.4)], anchor=anchor)
    turned.agents.z_m[:] = 2.0
    assert agent_recall(labels, turned)[CAR].share == 1
    assert agent_precision(labels, turned).share == 1


def test_signed_distance_of_a_turned_box():
    boxes = boxes_of(tracks([(CAR, 1.0, 2.0, np.pi / 2, 4.0, 2.0)], 1), 0, np.eye(4))
    points = np.array([[1.0, 2.0], [1.0, 3.9], [1.0, 5.0], [2.5, 2.0], [5.0, 8.0]])
    np.testing.assert_allclose(boxes.signed_distance_m(points)[:, 0], [-1.0, -0.1, 1.0, 0.5, 5.0], atol=1e-12)
