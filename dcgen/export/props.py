"""What is drawn beside the voxels: the ego and its path, agents' boxes, the layout, the sky. N agent, P path point."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dcgen.export.frame import EGO_SIZE_M, Frame, corners_m
from dcgen.export.look import Look, id_colour
from dcgen.export.mesh import Colour, Mesh, beams, box_mesh, empty, flat_quads, join, quads
from dcgen.types import LAYOUT_CHANNELS, PALETTE, Command, Doubles, Floats, Semantics

EGO_COLOUR: Colour = (255, 96, 40)
PATH_COLOUR: Colour = (255, 170, 60)
MIST: Colour = (226, 231, 237)
# In pictures and on pages alike, under white letters.
COMMAND_COLOURS: dict[Command, Colour] = {
    Command.STATIC: (125, 134, 152),
    Command.FORWARD: (47, 158, 107),
    Command.LEFT: (224, 138, 0),
    Command.RIGHT: (124, 92, 255),
}
_UNMAPPED = (219, 222, 217)
# How each channel of a layout is drawn, over those before it.
_INK: dict[str, Colour] = {
    "road": (104, 101, 116),
    "junction": (128, 116, 140),
    "sidewalk": (205, 164, 202),
    "crosswalk": (240, 240, 240),
    "marking": (252, 250, 240),
    "route": PATH_COLOUR,
    "vehicle": tuple(PALETTE[Semantics.VEHICLE].tolist()),
    "bicycle": tuple(PALETTE[Semantics.BICYCLE].tolist()),
    "pedestrian": tuple(PALETTE[Semantics.PEDESTRIAN].tolist()),
}
_WEIGHT = {"junction": 0.6, "route": 0.55}
_SKY = ((0.0, MIST), (3.0, (222, 231, 241)), (14.0, (196, 216, 238)), (40.0, (150, 187, 228)), (90.0, (122, 166, 217)))
_SKY_M = 900.0
_ROOM_M, _BEAM_M = 0.3, 0.15  # around an agent, for its box to be seen; and how thick that is drawn
_AROUND = 48  # corners of the horizon


def height_at(frame: Frame, top: Floats, xy_m: Doubles) -> Floats:
    """[P] surface height below points; points outside take the border's."""
    cell = np.floor((xy_m - frame.grid.origin_m[:2]) / np.asarray(frame.grid.voxel_m[:2])).astype(np.int64)
    cell = np.clip(cell, 0, np.array(frame.grid.shape[:2]) - 1)
    return np.asarray(top[cell[:, 0], cell[:, 1]])


def ego_mesh(ground_m: float) -> Mesh:
    """A car's hull and cabin."""
    length, width, height = EGO_SIZE_M
    hull = box_mesh(
        np.array([-length / 2, -width / 2, ground_m + 0.2]),
        np.array([length / 2, width / 2, ground_m + 0.55 * height]),
        EGO_COLOUR,
        taper=0.97,
    )
    cabin = box_mesh(
        np.array([-length * 0.4, -width * 0.46, ground_m + 0.55 * height]),
        np.array([length * 0.22, width * 0.46, ground_m + height]),
        (255, 226, 205),
        taper=0.8,
    )
    return join([hull, cabin])


def path_mesh(frame: Frame, top: Floats) -> Mesh:
    """A ribbon over the ground along the path to come, cut at the grid's border."""
    low = np.asarray(frame.grid.origin_m[:2])
    high = low + np.asarray(frame.grid.extent_m[:2])
    points = resample(frame.path_m[frame.ahead], 0.4)
    points = points[((points > low + 0.3) & (points < high - 0.3)).all(axis=1)]
    if len(points) < 2:
        return empty()
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = 0.35 * np.column_stack([-along[:, 1], along[:, 0]])
    z = height_at(frame, top, points) + 0.06
    left, right = np.column_stack([points + across, z]), np.column_stack([points - across, z])
    corners = np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=1)
    return flat_quads(corners, np.tile(np.array(PATH_COLOUR, np.uint8), (len(corners), 1)))


def resample(points_m: Doubles, step_m: float) -> Doubles:
    """[P, 2] points of a polyline every `step_m`; a standing path stays one point."""
    if len(points_m) < 2:
        return points_m
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_m, axis=0), axis=1))])
    at = np.arange(0.0, s[-1] + 1e-9, step_m)
    return np.column_stack([np.interp(at, s, points_m[:, 0]), np.interp(at, s, points_m[:, 1])])


