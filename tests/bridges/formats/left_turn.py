"""A scene that is different along every axis: the ego turns left past a house on its left and a pole on its right.

Everything stands at known places in the world, y to the left; a car drives ahead on the right-hand side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.instances import with_motion
from dcgen.types import LAYOUT_CHANNELS, UNKNOWN, AgentTracks, Command, GridSpec, Scene, Semantics
from tests.bridges.datasets.town import Box, centres, ego, label_at, matrix, move

S = Semantics
GRID = GridSpec((131, 113, 17), (0.37, 0.41, 0.33), (-19.3, -23.1, -1.31))
HOUSE: Box = (S.BUILDING, (9.07, 13.11), (6.03, 8.91), (0.33, 2.53))
POLE: Box = (S.POLE, (5.03, 6.81), (-5.91, -4.13), (0.33, 2.47))
FENCE: Box = (S.BARRIER, (-7.93, -5.05), (2.97, 4.83), (0.33, 2.21))
CAR_M = (4.1, 2.1, 1.8)
UNKNOWN_BOX = (slice(3, 20), slice(60, 80), slice(9, 17))  # voxels nobody knows: behind, to the left, high up
ROAD_Z_M = 0.05


def car(t: int) -> tuple[float, float, float]:
    """x, y, z of the middle of its box, whose yaw is 0.02 a frame."""
    return 10.0 + 0.9 * t, -1.3 + 0.1 * t, 0.35 + CAR_M[2] / 2


def car_box(t: int) -> Box:
    return (S.VEHICLE, *((c - m / 2, c + m / 2) for c, m in zip(car(t), CAR_M, strict=True)))  # type: ignore[return-value]


def boxes(t: int) -> tuple[Box, ...]:
    return (HOUSE, POLE, FENCE, car_box(t))


def pose(t: float) -> np.ndarray:
    return matrix(*ego(t))


def left_turn(frames: int = 3, dt_s: float = 0.2, grid: GridSpec = GRID, motion: bool = True) -> Scene:
    """The street's boxes, stamped at the voxels' centres."""
    points = centres(grid.shape, grid.voxel_m, grid.origin_m)
    poses = np.stack([pose(t) for t in range(frames)])
    labels = np.stack([label_at(move(poses[t], points), boxes(t)) for t in range(frames)])
    labels[(slice(None), *UNKNOWN_BOX)] = UNKNOWN
    at = np.array([car(t) for t in range(frames)])
    agents = AgentTracks(
        id=np.array([41], np.int64),
        class_id=np.array([S.VEHICLE], np.uint8),
        size_m=np.array([CAR_M], np.float32),
        pose=np.concatenate([at[:, :2], np.zeros((frames, 1))], axis=1)[None],
        z_m=np.full((1, frames), 0.35, np.float32),
        speed_mps=np.full((1, frames), np.hypot(0.9, 0.1) / dt_s, np.float32),
        valid=np.ones((1, frames), bool),
    )
    scene = Scene(
        labels=labels,
        grid=grid,
        time_s=dt_s * np.arange(frames),
        world_se3_ego=poses,
        agents=agents,
        trajectory=np.array([[*ego(t)[:2], ego(t)[3]] for t in range(frames)], np.float32),
        command=np.full(frames, Command.LEFT, np.int8),
        layout=np.zeros((frames, len(LAYOUT_CHANNELS), *grid.shape[:2]), np.float16),
        known=np.zeros((frames, *grid.shape), bool),
    )
    return with_motion(scene) if motion else scene


@dataclass(frozen=True)
class Loaded:
    """One frame as a loader reads it: ids [X, Y, Z], which are known, and where the grid stands."""

    ids: np.ndarray
    known: np.ndarray
    low_m: tuple[float, float, float]
    voxel_m: tuple[float, float, float]
    world_se3_target: np.ndarray  # may hold a reflection: points of the target in the right-handed world

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids, known, inside) [N] at world points [N, 3]."""
        local = move(np.linalg.inv(self.world_se3_target), points)
        index = np.floor((local - self.low_m) / self.voxel_m).astype(int)
        inside = ((index >= 0) & (index < self.ids.shape)).all(axis=-1)
        place = tuple(np.clip(index, 0, np.array(self.ids.shape) - 1).T)
        return np.where(inside, self.ids[place], -1), inside & self.known[place], inside


