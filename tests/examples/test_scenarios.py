"""Who stands where in the example scenarios: nobody in the ego, and people on the sidewalk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcgen.types import LAYOUT_CHANNELS, Scene, Semantics
from scenarios.compile import CompiledScenario, compile_scenario
from scenarios.layout import SIDEWALK
from scenarios.schema import load_scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EGO_M = np.array([4.6, 1.9])


def gap_m(made: CompiledScenario) -> np.ndarray:
    """[N, F] metres between the ego's box and a circle around the width of everybody's box, along its own axis."""
    away = np.full(made.agents.valid.shape, np.inf)
    for n, t in np.argwhere(made.agents.valid):
        x, y, yaw = made.agents.pose[n, t]
        length, width, _ = made.agents.size_m[n]
        along = np.linspace(-length / 2, length / 2, 9)
        points = np.stack([x + along * np.cos(yaw), y + along * np.sin(yaw), 0 * along, 1 + 0 * along])
        local = np.abs((np.linalg.inv(made.world_se3_ego[t]) @ points)[:2].T) - EGO_M / 2
        away[n, t] = np.linalg.norm(np.maximum(local, 0.0), axis=1).min() - width / 2
    return away


def test_nobody_drives_into_the_ego_of_the_examples() -> None:
    made = compile_scenario(load_scenario(EXAMPLES / "layout.yaml"))
    walker = np.flatnonzero(made.agents.class_id == Semantics.PEDESTRIAN)
    assert gap_m(made).min() > 0.5 and len(walker) == 1 and made.raster is not None
    for x, y, _ in made.agents.pose[walker[0]]:
        i, j = np.floor((np.array([x, y]) - made.raster.origin_m) / made.raster.cell_m).astype(int)
        assert (made.raster.flags[:, i, j] & SIDEWALK).any(), (x, y)
    frames, shape = made.frames, made.grid.shape
    scene = Scene(
        np.zeros((frames, *shape), np.uint8), made.grid, made.dt_s * np.arange(frames), made.world_se3_ego, made.agents,
        np.zeros((frames, 3), np.float32), np.ones(frames, np.int8),
        np.zeros((frames, len(LAYOUT_CHANNELS), *shape[:2]), np.float16), np.zeros((frames, *shape), bool),
    )  # fmt: skip
    edit = load_scenario(EXAMPLES / "edit_agents.yaml").model_copy(update={"scene": "layout.h5"})
    edited = compile_scenario(edit, scene)
    assert len(edited.agents.id) == len(made.agents.id) and gap_m(edited).min() > 0.5
