"""Building sites and road works, on block land alone: traffic is never in their way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dcgen.types import Doubles, Semantics
from scenarios.world.town.blocks import STEP_M, Edge
from scenarios.world.town.boundaries import strip
from scenarios.world.town.buildings import STOREY_M, Part, Plan, Site, build
from scenarios.world.town.canvas import Canvas, Patch, rectangle
from scenarios.world.town.style import TownStyle

SCAFFOLD_M = 1.2
RING_M = 2.6  # from a shell to the fence around it
PLANK_M = 0.4
CRANE_M = 24.0
WORKS_SPACING_M = 90.0


def building_site(site: Site, patch: Patch, plan: Plan, canvas: Canvas, rng: np.random.Generator) -> None:
    """An unfinished shell in a scaffold, material beside it, a fence around it; over large ones a crane."""
    floors = STOREY_M * int(rng.integers(1, 4))
    shell = [Part(p.u0, p.u1, p.v0, p.v1, min(p.height_m, floors)) for p in plan]
    build(site, patch, shell, canvas)
    _scaffold(site, min(max(part.height_m for part in shell) + 1.0, floors + 1.0), canvas)
    _fence(site, canvas)
    _stacks(site, canvas, rng)
    if site.width_m > 16:
        _crane(site, canvas)


def _scaffold(site: Site, height_m: float, canvas: Canvas) -> None:
    """Posts around the shell and planks at every second metre, as columns hold them."""
    around = canvas.box(site.corners_m(SCAFFOLD_M))
    u, v = site.uv_m(canvas, around)
    inside = (u >= 0) & (u < site.width_m) & (v >= 0) & (v < site.depth_m)
    ring = around.mask & ~inside & ~canvas.taken[around.x, around.y]
    post = ((np.abs((u + SCAFFOLD_M) % 2.4 - 0.2) < 0.2) & ((v < -0.6) | (v > site.depth_m + 0.6))) | (
        (np.abs((v + SCAFFOLD_M) % 2.4 - 0.2) < 0.2) & ((u < -0.6) | (u > site.width_m + 0.6))
    )
    canvas.add(Patch(around.x, around.y, ring & post), Semantics.OTHER, 0.0, height_m)
    for level in (2.0, 4.0):
        if level + PLANK_M < height_m:
            planks = Patch(around.x, around.y, ring & ~post)
            canvas.add(planks, Semantics.OTHER, level, level + PLANK_M)
    canvas.reserve(Patch(around.x, around.y, ring))


def _fence(site: Site, canvas: Canvas) -> None:
    """A ring of fence with a gate towards the street, less deep there so that it stays off the sidewalk."""
    w, d, m = site.width_m, site.depth_m, RING_M
    corners = np.array([(w / 2 + 2.5, -m), (w + m, -m), (w + m, d + m), (-m, d + m), (-m, -m), (w / 2 - 2.5, -m)])
    strip(_walk(site, corners), canvas, Semantics.BARRIER, 2.0, 0.6)


def _walk(site: Site, corners: Doubles) -> Doubles:
    """[N, 2] world points about a metre apart along a line through (u, v) corners."""
    points = []
    for a, b in pairwise(corners):
        steps = max(1, round(float(np.hypot(*(b - a)))))
        points += [a + (b - a) * k / steps for k in range(steps)]
    return np.array([site.point_m(*each) for each in (*points, corners[-1])])


def _stacks(site: Site, canvas: Canvas, rng: np.random.Generator) -> None:
    """A container and piles of material behind the shell."""
    v = site.depth_m + SCAFFOLD_M + 4.5
    for length, width, height in ((6.0, 2.4, 2.6), (3.2, 2.0, 1.2), (2.4, 2.0, 0.9)):
        at = site.point_m(rng.uniform(0, site.width_m), v)
        _block(canvas, rectangle(at, site.along, length, width), height)


def _block(canvas: Canvas, corners: Doubles, height_m: float) -> bool:
    patch = canvas.box(corners)
    if not canvas.free(patch):
        return False
    canvas.add(patch, Semantics.OTHER, 0.0, height_m, flat_top=True)
    canvas.reserve(patch)
    return True


def _crane(site: Site, canvas: Canvas) -> None:
    """A mast behind the shell and a jib over it, never over a road."""
    mast = site.point_m(site.width_m / 2, site.depth_m + SCAFFOLD_M + 1.4)
    if not _block(canvas, rectangle(mast, site.along, 1.6, 1.6), CRANE_M):
        return
    jib = canvas.box(rectangle(mast - site.inward * 4.0, site.inward, 26.0, 1.2))
    canvas.add(jib, Semantics.OTHER, CRANE_M, CRANE_M + 1.2, flat_top=False)


def road_works(edge: Edge, canvas: Canvas, style: TownStyle, rng: np.random.Generator) -> None:
    """Trenches behind the curb: a ring of barriers around spoil, cones before and after it."""
    for mark in np.arange(rng.uniform(10, 40), edge.length_m - 14.0, WORKS_SPACING_M):
        draw, length = rng.random(), rng.uniform(6.0, 11.0)
        if draw >= 0.5 * style.construction:
            continue
        index = int((mark + length / 2) / STEP_M)
        along, inward = edge.along(index), edge.inward[index]
        corner = edge.point_m[index] + inward * 0.4 - along * (length / 2)
        site = Site(corner, along, length, 2.6)
        if not canvas.free(canvas.box(site.corners_m(0.2))):
            continue
        _block(canvas, rectangle(site.point_m(length / 2, 1.3), along, 0.5 * length, 0.8), 0.9)
        strip(
            _walk(site, np.array([(0.3, 0.3), (length - 0.3, 0.3), (length - 0.3, 2.3), (0.3, 2.3), (0.3, 0.3)])),
            canvas, Semantics.BARRIER, 1.0, 0.4,
        )  # fmt: skip
        canvas.reserve(canvas.box(site.corners_m()))
        for u in (-1.2, -2.8, length + 1.2, length + 2.8):
            _block(canvas, rectangle(site.point_m(u, 0.5), along, 0.5, 0.5), 0.9)
