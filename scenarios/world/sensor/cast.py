"""Rays of LiDARs cast into a world, and the points that come back. S sensor, A azimuth, C channel, N point, B box.

Rays are cast against the world itself, the columns of its tile and the boxes of its road users, not against voxels.
All beams of a frame are cast at once: a sweep is not smeared by the ego's motion. The ego is no obstacle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.types import PALETTE, AgentTracks, Doubles, Floats, GridSpec, Semantics, pose_matrix
from scenarios.paint import compiled
from scenarios.world.cut.voxelize import DECK_CM, AgentBoxes, boxes_of
from scenarios.world.sensor import kernels as lidar_kernels
from scenarios.world.sensor import twins as lidar_numpy
from scenarios.world.sensor.spec import LidarSpec
from scenarios.world.town.tile import TownTile

STEP_M = 0.1  # surfaces rise and fall in steps of up to this; what is higher at a deck is its side


@dataclass(frozen=True)
class Sweep:
    """The returns of all sensors in one frame, in the ego frame of that frame.

    Intensity is |cos| of the angle of incidence, 0..1, as CARLA's semantic LiDAR gives it. Surfaces take their slope
    over the cells next to them; walls and other columns are faces along the tile's axes.
    """

    points: Floats  # [N, 4] x, y, z in metres, intensity
    class_id: NDArray[np.uint8]  # [N] of what was hit
    agent_id: NDArray[np.int64]  # [N] its id, -1 where it is no road user
    sensor: NDArray[np.uint8]  # [N] index into mounts_m

    def __post_init__(self) -> None:
        n = len(self.class_id)
        for name, shape in (("points", (n, 4)), ("class_id", (n,)), ("agent_id", (n,)), ("sensor", (n,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"sweep.{name} needs shape {shape}, got {getattr(self, name).shape}")


@dataclass(frozen=True)
class Beams:
    """Directions of a turn: azimuths from the ego's x axis to its left, channels from the lowest up."""

    azimuth_rad: Doubles  # [A] in the ego frame
    slope: Doubles  # [C] height gained a horizontal metre
    cosine: Doubles  # [C] of the elevation
    sine: Doubles  # [C]

    @staticmethod
    def of(spec: LidarSpec) -> Beams:
        elevation: Doubles = np.linspace(spec.lower_rad, spec.upper_rad, spec.channels, dtype=np.float64)
        azimuth: Doubles = np.arange(spec.azimuths, dtype=np.float64) * (2 * np.pi / spec.azimuths)
        return Beams(azimuth, np.tan(elevation), np.cos(elevation), np.sin(elevation))


@dataclass(frozen=True)
class Turn:
    """What came back to one sensor; distances are horizontal, 0 where a ray saw nothing at all."""

    distance_m: Doubles  # [A, C] to the hit, or as far as the ray reaches
    class_id: NDArray[np.uint8]  # [A, C], 0 where nothing was hit
    incidence: Doubles  # [A, C]
    box: NDArray[np.int32]  # [A, C], -1 where no agent was hit


@dataclass(frozen=True)
class Cast:
    """The turns of all sensors [S], and the id of each box [B + 1], with -1 at last for what is no box."""

    turns: tuple[Turn, ...]
    agent_id: NDArray[np.int64]


def sweep_frame(
    tile: TownTile,
    agents: AgentTracks,
    world_se3_ego: Doubles,
    rig: LidarSpec,
    rng: np.random.Generator | int = 0,
    fast: bool = True,
) -> Sweep:
    """One frame of the rig on an upright ego [4, 4]. agents: the one frame of them, without the ego."""
    rng = np.random.default_rng(rng)
    return gather(cast_rays(tile, agents, world_se3_ego, rig, rng, fast), rig, rng)


def heading(pose: Doubles) -> float:
    return math.atan2(pose[1, 0], pose[0, 0])


