"""Agents of a finished scene added, moved and removed, and agent tracks joined and lengthened. N agent, T frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dcgen.errors import ScenarioError
from dcgen.types import AgentTracks, Doubles, Scene, wrap_angle
from scenarios.frames import carla_points_to_world
from scenarios.schema import Edit, Move


@dataclass(frozen=True)
class Edited:
    """The agents as they are wanted, and all those, old and new, whose surroundings must be made anew."""

    agents: AgentTracks
    touched: AgentTracks


def edit_agents(scene: Scene, edit: Edit, added: AgentTracks, keyframed: dict[int, AgentTracks], name: str) -> Edited:
    """Apply an edit to the agents of a scene. added: tracks of edit.add; keyframed: of moves with keyframes, by id.

    Raises ScenarioError for an id that the scene does not hold.
    """
    agents = scene.agents
    moves = {move.id: move for move in edit.move}
    for place, ids in (("edit.remove", edit.remove), ("edit.move", tuple(moves))):
        for each in ids:
            if each not in agents.id:
                known = ", ".join(str(i) for i in agents.id[:12]) or "none"
                raise ScenarioError(f"{name}: {place}: the scene has no agent {each}; it has {known}; choose one")
    removed, moved = np.isin(agents.id, edit.remove), np.isin(agents.id, list(moves))
    if np.any(removed & moved):
        both = agents.id[removed & moved][0]
        raise ScenarioError(f"{name}: edit: agent {both} is both moved and removed; keep one")
    tracks = [agents.select(~removed & ~moved)]
    changed = [agents.select(removed | moved), added]
    for n in np.flatnonzero(moved):
        one = agents.select(np.arange(len(agents.id)) == n)
        move = moves[int(agents.id[n])]
        new = _shifted(one, move, scene) if move.by is not None else replace(keyframed[move.id], id=one.id)
        tracks.append(new)
        changed.append(new)
    return Edited(joined(*tracks, added), joined(*changed))


def _shifted(one: AgentTracks, move: Move, scene: Scene) -> AgentTracks:
    assert move.by is not None
    by: Doubles = np.array(move.by, np.float64)
    turn = float(np.radians(move.turn_deg))
    if move.frame == "carla":
        by, turn = carla_points_to_world(by), -turn
    elif move.frame == "ego":
        by = scene.world_se3_ego[0][:2, :2] @ by
    pose = one.pose.copy()
    pose[..., :2] += by
    pose[..., 2] = wrap_angle(pose[..., 2] + turn)
    return replace(one, pose=pose)


def joined(*tracks: AgentTracks) -> AgentTracks:
    """All agents together; later ones get a new id where theirs is taken."""
    frames = tracks[0].valid.shape[1]
    full = [track for track in tracks if len(track.id)]
    if not full:
        return AgentTracks.empty(frames)
    taken: set[int] = set()
    ids = []
    for value in np.concatenate([track.id for track in full]).tolist():
        new = value if value not in taken else max(taken) + 1
        taken.add(new)
        ids.append(new)
    names = ("class_id", "size_m", "pose", "z_m", "speed_mps", "valid")
    return AgentTracks(
        np.array(ids, np.int64), *(np.concatenate([getattr(track, name) for track in full]) for name in names)
    )


def lengthened(agents: AgentTracks, frames: int, dt_s: float) -> AgentTracks:
    """The agents over that many frames, going on straight at their last speed where the tracks end."""
    have = agents.valid.shape[1]
    if have >= frames:
        return agents.frames(0, frames)
    ahead = np.arange(1, frames - have + 1) * dt_s
    last = agents.pose[:, -1]
    step = agents.speed_mps[:, -1, None] * ahead
    x = last[:, 0, None] + np.cos(last[:, 2, None]) * step
    y = last[:, 1, None] + np.sin(last[:, 2, None]) * step
    more = np.stack([x, y, np.repeat(last[:, 2, None], len(ahead), axis=1)], axis=2)

    def held(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.repeat(values[:, -1:], len(ahead), axis=1)], axis=1)

    return AgentTracks(
        agents.id, agents.class_id, agents.size_m, np.concatenate([agents.pose, more], axis=1),
        held(agents.z_m), held(agents.speed_mps), held(agents.valid),
    )  # fmt: skip
