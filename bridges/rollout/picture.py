"""An episode from above: the road, what stands on it, everybody's ways, and where the ego ran into something.

North is up: x of the world to the right, y upwards. A/B cell of the picture.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bridges.episode import Episode
from bridges.scoring import Contact
from dcgen.types import MOVABLE, PALETTE, SURFACES, UNKNOWN, Doubles, Scene, Semantics

MARGIN_M, LEAST_SPAN_M = 14.0, 48.0
MOST_PX, FINE = 640, 2  # drawn FINE times larger and shrunk, for smooth lines
EVERY_S = 1.0  # between the boxes of the ego that are drawn
UNKNOWN_RGB, GROUND_RGB, ROAD_RGB = (228, 228, 232), (246, 246, 243), (208, 208, 213)
REFERENCE_RGB, EGO_RGB, CONTACT_RGB = (70, 120, 220), (235, 110, 20), (215, 20, 40)
COLOURS = 96  # of the finished picture, which makes it a third as large


def picture(episode: Episode, scene: Scene, contacts: tuple[Contact, ...]) -> bytes:
    """A PNG of an episode and of the scene [T, X, Y, Z] that the ego saw."""
    page = _Page(episode)
    page.ground(episode, scene)
    page.line(episode.reference, REFERENCE_RGB, 0.5)
    page.agents(episode)
    page.line(episode.ego, EGO_RGB, 0.5)
    every = max(1, round(EVERY_S / episode.dt_s))
    for t in [*range(0, len(episode.ego) - 1, every), len(episode.ego) - 1]:
        last = t == len(episode.ego) - 1
        page.box(episode.ego[t], episode.ego_size_m, EGO_RGB if last else None, (120, 50, 0))
    for contact in contacts:
        page.ring(episode.ego[min(contact.frame, len(episode.ego) - 1)], 3.4 if contact.at_fault else 2.6)
    return page.png()


class _Page:
    """A picture of a square of the world."""

    def __init__(self, episode: Episode) -> None:
        line = np.concatenate([episode.ego[:, :2], episode.reference[:, :2]])
        low, high = line.min(axis=0) - MARGIN_M, line.max(axis=0) + MARGIN_M
        missing = np.maximum(0.0, LEAST_SPAN_M - (high - low)) / 2
        self.low, self.high = low - missing, high + missing
        self.scale = FINE * MOST_PX / float((self.high - self.low).max())
        size = np.maximum(1, np.round((self.high - self.low) * self.scale)).astype(int)
        self.image = Image.new("RGB", (int(size[0]), int(size[1])), UNKNOWN_RGB)
        self.draw = ImageDraw.Draw(self.image)

    def pixels(self, points_m: Doubles) -> list[tuple[float, float]]:
        away = (points_m[:, :2] - self.low) * self.scale
        return [(float(x), float(self.image.height - y)) for x, y in away]

    def ground(self, episode: Episode, scene: Scene) -> None:
        """Road and ground of the road field, and the columns in which something stands."""
        road = episode.road
        size = np.ceil((self.high - self.low) / road.cell_m).astype(int)
        centres = self.low + (np.indices(tuple(size)).transpose(1, 2, 0) + 0.5) * road.cell_m
        cell, inside = road.cell_of(centres)
        a, b = cell[..., 0], cell[..., 1]
        rgb = np.full((*size, 3), UNKNOWN_RGB, np.uint8)
        rgb[inside & road.known[a, b]] = GROUND_RGB
        rgb[inside & road.drivable[a, b]] = ROAD_RGB
        for where, classes in _standing(scene, max(1, round(2 * EVERY_S / episode.dt_s))):
            index = np.floor((where - self.low) / road.cell_m).astype(int)
            fits = ((index >= 0) & (index < size)).all(axis=1)
            rgb[tuple(index[fits].T)] = PALETTE[classes[fits]] // 3 + 160
        seen = Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 0, 2)[::-1]))
        self.image.paste(seen.resize(self.image.size, Image.Resampling.NEAREST))

    def agents(self, episode: Episode) -> None:
        """Everybody's way, and a body where one is at the end."""
        agents = episode.agents
        for n in range(len(agents.id)):
            there = np.flatnonzero(agents.valid[n])
            if not len(there):
                continue
            colour = tuple(int(c) for c in PALETTE[agents.class_id[n]])
            for part in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):  # not across a gap
                if np.ptp(agents.pose[n, part, :2], axis=0).max() > 0.5:
                    self.line(agents.pose[n, part], colour, 0.25)
            if agents.valid[n, -1]:  # who has gone would look parked there
                self.box(agents.pose[n, -1], tuple(agents.size_m[n]), colour, tuple(c // 2 for c in colour))

    def line(self, poses: Doubles, colour: tuple[int, ...], width_m: float) -> None:
        if len(poses) > 1:
            self.draw.line(self.pixels(poses), fill=colour, width=max(FINE, round(width_m * self.scale)), joint="curve")

    def box(
        self, pose: Doubles, size_m: tuple[float, ...], fill: tuple[int, ...] | None, outline: tuple[int, ...]
    ) -> None:
        """A body, with a stroke from its middle to its front."""
        c, s = np.cos(pose[2]), np.sin(pose[2])
        turn = np.array([[c, s], [-s, c]])
        half = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1], [1, 0], [0, 0]]) * np.array(size_m[:2]) / 2
        ring = self.pixels(half @ turn + pose[:2])
        self.draw.polygon(ring[:4], fill=fill, outline=outline, width=FINE)
        self.draw.line(ring[4:], fill=outline, width=FINE)

    def ring(self, pose: Doubles, radius_m: float) -> None:
        ((x, y),) = self.pixels(pose[None])
        r = radius_m * self.scale
        self.draw.ellipse((x - r, y - r, x + r, y + r), outline=CONTACT_RGB, width=3 * FINE)

    def png(self) -> bytes:
        small = (max(1, self.image.width // FINE), max(1, self.image.height // FINE))
        image = self.image.resize(small, Image.Resampling.LANCZOS).quantize(COLOURS)
        out = io.BytesIO()
        image.save(out, format="PNG", optimize=True)
        return out.getvalue()


def _standing(scene: Scene, every: int) -> list[tuple[Doubles, NDArray[np.uint8]]]:
    """World x, y and class of columns in which something stands, of every so many frames."""
    flat = (Semantics.FREE, UNKNOWN, *SURFACES, *MOVABLE)
    centres = scene.grid.centres_m()[:, :, 0]
    quarters = np.array([[-1, -1, 0], [-1, 1, 0], [1, -1, 0], [1, 1, 0]]) * np.array(scene.grid.voxel_m) / 4
    out = []
    for t in range(0, len(scene.time_s), every):
        solid = ~np.isin(scene.labels[t], flat)
        i, j = np.nonzero(solid.any(axis=2))
        top = scene.grid.shape[2] - 1 - solid[i, j, ::-1].argmax(axis=1)
        pose = scene.world_se3_ego[t]
        points = (centres[i, j][:, None] + quarters).reshape(-1, 3)
        out.append((points @ pose[:2, :3].T + pose[:2, 3], np.repeat(scene.labels[t, i, j, top], len(quarters))))
    return out
