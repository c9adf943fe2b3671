"""A scene as an environment of Gymnasium: the closed loop of `dcgen rollout`, driven by actions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcgen.errors import MissingExtra, PlannerError
from dcgen.types import Scene

if TYPE_CHECKING:
    import gymnasium

    from bridges.rollout.closed_loop import LoopSettings


def as_gym_env(
    scene: Scene | Path | str,
    settings: LoopSettings | None = None,
    render_mode: str | None = None,
    size_px: int = 400,
) -> gymnasium.Env[Any, Any]:
    """A gymnasium.Env in which the agent drives the ego of a scene (or scene file). size_px is that of its pictures.

    Raises MissingExtra without gymnasium, PlannerError for an unknown render mode, SceneError for a scene that cannot
    be read.
    """
    try:
        import gymnasium  # noqa: F401
    except ImportError:
        raise MissingExtra("gymnasium", "gym", "an environment of Gymnasium") from None
    from bridges.adapters.scene_env import SceneEnv
    from bridges.rollout.closed_loop import LoopSettings

    if render_mode not in (None, "rgb_array"):
        raise PlannerError(f"render_mode {render_mode!r} is not there; give 'rgb_array' or None")
    if not isinstance(scene, Scene):
        from dcgen.scene_file import load_scene

        scene = load_scene(scene)
    return SceneEnv(scene, settings or LoopSettings(), render_mode, size_px)
