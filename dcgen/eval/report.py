"""All figures of a model in one dictionary, and as a table. T frame, X/Y/Z voxel axes.

The model comes in as two callables, the world as clips: nothing here knows how either is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.eval.adherence import ego_path_free, layout_iou
from dcgen.eval.agents import agent_precision, agent_recall
from dcgen.eval.consistency import Consistency, EgoFrames, static_consistency
from dcgen.eval.plausibility import class_counts, class_floor, jensen_shannon, pieces
from dcgen.eval.reconstruction import Confusion, compression, confusion, moving_iou
from dcgen.eval.tally import NOTHING, Tally, summed
from dcgen.types import CLASS_NAMES, MOVABLE, UNKNOWN, Clip, Conditions, GridSpec, Labels, Semantics

Reconstruct = Callable[[Clip], Labels]
Generate = Callable[[Conditions, int], Labels]
Progress = Callable[[int], None]

# What the figures should reach: at least (+1) or at most (-1).
BARS: dict[str, tuple[int, float]] = {
    "vae_miou": (1, 0.90),
    "vae_occ_iou": (1, 0.965),
    "compression": (1, 7.5),
    "moving_iou": (1, 0.78),
    "layout_road_iou": (1, 0.97),
    "layout_sidewalk_iou": (1, 0.93),
    "ego_path_free": (1, 0.99),
    "agent_recall": (1, 0.90),
    "agent_precision": (1, 0.85),
    "pieces_building": (-1, 2.0),
    "pieces_vegetation": (-1, 2.0),
    "class_jsd": (-1, 0.08),
    "static_consistency": (1, 0.98),
}
# Of the models at the paper's scale, whose voxels are half as wide.
FINE_BARS = BARS | {
    "moving_iou": (1, 0.82),
    "compression": (1, 20.0),
    "agent_recall_half_m": (1, 0.95),
    "pieces_building": (-1, 1.3),
    "pieces_vegetation": (-1, 1.3),
    "class_jsd": (-1, 0.05),
}
FINE_M = 0.4  # voxels of this width, or finer


@dataclass(frozen=True)
class SceneFigures:
    """What is counted on the labels of scenes alone, with the conditions they were made for. Adds up over scenes."""

    road: Tally = NOTHING
    sidewalk: Tally = NOTHING
    ego_free: Tally = NOTHING
    recall: dict[int, Tally] = field(default_factory=lambda: {int(label): NOTHING for label in MOVABLE})
    near_recall: Tally = NOTHING
    precision: Tally = NOTHING
    buildings: int = 0
    vegetation: int = 0
    frames: int = 0
    class_counts: tuple[NDArray[np.int64], ...] = ()

    def __add__(self, other: SceneFigures) -> SceneFigures:
        return SceneFigures(
            self.road + other.road,
            self.sidewalk + other.sidewalk,
            self.ego_free + other.ego_free,
            {label: self.recall[label] + other.recall[label] for label in self.recall},
            self.near_recall + other.near_recall,
            self.precision + other.precision,
            self.buildings + other.buildings,
            self.vegetation + other.vegetation,
            self.frames + other.frames,
            self.class_counts + other.class_counts,
        )

    @property
    def all_counts(self) -> NDArray[np.int64]:
        return np.sum(self.class_counts, axis=0, dtype=np.int64) if self.class_counts else np.zeros(1, np.int64)

    def shares(self) -> dict[str, float]:
        """The figures that are shares of this very scene, by their JSON keys."""
        return {
            "layout_road_iou": self.road.share,
            "layout_sidewalk_iou": self.sidewalk.share,
            "ego_path_free": self.ego_free.share,
            "agent_recall": summed(self.recall.values()).share,
            "agent_recall_half_m": self.near_recall.share,
            "agent_precision": self.precision.share,
        }


def score_scene(labels: Labels, conditions: Conditions) -> SceneFigures:
    """Figures of one anchored chunk [T, X, Y, Z], real or generated."""
    want = (conditions.frames, *conditions.grid.shape)
    if labels.shape != want:
        raise ValueError(f"labels needs shape {want}, got {labels.shape}")
    return SceneFigures(
        layout_iou(labels, conditions.layout_static, "road", Semantics.ROAD),
        layout_iou(labels, conditions.layout_static, "sidewalk", Semantics.SIDEWALK),
        ego_path_free(labels, conditions),
        agent_recall(labels, conditions),
        summed(agent_recall(labels, conditions, 0.5).values()),
        agent_precision(labels, conditions),
        pieces(labels, Semantics.BUILDING),
        pieces(labels, Semantics.VEGETATION),
        len(labels),
        (class_counts(labels),),
    )


@dataclass
class _Run:
    """Sums over the clips of one evaluation."""

    clips: int = 0
    compression: float = math.nan
    confusion: Confusion = field(default_factory=Confusion)
    moving: dict[str, Tally] = field(default_factory=dict)
    generated: SceneFigures = field(default_factory=SceneFigures)
    real: SceneFigures = field(default_factory=SceneFigures)  # of the clips that were generated from
    all_real: SceneFigures = field(default_factory=SceneFigures)


def evaluate(
    clips: Iterable[Clip],
    reconstruct: Reconstruct,
    generate: Generate | None = None,
    *,
    latent_values: int,
    seed: int = 0,
    generate_clips: int | None = None,
    long_scenes: Iterable[EgoFrames] = (),
    real_scenes: Iterable[EgoFrames] = (),
    bars: dict[str, tuple[int, float]] = BARS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures of a model, ready for JSON: None where nothing could be counted.

    `reconstruct` gives a clip's labels back through the latents; `generate(conditions, seed)` gives new labels
    [T, X, Y, Z] in the anchor's grid and is asked for the first `generate_clips` clips (None: all), clip n with
    seed + n. `latent_values` are those of one chunk. `long_scenes` were generated over many frames; `real_scenes`
    are their like, cut from the world. Under "real" stand the same figures of the true labels: what the metrics
    themselves allow. Raises ValueError when a condition holds voxels that would be copied into the scene.
    """
    run = _Run()
    for index, clip in enumerate(clips):
        _reconstruction(run, clip, reconstruct)
        real = score_scene(clip.labels, clip.conditions)
        run.all_real += real
        if generate is not None and (generate_clips is None or index < generate_clips):
            if np.any(clip.conditions.known != UNKNOWN):
                raise ValueError(f"clip {index}: conditions.known must be UNKNOWN throughout, else labels are copied")
            run.generated += score_scene(generate(clip.conditions, seed + index), clip.conditions)
            run.real += real
        if run.clips == 1:
            run.compression = compression(clip.conditions.frames, clip.conditions.grid.shape, latent_values)
        if progress is not None:
            progress(run.clips)
    figures = _figures(run, seed)
    generated_again, real_again = (_consistency(scenes) for scenes in (long_scenes, real_scenes))
    figures["static_consistency"] = generated_again.tolerant.share
    figures["detail"]["static_consistency_exact"] = generated_again.exact.share
    figures["real"]["static_consistency"] = real_again.tolerant.share
    figures["real"]["static_consistency_exact"] = real_again.exact.share
    figures["counts"]["static_voxels_seen_twice"] = generated_again.tolerant.total
    figures["bars"] = {key: list(bar) for key, bar in bars.items()}  # sign (+1 at least, -1 at most) and value
    tidy: dict[str, Any] = _tidy(figures)
    return tidy


