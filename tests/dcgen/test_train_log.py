"""A run's log: what is no line of it is left out, whatever was written there."""

import json

import pytest

from dcgen.train_log import Log

GOOD = [{"step": 20, "loss": 0.5}, {"step": 40, "loss": 0.25}]


@pytest.mark.parametrize(
    "odd", [b"5", b'{"loss": 1}', b'{"step": "a"}', b'{"step": 9, "loss": [1]}', b"\xff\xfe", b"[" * 99999]
)
def test_a_line_that_is_none_is_left_out(tmp_path, odd):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([json.dumps(GOOD[0]).encode(), odd, json.dumps(GOOD[1]).encode(), b'{"step": 60}']))
    log = Log(tmp_path, start=40, steps=100, every=20)
    log.draw()
    assert [json.loads(line) for line in path.read_text().splitlines()] == GOOD
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.jsonl", "log.png"]
