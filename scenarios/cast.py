"""Who is on the road of a scenario, and which voxels of a finished scene stand fast. N agent, F frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import ScenarioError
from dcgen.types import AgentTracks, Scene, Semantics
from scenarios.agents import scenario_agents
from scenarios.edits import edit_agents, joined, lengthened
from scenarios.ego import EgoPlan, place_of
from scenarios.given import Given, agents_mask, box_mask, cut, instances_mask, read_mask
from scenarios.schema import Agent, Move, Pose, Scenario, Traffic
from scenarios.sources import name_of

MARGIN_M = 1.0


def cast_of(
    scenario: Scenario, scene: Scene | None, plan: EgoPlan, frames: int, padded: int, dt_s: float
) -> tuple[AgentTracks, Given | None]:
    """Everybody but the ego over the padded frames, and what a finished scene contributes to the first `frames`."""
    taken = tuple(scene.agents.id.tolist()) if scene is not None else ()
    own = _placed(scenario, scenario.agents, scenario.traffic, plan, padded, dt_s, taken)
    if scene is None:
        return own, None
    recorded = len(scene.time_s)
    if scenario.continue_from is not None:
        first = max(0, recorded - scenario.continue_from.given_frames)
        index = np.concatenate([np.arange(first, recorded), np.full(padded - (recorded - first), -1)])
        others = lengthened(scene.agents.frames(first, recorded), padded, dt_s)
        return joined(others, own), Given(scene, index)
    index = np.where(np.arange(padded) < frames, np.arange(padded), -1)
    if scenario.outpaint is not None:
        return joined(lengthened(scene.agents, padded, dt_s), own), Given(scene, index)
    others, anew = _edited(scenario, scene, plan, own, dt_s)
    return joined(lengthened(others, padded, dt_s), own), Given(cut(scene, anew), index)


def _placed(
    scenario: Scenario, agents: tuple[Agent, ...], traffic: Traffic | None, plan: EgoPlan, frames: int, dt_s: float,
    taken_ids: tuple[int, ...] = (),
) -> AgentTracks:  # fmt: skip
    """Tracks of agents as the file describes them."""
    crowd = traffic is not None and traffic.vehicles + traffic.bicycles + traffic.pedestrians + traffic.parked > 0
    if not agents and not crowd:
        return AgentTracks.empty(frames)
    poses = plan.world_se3_ego[:frames]
    tracks = scenario_agents(
        agents, traffic if crowd else None, plan.road_map, poses, plan.route_m, dt_s, scenario.seed,
        name_of(scenario), taken_ids,
    )  # fmt: skip
    if plan.road_map is None:  # nothing is known of the ground but where the ego stands
        tracks = replace(tracks, z_m=np.broadcast_to(poses[:, 2, 3].astype(np.float32), tracks.z_m.shape).copy())
    return tracks


def _edited(
    scenario: Scenario, scene: Scene, plan: EgoPlan, own: AgentTracks, dt_s: float
) -> tuple[AgentTracks, NDArray[np.bool_]]:
    """The scene's agents after the edit, and the voxels [T, X, Y, Z] to be made anew."""
    recorded = len(scene.time_s)
    anew = agents_mask(scene, lengthened(own, recorded, dt_s), MARGIN_M)
    others = scene.agents
    if scenario.edit is not None:
        edit = scenario.edit
        taken = (*scene.agents.id.tolist(), *own.id.tolist())
        added = _placed(scenario, edit.add, None, plan, recorded, dt_s, taken)
        moved = {
            move.id: _on_keyframes(scenario, scene, move, plan, dt_s)
            for move in edit.move
            if move.keyframes is not None
        }
        edited = edit_agents(scene, edit, added, moved, name_of(scenario))
        others = edited.agents
        anew |= agents_mask(scene, edited.touched, edit.margin_m)
        anew |= instances_mask(scene, [*(move.id for move in edit.move), *edit.remove])
    if scenario.inpaint is not None:
        anew |= inpaint_mask(scenario, scene)
    if not anew.any():
        raise ScenarioError(
            f"{name_of(scenario)}: scene: nothing of it is changed; add, move or remove agents, or inpaint"
        )
    return others, anew


def _on_keyframes(scenario: Scenario, scene: Scene, move: Move, plan: EgoPlan, dt_s: float) -> AgentTracks:
    """An agent of the scene on another track, of the class and size it had."""
    found = np.flatnonzero(scene.agents.id == move.id)
    if len(found) == 0:
        return AgentTracks.empty(len(scene.time_s))  # edit_agents names the missing id
    class_id, size_m = scene.agents.class_id[found], scene.agents.size_m[found]
    kind = Semantics(int(class_id[0])).name.lower()
    agent = Agent.model_validate(
        {"class": kind if kind in ("bicycle", "pedestrian") else "vehicle", "keyframes": move.keyframes,
         "frame": move.frame}
    )  # fmt: skip
    track = _placed(scenario, (agent,), None, plan, len(scene.time_s), dt_s)
    return replace(track, class_id=class_id, size_m=size_m)


def inpaint_mask(scenario: Scenario, scene: Scene) -> NDArray[np.bool_]:
    """[T, X, Y, Z] voxels of the scene that scenario.inpaint wants made anew."""
    inpaint = scenario.inpaint
    assert inpaint is not None
    name, count = name_of(scenario), len(scene.time_s)
    mask = np.zeros(scene.labels.shape, bool)
    if inpaint.mask is not None:
        mask |= read_mask(scenario.place(inpaint.mask), scene, name)
    for index, box in enumerate(inpaint.boxes):
        place = f"{name}: inpaint.boxes[{index}]"
        pose = Pose(x=box.centre[0], y=box.centre[1], z=box.centre[2], yaw_deg=box.yaw_deg)
        centre, yaw = place_of(pose, box.frame, scene.world_se3_ego[0], place)
        first, last = box.frames or (0, count - 1)
        if first >= count:
            raise ScenarioError(f"{place}.frames: the scene has {count} frames; start earlier")
        for t in range(first, min(last, count - 1) + 1):
            mask[t] |= box_mask(scene, centre, np.array(box.size), float(yaw or 0.0), t)
    return mask if inpaint.regenerate == "inside" else ~mask
