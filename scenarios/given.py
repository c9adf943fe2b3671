"""What a finished scene gives to a new one: its voxels, moved into a chunk's grid, without what is to be made anew.

T frame, X/Y/Z voxel axes. Scenes are ego-centred; a chunk's grid stands still in the world.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import GridMismatch, ScenarioError
from dcgen.types import (
    HEIGHT_SCALE_M,
    MOVABLE,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Doubles,
    Floats,
    GridSpec,
    Labels,
    Scene,
    Semantics,
)
from scenarios.reading import read_file

AGENT_HEIGHT_SLACK_M = 0.8  # a voxel is kept as part of an agent when its centre lies this far above it


@dataclass(frozen=True)
class Given:
    """Voxels of a scene that stand fast. Frame t of the new scene shows frame scene_frame[t] of the old one."""

    scene: Scene  # labels are UNKNOWN where they are to be made anew
    scene_frame: NDArray[np.int64]  # [F], -1 where the old scene has no such frame

    def known(self, world_se3_anchor: Doubles, start: int, layout_agents: Floats, grid: GridSpec) -> Labels:
        """[T, X, Y, Z] what a chunk that begins at frame start (which may be below 0) knows, in its own grid.

        Frames that the old scene lacks know the static world of its nearest ones.
        """
        frames = len(layout_agents)
        wanted = np.arange(start, start + frames)
        there = (wanted >= 0) & (wanted < len(self.scene_frame))
        index = np.where(there, self.scene_frame[np.clip(wanted, 0, len(self.scene_frame) - 1)], -1)
        known = resample_known(self.scene, world_se3_anchor, index, grid)
        given = np.flatnonzero(self.scene_frame >= 0)
        if np.any(index < 0) and len(given):
            nearest = given[np.argsort(np.abs(given - wanted.mean()), kind="stable")[:frames]]
            static = _static_of(resample_known(self.scene, world_se3_anchor, self.scene_frame[nearest], grid))
            open_columns = _wide(layout_agents[:, :3].max(axis=1) > 0)[..., None] & (static == Semantics.FREE)
            carried = np.where(open_columns, np.uint8(UNKNOWN), static)
            known[index < 0] = carried[index < 0]
        return known


def resample_known(scene: Scene, world_se3_anchor: Doubles, frames: Sequence[int] | NDArray[np.int64],
                   grid: GridSpec) -> Labels:  # fmt: skip
    """[len(frames), X, Y, Z] labels of those frames of a scene, in a grid that stands at the anchor.

    The label of the voxel that holds the centre; UNKNOWN beyond the scene's own grid and for frames below 0.
    """
    if not np.allclose(scene.grid.voxel_m, grid.voxel_m, rtol=1e-3):
        raise GridMismatch(
            f"scene has voxels of {scene.grid.voxel_m} m, the grid wanted {grid.voxel_m}; make both on one grid"
        )
    out = np.full((len(frames), *grid.shape), UNKNOWN, np.uint8)
    centres = grid.centres_m().reshape(-1, 3)
    shape, origin, voxel = (np.array(v) for v in (scene.grid.shape, scene.grid.origin_m, scene.grid.voxel_m))
    for t, frame in enumerate(frames):
        if frame < 0:
            continue
        ego_se3_anchor = np.linalg.inv(scene.world_se3_ego[frame]) @ world_se3_anchor
        local = centres @ ego_se3_anchor[:3, :3].T + ego_se3_anchor[:3, 3]
        # Micrometres decide at a voxel's border: an identity must map every centre into its own voxel.
        cell = np.floor(np.round((local - origin) / voxel, 6)).astype(np.int64)
        inside = np.all((cell >= 0) & (cell < shape), axis=1)
        i, j, k = cell[inside].T
        out[t].reshape(-1)[inside] = scene.labels[frame][i, j, k]
    return out


def box_mask(scene: Scene, centre_m: Doubles, size_m: Doubles, yaw_rad: float, frame: int) -> NDArray[np.bool_]:
    """[X, Y, Z] voxels of a frame of the scene whose centres lie in an upright box of the world."""
    ego = scene.world_se3_ego[frame]
    offset = scene.grid.centres_m() @ ego[:3, :3].T + ego[:3, 3] - centre_m
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    along, across = offset[..., 0] * c + offset[..., 1] * s, offset[..., 1] * c - offset[..., 0] * s
    half = np.asarray(size_m) / 2
    return (np.abs(along) <= half[0]) & (np.abs(across) <= half[1]) & (np.abs(offset[..., 2]) <= half[2])


def agents_mask(scene: Scene, agents: AgentTracks, margin_m: float) -> NDArray[np.bool_]:
    """[T, X, Y, Z] voxels that the agents may touch: their boxes with a margin, from the ground up."""
    mask = np.zeros(scene.labels.shape, bool)
    for n in range(len(agents.id)):
        length, width, height = (float(v) for v in agents.size_m[n])
        size = np.array([length + 2 * margin_m, width + 2 * margin_m, height + 2 * AGENT_HEIGHT_SLACK_M])
        for t in np.flatnonzero(agents.valid[n]):
            x, y, yaw = agents.pose[n, t]
            centre = np.array([x, y, agents.z_m[n, t] + height / 2])
            mask[t] |= box_mask(scene, centre, size, yaw, int(t))
    return mask


def instances_mask(scene: Scene, ids: Sequence[int]) -> NDArray[np.bool_]:
    """[T, X, Y, Z] voxels that belong to these agents of the scene, beyond their boxes, too; none without instances."""
    if scene.instances is None:
        return np.zeros(scene.labels.shape, bool)
    return np.isin(scene.instances, np.flatnonzero(np.isin(scene.agents.id, ids)) + 1)


def read_mask(path: Path, scene: Scene, source: str) -> NDArray[np.bool_]:
    """A mask [T, X, Y, Z] from a .npy file of bool or uint8, in the scene's own frames."""
    want = scene.labels.shape
    place = f"{source}: inpaint.mask: {path}"
    wanted = f"a .npy file of a bool array of shape {want}"
    raw = read_file(path, int(np.prod(want)) + 4096, wanted)
    try:
        mask = np.load(io.BytesIO(raw), allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError):
        raise ScenarioError(f"{place}: is no .npy array; save it with numpy.save") from None
    if not isinstance(mask, np.ndarray) or mask.shape != want or mask.dtype not in (np.bool_, np.uint8):
        shape = getattr(mask, "shape", "none")
        raise ScenarioError(f"{place}: needs a bool array of shape {want}, got {shape}; save the whole scene's mask")
    return mask != 0


