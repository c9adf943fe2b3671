"""Scenes with something in the ego's way, made by `dcgen scenario`: who stands there is an agent, or voxels alone.

    PYTHONPATH=. python benchmarks/obstacle_scenes.py FOLDER [SHIFT]
    dcgen benchmark planners --scenes FOLDER --planner MODULE:CLASS -o RESULTS

The ego of a scene drives on as if the way were free. Where an obstacle is voxels alone, as a building site is, they
are set in the finished scene, in every frame where its grid reaches them. A SHIFT other than 0 moves every obstacle by
up to 4 m along and 0.4 m across, and generates another world: scenes that nobody tuned on. Metres, seconds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from bridges.scenes import SceneOrder, make_scenes
from dcgen.scene_file import load_scene, save_scene
from dcgen.types import SURFACES, Doubles, Scene, Semantics
from scenarios.compile import compile_scenario
from scenarios.schema import load_scenario

FRAMES = 40
MODEL = "nano-student"


@dataclass(frozen=True)
class Obstacle:
    """Something that stands at a distance along the ego's drive, left_m beside it."""

    kind: str  # a class of a scenario's agents, or "site": voxels that no agent explains
    ahead_m: float
    left_m: float = 0.0
    turn_deg: float = 0.0
    size_m: tuple[float, float, float] = (6.0, 2.2, 1.2)  # of a site
    class_id: Semantics = Semantics.BARRIER  # of a site


@dataclass(frozen=True)
class ObstacleScene:
    """One scene: where the ego starts and goes, and what is in its way."""

    name: str
    map: str
    start: tuple[float, float, float]  # x, y, yaw_deg
    goal: tuple[float, float]
    speed_mps: float
    seed: int
    obstacles: tuple[Obstacle, ...]
    traffic: dict[str, float] | None = None

    def document(self, agents: list[dict]) -> str:
        """The scenario file."""
        content = {
            "map": self.map,
            "start": {"x": self.start[0], "y": self.start[1], "yaw_deg": self.start[2]},
            "goal": {"x": self.goal[0], "y": self.goal[1]},
            "target_speed_mps": self.speed_mps,
            "frames": FRAMES,
            "agents": agents,
            "seed": self.seed,
            "metadata": {"name": self.name},
        }
        if self.traffic:
            content["traffic"] = self.traffic
        return yaml.safe_dump(content, sort_keys=False)


AVENUE_INNER, AVENUE_OUTER = (-150.0, -3.2, 0.0), (-150.0, -6.6, 0.0)
TO_INNER, TO_OUTER = (-40.0, -3.2), (-40.0, -6.6)
TOWN, TO_TOWN = (16.0, -1.75, 0.0), (105.0, -1.75)
UP, TO_UP = (1.75, -95.0, 90.0), (1.75, -15.0)
HILL, TO_HILL = (-134.0, -11.6, 0.0), (-16.0, -1.6)
DALE, TO_DALE = (-1.6, -15.0, -90.0), (-16.6, -109.0)

SCENES = (
    ObstacleScene("car_inner", "avenue", AVENUE_INNER, TO_INNER, 8.0, 101, (Obstacle("car", 30.0),)),
    ObstacleScene("truck_outer", "avenue", AVENUE_OUTER, TO_OUTER, 8.0, 102, (Obstacle("truck", 32.0),)),
    ObstacleScene("person_inner", "avenue", AVENUE_INNER, TO_INNER, 8.0, 103, (Obstacle("pedestrian", 28.0, 0.2),)),
    ObstacleScene(
        "two_cars", "avenue", AVENUE_INNER, TO_INNER, 7.0, 104, (Obstacle("car", 24.0), Obstacle("van", 48.0, -3.4))
    ),
    ObstacleScene("site_inner", "avenue", AVENUE_INNER, TO_INNER, 8.0, 105, (Obstacle("site", 30.0),)),
    ObstacleScene(
        "long_site", "avenue", AVENUE_OUTER, TO_OUTER, 8.0, 106, (Obstacle("site", 36.0, size_m=(16.0, 2.4, 1.0)),)
    ),
    ObstacleScene(
        "debris", "avenue", AVENUE_OUTER, TO_OUTER, 8.0, 107,
        (Obstacle("site", 26.0, 0.3, size_m=(1.7, 1.7, 0.9), class_id=Semantics.OTHER),),
    ),
    ObstacleScene(
        "car_in_traffic", "avenue", AVENUE_INNER, TO_INNER, 7.0, 108, (Obstacle("car", 28.0, -0.3),),
        {"vehicles": 6, "pedestrians": 8, "parked": 8, "radius_m": 45},
    ),
    ObstacleScene("car_town", "crossroads", TOWN, TO_TOWN, 7.0, 109, (Obstacle("car", 30.0, -0.9),)),
    ObstacleScene("person_town", "crossroads", UP, TO_UP, 6.0, 110, (Obstacle("pedestrian", 25.0, -0.5),)),
    ObstacleScene(
        "site_town", "crossroads", TOWN, TO_TOWN, 7.0, 111, (Obstacle("site", 28.0, -0.8, size_m=(7.0, 1.8, 1.2)),)
    ),
    ObstacleScene("car_bend", "ring", HILL, TO_HILL, 7.0, 112, (Obstacle("car", 34.0, -0.8),)),
    ObstacleScene(
        "site_bend", "ring", DALE, TO_DALE, 6.0, 113, (Obstacle("site", 30.0, -0.7, size_m=(5.0, 1.7, 1.2)),)
    ),
    ObstacleScene(
        "person_and_site", "crossroads", UP, TO_UP, 7.0, 114,
        (Obstacle("pedestrian", 20.0, -1.0), Obstacle("site", 42.0, -0.6, size_m=(4.0, 1.8, 1.2))),
    ),
)  # fmt: skip


