"""One command measures cores and, where there is one, the GPU; the CPU stands in for it here."""

from pathlib import Path

import pytest

from bridges import bench


@pytest.mark.slow
def test_a_world_of_the_library_is_built_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("libsumo", reason="needs SUMO")
    pytest.importorskip("carla", reason="needs carla.Map")
    seen: list[Path] = []

    def columns(folder: Path, seconds: float, seed: int) -> dict:
        seen.append(folder)
        return bench.bench_columns(folder, "cpu", seconds, seed, batch=3)

    monkeypatch.setattr("scenarios.world.bench.CLIPS", 2)
    monkeypatch.setattr(bench, "OWN_TRAFFIC_S", 15.0)
    monkeypatch.setattr(bench, "_gpu", columns)
    figures = bench.bench_worlds(None, seconds=0.01, seed=1)
    assert figures["kernel_fps_128"] > 0 and figures["kernel_fps_200"] > 0 and figures["end_to_end_fps"] > 0
    assert figures["gpu"]["columns_fps_128"] > 0 and figures["gpu"]["device"] == "cpu"
    assert "cores" in figures["hardware"] and figures["dcgen"]
    assert not seen[0].exists(), "the world built for it goes again"
