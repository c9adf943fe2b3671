"""Where a picture is taken from. Camera axes: x right, y down, z ahead; pixels from the upper left corner."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dcgen.types import Doubles, GridSpec

Point = tuple[float, float, float]
CAMERAS = ("chase", "birdseye", "ego", "orbit")
_UPWARDS, _AHEAD = (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)
_FAR_DEG = 0.6  # a pinhole this narrow and as far off is as good as orthographic: under a third of a pixel from it
_EYE_M = (0.2, 0.36, 1.35)  # of a driver, above the ground


@dataclass(frozen=True)
class Camera:
    """A pinhole that stands at eye_m, looks at target_m and sees fov_deg from left to right; up_m is up in the picture.

    outdoors: the world goes on into mist under a sky; else it lies before a plain background.
    """

    eye_m: Point
    target_m: Point
    fov_deg: float
    size_px: tuple[int, int]  # width, height
    up_m: Point = _UPWARDS
    outdoors: bool = False

    def __post_init__(self) -> None:
        ahead = np.subtract(self.target_m, self.eye_m)
        if np.linalg.norm(np.cross(ahead, self.up_m)) < 1e-6 * np.linalg.norm(ahead) or not ahead.any():
            raise ValueError("a camera may not look straight along its up_m")
        if not 0 < self.fov_deg < 180 or min(self.size_px) < 16:
            raise ValueError(f"a camera needs 0 < fov_deg < 180 and 16 pixels, got {self.fov_deg}, {self.size_px}")

    @property
    def focal_px(self) -> float:
        return float(self.size_px[0] / 2 / np.tan(np.radians(self.fov_deg) / 2))

    @property
    def clip_m(self) -> tuple[float, float]:
        """Nearer and farther than this nothing is drawn."""
        away = float(np.linalg.norm(np.subtract(self.target_m, self.eye_m)))
        return max(0.25, away - 500.0), away + 1500.0

    def moved(self, by_m: Doubles) -> Camera:
        """The same camera, carried by [3] metres."""
        x, y, z = (float(step) for step in by_m)
        eye, target = self.eye_m, self.target_m
        return replace(
            self, eye_m=(eye[0] + x, eye[1] + y, eye[2] + z), target_m=(target[0] + x, target[1] + y, target[2] + z)
        )

    def camera_se3_ego(self) -> Doubles:
        """[4, 4] moves points of the ego frame into the camera frame."""
        ahead = np.subtract(self.target_m, self.eye_m)
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, self.up_m)
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
        matrix[:3, 3] = -matrix[:3, :3] @ np.asarray(self.eye_m)
        return matrix


def page_camera(grid: GridSpec, size_px: tuple[int, int]) -> Camera:
    """From behind, above and a little to the right of the ego, with the whole grid in view."""
    x, y, _ = grid.extent_m
    reach = max(x, y)
    middle = np.asarray(grid.origin_m[:2]) + np.array([x, y]) / 2
    eye = (float(middle[0] - 0.80 * reach), float(middle[1] - 0.36 * reach), 0.66 * reach)
    target = (float(middle[0] - 0.05 * reach), float(middle[1] - 0.02 * reach), -0.05 * reach)
    return Camera(eye, target, 52.0, size_px)


def camera_of(name: str, grid: GridSpec, ground_m: float, size_px: tuple[int, int], turn: float = 0.0) -> Camera:
    """One of CAMERAS over ground at that height; turn in 0..1 is how far the orbit has gone round, to the left."""
    if name == "chase":
        return Camera((-17.0, 0.0, ground_m + 10.5), (10.0, 0.0, ground_m), 62.0, size_px, outdoors=True)
    if name == "ego":
        x, y, z = _EYE_M
        return Camera((x, y, ground_m + z), (x + 20.0, y, ground_m + z - 1.0), 78.0, size_px, outdoors=True)
    low, (x, y, _) = grid.origin_m, grid.extent_m
    middle = (low[0] + x / 2, low[1] + y / 2)
    if name == "birdseye":
        return _birdseye(middle, (x, y), ground_m, size_px)
    if name == "orbit":
        angle = np.pi + 0.5 + 2 * np.pi * turn
        reach = float(np.hypot(x, y)) * max(1.0, 9 / 16 * size_px[0] / size_px[1])
        eye = (middle[0] + 1.1 * reach * float(np.cos(angle)), middle[1] + 1.1 * reach * float(np.sin(angle)))
        return Camera((*eye, ground_m + 0.66 * reach), (*middle, ground_m - 0.07 * reach), 50.0, size_px)
    raise ValueError(f"a camera is one of {', '.join(CAMERAS)}, got {name}")


def _birdseye(
    middle: tuple[float, float], extent_m: tuple[float, float], ground_m: float, size_px: tuple[int, int]
) -> Camera:
    """Straight down, ahead is up, the whole grid in view with a little margin."""
    width, height = size_px
    wide_m = 1.03 * max(extent_m[1], extent_m[0] * width / height)
    up_m = ground_m + wide_m / 2 / float(np.tan(np.radians(_FAR_DEG) / 2))
    return Camera((*middle, up_m), (*middle, ground_m), _FAR_DEG, size_px, up_m=_AHEAD)
