"""A class for `--planner MODULE:CLASS` out of what an adapter returns."""

from __future__ import annotations

from collections.abc import Callable

from bridges.planner import Control, Observation, Planner, Task, Trajectory


def planner_class(make: Callable[[], Planner]) -> type[Planner]:
    """A class, made without arguments, whose planner is what `make` returns at that time."""

    class Made:
        def __init__(self) -> None:
            self._planner = make()

        def reset(self, task: Task) -> None:
            self._planner.reset(task)

        def plan(self, observation: Observation) -> Trajectory | Control:
            return self._planner.plan(observation)

        def close(self) -> None:
            self._planner.close()

    return Made
