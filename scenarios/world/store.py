"""A world: a town, its roads, its traffic and its parked cars; built from a map, kept in a folder."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.errors import MapError, WorldError
from dcgen.types import AgentTracks
from scenarios.layout import MARGIN_M, RoadRaster, rasterise
from scenarios.road_cache import load_map, save_map
from scenarios.roadmap import RoadMap
from scenarios.roads import read_map
from scenarios.world.town.parked import park_cars
from scenarios.world.town.style import TownStyle
from scenarios.world.town.tile import TownTile, load_arrays, load_tile, save_arrays, save_tile
from scenarios.world.town.town import build_town
from scenarios.world.traffic.clearance import clear_of_traffic, clear_paths
from scenarios.world.traffic.log import TrafficLog, load_traffic, save_traffic
from scenarios.world.traffic.simulate import simulate
from scenarios.world.traffic.spec import TrafficSpec

TRAFFIC_S = 300.0
MOST_M2 = 4e6  # 100 million cells, 2 GB
_FILES = ("roads.npz", "tile.npz", "raster.npz", "traffic.npz", "world.npz")
_PARKED = ("id", "class_id", "size_m", "pose", "z_m", "speed_mps", "valid")


@dataclass(frozen=True, eq=False)
class World:
    """Everything clips are cut from. `parked` are agents of one frame, for all times."""

    name: str
    seed: int
    tile: TownTile
    raster: RoadRaster
    road_map: RoadMap
    traffic: TrafficLog
    parked: AgentTracks
    made_from: dict[str, Any] = field(default_factory=dict)  # the town's style, the traffic's spec and its seconds

    def __post_init__(self) -> None:
        if self.parked.valid.shape[1] != 1:
            raise ValueError(f"world.parked needs agents of one frame, got {self.parked.valid.shape[1]}")


def build_world(
    map_path: Path,
    out_dir: Path,
    seed: int = 0,
    traffic_seconds: float = TRAFFIC_S,
    style: TownStyle | None = None,
    traffic: TrafficSpec | None = None,
    over: bool = False,
) -> World:
    """Build a world from an OpenDRIVE map and keep it in out_dir; over: also where another one is.

    Raises MapError, WorldError, MissingExtra.
    """
    if not over and (Path(out_dir) / "world.npz").exists():
        raise WorldError(f"{out_dir}: holds a world already; remove it, or choose another folder")
    style, traffic = style or TownStyle(), traffic or TrafficSpec()
    road_map = read_map(Path(map_path))
    x0, y0, x1, y1 = road_map.bounds_m
    if (x1 - x0 + 2 * MARGIN_M) * (y1 - y0 + 2 * MARGIN_M) > MOST_M2:
        raise MapError(
            f"{map_path}: spans {x1 - x0:.0f} x {y1 - y0:.0f} m, a town at most {MOST_M2 / 1e6:g} km2; cut the map down"
        )
    _make_folder(out_dir)
    try:
        raster = rasterise(road_map)
        log = simulate(Path(map_path), seed, traffic_seconds, traffic)
        made_from = {"style": style.to_dict(), "traffic": traffic.to_dict(), "seconds": traffic_seconds}
        world = dataclasses.replace(assemble_world(road_map, raster, log, seed, style), made_from=made_from)
        save_world(world, out_dir)
    except BaseException:
        with suppress(OSError):  # there is something else in it
            Path(out_dir).rmdir()
        raise
    return world


def _make_folder(folder: Path) -> None:
    """Raises WorldError where nothing can be kept: better before minutes of simulation than after."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WorldError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error


def assemble_world(
    road_map: RoadMap, raster: RoadRaster, traffic: TrafficLog, seed: int, style: TownStyle | None = None
) -> World:
    """A world around a traffic log: the town of this seed, and parked cars where nobody drives."""
    tile = clear_paths(build_town(road_map, raster, seed, style), traffic)
    parked = clear_of_traffic(park_cars(road_map, raster, seed, style), traffic)
    heights = tile.ground_z_m(parked.pose[..., :2], parked.z_m)
    parked = dataclasses.replace(parked, z_m=heights.astype(np.float32))
    return World(road_map.name, seed, tile, raster, road_map, traffic, parked)


def save_world(world: World, folder: Path) -> None:
    """Write the world's files, each whole or not at all; world.npz, which marks it complete, last."""
    folder = Path(folder)
    _make_folder(folder)
    try:
        (folder / "world.npz").unlink(missing_ok=True)
        _save_parts(world, folder)
    except BaseException as error:
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise WorldError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error


def _save_parts(world: World, folder: Path) -> None:
    save_map(world.road_map, folder / "roads.npz")
    save_tile(world.tile, folder / "tile.npz")
    raster = world.raster
    head = {
        "format": "dcgen-raster", "version": 1, "origin_m": [float(v) for v in raster.origin_m],
        "cell_m": float(raster.cell_m), "z0_m": float(raster.z0_m),
    }  # fmt: skip
    save_arrays(folder / "raster.npz", head, {"flags": raster.flags, "height_cm": raster.height_cm})
    save_traffic(world.traffic, folder / "traffic.npz")
    parked = {name: getattr(world.parked, name) for name in _PARKED}
    about = {"name": world.name, "seed": world.seed, "made_from": world.made_from}
    save_arrays(folder / "world.npz", {"format": "dcgen-world", "version": 1, **about}, parked)


def load_world(folder: Path) -> World:
    """Read a world back. Raises WorldError naming the file that is missing or damaged."""
    folder = Path(folder)
    if not all((folder / name).is_file() for name in _FILES):
        raise WorldError(f"{folder}: holds no finished world; build it with `dcgen world build MAP`")
    head, parked = load_arrays(folder / "world.npz", "dcgen-world", 1, _PARKED)
    raster_head, raster = load_arrays(folder / "raster.npz", "dcgen-raster", 1, ("flags", "height_cm"))
    try:
        return World(
            str(head["name"]),
            int(head["seed"]),
            load_tile(folder / "tile.npz"),
            RoadRaster(
                np.array(raster_head["origin_m"], np.float64),
                float(raster_head["cell_m"]),
                raster["flags"],
                raster["height_cm"],
                float(raster_head["z0_m"]),
            ),
            load_map(folder / "roads.npz"),
            load_traffic(folder / "traffic.npz"),
            AgentTracks(**parked),
            dict(head.get("made_from", {})),
        )
    except WorldError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise their own on a damaged file
        raise WorldError(f"{folder}: damaged world ({error}); build it again") from error
