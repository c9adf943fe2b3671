"""What a seed and a style make of a map before anything is built: blocks with their zones, and parking lots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scenarios.layout import RoadRaster
from scenarios.roadmap import RoadMap
from scenarios.world.town.blocks import Blocks, find_blocks
from scenarios.world.town.parking_lots import ParkingLot, plan_lots
from scenarios.world.town.style import TownStyle


@dataclass(frozen=True)
class TownPlan:
    blocks: Blocks
    lots: tuple[ParkingLot, ...]


def plan_town(road_map: RoadMap, raster: RoadRaster, seed: int, style: TownStyle) -> TownPlan:
    """The same for the town and for its parked cars."""
    blocks = find_blocks(road_map, raster, style, np.random.default_rng(seed))
    return TownPlan(blocks, plan_lots(blocks, raster, style))
