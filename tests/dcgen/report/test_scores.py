"""Scores as files hold them, and files that hold none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dcgen.errors import SceneError
from dcgen.report.scores import MOST_PLANNERS, Scores


@pytest.mark.parametrize("text", ['{"a": ' * 900 + "1" + "}" * 900, "[" * 900 + "]" * 900, '"words"', "{", "\x00"])
def test_what_is_no_table_of_scores_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(SceneError, match=r"s\.json: "):
        Scores.of(tmp_path / "x.h5", path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(SceneError, match="is no file of scores"):
            Scores.of(tmp_path / "x.h5", path)


def test_numbers_that_no_page_can_hold_are_words(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"many": 1' + "0" * 400 + ', "none": NaN, "all": -Infinity, "some": 2.5}')
    found = Scores.of(tmp_path / "x.h5", path).alone[""]
    assert found["some"] == 2.5 and found["none"] == "nan" and found["all"] == "-inf"
    assert isinstance(found["many"], str)


def test_each_planner_has_its_own_figures(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    episodes = [
        {"scene": "x", "planner": planner, "epdms": value, "comfort": {"jerk": 2 * value}}
        for planner, value in (("7", 0.5), ("idm", 0.25), ("7", 0.75))
    ]
    path.write_text(json.dumps({"version": 1, "episodes": [*episodes, {"scene": "x", "distance_m": 31}]}))
    found = Scores.of(tmp_path / "x.h5", path).of_scene("x", alone=True)
    assert [*found] == ["7", "idm", ""] and found[""] == {"distance_m": 31}
    assert found["7"] == {"epdms": 0.75, "comfort: jerk": 1.5} and found["idm"] == {"epdms": 0.25, "comfort: jerk": 0.5}
    path.write_text(json.dumps([{"scene": "x", "planner": f"p{n}", "epdms": 1} for n in range(MOST_PLANNERS + 5)]))
    assert len(Scores.of(tmp_path / "x.h5", path).of_scene("x", alone=True)) == MOST_PLANNERS