def cast_rays(
    tile: TownTile, agents: AgentTracks, ego: Doubles, rig: LidarSpec, rng: np.random.Generator, fast: bool = True
) -> Cast:
    """The turns of all sensors of a frame; arguments as of sweep_frame."""
    if agents.valid.shape[1] != 1:
        raise ValueError(f"a sweep needs agents of one frame, got {agents.valid.shape[1]}")
    yaw, beams = heading(ego), Beams.of(rig)
    direction = (np.cos(beams.azimuth_rad + yaw), np.sin(beams.azimuth_rad + yaw))
    reach = rig.range_m + max(math.hypot(x, y) for x, y, _ in rig.mounts_m)
    around = GridSpec((1, 1, 1), (2 * reach, 2 * reach, 1.0), (-reach, -reach, 0.0))
    boxes = boxes_of(agents, pose_matrix(ego[0, 3], ego[1, 3], ego[2, 3], 0.0), around)
    module: Any = lidar_kernels if fast else lidar_numpy
    turns = []
    for mount in rig.mounts_m:
        offset = ego[:3, :3] @ np.asarray(mount)
        at = ego[:3, 3] + offset
        turn = _reaching(rig, beams)
        columns: Any = compiled(module.cast_columns) if fast else module.cast_columns
        columns(
            *(tile.surface_class, tile.surface_cm, tile.span_class, tile.span_lo_cm, tile.span_hi_cm),
            *(DECK_CM / 100.0, STEP_M, int(Semantics.OTHER), tile.cell_m),
            *((at[axis] - tile.origin_m[axis]) / tile.cell_m for axis in (0, 1)),
            *(at[2] - tile.z0_m, *direction, beams.slope, beams.cosine, beams.sine),
            *(turn.distance_m, turn.class_id, turn.incidence),
        )
        shape, heights = _around_sensor(boxes, offset)
        obstacles: Any = compiled(module.cast_boxes) if fast else module.cast_boxes
        obstacles(
            *(shape, heights, boxes.class_id, yaw, *direction, beams.slope, beams.cosine, beams.sine),
            *(turn.distance_m, turn.class_id, turn.incidence, turn.box),
        )
        turns.append(_dropped(turn, rig.dropout, rng))
    return Cast(tuple(turns), np.append(agents.id[boxes.row], -1))


def _reaching(rig: LidarSpec, beams: Beams) -> Turn:
    """Rays that have met nothing yet."""
    size = (rig.azimuths, rig.channels)
    distance = np.broadcast_to(rig.range_m * beams.cosine, size).copy()
    return Turn(distance, np.zeros(size, np.uint8), np.zeros(size), np.full(size, -1, np.int32))


def _around_sensor(boxes: AgentBoxes, offset_m: Doubles) -> tuple[Doubles, Doubles]:
    """[B, 8] shapes and [B, 3] heights of boxes seen from a sensor."""
    shape = boxes.shape_m.copy()
    shape[:, :2] -= offset_m[:2]
    return shape, boxes.heights_mm / 1000.0 - offset_m[2]


def _dropped(turn: Turn, share: float, rng: np.random.Generator) -> Turn:
    """Without what is lost: a share of the rays, and those that ended in the sensor itself, inside a solid."""
    lost = turn.distance_m <= 0
    if share > 0:
        lost |= rng.random(lost.shape) < share
    if not lost.any():
        return turn
    return replace(turn, distance_m=np.where(lost, 0.0, turn.distance_m), class_id=np.where(lost, 0, turn.class_id))


def gather(cast: Cast, rig: LidarSpec, rng: np.random.Generator) -> Sweep:
    """The returns of a cast as points."""
    beams = Beams.of(rig)
    cos, sin = np.cos(beams.azimuth_rad), np.sin(beams.azimuth_rad)
    parts = []
    for sensor, (turn, mount) in enumerate(zip(cast.turns, rig.mounts_m, strict=True)):
        hit = np.flatnonzero(turn.class_id)
        a, c = np.divmod(hit, rig.channels)
        distance = turn.distance_m.reshape(-1)[hit]
        if rig.noise_m > 0:
            distance = np.maximum(distance + rng.normal(0.0, rig.noise_m, len(hit)) * beams.cosine[c], 0.0)
        points = np.empty((len(hit), 4), np.float32)
        points[:, 0] = distance * cos[a] + mount[0]
        points[:, 1] = distance * sin[a] + mount[1]
        points[:, 2] = distance * beams.slope[c] + mount[2]
        points[:, 3] = turn.incidence.reshape(-1)[hit]
        box = turn.box.reshape(-1)[hit]
        parts.append((points, turn.class_id.reshape(-1)[hit], cast.agent_id[box], np.full(len(hit), sensor, np.uint8)))
    return Sweep(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def sweep_picture(sweep: Sweep, reach_m: float = 50.0, pixel_m: float = 0.2) -> NDArray[np.uint8]:
    """[rows, columns, 3] a sweep from above by class, the ego in the middle looking to the right."""
    size = math.ceil(2 * reach_m / pixel_m)
    order = np.argsort(sweep.points[:, 2], kind="stable")  # what is higher covers what is lower
    at = np.floor((sweep.points[order, :2] + reach_m) / pixel_m).astype(np.int64)
    inside = ((at >= 0) & (at < size)).all(axis=1)
    picture = np.zeros((size, size, 3), np.uint8)
    picture[size - 1 - at[inside, 1], at[inside, 0]] = PALETTE[sweep.class_id[order][inside]]
    return picture
