"""A class for the command line out of an adapter."""

from __future__ import annotations

from bridges.adapters import from_gym_policy, planner_class
from bridges.planner import Planner
from tests.bridges.adapters import left_turn


def test_each_object_has_a_planner_of_its_own() -> None:
    made = []

    def make() -> Planner:
        made.append(from_gym_policy(lambda seen: [0.4, 0.1]))
        return made[-1]

    found = planner_class(make)
    assert not made and isinstance(found, type)
    assert isinstance(found(), Planner) and isinstance(found(), Planner) and len(made) == 2
    plain = left_turn.drive(from_gym_policy(lambda seen: [0.4, 0.1]))
    assert left_turn.drive(found()) == plain and left_turn.turned(plain) > 0.6
