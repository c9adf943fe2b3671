"""One moment of a scene, seen from its ego: what a picture is drawn from. X/Y/Z voxel axes, N agent, P path point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dcgen.types import SURFACES, Command, Doubles, Floats, GridSpec, Labels, Scene, wrap_angle

EGO_SIZE_M = (4.6, 1.9, 1.5)


@dataclass(frozen=True)
class AgentBoxes:
    """The agents of one moment in the ego frame."""

    class_id: Labels  # [N]
    size_m: Floats  # [N, 3] length, width, height
    pose: Doubles  # [N, 3] x, y, yaw
    base_m: Doubles  # [N] height of the ground below
    id: NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Frame:
    """Labels [X, Y, Z] in the ego frame, and what is known about the moment."""

    labels: Labels
    grid: GridSpec
    agents: AgentBoxes
    path_m: Doubles  # [P, 2] x, y of the ego over the whole scene
    ahead: np.ndarray  # [P] bool: path points of this moment and later
    ego_yaw_rad: float  # in the world, so that the sun stands still
    index: int
    frames: int
    time_s: float
    speed_mps: float
    command: Command
    layout: NDArray[np.float16] | None = None  # [C, X, Y] what the scene was made from
    instances: NDArray[np.uint16] | None = None  # [X, Y, Z] 1 + place in object_ids, 0 where it is nobody's
    object_ids: NDArray[np.int64] | None = None

    @cached_property
    def top_m(self) -> Floats:
        """[X, Y] surface_top_m, once."""
        return surface_top_m(self)


def frame_of(scene: Scene, index: int) -> Frame:
    """Moment `index` of a scene; negative counts from the end. Raises IndexError outside."""
    index = range(len(scene.time_s))[index]
    ego_se3_world = np.linalg.inv(scene.world_se3_ego[index])
    path = scene.world_se3_ego[:, :3, 3] @ ego_se3_world[:3, :3].T + ego_se3_world[:3, 3]
    yaw = float(np.arctan2(scene.world_se3_ego[index, 1, 0], scene.world_se3_ego[index, 0, 0]))
    return Frame(
        labels=scene.labels[index],
        grid=scene.grid,
        agents=_agents_at(scene, index, ego_se3_world, yaw),
        path_m=path[:, :2],
        ahead=np.arange(len(path)) >= index,
        ego_yaw_rad=yaw,
        index=index,
        frames=len(scene.time_s),
        time_s=float(scene.time_s[index]),
        speed_mps=_speed(scene, index),
        command=Command(int(scene.command[index])),
        layout=scene.layout[index],
        instances=None if scene.instances is None else scene.instances[index],
        object_ids=None if scene.objects is None else scene.objects.id,
    )


def _agents_at(scene: Scene, index: int, ego_se3_world: Doubles, yaw_rad: float) -> AgentBoxes:
    tracks = scene.agents if scene.objects is None else scene.objects
    there = tracks.valid[:, index]
    pose = tracks.pose[there, index].astype(np.float64)
    foot = np.column_stack([pose[:, :2], tracks.z_m[there, index]]) @ ego_se3_world[:3, :3].T + ego_se3_world[:3, 3]
    turned = np.column_stack([foot[:, :2], wrap_angle(pose[:, 2] - yaw_rad)])
    return AgentBoxes(tracks.class_id[there], tracks.size_m[there], turned, foot[:, 2], tracks.id[there])


def _speed(scene: Scene, index: int) -> float:
    """Metres a second between the neighbours of a frame; 0 for a scene of one frame."""
    low, high = max(index - 1, 0), min(index + 1, len(scene.time_s) - 1)
    if low == high:
        return 0.0
    moved = scene.world_se3_ego[high, :3, 3] - scene.world_se3_ego[low, :3, 3]
    return float(np.linalg.norm(moved) / (scene.time_s[high] - scene.time_s[low]))


def surface_top_m(frame: Frame) -> Floats:
    """[X, Y] height of the upper face of each column's highest surface voxel; the lowest such where there is none."""
    is_surface = np.zeros(256, bool)
    is_surface[[int(kind) for kind in SURFACES]] = True
    surface = is_surface[frame.labels]
    layers = frame.grid.shape[2]
    top = np.where(surface.any(axis=2), layers - surface[:, :, ::-1].argmax(axis=2), 0)
    fill = int(np.median(top[top > 0])) if (top > 0).any() else 1
    z = frame.grid.origin_m[2] + np.where(top > 0, top, fill) * frame.grid.voxel_m[2]
    return np.asarray(z, dtype=np.float32)


def corners_m(size_m: Floats | tuple[float, float, float], pose: Doubles) -> Doubles:
    """[4, 2] ground corners of a box, front left first and then clockwise."""
    length, width = float(size_m[0]) / 2, float(size_m[1]) / 2
    c, s = np.cos(pose[2]), np.sin(pose[2])
    local = np.array([[length, width], [length, -width], [-length, -width], [-length, width]])
    return local @ np.array([[c, s], [-s, c]]) + pose[:2]
