"""Folders of scenes as recordings for a forecaster. T frame, X/Y/Z voxel axes.

Scenes are ego-centred: each frame stands in its own ego's grid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcgen.dataset.motion import owners
from dcgen.errors import GridMismatch, SceneError
from dcgen.forecast.config import ForecastConfig
from dcgen.forecast.windows import Recording, Windows
from dcgen.scene_file import load_scene
from dcgen.types import MOVING_MPS, GridSpec, Scene

HELD_BYTES = 600_000_000  # of scenes in memory; one is always held
SUFFIXES = (".h5", ".hdf5")


def scene_files(folder: Path) -> list[Path]:
    """The scenes that lie in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


class SceneRecordings:
    """Scene files of one grid and clock, read when they are asked for. Raises SceneError, GridMismatch."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        if not paths:
            raise SceneError(f"{name}: holds no scenes; make some with: dcgen scenario ROUTE -o {name}")
        self.paths, self.name = list(paths), name
        self._held: OrderedDict[int, Recording] = OrderedDict()
        self.grid: GridSpec
        self.dt_s: float
        self.frames: list[int] = []
        maps = dict[str, None]()
        for number, path in enumerate(self.paths):
            scene = load_scene(path)
            self._note(path, scene, number == 0)
            self.frames.append(len(scene.labels))
            self._hold(number, recording_of(scene))
            maps[scene.model or "recorded"] = None
        self.about = f"{len(self.paths)} scenes by {', '.join(maps)}"

    def _note(self, path: Path, scene: Scene, first: bool) -> None:
        steps = np.diff(scene.time_s)
        if len(steps) < 1:
            raise SceneError(f"{path}: has one frame, and a forecast needs several; make a longer scene")
        dt_s = round(float(steps[0]), 6)
        if np.abs(steps - dt_s).max() > 1e-3 * dt_s:
            raise SceneError(f"{path}: /frames/time_s is uneven, and a forecast needs a steady clock; leave it out")
        if first:
            self.grid, self.dt_s = scene.grid, dt_s
        for field, got, want in (("grid", scene.grid, self.grid), ("dt_s", dt_s, self.dt_s)):
            if got != want:
                raise GridMismatch(f"{path}: {field}: {got} is not the {want} of {self.paths[0].name}; keep them apart")

    def _hold(self, number: int, found: Recording) -> None:
        self._held[number] = found
        while len(self._held) > 1 and sum(2 * each.labels.nbytes for each in self._held.values()) > HELD_BYTES:
            self._held.popitem(last=False)

    def __getitem__(self, index: int) -> Recording:
        if index not in self._held:
            self._hold(index, recording_of(load_scene(self.paths[index])))
        self._held.move_to_end(index)
        return self._held[index]


class SceneWindows(Windows):
    """The windows of a folder of scenes."""

    def __init__(self, folder: Path, config: ForecastConfig, stride: int | None = None) -> None:
        super().__init__(SceneRecordings(scene_files(folder), str(folder)), config, stride)


def recording_of(scene: Scene) -> Recording:
    """A scene as a recording; what moves is what belongs to agents faster than MOVING_MPS."""
    poses = np.ascontiguousarray(scene.world_se3_ego)
    owner = owners(scene.labels, scene.agents, scene.grid, poses)
    fast = np.concatenate([np.zeros((1, len(poses)), bool), scene.agents.valid & (scene.agents.speed_mps > MOVING_MPS)])
    frames = np.arange(len(poses))[:, None, None, None]
    moving = fast[np.maximum(owner, 0), frames]
    return Recording(scene.labels, moving, poses, poses, scene.agents)
