"""How `dcgen rollout` ends: its exit code tells a planner that failed from one that drove."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcgen.scene_file import load_scene, save_scene
from tests.bridges.rollout.small_worlds import scene_of
from tests.conftest import Run

ODD = Path(__file__).resolve().parents[1] / "rollout" / "odd_planners.py"


@pytest.mark.parametrize(("planner", "code"), [("Raises", 3), ("Steady", 0)])
def test_a_planner_that_failed_is_told_by_the_exit_code(planner: str, code: int, run: Run, tmp_path: Path) -> None:
    source, output = save_scene(scene_of(frames=3), tmp_path / "street.h5"), tmp_path / "driven.h5"
    result = run("rollout", source, "--planner", f"{ODD}:{planner}", "-o", output)
    assert result.code == code and ("failed: raised KeyError" in result.out) == (code == 3), result
    assert str(output) in result.out and len(load_scene(output).time_s) >= 1 and "error" not in result.err
