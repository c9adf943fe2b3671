"""Random networks: read back, the same bytes for the same seed, fit for a town; clear words otherwise."""

import numpy as np
import pytest

from dcgen.errors import WorldError
from dcgen.types import Semantics
from scenarios.layout import ROAD, rasterise
from scenarios.world.random_map import KINDS, random_map
from scenarios.world.street_plan import Network, Street, characterise
from scenarios.world.town.town import build_town

sumo = pytest.mark.skipif(not pytest.importorskip("sumo", reason="needs SUMO"), reason="needs SUMO")


@sumo
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_read_and_comes_again(kind: str, tmp_path) -> None:
    road_map = random_map(tmp_path / "a.xodr", 5, kind)
    again = random_map(tmp_path / "b.xodr", 5, kind)
    assert (tmp_path / "a.xodr").read_bytes() == (tmp_path / "b.xodr").read_bytes()
    assert again.lanes.keys() == road_map.lanes.keys() and road_map.name == "a"
    kinds = [lane.kind for lane in road_map.lanes.values()]
    assert kinds.count("sidewalk") > 20 and sum(lane.is_driving for lane in road_map.lanes.values()) > 20
    assert len(road_map.junctions) >= 5 and len(road_map.crosswalks) >= 5
    assert len({lane.speed_limit_mps for lane in road_map.lanes.values() if lane.is_driving}) > 1


@sumo
def test_seeds_and_kinds_differ_and_a_town_grows_on_them(tmp_path) -> None:
    texts = set()
    for seed in range(3):
        road_map = random_map(tmp_path / f"{seed}.xodr", seed)
        texts.add((tmp_path / f"{seed}.xodr").read_bytes())
    assert len(texts) == 3 and len(list(tmp_path.iterdir())) == 3
    raster = rasterise(road_map)
    tile = build_town(road_map, raster, 4)
    assert not (tile.span_class[:, raster.flags[0] & ROAD > 0] > 0).any()
    assert (tile.span_class == Semantics.BUILDING).sum() > 20_000


@sumo
def test_roads_on_hills_have_no_steps(tmp_path) -> None:
    road_map = random_map(tmp_path / "hills.xodr", 2, "spider")
    heights = np.concatenate([lane.centre_m[:, 2] for lane in road_map.lanes.values()])
    assert np.ptp(heights) > 2.0
    raster = rasterise(road_map)
    assert len(raster.flags) == 1, "no street passes over another"
    height, road = raster.height_cm[0].astype(int), raster.flags[0] & ROAD > 0
    for axis in (0, 1):
        step = np.abs(np.diff(height, axis=axis))[np.logical_and(*_both(road, axis))]
        assert step.max() <= 15 and (step > 5).mean() < 0.001


def _both(cells: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    rolled = np.moveaxis(cells, axis, 0)
    return np.moveaxis(rolled[1:], 0, axis), np.moveaxis(rolled[:-1], 0, axis)


@pytest.mark.parametrize(
    ("seed", "kind", "message"),
    [
        (1, "star", "map.kind: 'star'.*grid"),
        (-1, "grid", "map.seed"),
        (1.5, "grid", "map.seed"),
        (True, "grid", "map.seed"),
    ],
)
def test_what_cannot_be_drawn_is_named(seed, kind: str, message: str, tmp_path) -> None:
    with pytest.raises(WorldError, match=message):
        random_map(tmp_path / "x.xodr", seed, kind)
    assert not list(tmp_path.iterdir())


@sumo
def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match=r"x\.xodr: cannot be written"):
        random_map(tmp_path / "file" / "x.xodr", 1, "grid")


def _grid(columns: int, rows: int) -> Network:
    name = {(i, j): f"{chr(65 + i)}{j}" for i in range(columns) for j in range(rows)}
    pairs = [(name[i, j], name[i + 1, j]) for i in range(columns - 1) for j in range(rows)]
    pairs += [(name[i, j], name[i, j + 1]) for i in range(columns) for j in range(rows - 1)]
    return Network.of({label: (100.0 * i, 100.0 * j) for (i, j), label in name.items()}, sorted(pairs))


@pytest.mark.parametrize("seed", range(6))
def test_the_plan_hangs_together_without_dead_ends_or_steep_streets(seed: int) -> None:
    drawn = _grid(5, 4)
    plan = characterise(drawn, "grid", np.random.default_rng(seed))
    assert len(plan.streets) <= len(drawn.streets) and plan.nodes_m.keys() == drawn.nodes_m.keys()
    seen, todo = set(), [plan.streets[0].start]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            ends = [{street.start, street.end} for street in plan.streets if node in (street.start, street.end)]
            assert len(ends) >= 2
            todo += [each for pair in ends for each in pair - {node}]
    assert seen == plan.nodes_m.keys()
    lengths = []
    for street in plan.streets:
        a, b = (np.array(plan.nodes_m[end]) for end in (street.start, street.end))
        lengths.append(np.hypot(*(b - a)[:2]))
        assert abs(b[2] - a[2]) <= 0.05 * lengths[-1]
    assert max(lengths) > 1.2 * min(lengths) > 60


def test_streets_of_one_row_are_alike() -> None:
    plan = characterise(_grid(4, 5), "grid", np.random.default_rng(3))

    def row(street: Street) -> str | None:
        return street.start[1:] if street.start[1:] == street.end[1:] else None

    for name in {row(street) for street in plan.streets} - {None}:
        assert len({street.character for street in plan.streets if row(street) == name}) == 1
    assert len({street.character for street in plan.streets}) > 1
