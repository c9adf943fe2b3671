"""UniOcc: `scene_infos.pkl` and one .npz a frame, in the ego frame. X/Y/Z voxel axes, F frame, N agent.

What was made with CARLA (the folders Carla-*, OpenCOOD-*, OPV2V-*) has its y to the right, in voxels, poses and boxes.
The flow (voxels, axes as the grid's, the ego's own motion included) is not read: annotations say what moves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bridges.datasets.agents import Box
from bridges.datasets.class_maps import UNIOCC
from bridges.datasets.files import Archive, check_growing, check_poses, read_bytes
from bridges.datasets.restricted import load_restricted, shown
from bridges.datasets.sequence import Frame, ReadOptions, mirrored
from dcgen.errors import DatasetError
from dcgen.types import MOVABLE, Doubles, GridSpec, wide_grid

SHAPE = (200, 200, 16)
MOST_INFO_BYTES = 256_000_000
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*hz", re.IGNORECASE)
_BY_CARLA = re.compile(r"carla|opencood|opv2v", re.IGNORECASE)


@dataclass(frozen=True)
class UniOccScene:
    """One scene, its frames as scene_infos.pkl lists them."""

    name: str
    paths: tuple[Path, ...]
    dt_s: float
    y_right: bool
    options: ReadOptions

    @property
    def frames(self) -> int:
        return len(self.paths)

    @property
    def grid(self) -> GridSpec:
        return wide_grid()

    def frame_name(self, index: int) -> str:
        return self.paths[index].stem

    @cached_property
    def world_se3_ego(self) -> Doubles:
        """[F, 4, 4]. Raises DatasetError for the first frame that is missing or damaged."""
        return np.stack([self._pose(path) for path in self.paths])

    def _pose(self, path: Path) -> Doubles:
        with Archive(path) as archive:
            pose = check_poses(path, archive.array("ego_to_world_transformation", (4, 4), "f")[None])[0]
        return mirrored(pose) if self.y_right else pose

    def frame(self, index: int) -> Frame:
        path = self.paths[index]
        with Archive(path) as archive:
            labels = UNIOCC.apply(archive.array("occ_label", SHAPE, "ui"), path)
            mask = f"occ_mask_{self.options.mask}"  # most of the sets have the camera's alone
            observed = archive.mask(mask, SHAPE) if mask in archive or self.options.mask == "camera" else None
            found = archive.objects("annotations") if "annotations" in archive else []
        if self.y_right:
            labels = labels[:, ::-1]
            observed = None if observed is None else observed[:, ::-1]
        frame = Frame(labels) if observed is None else Frame.seen(labels, observed)
        return Frame(frame.labels, frame.observed, boxes=self._boxes(path, found))

    def _boxes(self, path: Path, found: list[Any]) -> tuple[Box, ...]:
        """Road users but the ego: what stands where the ego stands is the ego."""
        boxes = []
        for each in found:
            try:
                pose = np.asarray(each["agent_to_world"], np.float64).reshape(4, 4)
                local = np.asarray(each["agent_to_ego"], np.float64).reshape(4, 4)
                length, width, height = (float(m) for m in each["size"])
                kind, token = int(each["category_id"]), str(each["token"])
                if not isinstance(each["token"], (str, int)):
                    raise TypeError
            except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError):
                raise DatasetError(
                    f"{path}: annotations: needs token, agent_to_ego, agent_to_world, size and category_id of each; "
                    "copy the file again"
                ) from None
            check_poses(path, np.stack([pose, local]))
            if not (min(length, width, height) > 0 and max(length, width, height) < 1e3):
                raise DatasetError(f"{path}: annotations: agent {shown(token)} has no size; copy the file again")
            class_id = UNIOCC.of(kind, path)
            ego_in_box = np.abs(np.linalg.inv(local)[:2, 3]) < (length / 2, width / 2)
            if class_id in MOVABLE and not ego_in_box.all():
                boxes.append(Box(token, class_id, mirrored(pose) if self.y_right else pose, (length, width, height)))
        return tuple(boxes)


def open_uniocc(folder: Path, options: ReadOptions) -> list[UniOccScene]:
    """The scenes that scene_infos.pkl lists."""
    path = folder / "scene_infos.pkl"
    infos = load_restricted(read_bytes(path, MOST_INFO_BYTES), str(path))
    if not isinstance(infos, (list, tuple)) or not infos:
        raise DatasetError(f"{path}: is no list of scenes; copy the file again")
    whole = folder.resolve().name
    rate = _RATE.search(whole)
    dt_s = options.dt_s or (1.0 / float(rate[1]) if rate and float(rate[1]) > 0 else None)
    if dt_s is None or not 1e-3 <= dt_s <= 60:
        raise DatasetError(
            f"{folder}: its name tells no rate such as -2Hz-; keep the name its authors gave, or give --dt"
        )
    y_right = bool(_BY_CARLA.match(whole)) if options.y_right is None else options.y_right
    return [
        UniOccScene(name, _listed(folder, path, name, files), dt_s, y_right, options)
        for info in infos
        for name, files in _drives(path, info)
    ]


def _drives(path: Path, info: Any) -> list[tuple[str, list[str]]]:
    """(name, files) of each recording of a scene: where several cars recorded it, one each."""
    egos = info.get("egos") if isinstance(info, dict) else None
    if isinstance(egos, list):
        return [_drive(path, ego, "ego_name", f"{info.get('scene_name')}/") for ego in egos]
    return [_drive(path, info, "scene_name", "")]


def _drive(path: Path, info: Any, key: str, before: str) -> tuple[str, list[str]]:
    try:
        name, files = info[key], list(info["occ_in_scene_paths"])
    except (KeyError, TypeError, IndexError):
        raise DatasetError(f"{path}: a scene lacks {key} or occ_in_scene_paths; copy the file again") from None
    if not isinstance(name, str) or not files or not all(isinstance(each, str) for each in files):
        raise DatasetError(f"{path}: scene {shown(name)} lists no frames; copy the file again")
    return shown(before + name), files


def _listed(folder: Path, path: Path, name: str, files: list[str]) -> tuple[Path, ...]:
    """The frames of a scene, in order of their numbers, none missing and none outside the folder."""
    parts = [PurePosixPath(each.replace("\\", "/")) for each in files]
    for part in parts:
        if part.is_absolute() or ".." in part.parts or part.suffix != ".npz":
            raise DatasetError(f"{path}: scene {name}: {shown(part)} lies outside the set; copy the file again")
    if all(part.stem.isdecimal() for part in parts):
        numbers = [int(part.stem) for part in parts]
        check_growing(Path(f"{path}: scene {name}"), numbers)
        steps = np.diff(numbers)
        if len(steps) and (steps != steps.min()).any():
            gap = numbers[int(np.argmax(steps != steps.min()))] + int(steps.min())
            raise DatasetError(f"{folder / parts[0].parent / f'{gap}.npz'}: is missing; copy the frame again")
    return tuple(folder / part for part in parts)