def boxes_mesh(frame: Frame, look: Look) -> Mesh:
    """Frames around the agents in the grid whose class is shown, with a wedge on the roof that points ahead."""
    agents = frame.agents
    low = np.asarray(frame.grid.origin_m[:2])
    inside = ((agents.pose[:, :2] >= low) & (agents.pose[:, :2] < low + frame.grid.extent_m[:2])).all(axis=1)
    rows = np.flatnonzero(inside & np.isin(agents.class_id, sorted(look.classes)))
    if not len(rows):
        return empty()
    ground = np.stack([corners_m(agents.size_m[n] + _ROOM_M, agents.pose[n]) for n in rows])  # [N, 4, 2]
    base, roof = agents.base_m[rows] + 0.08, agents.base_m[rows] + agents.size_m[rows, 2] + _ROOM_M
    floor = np.concatenate([ground, np.broadcast_to(base[:, None, None], (*ground.shape[:2], 1))], axis=2)
    lid = np.concatenate([ground, np.broadcast_to(roof[:, None, None], (*ground.shape[:2], 1))], axis=2)
    middle = lid.mean(axis=1)
    edges = [(ring[:, k], ring[:, (k + 1) % 4]) for ring in (floor, lid) for k in range(4)]
    edges += [(floor[:, k], lid[:, k]) for k in range(4)]
    edges += [(lid[:, 0], middle), (lid[:, 1], middle)]
    colours = np.array([box_colour(look, int(agents.class_id[n]), int(agents.id[n])) for n in rows], np.uint8)
    start, end = (np.concatenate([edge[side] for edge in edges]) for side in (0, 1))
    return beams(start, end, _BEAM_M, np.tile(colours, (len(edges), 1)))


def box_colour(look: Look, class_id: int, number: int) -> Colour:
    """Paler than what it stands around."""
    base = id_colour(number) if look.colour == "instance" else tuple(PALETTE[class_id].tolist())
    r, g, b = (round(0.5 * c + 0.5 * 255) for c in base)
    return (r, g, b)


def layout_colours(layout: NDArray[np.float16]) -> NDArray[np.uint8]:
    """[X, Y, 3] a layout [C, X, Y] as a map."""
    seen = np.broadcast_to(np.array(_UNMAPPED, np.float32), (*layout.shape[1:], 3)).copy()
    for name, ink in _INK.items():
        share = np.clip(layout[LAYOUT_CHANNELS.index(name)].astype(np.float32), 0, 1) * _WEIGHT.get(name, 1.0)
        seen += share[..., None] * (np.array(ink, np.float32) - seen)
    return seen.astype(np.uint8)


def layout_mesh(frame: Frame, top: Floats) -> Mesh:
    """The layout as a cloth over the surface: a cell a quad, corners at the mean height of the cells around."""
    if frame.layout is None:
        return empty()
    x, y, _ = frame.grid.shape
    around = np.pad(top, 1, mode="edge")
    corner_z = (around[:-1, :-1] + around[1:, :-1] + around[:-1, 1:] + around[1:, 1:]) / 4  # [X + 1, Y + 1]
    low, edge = np.asarray(frame.grid.origin_m), frame.grid.voxel_m
    at_x, at_y = low[0] + edge[0] * np.arange(x + 1), low[1] + edge[1] * np.arange(y + 1)
    net = np.stack([*np.meshgrid(at_x, at_y, indexing="ij"), corner_z], axis=-1).astype(np.float32)
    corners = np.stack([net[:-1, :-1], net[1:, :-1], net[1:, 1:], net[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    return flat_quads(corners, layout_colours(frame.layout).reshape(-1, 3))


def sky_mesh(ground_m: float) -> Mesh:
    """A plain of mist out to the horizon, and a sky over it."""
    turn = np.linspace(0, 2 * np.pi, _AROUND + 1)
    rings, colours = [np.zeros((_AROUND + 1, 3)) + [0, 0, ground_m - 0.02]], [MIST]
    for elevation_deg, colour in _SKY:
        up = np.radians(elevation_deg)
        out, z = _SKY_M * np.cos(up), ground_m - 0.02 + _SKY_M * np.sin(up)
        rings.append(np.column_stack([out * np.cos(turn), out * np.sin(turn), np.full(_AROUND + 1, z)]))
        colours.append(colour)
    corners = [np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1) for low, high in pairwise(rings)]
    shades = [np.tile(np.array([low, low, high, high], np.uint8), (_AROUND, 1, 1)) for low, high in pairwise(colours)]
    return quads(np.concatenate(corners).astype(np.float32), np.concatenate(shades))
