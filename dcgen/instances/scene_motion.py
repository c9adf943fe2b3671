"""Ids, tracks and flow of a whole scene, in memory or frame by frame. T frame, X/Y/Z voxel axes, N object.

A voxel of a movable class belongs to the conditioned agent whose box is nearest, or whose voxels it hangs on to; what
is nobody's is found as pieces and followed. Objects move as rigid bodies along their tracks, all else stands still.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from dcgen.dataset.motion import NOBODY, Instances, instances_of, owners, rigid_flow
from dcgen.errors import SceneError
from dcgen.instances.components import Piece, pieces_of, touched_by
from dcgen.instances.estimate import tracks_of
from dcgen.instances.tracker import Tracker
from dcgen.types import AgentTracks, Doubles, GridSpec, Labels, Scene, wrap_angle

Ids = NDArray[np.uint16]
Flow = NDArray[np.float16]
MOST_OBJECTS = 65534
MOST_MPS = float(np.finfo(np.float16).max)
RIM_SHARE = 1 / 3  # of an agent's voxels: a piece that touches them and is smaller is a part of it
BLOCK_FRAMES = 8  # of what is worked on at once


class InstanceFinder:
    """Says whose every voxel is, frames in order, and at the end how all objects moved."""

    def __init__(self, agents: AgentTracks, grid: GridSpec, time_s: Doubles, world_se3_ego: Doubles) -> None:
        self.agents, self.grid, self.time_s, self.world_se3_ego = agents, grid, time_s, world_se3_ego
        self._tracker = Tracker(grid)
        self._done = 0

    def instances(self, labels: Labels) -> Ids:
        """[T', X, Y, Z] of the next frames, for their labels. Raises SceneError where there are too many objects."""
        first, last = self._done, self._done + len(labels)
        owner = owners(labels, self.agents.frames(first, last), self.grid, self.world_se3_ego[first:last])
        out = instances_of(owner)
        agents = len(self.agents.id)
        for t, frame in enumerate(labels):
            pieces = [
                piece for piece in pieces_of(frame, owner[t] == NOBODY) if not _is_rim(piece, frame, owner[t], out[t])
            ]
            at = first + t
            for seen in self._tracker.step(pieces, at, float(self.time_s[at]), self.world_se3_ego[at]):
                out[t][tuple(seen.voxels.T)] = 1 + agents + seen.track
        if agents + len(self._tracker.tracks) > MOST_OBJECTS:
            raise SceneError(f"a scene of more than {MOST_OBJECTS} objects; make it in shorter pieces")
        self._done = last
        return out.astype(np.uint16)

    def objects(self) -> AgentTracks:
        """The agents in their rows, and behind them what was found, over all frames."""
        found = tracks_of(self._tracker.tracks, self.time_s, self.grid)
        unused = np.setdiff1d(np.arange(1, 1 + len(self.agents.id) + len(found.id)), self.agents.id)
        return joined(self.agents, replace(found, id=unused[: len(found.id)].astype(np.int64)))


def _is_rim(piece: Piece, labels: Labels, owner: Instances, out: Instances) -> bool:
    """Whether a piece is but the rim of an agent that it touches, drawn too large; then it becomes the agent's."""
    name = touched_by(piece, owner, labels)
    if not name or len(piece.voxels) > RIM_SHARE * np.count_nonzero(owner == name):
        return False
    out[tuple(piece.voxels.T)] = name
    return True


def joined(first: AgentTracks, second: AgentTracks) -> AgentTracks:
    """The rows of both, over the same frames."""
    return AgentTracks(
        **{f.name: np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(AgentTracks)}
    )


def with_motion(scene: Scene) -> Scene:
    """The scene with instances, flow_mps and objects; the scene itself where it has them.

    Instances are 1 + row in objects, whose first rows are the agents. Flow is the velocity over ground, along the axes
    of each frame's ego, of the way to the next frame; where an object is not seen again, and in the last frame, it is
    that of its way so far. Raises SceneError for more than 65534 objects.
    """
    if scene.instances is not None and scene.flow_mps is not None and scene.objects is not None:
        return scene
    finder = InstanceFinder(scene.agents, scene.grid, scene.time_s, scene.world_se3_ego)
    frames = range(0, len(scene.labels), BLOCK_FRAMES)
    instances = np.concatenate([finder.instances(scene.labels[t : t + BLOCK_FRAMES]) for t in frames])
    objects = finder.objects()
    flow = flow_mps(instances, objects, scene.grid, scene.time_s, scene.world_se3_ego)
    return replace(scene, instances=instances, flow_mps=flow, objects=objects)


def backward_mps(scene: Scene) -> Flow:
    """[T, X, Y, Z, 3] velocity that takes a voxel's content to where it was in the frame before: as flow_mps, turned.

    In the first frame, and where an object was not there before, it is that of its way onwards.
    """
    scene = with_motion(scene)
    assert scene.instances is not None and scene.objects is not None
    return flow_mps(scene.instances, scene.objects, scene.grid, scene.time_s, scene.world_se3_ego, backward=True)


def flow_mps(
    instances: Ids,
    objects: AgentTracks,
    grid: GridSpec,
    time_s: Doubles,
    world_se3_ego: Doubles,
    first: int = 0,
    backward: bool = False,
) -> Flow:
    """[T', X, Y, Z, 3] of instances [T', X, Y, Z], which begin with frame `first`; all else is of the whole scene."""
    poses = np.concatenate([world_se3_ego[:1], world_se3_ego, world_se3_ego[-1:]])
    step_s, step = _step_s(time_s), -1 if backward else 1
    whole = carried_on(objects, step_s, step)
    out = np.zeros((*instances.shape, 3), np.float16)
    for t, owner in enumerate(instances):
        there = slice(first + t, first + t + 3)  # the frames before and after it too
        way = rigid_flow(
            owner[None].astype(np.int32), whole.frames(there.start, there.stop), grid, poses[there], step,
            first=1, over_ground=True,
        )  # fmt: skip
        mine = owner > 0
        speed = way[0][mine] / step_s[first + t + (not backward)]
        out[t][mine] = np.clip(np.nan_to_num(speed), -MOST_MPS, MOST_MPS)
    return out


def _step_s(time_s: Doubles) -> Doubles:
    """[T + 1] seconds to each frame from the one before it, and to one behind the last."""
    if len(time_s) == 1:
        return np.ones(2)
    steps = np.diff(time_s)
    return np.concatenate([steps[:1], steps, steps[-1:]])


def carried_on(tracks: AgentTracks, step_s: Doubles, step: int) -> AgentTracks:
    """Tracks of T + 2 frames, one before the first and one behind the last, forward in time for step 1, back for -1.

    Where an object's frames end, it goes on for one more as it came; where it has one frame alone, along its heading
    at its speed. step_s [T + 1] are the seconds between the frames.
    """
    pose = np.pad(tracks.pose, ((0, 0), (1, 1), (0, 0)))
    z_m, speed = (np.pad(values, ((0, 0), (1, 1))) for values in (tracks.z_m, tracks.speed_mps))
    there = np.pad(tracks.valid, ((0, 0), (1, 1)))
    valid = there.copy()
    for row, t in np.argwhere(there & ~np.roll(there, -step, axis=1)):
        came, goes = (step_s[t - 1], step_s[t])[::step]
        if there[row, t - step]:
            way = _way(pose[row, t - step], pose[row, t]) * (goes / came)
        else:
            way = np.array([step * speed[row, t] * goes, 0.0, 0.0])
        pose[row, t + step] = _ahead(pose[row, t], way)
        z_m[row, t + step], valid[row, t + step] = z_m[row, t], True
    return AgentTracks(tracks.id, tracks.class_id, tracks.size_m, pose, z_m, speed, valid)


def _way(start: Doubles, end: Doubles) -> Doubles:
    """[3] x, y, yaw of one pose as another sees it."""
    x, y = end[:2] - start[:2]
    cos, sin = np.cos(start[2]), np.sin(start[2])
    return np.array([cos * x + sin * y, cos * y - sin * x, wrap_angle(end[2] - start[2])])


def _ahead(start: Doubles, way: Doubles) -> Doubles:
    """The pose that another sees at `way`."""
    cos, sin = np.cos(start[2]), np.sin(start[2])
    return start + [cos * way[0] - sin * way[1], sin * way[0] + cos * way[1], way[2]]
