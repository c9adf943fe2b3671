"""What a model costs on this machine, held against the public release of DynamicCity."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridges.bench import OWN_MAP, OWN_TRAFFIC_S, hardware
from dcgen import __version__

if TYPE_CHECKING:
    from dcgen.config import ModelConfig
    from dcgen.types import Clip

RELEASE_GFLOPS = 65.0  # a CPU-second where the release was measured
RELEASE = {  # CPU-seconds and GB of the release there, float32, random weights
    "encode_cpu_s": 28.3,
    "decode_cpu_s": 15.7,
    "vae_step_cpu_s": 149.0,
    "vae_step_peak_gb": 9.2,
    "dit_forward_cpu_s": 3.1,
    "scene_wall_s": 3240.0,  # its 1000 steps, on two cores
}
BARS = {  # what is asked of dcgen on that machine
    "encode_cpu_s": 5.0,
    "decode_cpu_s": 4.0,
    "vae_step_cpu_s": 30.0,
    "vae_step_peak_gb": 3.0,
    "dit_forward_cpu_s": 2.2,
    "scene_wall_s": 30.0,
}


@dataclass(frozen=True)
class ModelOrder:
    """What is asked of `dcgen bench model`. world: a folder of dcgen world build, None for a library map's."""

    preset: str = "base"
    world: Path | None = None
    repeats: int = 3
    seed: int = 0


def bench_model(order: ModelOrder, tell: Callable[[str], None]) -> dict[str, Any]:
    """Every figure by name, `bars` and `gpu` (None without CUDA) among them. Raises DcgenError, WorldError."""
    from bridges.model_costs import cpu_figures, gpu_figures, shipped
    from bridges.training import preset
    from dcgen.config import paper
    from dcgen.device import describe

    config, size = preset(order.preset), paper()
    if order.world is not None:
        clips = [clip_of(order.world, one, order.seed) for one in (config, size)]
    else:
        from scenarios.world.store import build_world

        tell("building a world on the library's crossroads")
        with tempfile.TemporaryDirectory() as folder:
            world = Path(folder) / OWN_MAP.stem
            build_world(OWN_MAP, world, order.seed, OWN_TRAFFIC_S)
            clips = [clip_of(world, one, order.seed) for one in (config, size)]
    figures = cpu_figures(config, size, clips, order.repeats, tell)
    return {
        "preset": config.name,
        "weights": "shipped" if shipped(config.name) else "random",
        **figures,
        "bars": bars(figures),
        "gpu": gpu_figures(config, clips[0], order.repeats),
        "arithmetic": describe("cpu"),
        "hardware": hardware(),
        "dcgen": __version__,
    }


def clip_of(folder: Path, config: ModelConfig, seed: int) -> Clip:
    """A clip as the model wants it, cut from a world: what sparse layers cost depends on what is there.

    Nothing of it is known beforehand, so that a scene is generated whole.
    """
    from bridges.training import LiveClips
    from dcgen.types import UNKNOWN
    from scenarios.world.store import load_world

    clip = LiveClips([load_world(folder)], 1, seed, config).clip(0)
    known = np.full(clip.labels.shape, UNKNOWN, np.uint8)
    return replace(clip, conditions=replace(clip.conditions, known=known))


def bars(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Each bar with its value; seconds are scaled to the rate at which this CPU multiplies matrices."""
    rows = []
    for name, bar in BARS.items():
        scale = 1.0 if name.endswith("_gb") else RELEASE_GFLOPS / figures["gflops"]
        row = {"figure": name, "value": figures[name], "bar": bar * scale, "release": RELEASE[name] * scale}
        rows.append({**row, "holds": figures[name] <= row["bar"]})
    return rows


def model_text(figures: dict[str, Any]) -> str:
    """The figures as markdown: the bars, where the time of a scene goes, the rest."""
    lines = ["| figure | dcgen | bar, at this CPU's rate | release, at this rate | release / dcgen | holds |"]
    lines.append("| --- " * 6 + "|")
    for row in figures["bars"]:
        ratio = row["release"] / row["value"]
        cells = [row["figure"], *(f"{row[key]:.2f}" for key in ("value", "bar", "release")), f"{ratio:.1f}"]
        lines.append("| " + " | ".join([*cells, "yes" if row["holds"] else "no"]) + " |")
    lines += ["", "| part | CPU-s | GFLOP | CPU-s at used_gflops | share of that rate |", "| --- " * 5 + "|"]
    for name in ("dit_forward", "dit_forward_preset", "decode"):
        spent, work = figures[f"{name}_cpu_s"], figures[f"{name}_gflop"]
        floor = work / figures["used_gflops"]
        lines.append(f"| {name} | {spent:.3f} | {work:.1f} | {floor:.3f} | {floor / spent:.0%} |")
    told = {row["figure"] for row in figures["bars"]} | {"bars"}
    lines += ["", "| figure | value |", "| --- | --- |"]
    for name, value in figures.items():
        if name not in told:
            lines.append(f"| {name} | {f'{value:.3f}' if isinstance(value, float) else value} |")
    return "\n".join(lines)
