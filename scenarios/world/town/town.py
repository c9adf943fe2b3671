"""A seeded procedural town on a road map: terrain, blocks, buildings, greenery, street furniture and parking lots."""

from __future__ import annotations

from scenarios.layout import RoadRaster
from scenarios.roadmap import RoadMap
from scenarios.world.town.canvas import Canvas
from scenarios.world.town.decks import furnish_decks, level_below
from scenarios.world.town.furniture import furnish, place_signals
from scenarios.world.town.greenery import plant_open_land
from scenarios.world.town.lots import build_lots
from scenarios.world.town.medians import furnish_medians
from scenarios.world.town.parking_lots import fence_lots, pave_lots
from scenarios.world.town.plan import plan_town
from scenarios.world.town.style import TownStyle, mixed
from scenarios.world.town.terrain import terrain_cm
from scenarios.world.town.tile import TownTile


def build_town(road_map: RoadMap, raster: RoadRaster, seed: int, style: TownStyle | None = None) -> TownTile:
    """The town that this seed and style (mixed() unless given) grow on the map.

    Surfaces are the raster's own; nothing stands on a road, and every solid lies above its ground.
    """
    style = style or mixed()
    plan = plan_town(road_map, raster, seed, style)
    canvas = Canvas(raster, terrain_cm(raster))
    level_below(canvas)
    pave_lots(plan.lots, canvas)
    place_signals(road_map, canvas)
    build_lots(plan.blocks, canvas, style)
    fence_lots(plan.lots, canvas, style)
    furnish(plan.blocks, canvas, style)
    furnish_medians(plan.blocks, road_map, canvas, style)
    furnish_decks(canvas)
    plant_open_land(plan.blocks, canvas, style)
    return canvas.tile()
