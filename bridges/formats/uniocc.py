"""UniOcc: `scene_infos.pkl` and `<scene>/<t>.npz`. X/Y/Z voxel axes, N agent.

In the ego frame, x ahead, y to the left. Flow is in voxels, to where a voxel's content is in the next frame's grid (and
in the one before): the ego's own motion is in it. It is 0 at the ends of a scene, in free and in unknown voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bridges.formats.class_tables import UNIOCC
from bridges.formats.motion import displacement_m, tracks_of, world_se3_boxes
from bridges.formats.packing import npz_bytes, objects, pickle_bytes
from bridges.formats.resample import Sampled, Sampler
from bridges.formats.writing import Entry, Named, Put
from dcgen.dataset.motion import in_voxels
from dcgen.types import Floats, Scene, wide_grid


def write(scene: Scene, named: Named, put: Put) -> Entry:
    """Every frame of a scene with instances."""
    sampler = Sampler(scene.grid, wide_grid())
    places = [f"{named.name}/{t}.npz" for t in range(len(scene.time_s))]
    for t, labels in enumerate(scene.labels):
        sampled = sampler.sample(labels)
        members = {
            "occ_label": UNIOCC.apply(sampled.labels).astype(np.uint8),
            "occ_mask_camera": sampled.known.astype(np.uint8),
            "occ_flow_forward": _flow(scene, t, sampled, 1),
            "occ_flow_backward": _flow(scene, t, sampled, -1),
            "ego_to_world_transformation": scene.world_se3_ego[t],
            "cameras": objects([]),
            "annotations": _annotations(scene, t),
        }
        put(places[t], npz_bytes(members))
    return {
        "scene_name": named.name,
        "occ_in_scene_paths": places,
        "start_frame": 0,
        "end_frame": len(places) - 1,
    }


def index(entries: Sequence[Entry], put: Put) -> None:
    """scene_infos.pkl over all scenes: a list of plain dicts."""
    put("scene_infos.pkl", pickle_bytes(list(entries)))


def _flow(scene: Scene, t: int, sampled: Sampled, step: int) -> Floats:
    target = wide_grid()
    return in_voxels(displacement_m(scene, t, sampled, target, step), target.voxel_m)


def _annotations(scene: Scene, t: int) -> NDArray[np.object_]:
    """[N] one dict an object whose centre lies above or below the grid."""
    target, tracks = wide_grid(), tracks_of(scene)
    world_se3_box = world_se3_boxes(tracks, t)
    ego_se3_box = np.linalg.inv(scene.world_se3_ego[t]) @ world_se3_box
    low = np.array(target.origin_m[:2])
    here = ego_se3_box[:, :2, 3]
    inside = tracks.valid[:, t] & ((here >= low) & (here < low + target.extent_m[:2])).all(axis=1)
    ids = UNIOCC.ids()
    return objects(
        {
            "token": str(int(tracks.id[n])),
            "agent_to_ego": ego_se3_box[n].copy(),
            "agent_to_world": world_se3_box[n].copy(),
            "size": tracks.size_m[n].astype(np.float64),
            "category_id": int(ids[tracks.class_id[n]]),
        }
        for n in np.flatnonzero(inside)
    )
