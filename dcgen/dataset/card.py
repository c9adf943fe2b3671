"""A data set's card: what is in it, in figures, from the index alone. Ready for JSON, and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import ClipDataset
from dcgen.types import CLASS_NAMES, MOVING_MPS

TURN_RAD = 0.15  # net change of heading above which a clip's ego turns


def card(dataset: ClipDataset) -> dict[str, Any]:
    """Counts, shares and provenance of a data set; shares of classes are of the known voxels."""
    spec, rows = dataset.spec, dataset.rows
    counts = np.array([row.label_counts for row in rows], np.int64).sum(axis=0)
    known = max(int(counts[:-1].sum()), 1)
    speed = np.array([row.speed_mps for row in rows])
    turn = np.array([row.turn_rad for row in rows])
    voxels = len(rows) * int(np.prod(spec.clip_shape))
    observed = [row.observed_voxels for row in rows if row.observed_voxels is not None]
    origin = spec.origin
    return {
        "folder": str(dataset.folder),
        "clips": len(rows),
        "clips_wanted": spec.clips,
        "complete": dataset.complete,
        "content_sha256": dataset.content_sha256,
        "frames": len(rows) * spec.frames,
        "frames_per_clip": spec.frames,
        "dt_s": spec.dt_s,
        "hours": round(len(rows) * spec.frames * spec.dt_s / 3600, 4),
        "grid": {"shape": spec.grid.shape, "voxel_m": spec.grid.voxel_m, "origin_m": spec.grid.origin_m},
        "frame": "ego" if spec.ego_centred else "anchor",
        "kept": "cut from worlds" if spec.cut else "shards",
        "class_shares": _named(counts[:-1] / known),
        "unknown_share": round(int(counts[-1]) / voxels, 6),
        "observed_share": round(sum(observed) / voxels, 6) if observed else None,
        "moving_voxel_share": round(sum(row.moving_voxels for row in rows) / known, 6),
        "moving_clip_share": _share([row.moving_voxels > 0 for row in rows]),
        "speed_mps": {f"p{q}": round(float(np.percentile(speed, q)), 2) for q in (5, 25, 50, 75, 95)},
        "turn_shares": _turns(speed, turn),
        "agents_per_clip": round(float(np.mean([row.agents for row in rows])), 2),
        "moving_agents_per_clip": round(float(np.mean([row.moving_agents for row in rows])), 2),
        "origin": {key: value for key, value in origin.items() if key not in ("recipe", "world_seeds")},
        "maps": [str(name).rpartition(" ")[0] for name in origin.get("maps", [])],
        "worlds": len(origin.get("world_seeds", [])) or None,
        "seed": spec.seed,
        "world_seeds": origin.get("world_seeds", []),
        "made_by": dataset.made_by,
        "commit": dataset.made_by.get("commit", ""),
        "bytes": folder_bytes(dataset.folder),
    }


def _share(flags: Sequence[bool]) -> float:
    return round(float(np.mean(flags)), 5)


def _named(shares: np.ndarray) -> dict[str, float]:
    return {name: round(float(share), 6) for name, share in zip(CLASS_NAMES, shares, strict=True)}


def _turns(speed: np.ndarray, turn: np.ndarray) -> dict[str, float]:
    standing = speed < MOVING_MPS
    left, right = (turn > TURN_RAD) & ~standing, (turn < -TURN_RAD) & ~standing
    return {
        "left": _share(left.tolist()),
        "right": _share(right.tolist()),
        "straight": _share((~(left | right | standing)).tolist()),
        "standing": _share(standing.tolist()),
    }


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def as_text(figures: dict[str, Any], spec: DatasetSpec) -> str:
    """The card for people, a line each."""
    state = "complete" if figures["complete"] else f"unfinished, {figures['clips_wanted']} wanted"
    x, y, z = spec.grid.shape
    edges = " x ".join(f"{v:g}" for v in spec.grid.voxel_m)
    rows = {
        "clips": f"{figures['clips']} of {spec.frames} frames, {spec.dt_s:g} s apart ({state})",
        "grid": f"{x} x {y} x {z} voxels of {edges} m, {figures['frame']} frame",
        "kept as": f"{figures['kept']}, {figures['bytes'] / 1e6:.1f} MB",
        "content": figures["content_sha256"],
        "maps": ", ".join(figures["maps"]) or str(figures["origin"].get("kind", "")),
        "worlds": f"{figures['worlds'] or 0}, seed {figures['seed']}",
        "made by": f"dcgen {figures['made_by'].get('dcgen', '?')} {figures['commit'][:12]}",
        "ego": ", ".join(f"{name} {share:.0%}" for name, share in figures["turn_shares"].items()),
        "speed": ", ".join(f"{name} {value:g}" for name, value in figures["speed_mps"].items()) + " m/s",
        "agents": f"{figures['agents_per_clip']:g} a clip, {figures['moving_agents_per_clip']:g} of them moving",
        "moving": f"{figures['moving_voxel_share']:.2%} of the voxels, {figures['moving_clip_share']:.0%} of the clips",
        "classes": ", ".join(f"{name} {share:.2%}" for name, share in figures["class_shares"].items() if share),
        "unknown": f"{figures['unknown_share']:.2%}",
    }
    if figures["observed_share"] is not None:
        rows["observed"] = f"{figures['observed_share']:.2%}"
    return "\n".join(f"{name:<9} {text}" for name, text in rows.items())