def _reconstruction(run: _Run, clip: Clip, reconstruct: Reconstruct) -> None:
    back = reconstruct(clip)
    run.clips += 1
    run.confusion += confusion(back, clip.labels)
    moving = moving_iou(back, clip.labels, clip.moving, clip.conditions.grid.voxel_m)
    run.moving = {name: run.moving.get(name, NOTHING) + tally for name, tally in moving.items()}


def _consistency(scenes: Iterable[EgoFrames]) -> Consistency:
    return sum((static_consistency(scene) for scene in scenes), Consistency())


def generation_figures(made: SceneFigures, real: SceneFigures) -> dict[str, float]:
    """The figures of generated scenes, by their JSON keys; real are the true scenes of the same conditions."""
    return {
        **made.shares(),
        "pieces_building": Tally(made.buildings, real.buildings).share,
        "pieces_vegetation": Tally(made.vegetation, real.vegetation).share,
        "class_jsd": jensen_shannon(made.all_counts, real.all_counts),
    }


def _figures(run: _Run, seed: int) -> dict[str, Any]:
    made, real = run.generated, run.real
    moving = run.moving.get("all", NOTHING)
    recall = {CLASS_NAMES[label]: tally.share for label, tally in made.recall.items()}
    agents = summed(made.recall.values())
    return {
        "vae_miou": run.confusion.miou,
        "vae_occ_iou": run.confusion.occupancy.share,
        "compression": run.compression,
        "moving_iou": moving.share,
        "per_class": _per_class(run),
        **generation_figures(made, real),
        "class_jsd_floor": class_floor(run.all_real.class_counts, seed),
        "static_consistency": math.nan,
        "real": {
            **run.all_real.shares(),
            "pieces_building_a_frame": Tally(run.all_real.buildings, run.all_real.frames).share,
            "pieces_vegetation_a_frame": Tally(run.all_real.vegetation, run.all_real.frames).share,
        },
        "detail": {"agent_recall": recall},
        "counts": {
            "clips": run.clips,
            "generated": len(made.class_counts),
            "moving_voxels_or_alarms": moving.total,
            "conditioned_agents": agents.total,
            "generated_agent_voxels": made.precision.total,
            "ego_frames": made.ego_free.total,
        },
        "seeds": {"first": seed, "last": seed + max(len(made.class_counts) - 1, 0)},
    }