def write_scene(scene: ObstacleScene, folder: Path, model: str = MODEL) -> Path:
    """FOLDER/NAME.yaml and FOLDER/NAME.h5."""
    file = folder / f"{scene.name}.yaml"
    file.write_text(scene.document([]), encoding="utf-8")
    poses = compile_scenario(load_scenario(file)).world_se3_ego
    agents = [_agent(one, place_along(poses, one)) for one in scene.obstacles if one.kind != "site"]
    file.write_text(scene.document(agents), encoding="utf-8")
    path = folder / f"{scene.name}.h5"
    order = SceneOrder(str(file), model=model, output=path)
    for _ in make_scenes(order, lambda *_: None, lambda *_: None, lambda *_: None):
        pass
    sites = [(one, place_along(poses, one)) for one in scene.obstacles if one.kind == "site"]
    if sites:
        made = load_scene(path)
        for site, pose in sites:
            made = with_site(made, site, pose)
        path.unlink()
        save_scene(made, path)
    return path


def place_along(world_se3_ego: Doubles, obstacle: Obstacle) -> tuple[float, float, float]:
    """x, y, yaw in the world of an obstacle on the ego's drive, straight on past its end."""
    xy, yaw = world_se3_ego[:, :2, 3], np.unwrap(np.arctan2(world_se3_ego[:, 1, 0], world_se3_ego[:, 0, 0]))
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(xy, axis=0).T))])
    turn = float(np.interp(obstacle.ahead_m, s, yaw))
    beyond = max(0.0, obstacle.ahead_m - float(s[-1]))
    x, y = (float(np.interp(obstacle.ahead_m, s, column)) for column in xy.T)
    x += beyond * np.cos(turn) - obstacle.left_m * np.sin(turn)
    y += beyond * np.sin(turn) + obstacle.left_m * np.cos(turn)
    return float(x), float(y), turn + float(np.radians(obstacle.turn_deg))


def with_site(scene: Scene, site: Obstacle, pose: tuple[float, float, float]) -> Scene:
    """The scene with a box of voxels that no agent explains, on the ground at x, y, yaw of the world."""
    labels = scene.labels.copy()
    centres = scene.grid.centres_m()
    ground = np.isin(labels, [int(kind) for kind in SURFACES])
    for t, world_se3_ego in enumerate(scene.world_se3_ego):
        world = centres @ world_se3_ego[:3, :3].T + world_se3_ego[:3, 3]
        dx, dy = world[..., 0] - pose[0], world[..., 1] - pose[1]
        along, beside = dx * np.cos(pose[2]) + dy * np.sin(pose[2]), dy * np.cos(pose[2]) - dx * np.sin(pose[2])
        within = (np.abs(along) < site.size_m[0] / 2) & (np.abs(beside) < site.size_m[1] / 2)
        top = np.where(ground[t].any(axis=2), ground[t].shape[2] - 1 - ground[t][..., ::-1].argmax(axis=2), 0)
        above = (np.arange(labels.shape[3]) - top[..., None]) * scene.grid.voxel_m[2]
        labels[t][within & (above > 0) & (above <= site.size_m[2] + scene.grid.voxel_m[2] / 2)] = site.class_id
    return replace(scene, labels=labels, instances=None, flow_mps=None, objects=None)


def shifted(scene: ObstacleScene, shift: int) -> ObstacleScene:
    """The scene with its obstacles elsewhere and another seed; itself for 0."""
    if shift == 0:
        return scene
    rng = np.random.default_rng([shift, scene.seed])
    moved = (
        replace(one, ahead_m=one.ahead_m + rng.uniform(-4, 4), left_m=one.left_m + rng.uniform(-0.4, 0.4))
        for one in scene.obstacles
    )
    return replace(scene, seed=scene.seed + 1000 * shift, obstacles=tuple(moved))


def _agent(obstacle: Obstacle, pose: tuple[float, float, float]) -> dict:
    x, y, yaw = pose
    key = {"t_s": 0, "x": round(x, 2), "y": round(y, 2), "yaw_deg": round(float(np.degrees(yaw)), 1)}
    return {"class": obstacle.kind, "keyframes": [key]}


def main(folder: Path, shift: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for scene in SCENES:
        print(write_scene(shifted(scene, shift), folder), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
