"""The figures of a found motion: of a street's world, on the command line, and refused where nothing is asked of."""

import json
from pathlib import Path

import pytest

from scenarios.layout import rasterise
from scenarios.world.store import assemble_world, save_world
from tests.conftest import Run, refused
from tests.scenarios.world.conftest import street_map, street_traffic


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    road_map = street_map()
    world = assemble_world(road_map, rasterise(road_map), street_traffic(), 0)
    path = tmp_path_factory.mktemp("worlds") / "street"
    save_world(world, path)
    return path


def test_a_street_s_road_users_are_found(run: Run, folder: Path) -> None:
    command = ["bench", "instances", "--world", folder, "--grid", "48x40x8@0.4", "--clips", 2, "--frames", 6]
    result = json.loads(run(*command, "--json").out)
    assert [row["ego_centred"] for row in result["rows"]] == [False, True] and result["grid"]["shape"] == [48, 40, 8]
    for row in result["rows"]:
        assert row["objects"] > 0 and row["idf1"] > 0.8 and row["flow_median_mps"] < 1.0 and row["mota"] <= 1
    again = run(*command)
    assert again.code == 0 and f"| {result['rows'][0]['idf1']} |" in again.out and "ego-centred" in again.out


def test_what_names_no_world_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.xodr").write_text("no map")
    for arguments in ([], ["--map", tmp_path / "x.xodr", "--world", folder]):
        assert "give either --map" in refused(run, tmp_path, "bench", "instances", *arguments)
    assert "x.xodr" in refused(run, tmp_path, "bench", "instances", "--map", tmp_path / "x.xodr")
    assert "none" in refused(run, tmp_path, "bench", "instances", "--world", tmp_path / "none")
    assert "--grid" in refused(run, tmp_path, "bench", "instances", "--world", folder, "--grid", "8x8")