def probes(box: Box, grow_m: tuple[float, float, float], shell: bool) -> np.ndarray:
    """Points in a box made larger all round (smaller where negative); shell: on its faces alone."""
    low = np.array([side[0] for side in box[1:]]) - grow_m
    high = np.array([side[1] for side in box[1:]]) + grow_m
    assert (low < high).all()
    axes = [np.linspace(a, b, 7) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    if not shell:
        return points.reshape(-1, 3)
    face = np.zeros(points.shape[:3], bool)
    for axis in range(3):
        for side in (0, -1):
            np.moveaxis(face, axis, 0)[side] = True
    return points[face & (points[..., 2] > 0.9)]  # above the road


def in_scene(points: np.ndarray, world_se3_ego: np.ndarray, margin_m: float = 0.6) -> np.ndarray:
    """[N] whether world points lie well inside the scene's own grid and away from what nobody knows."""
    local = move(np.linalg.inv(world_se3_ego), points)
    low = np.array(GRID.origin_m)
    inside = ((local > low + margin_m) & (local < low + GRID.extent_m - margin_m)).all(axis=-1)
    at = (local - low) / GRID.voxel_m
    hidden = np.ones(len(at), bool)
    for axis, cut in enumerate(UNKNOWN_BOX):
        hidden &= (at[:, axis] > cut.start - 2) & (at[:, axis] < cut.stop + 2)
    return inside & ~hidden


def check_box(loaded: Loaded, t: int, box: Box, wanted: int) -> int:
    """A box is of the wanted id, what lies around it is not. Returns how many points were looked at."""
    reach = tuple(0.5 * (a + b) + 0.02 for a, b in zip(loaded.voxel_m, GRID.voxel_m, strict=True))
    # Boxes are turned against the grid, and of the parts of a larger voxel half are enough.
    reach = (1.35 * reach[0], 1.35 * reach[1], 1.35 * reach[2])
    count = 0
    for shell in (False, True):
        points = probes(box, reach if shell else tuple(-r for r in reach), shell)
        points = points[in_scene(points, pose(t))]
        ids, known, inside = loaded.at(points)
        assert known[inside].all()
        same = ids[inside] == wanted
        assert not same.any() if shell else same.all(), (box, shell, t)
        count += int(inside.sum())
    return count


def check_frame(loaded: Loaded, t: int, ids: dict[int, int]) -> None:
    """Every box, the road below the ego, and what nobody knows."""
    seen = [check_box(loaded, t, box, ids[box[0]]) for box in boxes(t)]
    assert seen[0] > 100 and seen[1] > 100 and seen[3] > 100, seen
    x, y, _, yaw = ego(t)
    ahead = np.array([[x + 1.5 * np.cos(yaw), y + 1.5 * np.sin(yaw), -0.05]])
    assert loaded.at(ahead)[0][0] == ids[S.ROAD]
    aside = np.array([[x + 5.0, y - 9.0, -0.05]])
    assert loaded.at(aside)[0][0] == ids[S.GROUND]
    # Outside of the scene's grid, and in the box that nobody knows, nothing is known.
    low, high = np.array(GRID.origin_m), np.array(GRID.origin_m) + GRID.extent_m
    hidden = low + (np.array([[10.0, 70.0, 13.0]])) * GRID.voxel_m
    for point in (hidden, high[None] + (0.7, -5.0, -3.0), low[None] + (9.0, -0.7, 3.0)):
        assert not loaded.at(move(pose(t), point))[1].any()
