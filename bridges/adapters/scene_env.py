"""The environment that as_gym_env makes; to import it takes gymnasium. X/Y/Z voxel axes; metres, seconds, radians."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from bridges.adapters.gym_policy import EGO_FIELDS, ROUTE_POINTS, control_of, seen
from bridges.adapters.surroundings import pose_of, to_ego
from bridges.planner import EGO_SIZE_M
from bridges.planners.course import course_of
from bridges.rollout.closed_loop import ClosedLoop, LoopSettings
from dcgen.errors import PlannerError
from dcgen.types import SURFACES, Command, Scene, Semantics

COLLISION = -10.0  # reward, once; a metre of progress is 1
ROUGH = 0.01  # taken off for each (m/s2)2 of a step
SOLID = [int(kind) for kind in Semantics if kind not in (Semantics.FREE, *SURFACES)]
LOWEST, HIGHEST = np.float32(-1e4), np.float32(1e4)


class SceneEnv(gymnasium.Env[Any, Any]):
    """Action [steer, throttle or brake]; terminated by a collision, truncated where the scene ends."""

    def __init__(self, scene: Scene, settings: LoopSettings, render_mode: str | None, size_px: int) -> None:
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": _fps(scene)}
        self.render_mode, self._scene, self._settings, self._size_px = render_mode, scene, settings, size_px
        shape = (settings.history, *scene.grid.shape)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Dict(
            {
                "occupancy": spaces.Box(0, 255, shape, np.uint8),
                "ego": spaces.Box(LOWEST, HIGHEST, (len(EGO_FIELDS),), np.float32),
                "route": spaces.Box(LOWEST, HIGHEST, (ROUTE_POINTS, 3), np.float32),
                "command": spaces.Discrete(len(Command)),
            }
        )
        self._loop: ClosedLoop | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = self._settings.seed if seed is None else seed
        self._loop = ClosedLoop(self._scene, replace(self._settings, seed=drawn))
        return seen(self._loop.observe()), self._told(self._loop)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        loop = self._running()
        if loop.done:
            raise PlannerError("the episode is over; call reset() before step()")
        before = loop.observe()
        loop.advance(control_of(action, "step(action)"))
        moved = _along(before.route, before.ego, loop.moments[-1].ego)
        info = self._told(loop)
        hit = info["collision"]
        reward = moved - ROUGH * loop.moments[-1].ego.acceleration_mps2 ** 2 + (COLLISION if hit else 0.0)
        return seen(loop.observe()), float(reward), bool(hit), bool(loop.done), info

    def render(self) -> Any:
        return _picture(self._running(), self._size_px) if self.render_mode == "rgb_array" else None

    def _running(self) -> ClosedLoop:
        if self._loop is None:
            raise PlannerError("the environment has not begun; call reset() first")
        return self._loop

    def _told(self, loop: ClosedLoop) -> dict[str, Any]:
        ego = loop.moments[-1].ego
        return {
            "collision": collides(loop),
            "pose": np.array([ego.x_m, ego.y_m, ego.yaw_rad]),
            "speed_mps": ego.speed_mps,
            "time_s": (len(loop.moments) - 1) * loop.dt_s,
        }


def collides(loop: ClosedLoop) -> bool:
    """Whether the ego's box shares ground with an agent's, or holds the centre of a solid voxel."""
    from scenarios.footprints import boxes_overlap

    seen_now = loop.observe()
    agents, grid = seen_now.agents, seen_now.grid
    boxes = np.column_stack([agents.pose, agents.size_m[:, :2]])
    if boxes_overlap(np.array([[0.0, 0.0, 0.0, *EGO_SIZE_M[:2]]]), boxes).any():
        return True
    axes = [o + (np.arange(n) + 0.5) * v for n, v, o in zip(grid.shape, grid.voxel_m, grid.origin_m, strict=True)]
    above = (axes[2] - grid.voxel_m[2] / 2 >= 0.15) & (axes[2] <= EGO_SIZE_M[2])
    within = np.ix_(np.abs(axes[0]) <= EGO_SIZE_M[0] / 2, np.abs(axes[1]) <= EGO_SIZE_M[1] / 2, above)
    return bool(np.isin(seen_now.occupancy[-1][within], SOLID).any())


def _along(route: Any, before: Any, after: Any) -> float:
    """Metres of progress along a route that was seen from `before`."""
    return float(course_of(route).place(to_ego(before, pose_of(after))[0, :2])[0])


def _picture(loop: ClosedLoop, size_px: int) -> Any:
    """[size, size, 3] uint8: the bird's-eye view of a scene's pictures."""
    from dcgen.export.birdseye import birdseye
    from dcgen.export.frame import frame_of

    return np.asarray(birdseye(frame_of(loop.scene("gymnasium"), -1), size_px).convert("RGB"))


def _fps(scene: Scene) -> int:
    return max(1, round(1 / float(np.mean(np.diff(scene.time_s))))) if len(scene.time_s) > 1 else 5
