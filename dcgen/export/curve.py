"""A training run's terms over its steps, as one picture."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 420, 220, 34
INK, LINE, FRAME = (40, 44, 52), (40, 110, 230), (205, 208, 214)


def draw_curves(lines: list[dict[str, float]], path: Path) -> None:
    """One panel a term, two panels a row; positive terms on a logarithmic axis when they span a decade."""
    names = sorted({name for line in lines for name in line} - {"step", "step_s"})
    rows = math.ceil(len(names) / 2)
    sheet = Image.new("RGB", (2 * WIDTH, max(rows, 1) * HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    for place, name in enumerate(names):
        points = [(line["step"], line[name]) for line in lines if name in line and math.isfinite(line[name])]
        if points:
            _panel(pen, name, points, (place % 2 * WIDTH, place // 2 * HEIGHT))
    partial = path.with_suffix(".partial.png")
    try:
        sheet.save(partial)
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _panel(pen: ImageDraw.ImageDraw, name: str, points: list[tuple[float, float]], at: tuple[int, int]) -> None:
    values = [value for _, value in points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > 10
    scale = math.log10 if logarithmic else float
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)
    bottom, top = scale(low), scale(high)
    span = max(top - bottom, 1e-12)
    left, upper = at[0] + MARGIN, at[1] + MARGIN
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    pen.rectangle((left, upper, left + width, upper + height), outline=FRAME)
    track = [
        (left + width * (step - first) / (last - first), upper + height * (1 - (scale(value) - bottom) / span))
        for step, value in points
    ]
    if len(track) > 1:
        pen.line(track, fill=LINE, width=2)
    axis = " (log)" if logarithmic else ""
    pen.text((left, upper - 16), f"{name}{axis}: {low:.4g} to {high:.4g}, last {values[-1]:.4g}", fill=INK)
    pen.text((left, upper + height + 4), f"step {first:g} to {last:g}", fill=INK)
