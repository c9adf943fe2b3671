"""Scores as files hold them, and files that hold none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dcgen.errors import SceneError
from dcgen.report.scores import Scores


@pytest.mark.parametrize("text", ['{"a": ' * 900 + "1" + "}" * 900, "[" * 900 + "]" * 900, '"words"', "{", "\x00"])
def test_what_is_no_table_of_scores_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(SceneError, match="s.json: "):
        Scores.of(tmp_path / "x.h5", path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(SceneError, match="is no file of scores"):
            Scores.of(tmp_path / "x.h5", path)


def test_numbers_that_no_page_can_hold_are_words(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"many": 1' + "0" * 400 + ', "none": NaN, "all": -Infinity, "some": 2.5}')
    found = Scores.of(tmp_path / "x.h5", path).alone
    assert found["some"] == 2.5 and found["none"] == "nan" and found["all"] == "-inf"
    assert isinstance(found["many"], str)
