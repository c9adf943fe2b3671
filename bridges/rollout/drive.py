"""A planner driving a scene from its first to its last frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bridges.episode import Episode
from bridges.planner import Planner
from bridges.rollout.bicycle import PlannerFault
from bridges.rollout.closed_loop import ClosedLoop, LoopSettings
from bridges.rollout.host import TIME_LIMIT_S, PlannerProcess
from bridges.scoring import Scores, score
from dcgen.types import Scene

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class Driven:
    """What came of it: the episode, its marks, and the scene as the ego saw it."""

    episode: Episode
    scores: Scores
    scene: Scene
    steps_per_s: float  # of the whole loop, the planner's own time included; 0 where there was no step

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        waited = self.episode.step_s
        return {
            **self.scores.to_dict(),
            "frames": len(self.episode.ego),
            "wanted_frames": self.episode.wanted_frames,
            "steps_per_s": round(self.steps_per_s, 1),
            "slowest_answer_s": round(max(waited, default=0.0), 4),
        }


def drive(
    scene: Scene,
    planner: Planner,
    settings: LoopSettings,
    planner_name: str = "",
    scene_name: str = "",
    progress: Progress = lambda done, total: None,
) -> Driven:
    """Drive a scene with a planner. A PlannerFault ends the episode, which is then scored as failed.

    Raises SceneError, MapError; and whatever a planner of this very process raises, PlannerFault aside.
    """
    loop = ClosedLoop(scene, settings, scene_name)
    began, waited, failure = time.perf_counter(), [], ""
    try:
        planner.reset(loop.task)
        began = time.perf_counter()
        while not loop.done:
            observation = loop.observe()
            asked = time.perf_counter()
            answer = planner.plan(observation)
            waited.append(time.perf_counter() - asked)
            loop.advance(answer)
            progress(len(waited), loop.frames - 1)
    except PlannerFault as fault:
        failure = str(fault)
    seconds, steps = time.perf_counter() - began, len(loop.moments) - 1
    name = planner_name or type(planner).__name__
    episode = loop.episode(name, failure, tuple(waited))
    return Driven(episode, score(episode), loop.scene(name, failure), steps / seconds if steps else 0.0)


def drive_apart(
    scene: Scene,
    target: str,
    settings: LoopSettings,
    scene_name: str = "",
    time_limit_s: float = TIME_LIMIT_S,
    progress: Progress = lambda done, total: None,
) -> Driven:
    """The same with MODULE:CLASS in a process of its own. Raises PlannerError where it cannot be loaded."""
    with PlannerProcess(target, time_limit_s) as planner:
        driven = drive(scene, planner, settings, target, scene_name, progress)
        with suppress(PlannerFault):  # the episode was over
            planner.close()
        return driven
