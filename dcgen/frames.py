"""Frames of a scene out of chunks and the canvas, by the poses. T frame, C channel, X/Y/Z voxel axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.canvas import Canvas, grid_index, sample_grid, world_points
from dcgen.types import (
    AGENT_CHANNELS,
    HEIGHT_SCALE_M,
    MOVABLE,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Conditions,
    Doubles,
    Floats,
    GridSpec,
    Labels,
    Scene,
    wrap_angle,
)

ROUTE, HEIGHT = STATIC_CHANNELS.index("route"), STATIC_CHANNELS.index("height")
COS = len(STATIC_CHANNELS) + AGENT_CHANNELS.index("heading_cos")
SIN = len(STATIC_CHANNELS) + AGENT_CHANNELS.index("heading_sin")


Given = Callable[[int], Labels | None]  # ego-centred labels of a frame that pass through, None where there are none


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: labels [T, X, Y, Z] in the anchor frame, and the conditions they came from."""

    conditions: Conditions
    labels: Labels


class FrameCutter:
    """Reads and writes the canvas in grids that stand anywhere. The static world comes from the canvas alone."""

    def __init__(self, canvas: Canvas, grid: GridSpec) -> None:
        self.canvas, self.grid = canvas, grid
        self.origin_se3_world: Doubles | None = None  # of the scene's first pose

    def static(self, world_se3_grid: Doubles) -> Labels:
        """[X, Y, Z] the canvas in a grid, UNKNOWN where nobody has looked."""
        return self.canvas.read(world_points(self.grid, world_se3_grid))

    def paint(self, world_se3_grid: Doubles, static: Labels) -> None:
        """Puts a static world on the canvas: every cell that lies in the grid, where it was unseen."""
        corners = world_points(self.grid, world_se3_grid)[[0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 3)
        reach = float(np.linalg.norm(self.grid.voxel_m)) / 2
        points = self.canvas.centres(corners.min(axis=0) - reach, corners.max(axis=0) + reach)
        self.canvas.write(points, sample_grid(static, self.grid, world_se3_grid, points))

    def moved(self, chunk: Chunk, conditions: Conditions, t: int) -> Labels:
        """[X, Y, Z] frame t of conditions as an earlier chunk made it, in the new anchor's grid."""
        index = conditions.first_frame + t - chunk.conditions.first_frame
        points = world_points(self.grid, conditions.world_se3_anchor)
        return sample_grid(chunk.labels[index], self.grid, chunk.conditions.world_se3_anchor, points)

    def labels(self, chunks: Sequence[Chunk], frame: int, world_se3_ego: Doubles) -> Labels:
        """[X, Y, Z] one ego-centred frame: the canvas, and the movers of the first chunk that covers a place."""
        points = world_points(self.grid, world_se3_ego)
        movers = np.full(self.grid.shape, UNKNOWN, np.uint8)
        for chunk in chunks:
            t = frame - chunk.conditions.first_frame
            if 0 <= t < chunk.conditions.frames:
                here = sample_grid(chunk.labels[t], self.grid, chunk.conditions.world_se3_anchor, points)
                movers = np.where(movers == UNKNOWN, here, movers)
        return np.where(np.isin(movers, MOVABLE), movers, self.canvas.read(points))

    def layout(self, conditions: Conditions, t: int) -> Floats:
        """[C, X, Y] a chunk's layout in the ego frame of its frame t; headings and heights become relative to it."""
        ego, anchor = conditions.world_se3_ego[t], conditions.world_se3_anchor
        flat = GridSpec((*self.grid.shape[:2], 1), self.grid.voxel_m, self.grid.origin_m)
        points = world_points(flat, ego)[:, :, 0]
        index, _ = grid_index(self.grid, anchor, points)
        local = (points - anchor[:3, 3]) @ anchor[:3, :3]
        low, high = np.array(self.grid.origin_m[:2]), np.array(self.grid.origin_m[:2]) + self.grid.extent_m[:2]
        inside = ((local[..., :2] >= low) & (local[..., :2] < high)).all(axis=-1)
        both = np.concatenate([conditions.layout_static, conditions.layout_agents[t]])
        out = np.where(inside, both[:, index[..., 0], index[..., 1]], 0.0)
        turn = np.arctan2(anchor[1, 0], anchor[0, 0]) - np.arctan2(ego[1, 0], ego[0, 0])
        mapped = (out[:ROUTE] > 0).any(axis=0) | (out[HEIGHT] != 0)
        out[HEIGHT] += np.where(mapped, (anchor[2, 3] - ego[2, 3]) / HEIGHT_SCALE_M, 0.0)
        cos, sin = out[COS].copy(), out[SIN].copy()
        out[COS], out[SIN] = cos * np.cos(turn) - sin * np.sin(turn), cos * np.sin(turn) + sin * np.cos(turn)
        return out.astype(np.float32)

    def finished(self, chunks: Sequence[Chunk], frame: int, given: Given | None) -> tuple[Labels, NDArray[np.bool_]]:
        """[X, Y, Z] labels of one ego-centred frame of the first chunk, and which of them were known beforehand."""
        c = chunks[0].conditions
        t = frame - c.first_frame
        made = self.labels(chunks, frame, c.world_se3_ego[t])
        kept = given(frame) if given else None
        if kept is not None:
            mask = kept != UNKNOWN
            return np.where(mask, kept, made), mask
        points = world_points(self.grid, c.world_se3_ego[t])
        return made, sample_grid(c.known[t], self.grid, c.world_se3_anchor, points) != UNKNOWN

    def scene(
        self, owner: Chunk, other: Chunk | None, span: range, given: Given | None, names: dict[str, Any]
    ) -> Scene:
        """The frames of span, all of them owned by one chunk, as a part of a scene. names: its provenance."""
        c = owner.conditions
        if span.start < c.first_frame:
            raise ValueError(f"frame {span.start} lies in no chunk: the next one begins at frame {c.first_frame}")
        cut = slice(span.start - c.first_frame, span.stop - c.first_frame)
        poses = c.world_se3_ego[cut]
        if self.origin_se3_world is None:
            self.origin_se3_world = np.linalg.inv(poses[0])
        local = self.origin_se3_world @ poses
        yaw = wrap_angle(np.arctan2(local[:, 1, 0], local[:, 0, 0]))
        chunks = [owner] if other is None else [owner, other]
        labels, known = zip(*(self.finished(chunks, frame, given) for frame in span), strict=True)
        return Scene(
            labels=np.stack(labels),
            grid=self.grid,
            time_s=np.arange(span.start, span.stop, dtype=np.float64) * c.dt_s,
            world_se3_ego=poses,
            agents=c.agents.frames(cut.start, cut.stop),
            trajectory=np.stack([local[:, 0, 3], local[:, 1, 3], yaw], axis=1).astype(np.float32),
            command=np.full(len(span), int(c.command), np.int8),
            layout=np.stack([self.layout(c, t).astype(np.float16) for t in range(cut.start, cut.stop)]),
            known=np.stack(known),
            **names,
        )


def join_tracks(parts: Sequence[AgentTracks]) -> AgentTracks:
    """Tracks of the same road users, part behind part in time. Raises ValueError where they are not the same."""
    first = parts[0]
    if any(not np.array_equal(part.id, first.id) for part in parts):
        raise ValueError("every part of a scene needs the same agents")
    tracks = {f.name: getattr(first, f.name) for f in fields(AgentTracks)}
    for name in ("pose", "z_m", "speed_mps", "valid"):
        tracks[name] = np.concatenate([getattr(part, name) for part in parts], axis=1)
    return AgentTracks(**tracks)


def join_scenes(parts: Sequence[Scene]) -> Scene:
    """One scene out of its parts in order; grid and provenance are those of the first.

    Its motion is that of the parts where all of them have the same objects, else it has none.
    """
    values = {f.name: getattr(parts[0], f.name) for f in fields(Scene)}
    for name in ("labels", "time_s", "world_se3_ego", "trajectory", "command", "layout", "known"):
        values[name] = np.concatenate([getattr(part, name) for part in parts])
    values["agents"] = join_tracks([part.agents for part in parts])
    values |= _joined_motion(parts)
    return Scene(**values)


def _joined_motion(parts: Sequence[Scene]) -> dict[str, Any]:
    """instances, flow_mps and objects of all parts; None each where some part has none, or other objects."""
    objects = [part.objects for part in parts if part.objects is not None]
    pieces = {name: [getattr(part, name) for part in parts] for name in ("instances", "flow_mps")}
    whole = len(objects) == len(parts) and all(piece is not None for found in pieces.values() for piece in found)
    if not whole or any(not np.array_equal(each.id, objects[0].id) for each in objects):
        return {"instances": None, "flow_mps": None, "objects": None}
    return {**{name: np.concatenate(found) for name, found in pieces.items()}, "objects": join_tracks(objects)}
