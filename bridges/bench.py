"""Speeds of this machine: worlds on a core, columns on the GPU. B grid, T frame."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dcgen import __version__
from dcgen.types import GridSpec, carlasc_grid, wide_grid
from scenarios.world.bench import DT_S, FRAMES
from scenarios.world.bench import bench_worlds as bench_folders
from scenarios.world.store import build_world, load_world

OWN_MAP = Path(__file__).resolve().parents[1] / "scenarios" / "library" / "maps" / "crossroads.xodr"
OWN_TRAFFIC_S = 30.0


def bench_worlds(folders: Sequence[Path] | None = None, seconds: float = 3.0, seed: int = 0) -> dict[str, Any]:
    """What worlds yield, the slowest of them in front; without folders, a world on a map of the library, built now.

    Keys: `kernel_fps_128`, `kernel_fps_200`, `end_to_end_fps` and more (scenarios.world.bench), `gpu` (bench_columns of
    the first world, None without CUDA), `hardware`, `dcgen`. Raises WorldError, MissingExtra.
    """
    if folders is None:
        with tempfile.TemporaryDirectory() as folder:
            build_world(OWN_MAP, Path(folder) / OWN_MAP.stem, seed, OWN_TRAFFIC_S)
            return bench_worlds([Path(folder) / OWN_MAP.stem], seconds, seed)
    figures = bench_folders(folders, seconds, seed)
    return {**figures, "gpu": _gpu(Path(folders[0]), seconds, seed), "hardware": hardware(), "dcgen": __version__}


def bench_columns(folder: Path, device: str, seconds: float = 3.0, seed: int = 0, batch: int = 32) -> dict[str, Any]:
    """Frames a second of clips with their traffic cut on a device, `batch` at once, boxes built on the CPU included."""
    import torch

    from dcgen.columns import Columns

    world = load_world(folder)
    columns = Columns.from_tile(world.tile).to(device)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    figures: dict[str, Any] = {"device": name, "batch": batch}
    for key, grid in (("128", carlasc_grid()), ("200", wide_grid())):
        figures[f"columns_fps_{key}"] = round(_column_rate(world, columns, grid, seconds, seed, batch))
    return figures


def _column_rate(world: Any, columns: Any, grid: GridSpec, seconds: float, seed: int, batch: int) -> float:
    import numpy as np

    from scenarios.world.cut.clips import sample_clip
    from scenarios.world.cut.voxelize import boxes_of

    drawn = [sample_clip(world, seed + n, grid, FRAMES, DT_S).conditions for n in range(batch)]
    anchors = np.stack([each.world_se3_anchor for each in drawn])

    def cut() -> None:
        boxes = [boxes_of(each.agents, each.world_se3_anchor, grid) for each in drawn]
        int(columns.cut(anchors, grid).stamp(boxes, FRAMES).moving.sum())  # waits for the device

    cut()
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        cut()
        done += batch
    return done * FRAMES / (time.perf_counter() - begun)


def hardware() -> str:
    """The processor by its own name, and how many cores there are."""
    name = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        names = [line.partition(":")[2].strip() for line in listed.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"


def _gpu(folder: Path, seconds: float, seed: int) -> dict[str, Any] | None:
    if find_spec("torch") is None:
        return None
    import torch

    return bench_columns(folder, "cuda", seconds, seed) if torch.cuda.is_available() else None
