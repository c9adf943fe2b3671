"""Occ3D on nuScenes and on Waymo: one .npz a frame, in the ego frame. X/Y/Z voxel axes, F frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bridges.datasets.class_maps import OCC3D_NUSCENES, OCC3D_WAYMO
from bridges.datasets.files import Archive, check_growing, check_poses, numbered, read_bytes, read_table, square
from bridges.datasets.restricted import load_restricted
from bridges.datasets.sequence import Frame, ReadOptions
from dcgen.errors import DatasetError
from dcgen.types import Doubles, GridSpec, wide_grid

NUSCENES_DT_S = 0.5  # key frames
WAYMO_DT_S = 0.1
MOST_ANNOTATION_BYTES = 4_000_000_000
MOST_POSE_OPCODES = 400_000_000
SHAPE = (200, 200, 16)
POSES_OF_SPLIT = {"training": "cam_infos.pkl", "validation": "cam_infos_vali.pkl"}


@dataclass(frozen=True)
class NuscenesScene:
    """One scene of Occ3D-nuScenes, its key frames in order of time."""

    name: str
    paths: tuple[Path, ...]
    world_se3_ego: Doubles  # [F, 4, 4]
    options: ReadOptions

    @property
    def frames(self) -> int:
        return len(self.paths)

    @property
    def grid(self) -> GridSpec:
        return wide_grid()

    @property
    def dt_s(self) -> float:
        return self.options.dt_s or NUSCENES_DT_S

    def frame_name(self, index: int) -> str:
        return self.paths[index].parent.name

    def frame(self, index: int) -> Frame:
        path = self.paths[index]
        with Archive(path) as archive:
            labels = OCC3D_NUSCENES.apply(archive.array("semantics", SHAPE, "ui"), path)
            return Frame.seen(labels, archive.mask(f"mask_{self.options.mask}", SHAPE))


def open_occ3d_nuscenes(folder: Path, options: ReadOptions) -> list[NuscenesScene]:
    """The scenes of `gts/<scene>/<token>/labels.npz` that are there, with the poses of annotations.json."""
    path, gts = folder / "annotations.json", folder / "gts"
    if not gts.is_dir():
        raise DatasetError(f"{gts}: is missing; give the folder that holds gts and annotations.json of Occ3D-nuScenes")
    infos = _annotations(path)
    scenes = []
    for name in sorted(each.name for each in gts.iterdir() if each.is_dir()):
        if name not in infos:
            raise DatasetError(
                f"{path}: says nothing of scene {name}; copy the annotations that belong to these scenes"
            )
        scenes.append(_nuscenes_scene(path, gts / name, infos[name], options))
    if not scenes:
        raise DatasetError(f"{gts}: holds no scene; copy the scenes here")
    return scenes


def _annotations(path: Path) -> dict[str, Any]:
    """scene_infos of the file. The cameras, nine tenths of it, are dropped while it is read."""
    data = read_bytes(path, MOST_ANNOTATION_BYTES)
    try:
        keep = json.loads(data, object_pairs_hook=lambda pairs: {k: v for k, v in pairs if k != "camera_sensor"})
        infos = keep["scene_infos"]
        if not isinstance(infos, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DatasetError(f"{path}: is no JSON with scene_infos; copy the file again") from None
    return infos


def _nuscenes_scene(path: Path, folder: Path, info: Any, options: ReadOptions) -> NuscenesScene:
    try:
        tokens = list(info)
        poses = [_pose(info[token]["ego_pose"]) for token in tokens]
        times = [float(info[token]["timestamp"]) for token in tokens]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DatasetError(
            f"{path}: scene {folder.name} lacks ego_pose (translation, rotation w x y z) or timestamp of a frame; "
            "copy the file again"
        ) from None
    check_growing(Path(f"{path}: scene {folder.name}"), times)
    paths = tuple(folder / token / "labels.npz" for token in tokens)
    missing = [each for each in paths if not each.is_file()]
    if missing or not paths:
        raise DatasetError(f"{missing[0] if missing else folder}: is missing; copy the frame again")
    return NuscenesScene(folder.name, paths, check_poses(path, np.stack(poses)), options)


def _pose(info: dict[str, Any]) -> Doubles:
    """[4, 4] out of a translation and a quaternion w, x, y, z."""
    w, x, y, z = np.asarray(info["rotation"], np.float64)
    out = np.eye(4)
    out[:3, :3] = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    out[:3, 3] = np.asarray(info["translation"], np.float64).reshape(3)
    return out


@dataclass(frozen=True)
class WaymoScene:
    """One scene of Occ3D-Waymo. Poses: ego2global in the frames, else poses.txt beside them, else cam_infos.pkl."""

    folder: Path  # .../training/SSS
    numbers: tuple[int, ...]
    options: ReadOptions

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def frames(self) -> int:
        return len(self.numbers)

    @property
    def grid(self) -> GridSpec:
        return wide_grid()

    @property
    def dt_s(self) -> float:
        return self.options.dt_s or WAYMO_DT_S

    def frame_name(self, index: int) -> str:
        return f"{self.numbers[index]:03d}"

    def path(self, index: int) -> Path:
        return self.folder / f"{self.frame_name(index)}_04.npz"

    def frame(self, index: int) -> Frame:
        with Archive(self.path(index)) as archive:
            labels = OCC3D_WAYMO.apply(archive.array("voxel_label", SHAPE, "ui"), self.path(index))
            if self.options.mask == "lidar":
                observed = archive.mask("origin_voxel_state", SHAPE)
            else:  # five cameras do not look everywhere
                observed = archive.mask("final_voxel_state", SHAPE) & archive.mask("infov", SHAPE)
        return Frame.seen(labels, observed)

    @cached_property
    def world_se3_ego(self) -> Doubles:
        """[F, 4, 4]. Raises DatasetError, naming what it looked for, where there are no poses."""
        with Archive(self.path(0)) as first:
            inside = "ego2global" in first
        if inside:
            return np.concatenate([self._pose_inside(index) for index in range(self.frames)])
        text = self.folder / "poses.txt"
        if text.is_file():
            rows = read_table(text, 12)
            if len(rows) != self.frames:
                raise DatasetError(f"{text}: holds {len(rows)} poses for {self.frames} frames; copy the scene again")
            return check_poses(text, square(rows))
        return self._poses_of_cameras(text)

    def _pose_inside(self, index: int) -> Doubles:
        with Archive(self.path(index)) as archive:
            return check_poses(self.path(index), archive.array("ego2global", (4, 4), "f")[None])

    def _poses_of_cameras(self, text: Path) -> Doubles:
        split = self.folder.parent
        name = POSES_OF_SPLIT.get(split.name, "cam_infos.pkl")
        places = [folder / name for folder in (split, split.parent, split.parent.parent)]
        path = next((each for each in places if each.is_file()), None)
        if path is None:
            raise DatasetError(
                f"{text}: no poses: the frames have no ego2global, and neither this file nor {places[1]} is there; "
                "copy one of them here"
            )
        try:
            scene = _camera_infos(path)[int(self.folder.name)]
            poses = np.stack([np.asarray(scene[number][0]["ego2global"], np.float64) for number in self.numbers])
            return check_poses(path, poses.reshape(-1, 4, 4))
        except (KeyError, IndexError, TypeError, ValueError):
            raise DatasetError(
                f"{path}: has no ego2global of every frame of {self.name}; copy the file again"
            ) from None


@lru_cache(maxsize=2)
def _camera_infos(path: Path) -> Any:
    data = read_bytes(path, MOST_ANNOTATION_BYTES)
    return load_restricted(data, str(path), MOST_ANNOTATION_BYTES, MOST_POSE_OPCODES)


def open_occ3d_waymo(folder: Path, options: ReadOptions) -> list[WaymoScene]:
    """The scenes of `training/SSS/FFF_04.npz` and `validation/...` that are there."""
    splits = [base / split for base in (folder, folder / "voxel04") for split in POSES_OF_SPLIT]
    splits += [folder] if folder.name in POSES_OF_SPLIT else []
    places = [place for split in splits if split.is_dir() for place in sorted(split.iterdir())]
    scenes = [
        WaymoScene(place, numbered(place, ("_04.npz",), 3)[0], options)
        for place in places
        if place.is_dir() and place.name.isdigit()
    ]
    if not scenes:
        raise DatasetError(f"{folder}: holds no training/SSS/FFF_04.npz; give the folder of Occ3D-Waymo's 0.4 m frames")
    return scenes
