"""Everything one sees of a frame from a camera, as one mesh."""

from __future__ import annotations

import numpy as np

from dcgen.export.camera import Camera
from dcgen.export.frame import Frame
from dcgen.export.look import Look
from dcgen.export.mesh import Mesh, join
from dcgen.export.props import MIST, boxes_mesh, ego_mesh, height_at, layout_mesh, path_mesh, sky_mesh
from dcgen.export.surface import voxel_mesh

_CLEAR = 0.66  # of the way to the grid's border there is no mist


def frame_mesh(frame: Frame, look: Look | None = None, ego: bool = True) -> Mesh:
    """What a look shows: voxels or layout, path and boxes, and the ego."""
    look = look or Look()
    top = frame.top_m
    parts = [voxel_mesh(frame, look)]
    if look.layout:
        parts.append(layout_mesh(frame, top))
    if look.path:
        parts.append(path_mesh(frame, top))
    if look.boxes:
        parts.append(boxes_mesh(frame, look))
    if ego:
        parts.append(ego_mesh(_ground_m(frame, top)))
    return join(parts)


def outdoor_mesh(frame: Frame, look: Look | None = None, ego: bool = True, sky: bool = True) -> Mesh:
    """The same out of doors: the border of the grid lies in mist, and with sky, so does the plain around it."""
    x, y, _ = frame.grid.extent_m
    mesh = frame_mesh(frame, look, ego)
    middle = np.asarray(frame.grid.origin_m[:2]) + np.array([x, y]) / 2
    out = np.abs((mesh.vertices_m[:, :2] - middle.astype(np.float32)) / np.array([x / 2, y / 2], np.float32))
    out = np.maximum(out[:, 0], out[:, 1])
    far = np.flatnonzero(out > _CLEAR)
    share = np.square(np.clip((out[far] - _CLEAR) / (1 - _CLEAR), 0, 1))[:, None]
    misty = mesh.colours.copy()
    misty[far] = (misty[far] + share * (np.array(MIST, np.float32) - misty[far])).astype(np.uint8)
    low = frame.grid.origin_m[2]
    world = Mesh(mesh.vertices_m, mesh.triangles, misty)
    return join([world, sky_mesh(min(low, ground_m(frame)))]) if sky else world


def scenery(frame: Frame, look: Look, camera: Camera, ego: bool = True, sky: bool = True) -> Mesh:
    """The mesh that fits a camera."""
    return outdoor_mesh(frame, look, ego, sky) if camera.outdoors else frame_mesh(frame, look, ego)


def ground_m(frame: Frame) -> float:
    """Height of the surface below the ego."""
    return _ground_m(frame, frame.top_m)


def _ground_m(frame: Frame, top: np.ndarray) -> float:
    return float(height_at(frame, top, np.zeros((1, 2)))[0])
