"""The child process that drives libsumo: `python -m scenarios.world.traffic.sumo_run NET ROADS PLAN OUT`.

N agent, T frame.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from dcgen.errors import DcgenError, MissingExtra, WorldError
from dcgen.types import Doubles
from scenarios.road_cache import load_map
from scenarios.world.traffic.log import CLASS_OF_KIND, KINDS, TrafficLog, save_traffic
from scenarios.world.traffic.spec import TrafficPlan
from scenarios.world.traffic.sumo_net import write_vehicle_types
from scenarios.world.traffic.sumo_population import Population, vehicle_types

POSITION_SMOOTH_S = 0.25
YAW_SMOOTH_S = 0.3
PEDESTRIAN_SMOOTH_S = 0.5
PACE_SMOOTH_S = 0.5
JUMP_M, HARDEST_MPS2 = 3.0, 10.0  # a step so much longer than its neighbours is a leap: a new track begins
WALKER_JUMP_M = 8.0  # SUMO's sidewalks end metres before the corner of some junctions: walkers hurry over the gap
GAP_M, GAP_SMOOTH_S = 1.0, 1.5


@dataclass
class Track:
    """One agent as recorded: the frame of its first row, then a row (x, y, angle_deg, z) a frame."""

    kind: str
    size_m: tuple[float, float, float]
    start: int
    rows: list[tuple[float, float, float, float]] = field(default_factory=list)


def start_sumo(net: Path, plan: TrafficPlan, rng: np.random.Generator) -> Any:
    """libsumo with the network loaded and no traffic yet."""
    try:
        import libsumo
    except ImportError:
        raise MissingExtra("libsumo", "sumo", "traffic") from None
    additional = net.with_name("vehicles.add.xml")
    write_vehicle_types(additional, vehicle_types(rng, plan.spec.speed))
    libsumo.start(
        [
            *("sumo", "-n", str(net), "-a", str(additional), "--step-length", f"{plan.spec.dt_s:g}"),
            *("--seed", str(plan.seed % 2**31), "--time-to-teleport", "-1", "--collision.action", "none"),
            *("--lateral-resolution", "0.8", "--no-warnings", "--no-step-log", "--xml-validation", "never"),
            *("--xml-validation.net", "never", "--default.speeddev", "0.1", "--max-depart-delay", "20"),
            *("--pedestrian.striping.jamtime", "20", "--ignore-route-errors"),
        ]
    )
    return libsumo


def record(sumo: Any, population: Population, plan: TrafficPlan) -> list[Track]:
    """Warm up, then follow everybody for plan.seconds."""
    dt_s = plan.spec.dt_s
    warmup = round(plan.spec.warmup_s / dt_s)
    keep_up_every, hold_back_every = max(1, round(1.0 / dt_s)), max(1, round(0.3 / dt_s))
    tracks: dict[str, Track] = {}
    closed: list[Track] = []
    for step in range(-warmup, plan.frames):
        if step % keep_up_every == 0:
            population.keep_up()
        if step % hold_back_every == 0:
            population.pace.hold_back()
        sumo.simulationStep()
        if step < 0:
            continue
        for domain, names in ((sumo.vehicle, sumo.vehicle.getIDList()), (sumo.person, sumo.person.getIDList())):
            for name in names:
                x, y, z = domain.getPosition3D(name)
                if x < -1e8:  # SUMO's way to say: not on the road
                    continue
                track = tracks.get(name)
                if track is not None and track.start + len(track.rows) != step:
                    closed.append(tracks.pop(name))
                    track = None
                if track is None:
                    size = (domain.getLength(name), domain.getWidth(name), domain.getHeight(name))
                    track = tracks[name] = Track(population.kind_of[name], size, step)
                track.rows.append((x, y, domain.getAngle(name), z))
    return closed + list(tracks.values())


def centre_track(track: Track, dt_s: float) -> tuple[Doubles, Doubles, Doubles]:
    """Smoothed (pose [n, 3] of the box centre, z [n], speed [n]) from front-bumper rows."""
    rows = np.array(track.rows)
    yaw = np.unwrap(np.pi / 2 - np.radians(rows[:, 2]))
    back = 0.0 if track.kind == "pedestrian" else track.size_m[0] / 2
    heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    centre = rows[:, :2] - back * heading
    if len(rows) > 2:
        smooth_s = PEDESTRIAN_SMOOTH_S if track.kind == "pedestrian" else POSITION_SMOOTH_S
        centre = _smoothed(centre, smooth_s / dt_s)
        # The yaw of a standing agent counts little: it turns only while it moves.
        weight = np.clip(np.hypot(*np.gradient(centre, dt_s, axis=0).T), 0.02, 1.0)
        sigma = (2 * YAW_SMOOTH_S if track.kind == "pedestrian" else YAW_SMOOTH_S) / dt_s
        yaw = gaussian_filter1d(yaw * weight, sigma, mode="nearest") / gaussian_filter1d(weight, sigma, mode="nearest")
    gap_m = float(_longer_than_usual(rows[:, :2]).max(initial=0.0))
    pace_s = GAP_SMOOTH_S if track.kind == "pedestrian" and gap_m > GAP_M else PACE_SMOOTH_S
    path = retime(np.column_stack([centre, yaw, rows[:, 3]]), pace_s / dt_s)
    velocity = np.gradient(path[:, :2], dt_s, axis=0) if len(rows) > 1 else np.zeros((len(rows), 2))
    speed = np.hypot(*velocity.T)
    speed[speed < 0.05] = 0.0
    return path[:, :3], path[:, 3], speed


def _smoothed(values: Doubles, sigma: float) -> Doubles:
    """[n, C] smoothed along n, mirrored through both ends: speeds stay what they are."""
    pad = min(len(values) - 1, round(4 * sigma) + 1)
    padded = np.pad(values, ((pad, pad), (0, 0)), mode="reflect", reflect_type="odd")
    smooth: Doubles = gaussian_filter1d(padded, sigma, axis=0)[pad : pad + len(values)]
    return smooth


def retime(path: Doubles, sigma: float) -> Doubles:
    """The same path [n, C >= 2] (x, y, ...) gone along at a smoothed pace: no corner is cut, no gap leapt over.

    The lanes of SUMO's network do not quite meet, and who crosses a gap seems to brake or bolt.
    """
    if len(path) < 3:
        return path
    step = np.hypot(*np.diff(path[:, :2], axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(step)])
    wanted = np.clip(_smoothed(along[:, None], sigma)[:, 0], 0.0, along[-1])
    return np.column_stack([np.interp(wanted, along, column) for column in path.T])


def _longer_than_usual(xy: Doubles) -> Doubles:
    """[n - 1] by how much every step of a path [n, 2] is longer than those before and after it."""
    step = np.hypot(*np.diff(xy, axis=0).T)
    longer: Doubles = step - np.maximum(np.r_[step[1:], step[-1:]], np.r_[step[:1], step[:-1]])
    return longer


def split_jumps(track: Track, dt_s: float) -> list[Track]:
    """Cut a track where it leaps, so that no smoothing runs across the leap."""
    xy = np.array(track.rows)[:, :2]
    jump_m = WALKER_JUMP_M if track.kind == "pedestrian" else JUMP_M
    leaps = np.flatnonzero(_longer_than_usual(xy) > jump_m + HARDEST_MPS2 * dt_s**2)
    edges = [0, *(leaps + 1).tolist(), len(xy)]
    return [Track(track.kind, track.size_m, track.start + a, track.rows[a:b]) for a, b in pairwise(edges)]


def assemble(tracks: list[Track], frames: int, dt_s: float) -> TrafficLog:
    """Dense arrays, tracks in order of their first frame."""
    whole = [part for track in tracks for part in split_jumps(track, dt_s) if len(part.rows) * dt_s >= 1.0]
    whole.sort(key=lambda part: (part.start, part.rows[0]))
    n = len(whole)
    log = TrafficLog(
        dt_s=dt_s,
        id=np.arange(1, n + 1, dtype=np.int64),
        kind=np.array([KINDS.index(track.kind) for track in whole], np.uint8),
        class_id=np.array([CLASS_OF_KIND[track.kind] for track in whole], np.uint8),
        size_m=np.array([track.size_m for track in whole], np.float32).reshape(n, 3),
        pose=np.zeros((n, frames, 3), np.float32),
        z_m=np.zeros((n, frames), np.float32),
        speed_mps=np.zeros((n, frames), np.float32),
        valid=np.zeros((n, frames), bool),
    )
    for index, track in enumerate(whole):
        cut = slice(track.start, track.start + len(track.rows))
        pose, z, speed = centre_track(track, dt_s)
        log.pose[index, cut] = pose
        log.pose[index, cut, 2] = (pose[:, 2] + np.pi) % (2 * np.pi) - np.pi
        log.z_m[index, cut], log.speed_mps[index, cut], log.valid[index, cut] = z, speed, True
    return log


def end_with_parent() -> None:
    """A simulation is of no use once the process that asked for it is gone."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def main(net: Path, roads: Path, request: Path, out: Path) -> None:
    """Simulate the plan in `request` on `net`, made of the map in `roads`, and save the log."""
    plan = TrafficPlan.from_dict(json.loads(request.read_text(encoding="utf-8")))
    rng = np.random.default_rng(plan.seed)
    sumo = start_sumo(net, plan, rng)
    try:
        population = Population(sumo, plan.spec, load_map(roads), rng)
        wanted = plan.spec.vehicles + plan.spec.pedestrians + plan.spec.bicycles
        if wanted > 0 and sum(population.counts().values()) == 0:
            raise WorldError("no road user can make a round trip on this map; it needs connected driving lanes")
        tracks = record(sumo, population, plan)
        print(f"taken out of jams: {population.removed}", file=sys.stderr)
    finally:
        sumo.close()
    save_traffic(assemble(tracks, plan.frames, plan.spec.dt_s), out)


if __name__ == "__main__":
    end_with_parent()
    try:
        main(*map(Path, sys.argv[1:5]))
    except DcgenError as error:
        sys.exit(str(error))
