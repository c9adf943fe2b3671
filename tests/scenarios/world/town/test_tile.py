"""Tiles: shapes are checked, files come back equal, broken files are named."""

import dataclasses

import numpy as np
import pytest

from dcgen.errors import WorldError
from scenarios.world.store import World
from scenarios.world.town.tile import load_tile, save_tile


def test_a_saved_tile_comes_back_equal(street: World, tmp_path) -> None:
    save_tile(street.tile, tmp_path / "tile.npz")
    again = load_tile(tmp_path / "tile.npz")
    for field in dataclasses.fields(again):
        assert np.array_equal(getattr(again, field.name), getattr(street.tile, field.name)), field.name
    assert [path.name for path in tmp_path.iterdir()] == ["tile.npz"]


def test_a_tile_checks_its_shapes(street: World) -> None:
    with pytest.raises(ValueError, match="span_lo_cm"):
        dataclasses.replace(street.tile, span_lo_cm=street.tile.span_lo_cm[:, :-1])
    with pytest.raises(ValueError, match="surface_cm"):
        dataclasses.replace(street.tile, surface_cm=street.tile.surface_cm.astype(np.int32))


@pytest.mark.parametrize("keep", [0, 10, 500, -20])
def test_a_damaged_file_is_named(street: World, tmp_path, keep: int) -> None:
    path = tmp_path / "tile.npz"
    save_tile(street.tile, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WorldError, match=r"tile\.npz"):
        load_tile(path)


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(WorldError, match="no such file"):
        load_tile(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", head=np.frombuffer(b'{"format": "x"}', np.uint8))
    with pytest.raises(WorldError, match="not a dcgen-tile"):
        load_tile(tmp_path / "other.npz")


def test_the_ground_follows_the_level_near_the_height(street: World) -> None:
    tile = street.tile
    deck = np.zeros_like(tile.surface_class)
    deck[0, :400] = 6
    two = dataclasses.replace(
        tile,
        surface_class=np.concatenate([tile.surface_class, deck]),
        surface_cm=np.concatenate([tile.surface_cm, np.full_like(tile.surface_cm, 700)]),
    )
    at = np.array([[20.0, 0.0], [150.0, 0.0]])
    assert two.ground_z_m(at, np.array([6.5, 6.5])) == pytest.approx([7.0, 3.0], abs=0.05)
    assert two.ground_z_m(at, np.array([0.2, 2.0])) == pytest.approx([0.4, 3.0], abs=0.05)
