"""Tiny sets of each format, written byte by byte from what is known of their files. X/Y/Z voxel axes.

The ego turns left past a house on its left and a pole on its right; the low corner of each grid is unobserved.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np

from dcgen.types import Semantics
from tests.bridges.datasets.town import (
    FRAMES,
    STATIC,
    Box,
    centres,
    ego,
    label_at,
    matrix,
    move,
    npz,
    rows,
    translate,
)

S = Semantics
CORNER = (slice(0, 5), slice(0, 9), slice(3, None))  # of the published grid: nothing is seen there
WIDE = ((200, 200, 16), (0.4, 0.4, 0.4), (-40.0, -40.0, -1.0))
MIRROR = np.diag([1.0, -1.0, 1.0])


def seen(shape: tuple[int, int, int]) -> np.ndarray:
    out = np.ones(shape, np.uint8)
    out[CORNER] = 0
    return out


def carlasc(folder: Path, frames: int = FRAMES) -> Path:
    """y to the right, from a LiDAR 1.8 m above the road."""
    scene = folder / "Town01_Light" / "cartesian"
    (scene / "evaluation").mkdir(parents=True)
    (scene / "velodyne").mkdir()
    shape = (128, 128, 8)
    points = centres(shape, (0.4, 0.4, 0.375), (-25.6, -25.6, -2.0))
    ids = {S.BUILDING: 1, S.POLE: 12, S.VEGETATION: 9, S.GROUND: 22, S.ROAD: 6}
    poses = []
    for frame in range(frames):
        x, y, z, yaw = ego(frame)
        pose = matrix(x, -y, z + 1.8, -yaw)  # clockwise seen from above is positive where y is right
        labels = translate(label_at(move(pose, points) * (1, -1, 1)), ids)
        hits = seen(shape).astype("<f4") * 3.0
        (scene / "evaluation" / f"{frame:06d}.label").write_bytes(labels.astype("<u4").tobytes())
        (scene / "evaluation" / f"{frame:06d}.bin").write_bytes(hits.tobytes())
        sweep = np.array([[7.0, -3.0, -1.8, 0.5], [frame, 2.0, 0.0, 0.25]], "<f4")  # the first: left, on the road
        (scene / "velodyne" / f"{frame:06d}.bin").write_bytes(sweep.tobytes())
        poses.append(pose)
    (scene / "poses.txt").write_text(rows(poses))
    (scene / "times.txt").write_text("".join(f"{0.1 * frame:.6f}\n" for frame in range(frames)))
    return folder


def occ3d_nuscenes(folder: Path, frames: int = FRAMES) -> Path:
    shape, voxel, low = WIDE
    points = centres(shape, voxel, low)
    ids = {S.FREE: 17, S.BUILDING: 15, S.POLE: 8, S.VEGETATION: 16, S.GROUND: 14, S.ROAD: 11}
    scene = {}
    for frame in range(frames):
        x, y, z, yaw = ego(frame)
        labels = translate(label_at(move(matrix(x, y, z, yaw), points)), ids)
        token = f"{(frame * 7 + 3) % 11:032x}"  # no order in them
        camera = seen(shape)
        camera[:100] = 0  # behind the ego
        npz(
            folder / "gts" / "scene-0061" / token / "labels.npz",
            semantics=labels.astype(np.uint8),
            mask_lidar=seen(shape),
            mask_camera=camera,
        )
        scene[token] = {
            "timestamp": str(1_531_883_530_000_000 + 500_000 * frame),
            "camera_sensor": {"cam": {"img_path": "a.jpg", "ego_pose": {"translation": [9, 9, 9]}}},
            "ego_pose": {"translation": [x, y, z], "rotation": [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]},
            "gt_path": f"gts/scene-0061/{token}/labels.npz",
        }
    infos = {"train_split": ["scene-0061"], "val_split": [], "scene_infos": {"scene-0061": scene}}
    (folder / "annotations.json").write_text(json.dumps(infos))
    return folder


def occ3d_waymo(folder: Path, frames: int = FRAMES, poses: str = "npz", free: int = 15) -> Path:
    shape, voxel, low = WIDE
    points = centres(shape, voxel, low)
    ids = {S.FREE: free, S.BUILDING: 10, S.POLE: 6, S.VEGETATION: 11, S.GROUND: 14, S.ROAD: 13}
    matrices = [matrix(*ego(frame)) for frame in range(frames)]
    scene = folder / "training" / "007"
    for frame, pose in enumerate(matrices):
        labels = translate(label_at(move(pose, points)), ids)
        inside = {"ego2global": pose} if poses == "npz" else {}
        front = seen(shape)
        front[:100] = 0
        npz(
            scene / f"{frame:03d}_04.npz",
            voxel_label=labels.astype(np.uint8),
            origin_voxel_state=seen(shape),
            final_voxel_state=seen(shape),
            infov=front.astype(bool),
            **inside,
        )
    if poses == "txt":
        (scene / "poses.txt").write_text(rows(matrices))
    if poses == "pkl":
        infos = {7: {k: [{"ego2global": pose, "intrinsics": np.eye(3)}] * 5 for k, pose in enumerate(matrices)}}
        (folder / "cam_infos.pkl").write_bytes(pickle.dumps(infos, 4))
    return folder


CAR_M, PARKED_M = (4.53, 1.97, 1.51), (3.91, 1.77, 1.43)


def car(frame: int) -> tuple[float, float, float, float]:
    """x, y, z of the centre and yaw: 1 m ahead a frame, 0.5 s apart."""
    return 8.0 + 1.0 * frame, -1.2, 0.35 + CAR_M[2] / 2, 0.0


def uniocc_boxes(frame: int) -> tuple[Box, ...]:
    """What the voxels show: the street, a car that drives, a car that is parked."""
    x, y, z, _ = car(frame)
    drives = tuple((c - m / 2, c + m / 2) for c, m in zip((x, y, z), CAR_M, strict=True))
    parked = ((-7.97, -4.03), (3.47, 5.03), (0.35, 1.77))
    return (*STATIC, (S.VEHICLE, *drives), (S.VEHICLE, *parked))


def uniocc(folder: Path, frames: int = FRAMES, y_right: bool = False) -> Path:
    """With y_right everything is seen in the frame that CARLA has."""
    shape, voxel, low = WIDE
    points = centres(shape, voxel, low)
    side = MIRROR if y_right else np.eye(3)
    flip = np.eye(4)
    flip[:3, :3] = side
    ids = {S.FREE: 10, S.BUILDING: 9, S.POLE: 0, S.VEGETATION: 6, S.GROUND: 8, S.ROAD: 7, S.VEHICLE: 1}
    files = []
    for frame in range(frames):
        pose = matrix(*ego(frame))
        published = flip @ pose @ flip
        labels = translate(label_at(move(published, points) @ side, uniocc_boxes(frame)), ids)
        agents = {"drives": (matrix(*car(frame)), CAR_M), "parked": (matrix(-6.0, 4.25, 1.06, 3.0), PARKED_M)}
        agents["ego"] = (pose @ matrix(1.3, 0, 0.8, 0), (4.7, 2.0, 1.6))
        notes = np.empty(len(agents), object)
        for place, (token, (box, size)) in enumerate(agents.items()):
            notes[place] = {
                "token": token,
                "agent_to_ego": (flip @ np.linalg.inv(pose) @ box @ flip).astype(np.float32),
                "agent_to_world": flip @ box @ flip,
                "size": np.array(size),
                "category_id": np.int64(1),
            }
        mask = seen(shape)
        files.append(f"scene_001/{frame}.npz")
        npz(
            folder / files[-1],
            occ_label=labels.astype(np.uint8),
            occ_mask_camera=mask,
            occ_flow_forward=np.zeros((2, 3, 1, 3), np.float32),
            ego_to_world_transformation=published,
            cameras=np.array([{"name": "CAM_FRONT"}], object),
            annotations=notes,
        )
    infos = [{"scene_name": "scene_001", "occ_in_scene_paths": files, "start": 0, "end": frames - 1}]
    (folder / "scene_infos.pkl").write_bytes(pickle.dumps(infos, 4))
    return folder


def semantickitti(folder: Path, frames: int = 3, step: int = 5) -> Path:
    """Every fifth scan has voxels; poses are of the left camera (x right, y down, z ahead), beside the LiDAR."""
    sequence = folder / "sequences" / "04"
    (sequence / "voxels").mkdir(parents=True)
    shape = (256, 256, 32)
    points = centres(shape, (0.2, 0.2, 0.2), (0.0, -25.6, -2.0))
    ids = {S.BUILDING: 50, S.POLE: 80, S.VEGETATION: 70, S.GROUND: 72, S.ROAD: 60, S.VEHICLE: 252}
    camera_se3_lidar = np.array([[0, -1, 0, 0.05], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1.0]])
    lidars = []
    for scan in range((frames - 1) * step + 1):
        x, y, z, yaw = ego(scan / step)
        lidars.append(matrix(x, y, z, yaw))  # in the frame of the first LiDAR, whose road lies 1.73 m lower
    for frame in range(frames):
        world = move(lidars[frame * step], points) + (0, 0, 1.73)
        drives: Box = (S.VEHICLE, (6.03, 9.97), (-1.97, -0.43), (0.35, 1.77))
        labels = translate(label_at(world, (*STATIC, drives)), ids).astype("<u2")
        labels[200, 30, 20] = 1  # an outlier
        stem = sequence / "voxels" / f"{frame * step:06d}"
        stem.with_suffix(".label").write_bytes(labels.tobytes())
        stem.with_suffix(".invalid").write_bytes(np.packbits(seen(shape).reshape(-1) == 0).tobytes())
    cameras = [camera_se3_lidar @ lidar @ np.linalg.inv(camera_se3_lidar) for lidar in lidars]
    (sequence / "poses.txt").write_text(rows(cameras))
    calibration = rows([camera_se3_lidar])
    (sequence / "calib.txt").write_text(f"P0: {rows([np.eye(4)])}Tr: {calibration}")
    return folder
