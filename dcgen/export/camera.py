"""Where a picture is taken from. Camera axes: x right, y down, z ahead; pixels from the upper left corner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcgen.types import Doubles, GridSpec


@dataclass(frozen=True)
class Camera:
    """A pinhole that stands at eye_m, looks at target_m and sees fov_deg from left to right."""

    eye_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    fov_deg: float
    size_px: tuple[int, int]  # width, height

    def __post_init__(self) -> None:
        if np.allclose(self.eye_m[:2], self.target_m[:2]):
            raise ValueError("a camera may not look straight down")
        if not 0 < self.fov_deg < 180 or min(self.size_px) < 16:
            raise ValueError(f"a camera needs 0 < fov_deg < 180 and 16 pixels, got {self.fov_deg}, {self.size_px}")

    @property
    def focal_px(self) -> float:
        return float(self.size_px[0] / 2 / np.tan(np.radians(self.fov_deg) / 2))

    def camera_se3_ego(self) -> Doubles:
        """[4, 4] moves points of the ego frame into the camera frame."""
        ahead = np.subtract(self.target_m, self.eye_m)
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
        matrix[:3, 3] = -matrix[:3, :3] @ np.asarray(self.eye_m)
        return matrix


def chase_camera(grid: GridSpec, size_px: tuple[int, int]) -> Camera:
    """From behind, above and a little to the right of the ego, with the whole grid in view."""
    x, y, _ = grid.extent_m
    reach = max(x, y)
    middle = np.asarray(grid.origin_m[:2]) + np.array([x, y]) / 2
    eye = (float(middle[0] - 0.80 * reach), float(middle[1] - 0.36 * reach), 0.66 * reach)
    target = (float(middle[0] - 0.05 * reach), float(middle[1] - 0.02 * reach), -0.05 * reach)
    return Camera(eye, target, 52.0, size_px)
