"""A seeded procedural town on a road map: terrain, blocks, buildings, greenery, street furniture and parked cars."""

from __future__ import annotations

import numpy as np

from scenarios.layout import RoadRaster
from scenarios.roadmap import RoadMap
from scenarios.world.blocks import find_blocks
from scenarios.world.canvas import Canvas
from scenarios.world.furniture import furnish
from scenarios.world.lots import build_lots, plant_open_land
from scenarios.world.terrain import terrain_cm
from scenarios.world.tile import TownTile


def build_town(road_map: RoadMap, raster: RoadRaster, seed: int) -> TownTile:
    """The town that this seed grows on the map. Surfaces are the raster's own; nothing stands on a road."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(raster, terrain_cm(raster))
    blocks = find_blocks(road_map, canvas, rng)
    build_lots(blocks, canvas)
    furnish(blocks, road_map, canvas)
    plant_open_land(blocks, canvas, rng)
    return canvas.tile()