def _per_class(run: _Run) -> dict[str, dict[str, float]]:
    """IoU, IoU where it moves, and shares of the occupied voxels, by class name."""
    iou = run.confusion.per_class()
    made, real = (figures.all_counts / max(figures.all_counts.sum(), 1) for figures in (run.generated, run.real))
    table: dict[str, dict[str, float]] = {}
    for label, name in enumerate(CLASS_NAMES):
        if label == Semantics.FREE:
            continue
        row = {"iou": iou.get(name, math.nan)}
        if label in MOVABLE:
            row["moving_iou"] = run.moving.get(name, NOTHING).share
        if run.generated.frames:
            row |= {"share_generated": float(made[label]), "share_real": float(real[label])}
        table[name] = row
    return table


def _tidy(value: Any) -> Any:
    """Numbers to five digits, NaN to None, so that the result is JSON."""
    if isinstance(value, dict):
        return {key: _tidy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 5) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def bars_of(grid: GridSpec) -> dict[str, tuple[int, float]]:
    """What the figures of a model of this grid should reach."""
    return FINE_BARS if max(grid.voxel_m) <= FINE_M else BARS


def misses(figures: dict[str, Any]) -> list[str]:
    """The keys whose figure is absent or short of its bar."""
    bars = figures["bars"].items()
    return [key for key, (sign, bar) in bars if figures.get(key) is None or sign * (figures[key] - bar) < 0]


def markdown(figures: dict[str, Any]) -> str:
    """The figures that there are as two tables: against their bars and the true labels, and by class."""
    lines = ["| figure | value | bar | true labels |", "| --- | --- | --- | --- |"]
    floors = {**figures["real"], "class_jsd": figures["class_jsd_floor"]}
    for key, (sign, bar) in figures["bars"].items():
        relation = ">=" if sign > 0 else "<="
        if figures.get(key) is not None:
            lines.append(f"| `{key}` | {_cell(figures[key])} | {relation} {bar:g} | {_cell(floors.get(key))} |")
    columns = ["iou", "moving_iou", "share_generated", "share_real"]
    lines += ["", "| class | IoU | moving IoU | share generated | share real |", "| --- | --- | --- | --- | --- |"]
    for name, row in figures["per_class"].items():
        lines.append(f"| {name} | " + " | ".join(_cell(row.get(column)) for column in columns) + " |")
    counts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures["counts"].items())
    return "\n".join(
        [*lines, "", f"Counts: {counts}. Seeds {figures['seeds']['first']} to {figures['seeds']['last']}."]
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
