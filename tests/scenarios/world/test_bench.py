"""The benchmark measures what it says, on a world that it finds in a folder."""

from pathlib import Path

import pytest

from dcgen.errors import WorldError
from scenarios.world import bench
from scenarios.world.store import World, save_world

RATES = ("kernel_fps_128", "kernel_fps_200", "end_to_end_fps", "ego_fps_128", "ego_fps_200")


@pytest.fixture
def folder(street: World, tmp_path: Path) -> Path:
    save_world(street, tmp_path / "street")
    return tmp_path / "street"


def test_the_slowest_world_stands_in_front(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CLIPS", 2)
    figures = bench.bench_worlds([folder, folder], seconds=0.01, seed=3)
    assert [each["world"] for each in figures["worlds"]] == ["street", "street"]
    for key in RATES:
        assert figures[key] == min(each[key] for each in figures["worlds"]) > 0
    assert figures["kernel_fps_128"] > figures["ego_fps_128"], "sixteen frames share one static cut"
    assert figures["peak_rss_mb"] > figures["worlds"][0]["tile_mb"] > 0
    lines = figures["linearity"]
    assert all(lines[key] > 0 for key in ("fps_1x_clips", "fps_4x_clips", "fps_a_core_2_processes"))


def test_time_grows_with_the_clips(folder: Path) -> None:
    bench.clip_seconds(folder, 0, 1)
    few, many = (min(bench.clip_seconds(folder, 0, clips) for _ in range(2)) for clips in (3, 24))
    assert 2 * few < many < 32 * few


def test_nothing_to_measure() -> None:
    with pytest.raises(WorldError, match="no worlds to measure"):
        bench.bench_worlds([], 0.01)
