"""Which chunks make a scene, and the moments just before it. F frame of the scene, T frame of a chunk, N agent.

A chunk's grid stands at its middle pose, so a frame is seen whole only where that pose is near. Chunks are therefore
anchored at the first frame, at the last one and evenly between; what they cover beyond the scene is context.
"""

from __future__ import annotations

import numpy as np

from dcgen.types import AgentTracks, Doubles


def chunk_starts(frames: int, chunk_frames: int, overlap: int) -> tuple[int, ...]:
    """First frame of each chunk, the first of them below 0: anchors at most chunk_frames - overlap apart."""
    steps = -(-(frames - 1) // (chunk_frames - overlap))
    anchors = np.rint(np.linspace(0, frames - 1, steps + 1)).astype(int)
    return tuple(int(anchor) - chunk_frames // 2 for anchor in anchors)


def poses_before(world_se3_ego: Doubles, lead: int) -> Doubles:
    """[lead + F, 4, 4] the poses with `lead` more before them: the first step (straight or an arc), taken backwards."""
    back = np.linalg.inv(world_se3_ego[1]) @ world_se3_ego[0]
    before = [world_se3_ego[0]]
    for _ in range(lead):
        before.append(before[-1] @ back)
    return np.concatenate([np.stack(before[:0:-1]), world_se3_ego])


def agents_before(agents: AgentTracks, lead: int, dt_s: float) -> AgentTracks:
    """The agents over lead + F frames, moving straight on at their first speeds before the first frame."""
    back = np.arange(lead, 0, -1) * dt_s
    first = agents.pose[:, :1]
    pose = np.repeat(first, lead, axis=1)
    way = agents.speed_mps[:, :1] * back
    pose[..., 0] -= way * np.cos(first[..., 2])
    pose[..., 1] -= way * np.sin(first[..., 2])

    def longer(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.repeat(values[:, :1], lead, axis=1), values], axis=1)

    return AgentTracks(
        agents.id,
        agents.class_id,
        agents.size_m,
        np.concatenate([pose, agents.pose], axis=1),
        longer(agents.z_m),
        longer(agents.speed_mps),
        longer(agents.valid),
    )
