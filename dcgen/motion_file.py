"""Instances, flow and objects of a scene file: written behind its frames, read with every field checked. T frame.

Files of format version 1 hold none of them; theirs are found when they are asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcgen.frames import join_tracks
from dcgen.instances.scene_motion import BLOCK_FRAMES, InstanceFinder, flow_mps
from dcgen.scene_fields import PER_AGENT, PER_FRAME, check_motion, checked_dataset, read_tracks
from dcgen.types import AgentTracks, Doubles, GridSpec, Scene

# Field of Scene -> where it lies and how, as PER_FRAME of scene_fields.
MOTION = {"instances": ("occupancy/instances", "u2"), "flow_mps": ("occupancy/flow", "f2")}


class MotionWriter:
    """Writes what scenes say of motion, or where some part says nothing, finds it when all frames are there."""

    def __init__(self, file: h5py.File, grid: GridSpec) -> None:
        self._file, self._grid = file, grid
        self._parts: list[AgentTracks] | None = []  # None: some part has none
        for name, (place, dtype) in MOTION.items():
            shape = (*grid.shape, 3) if name == "flow_mps" else grid.shape
            file.create_dataset(
                place, (0, *shape), dtype, maxshape=(None, *shape), chunks=(1, *shape), compression="gzip",
                compression_opts=1, shuffle=True,
            )  # fmt: skip
        file["occupancy/instances"].attrs["names"] = "1 + row in /objects, 0 where it is nobody's"
        file["occupancy/flow"].attrs["frame"] = "m/s over ground along the axes of the frame's ego, to the next frame"

    def append(self, part: Scene) -> None:
        """Notes what a part carries, which is written as it is if every part does, of the same objects."""
        objects = part.objects
        if self._parts is None or objects is None or part.instances is None or part.flow_mps is None:
            self._parts = None
            return
        if self._parts and not np.array_equal(objects.id, self._parts[0].id):
            self._parts = None
            return
        self._parts.append(objects)
        for name in MOTION:
            _put(self._file, name, getattr(part, name), len(self._file[MOTION[name][0]]))

    def finish(self, agents: AgentTracks) -> None:
        """Adds what is missing. agents: of all frames."""
        if self._parts:
            write_tracks(self._file, "objects", join_tracks(self._parts))
            return
        time_s, poses = _clock_and_poses(self._file)
        finder = InstanceFinder(agents, self._grid, time_s, poses)
        blocks = [slice(t, t + BLOCK_FRAMES) for t in range(0, len(time_s), BLOCK_FRAMES)]
        labels, instances = self._file["occupancy/labels"], self._file["occupancy/instances"]
        for block in blocks:
            _put(self._file, "instances", finder.instances(labels[block]), block.start)
        objects = finder.objects()
        for block in blocks:
            flow = flow_mps(instances[block], objects, self._grid, time_s, poses, block.start)
            _put(self._file, "flow_mps", flow, block.start)
        write_tracks(self._file, "objects", objects)


def _clock_and_poses(file: h5py.File) -> tuple[Doubles, Doubles]:
    """time_s [T] and world_se3_ego [T, 4, 4] of all frames."""
    return file[PER_FRAME["time_s"][0]][()], file[PER_FRAME["world_se3_ego"][0]][()]


def _put(file: h5py.File, name: str, values: np.ndarray, first: int) -> None:
    dataset = file[MOTION[name][0]]
    dataset.resize(max(len(dataset), first + len(values)), axis=0)
    dataset[first : first + len(values)] = values


def write_tracks(file: h5py.File, place: str, tracks: AgentTracks) -> None:
    """All fields of tracks as datasets of a group."""
    for name, (dtype, _) in PER_AGENT.items():
        values = getattr(tracks, name).astype(dtype)
        file.create_dataset(f"{place}/{name}", data=values, compression="gzip" if values.size else None)
    file[place].attrs["frame"] = "world: x, y, yaw of the box centre; z_m of the ground below"


def read_motion(file: h5py.File, path: Path, grid: GridSpec, agents: AgentTracks, cut: slice) -> dict[str, Any]:
    """instances, flow_mps and objects of the frames in cut. agents: of all frames. Raises SceneError."""
    total = agents.valid.shape[1]
    if file.attrs["format_version"] == 1:
        return _found(file, grid, agents, cut)
    shapes = {"instances": grid.shape, "flow_mps": (*grid.shape, 3)}
    stored = {
        name: checked_dataset(file, path, place, dtype, (total, *shapes[name]))
        for name, (place, dtype) in MOTION.items()
    }
    fields: dict[str, Any] = {name: dataset[cut] for name, dataset in stored.items()}
    objects = read_tracks(file, path, "objects", total)
    check_motion(path, fields, objects, agents)
    return {**fields, "objects": objects.frames(cut.start, cut.stop)}


def _found(file: h5py.File, grid: GridSpec, agents: AgentTracks, cut: slice) -> dict[str, Any]:
    """The same where a file has none: all its frames are gone through, so that every cut has the same objects."""
    time_s, poses = _clock_and_poses(file)
    finder = InstanceFinder(agents, grid, time_s, poses)
    kept = []
    for first in range(0, len(time_s), BLOCK_FRAMES):
        block = finder.instances(file["occupancy/labels"][first : first + BLOCK_FRAMES])
        kept.append(block[max(cut.start - first, 0) : max(cut.stop - first, 0)])
    instances, objects = np.concatenate(kept), finder.objects()
    flow = flow_mps(instances, objects, grid, time_s, poses, cut.start)
    return {"instances": instances, "flow_mps": flow, "objects": objects.frames(cut.start, cut.stop)}