def cut(scene: Scene, anew: NDArray[np.bool_]) -> Scene:
    """The scene with UNKNOWN where anew [T, X, Y, Z] is true."""
    return replace(scene, labels=np.where(anew, np.uint8(UNKNOWN), scene.labels))


def _static_of(labels: Labels) -> Labels:
    """[X, Y, Z] the last immovable label seen in each voxel; UNKNOWN where there was none but movers or nothing."""
    out = np.full(labels.shape[1:], UNKNOWN, np.uint8)
    for frame in labels:
        seen = ~np.isin(frame, (*MOVABLE, UNKNOWN))
        out[seen] = frame[seen]
    return out


def _wide(columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[T, X, Y] one voxel wider on every side."""
    padded = np.pad(columns, ((0, 0), (1, 1), (1, 1)))
    x, y = columns.shape[1:]
    return np.any([padded[:, i : i + x, j : j + y] for i in range(3) for j in range(3)], axis=0)


def layout_seen(scene: Scene, world_se3_anchor: Doubles, grid: GridSpec) -> tuple[Floats, NDArray[np.bool_]]:
    """The scene's own static layout [C, X, Y] as seen from the anchor, and where [X, Y] the scene has any.

    From the frame whose ego stands nearest; heights are relative to the anchor again.
    """
    egos = scene.world_se3_ego
    ego = egos[frame := int(np.argmin(np.linalg.norm(egos[:, :2, 3] - world_se3_anchor[:2, 3], axis=1)))]
    local = np.linalg.inv(ego) @ world_se3_anchor
    centres = grid.centres_m()[:, :, 0].copy()
    centres[..., 2] = 0.0
    xy = (centres @ local[:3, :3].T + local[:3, 3])[..., :2]
    cell = np.floor(np.round((xy - scene.grid.origin_m[:2]) / scene.grid.voxel_m[:2], 6)).astype(np.int64)
    inside = np.all((cell >= 0) & (cell < scene.grid.shape[:2]), axis=-1)
    i, j = np.moveaxis(np.where(inside[..., None], cell, 0), -1, 0)
    static = scene.layout[frame, : len(STATIC_CHANNELS)][:, i, j].astype(np.float32)
    rise = np.float32((ego[2, 3] - world_se3_anchor[2, 3]) / HEIGHT_SCALE_M)
    mapped = static[: STATIC_CHANNELS.index("route")].max(axis=0) > 0
    static[STATIC_CHANNELS.index("height")] += np.where(mapped, rise, np.float32(0.0))
    return np.where(inside, static, np.float32(0.0)), inside
