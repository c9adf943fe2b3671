"""What is in a scene file, as plain values for --json and as tables for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from dcgen.export.plain import plain
from dcgen.scene_fields import read_tracks
from dcgen.scene_file import load_scene, opened
from dcgen.types import CLASS_NAMES, UNKNOWN, Command, Scene

if TYPE_CHECKING:
    from rich.console import Console


def summarise(path: Path | str) -> dict[str, Any]:
    """Provenance, grid, time, shares of the classes, agents and datasets of a scene file. Raises SceneError.

    found: how many objects there are beside the agents; None in files of format 1, which do not say.
    """
    path = Path(path)
    scene = load_scene(path)
    with opened(path) as file:
        head = {name: file.attrs[name] for name in ("format", "format_version", "dcgen_version", "created_utc")}
        datasets: dict[str, dict[str, Any]] = {}

        def note(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                stored = int(item.id.get_storage_size())
                datasets[f"/{name}"] = {"shape": list(item.shape), "dtype": str(item.dtype), "stored_bytes": stored}

        file.visititems(note)
        frames = len(file["frames/time_s"])
        objects = read_tracks(file, path, "objects", frames) if head["format_version"] > 1 else None
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        **{name: value if isinstance(value, str) else int(value) for name, value in head.items()},
        "seed": scene.seed,
        "model": scene.model,
        "model_sha256": scene.model_sha256,
        "metadata": scene.metadata,
        "grid": {"shape": scene.grid.shape, "voxel_m": scene.grid.voxel_m, "origin_m": scene.grid.origin_m},
        "frames": frames,
        "seconds": float(scene.time_s[-1] - scene.time_s[0]),
        "distance_m": _distance_m(scene),
        "commands": [Command(value).name for value in np.unique(scene.command).tolist()],
        "class_shares": class_shares(scene),
        "unknown_share": float((scene.labels == UNKNOWN).mean()),
        "given_share": float(scene.known.mean()),
        "found": None if objects is None else len(objects.id) - len(scene.agents.id),
        "agents": [_agent(scene, n) for n in range(len(scene.agents.id))],
        "scenario": scene.scenario,
        "datasets": datasets,
    }


def class_shares(scene: Scene) -> dict[str, float]:
    """Each class's share of the occupied voxels; of all zeros where nothing is occupied."""
    counts = np.bincount(scene.labels.ravel(), minlength=256)[1 : len(CLASS_NAMES)]
    return {name: float(count / max(counts.sum(), 1)) for name, count in zip(CLASS_NAMES[1:], counts, strict=True)}


def _distance_m(scene: Scene) -> float:
    steps = np.diff(scene.world_se3_ego[:, :3, 3], axis=0)
    return float(np.linalg.norm(steps, axis=1).sum())


def _agent(scene: Scene, n: int) -> dict[str, Any]:
    agents, valid = scene.agents, scene.agents.valid[n]
    speed = agents.speed_mps[n][valid]
    return {
        "id": int(agents.id[n]),
        "class": CLASS_NAMES[agents.class_id[n]],
        "size_m": [round(float(v), 2) for v in agents.size_m[n]],
        "frames": int(valid.sum()),
        "mean_speed_mps": round(float(speed.mean()), 2) if len(speed) else 0.0,
    }


def show(summary: dict[str, Any], console: Console, most_agents: int = 20) -> None:
    """Tables of a summary on a rich console."""
    from rich.table import Table
    from rich.text import Text

    def table(title: str, *columns: str) -> Table:
        made = Table(title=Text(plain(title, 200)), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for k, column in enumerate(columns):
            made.add_column(column, justify="left" if k == 0 else "right", style=None if k else "cyan", overflow="fold")
        return made

    found = summary["found"]
    shape, voxel = ("x".join(f"{v:g}" for v in summary["grid"][key]) for key in ("shape", "voxel_m"))
    facts = {
        "scene": f"{summary['frames']} frames, {summary['seconds']:.1f} s, {summary['distance_m']:.1f} m, "
        f"{', '.join(summary['commands'])}",
        "grid": f"{shape} voxels of {voxel} m",
        "model": f"{summary['model'] or 'none'}  {summary['model_sha256'][:12]}",
        "seed": str(summary["seed"]),
        "made": f"{summary['created_utc']} by dcgen {summary['dcgen_version']} (format {summary['format_version']})",
        "unknown": f"{summary['unknown_share']:.1%} of voxels; {summary['given_share']:.1%} were given",
        "objects": f"{len(summary['agents'])} given, {'not known how many' if found is None else found} found",
        **summary["metadata"],
    }
    head = table(summary["file"], "", "")
    head.show_header = False
    head.columns[1].justify = "left"
    for name, value in facts.items():
        head.add_row(Text(plain(name, 40)), Text(plain(value, 300)))  # square brackets would be markup
    shares = table("classes", "class", "share of occupied voxels")
    for name, share in sorted(summary["class_shares"].items(), key=lambda pair: -pair[1]):
        shares.add_row(name, f"{share:.2%}")
    agents = table(f"agents ({len(summary['agents'])})", "id", "class", "size in m", "frames", "m/s")
    for agent in summary["agents"][:most_agents]:
        size = " x ".join(f"{v:g}" for v in agent["size_m"])
        agents.add_row(str(agent["id"]), agent["class"], size, str(agent["frames"]), f"{agent['mean_speed_mps']:.1f}")
    if len(summary["agents"]) > most_agents:
        agents.add_row(f"and {len(summary['agents']) - most_agents} more", "", "", "", "")
    arrays = table("datasets", "name", "shape", "type", "bytes on disk")
    for name, entry in summary["datasets"].items():
        arrays.add_row(
            Text(plain(name, 100)), "x".join(map(str, entry["shape"])), entry["dtype"], f"{entry['stored_bytes']:,}"
        )
    for part in (head, shares, agents, arrays):
        console.print(part, "")
