"""What `dcgen rollout` does: a scene file and a planner in, a scene of what happened and its marks out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dcgen.errors import SceneError

if TYPE_CHECKING:
    from bridges.rollout.closed_loop import LoopSettings
    from bridges.rollout.drive import Driven, Progress

SCENE_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True)
class RolloutOrder:
    """A scene, a planner, and where what happened is written to."""

    scene: Path
    planner: str
    settings: LoopSettings
    time_limit_s: float
    output: Path | None = None


def drive_file(order: RolloutOrder, progress: Progress = lambda done, total: None) -> Driven:
    """Drive the scene of a file. Raises SceneError, which names the file, MapError, PlannerError."""
    from bridges.rollout.drive import drive_apart
    from dcgen.scene_file import load_scene

    scene = load_scene(order.scene, motion=True)
    try:
        return drive_apart(scene, order.planner, order.settings, order.scene.stem, order.time_limit_s, progress)
    except SceneError as fault:
        raise SceneError(f"{order.scene}: {fault}") from None


def run_rollout(order: RolloutOrder, progress: Progress) -> Driven:
    """Drive the scene and write down what happened. Raises SceneError, MapError, PlannerError."""
    from dcgen.scene_file import check_destination, save_scene

    if order.output is not None:
        if order.output.suffix not in SCENE_SUFFIXES:
            raise SceneError(f"{order.output}: a scene's name ends in .h5; choose another output")
        check_destination(order.output)
        if order.output.exists() and order.output.samefile(order.scene):
            raise SceneError(f"{order.output}: is the scene itself; choose another output")
    driven = drive_file(order, progress)
    if order.output is not None:
        save_scene(driven.scene, order.output)
    return driven


def line_of(driven: Driven) -> str:
    """One line for a person."""
    scores, episode = driven.scores, driven.episode
    head = f"{scores.scene}  {scores.planner}  {len(episode.ego)} of {episode.wanted_frames} frames"
    if scores.failure:
        return f"{head}  failed: {scores.failure}"
    return f"{head}  EPDMS {scores.epdms:.3f}  driving score {scores.driving_score:.3f}"
