"""Frames out of a ticking server: the ego's pose, everyone's box, and the LiDARs' sweeps. T frame, N agent or point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.carla.session import Session
from bridges.carla.stage import Cast, set_in_motion
from bridges.carla.tags import class_table
from bridges.carla.votes import Sweep
from dcgen.errors import CarlaError
from dcgen.types import AgentTracks, Doubles, Semantics, pose_matrix
from scenarios.frames import carla_points_to_world, carla_transform_to_world

POINT = np.dtype([("xyz", "<f4", 3), ("cosine", "<f4"), ("actor", "<u4"), ("tag", "<u4")])
LEAST_SIZE_M = (0.3, 0.3, 0.5)  # boxes of some two-wheelers are flat
MOST_RESTARTS = 5
WARM_UP_TICKS = 60  # a sensor's stream takes some to begin
RUN_UP_S = 2.0
# By the type, where the server's blueprints do not tell (before 0.9.14).
BICYCLES = ("vehicle.bh.crossbike", "vehicle.diamondback.century", "vehicle.gazelle.omafiets")


@dataclass(frozen=True)
class Body:
    """What does not change about a road user. foot_m: the middle of its box's bottom, in its own CARLA frame."""

    id: int
    class_id: int
    size_m: tuple[float, float, float]
    foot_m: Doubles


@dataclass(frozen=True)
class Frame:
    """One moment. agents: actor -> (x, y, z of the ground, yaw, speed), the ego left out."""

    world_se3_ego: Doubles
    sweeps: tuple[Sweep, ...]
    agents: dict[int, tuple[float, float, float, float, float]]


class Dropped(Exception):
    """A LiDAR's sweep of a frame did not come."""


