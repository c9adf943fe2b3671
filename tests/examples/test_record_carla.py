"""The recording example, called wrongly, says how it is used."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "record_carla.py"


@pytest.mark.parametrize("words", [[], ["folder", "host", "more"]])
def test_a_wrong_use_is_one_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *words])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().err == "usage: python examples/record_carla.py FOLDER [HOST]\n"
