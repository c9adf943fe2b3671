"""A mesh painted far to near with Pillow alone: without smooth shade, but it always works."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from dcgen.export.camera import Camera
from dcgen.export.mesh import Mesh

BACKGROUND = (244, 246, 249)
_NEAR_M = 0.1


def paint(mesh: Mesh, camera: Camera) -> Image.Image:
    """The mesh as the camera sees it, without hidden faces that look away."""
    image = Image.new("RGB", camera.size_px, BACKGROUND)
    matrix = camera.camera_se3_ego()
    points = mesh.vertices_m @ matrix[:3, :3].T + matrix[:3, 3]
    depth = np.maximum(points[:, 2], _NEAR_M)
    pixels = points[:, :2] / depth[:, None] * camera.focal_px + np.asarray(camera.size_px) / 2
    corners = pixels[mesh.triangles]  # [F, 3, 2]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    towards = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    seen = towards & (points[mesh.triangles, 2] > _NEAR_M).all(axis=1)
    order = np.argsort(-points[mesh.triangles[seen], 2].mean(axis=1))
    colours = mesh.colours[mesh.triangles[seen]].mean(axis=1).astype(int)[order]
    draw = ImageDraw.Draw(image)
    for corner, colour in zip(corners[seen][order], colours, strict=True):
        draw.polygon([tuple(corner[0]), tuple(corner[1]), tuple(corner[2])], fill=tuple(colour))
    return image