@dataclass
class Camera:
    """Takes frames. `bodies` grows with the actors that come into sight; None for what is no road user."""

    session: Session
    cast: Cast
    bodies: dict[int, Body | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._class_of = class_table(self.session.client.get_server_version())

    def start(self) -> None:
        """Wait until every LiDAR sends, set the cast in motion and let it gather speed. Raises CarlaError."""
        self._warm_up()
        set_in_motion(self.session, self.cast)
        for _ in range(round(RUN_UP_S / self.session.order.tick_dt_s)):
            number = self.session.tick()
            for lidar in self.cast.lidars:
                lidar.take(number, self.session.order.sensor_s)  # let go: a queue of sweeps is large

    def _warm_up(self) -> None:
        """Tick in a world that stands: how long streams take to begin is to change nothing."""
        waiting = list(self.cast.lidars)
        for _ in range(WARM_UP_TICKS):
            self.session.tick()
            waiting = [lidar for lidar in waiting if lidar.sweeps.empty()]
            if not waiting:
                return
        raise CarlaError(
            f"{self.session.order.place}: {len(waiting)} of {len(self.cast.lidars)} LiDARs send nothing; "
            "check that the server's streaming port (the next after --port) is open"
        )

    def clip(self, count: int) -> list[Frame]:
        """`count` frames in a row; from the start again where a sweep is lost. Raises CarlaError."""
        for _ in range(MOST_RESTARTS):
            try:
                return [self.frame() for _ in range(count)]
            except Dropped as gap:
                self.session.tell(f"{gap}; the clip begins anew")
        raise CarlaError(
            f"{self.session.order.place}: sweeps were lost {MOST_RESTARTS} times in one clip; "
            "give the server fewer LiDARs (--lidars) or points"
        )

    def frame(self) -> Frame:
        """The next frame, order.dt_s after the one before. Raises Dropped and CarlaError."""
        for _ in range(self.session.order.ticks_a_frame):
            number = self.session.tick()
        snapshot = self.session.world.get_snapshot()
        states = {state.id: state for state in snapshot}
        if snapshot.frame != number:
            raise Dropped(f"the state of frame {number} was lost")
        self._meet(states)
        ego = states.get(self.cast.ego.id)
        body = self.bodies.get(self.cast.ego.id)
        if ego is None or body is None:
            raise CarlaError(f"{self.session.order.place}: the ego was removed; keep other clients off this server")
        x, y, z, yaw, _ = _standing(ego, body)
        world_se3_ego = pose_matrix(x, y, z, yaw)
        sweeps = tuple(self._sweep(k, number, world_se3_ego) for k in range(len(self.cast.lidars)))
        others = {
            number: _standing(states[number], other)
            for number, other in self.bodies.items()
            if other is not None and number in states and number != body.id
        }
        return Frame(world_se3_ego, sweeps, others)

    def _meet(self, states: dict[int, Any]) -> None:
        new = [number for number in states if number not in self.bodies]
        if new:
            self.bodies.update(dict.fromkeys(new))
            self.bodies.update({actor.id: body_of(actor) for actor in self.session.world.get_actors(new)})

    def _sweep(self, k: int, number: int, world_se3_ego: Doubles) -> Sweep:
        measured = self.cast.lidars[k].take(number, self.session.order.sensor_s)
        if measured is None:
            raise Dropped(f"LiDAR {k} sent no sweep of frame {number}")
        ego_se3_lidar = np.linalg.inv(world_se3_ego) @ transform_to_world(measured.transform)
        raw = np.frombuffer(measured.raw_data, POINT)
        raw = raw[raw["actor"] != self.cast.ego.id]  # the ego does not see itself
        points = carla_points_to_world(raw["xyz"]) @ ego_se3_lidar[:3, :3].T + ego_se3_lidar[:3, 3]
        class_id = self._class_of[np.minimum(raw["tag"], 255)]
        actor = raw["actor"].astype(np.int64)
        cyclists = [body.id for body in self.bodies.values() if body and body.class_id == Semantics.BICYCLE]
        if cyclists:  # the older tags know vehicles alone
            class_id = np.where(np.isin(actor, cyclists) & (class_id == Semantics.VEHICLE), Semantics.BICYCLE, class_id)
        origin = ego_se3_lidar[:3, 3].copy()
        return Sweep(origin, points.astype(np.float32), class_id.astype(np.uint8), actor, raw["cosine"].copy())


def transform_to_world(transform: Any) -> Doubles:
    """[4, 4] of a carla.Transform."""
    where, turn = transform.location, transform.rotation
    return carla_transform_to_world(where.x, where.y, where.z, turn.pitch, turn.yaw, turn.roll)


def body_of(actor: Any) -> Body | None:
    """A vehicle's or a walker's box and class; None for anything else."""
    kind = actor.type_id
    if not kind.startswith(("vehicle.", "walker.")):
        return None
    box = actor.bounding_box
    extent = np.array([box.extent.x, box.extent.y, box.extent.z])
    length, width, height = np.maximum(2 * extent, LEAST_SIZE_M)
    foot = np.array([box.location.x, box.location.y, box.location.z - extent[2]])
    class_id = Semantics.VEHICLE
    if kind.startswith("walker."):
        class_id = Semantics.PEDESTRIAN
    elif actor.attributes.get("base_type", "").lower() == "bicycle" or kind in BICYCLES:
        class_id = Semantics.BICYCLE
    return Body(actor.id, int(class_id), (float(length), float(width), float(height)), foot)


def _standing(state: Any, body: Body) -> tuple[float, float, float, float, float]:
    """x, y, z of the ground below the box, yaw and speed, in the world frame."""
    world_se3_body = transform_to_world(state.get_transform())
    x, y, z = world_se3_body[:3, :3] @ carla_points_to_world(body.foot_m) + world_se3_body[:3, 3]
    velocity = state.get_velocity()
    speed = float(np.linalg.norm([velocity.x, velocity.y, velocity.z]))
    yaw = float(np.arctan2(world_se3_body[1, 0], world_se3_body[0, 0]))
    return float(x), float(y), float(z), yaw, speed


def tracks_of(frames: Sequence[Frame], bodies: dict[int, Body | None], reach_m: float) -> AgentTracks:
    """Everyone within reach_m of the ego's middle pose at some frame. Where an agent is absent, its nearest pose."""
    middle = frames[len(frames) // 2].world_se3_ego[:2, 3]
    seen = sorted({number for frame in frames for number in frame.agents})
    near = [
        number
        for number in seen
        if min(np.hypot(*np.subtract(f.agents[number][:2], middle)) for f in frames if number in f.agents) <= reach_m
    ]
    if not near:
        return AgentTracks.empty(len(frames))
    valid = np.array([[number in frame.agents for frame in frames] for number in near])
    rows = [[frames[t].agents[number] for t in _nearest(there)] for number, there in zip(near, valid, strict=True)]
    state = np.array(rows)
    kept = [body for number in near if (body := bodies[number]) is not None]
    return AgentTracks(
        np.array(near, np.int64),
        np.array([body.class_id for body in kept], np.uint8),
        np.array([body.size_m for body in kept], np.float32),
        state[..., [0, 1, 3]],
        state[..., 2].astype(np.float32),
        state[..., 4].astype(np.float32),
        valid,
    )


def _nearest(valid: NDArray[np.bool_]) -> list[int]:
    """For each frame the nearest one that is valid."""
    there = np.flatnonzero(valid)
    return [int(there[np.abs(there - t).argmin()]) for t in range(len(valid))]
