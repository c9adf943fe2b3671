"""The paper's ablations on worlds of one's own: each variant trained under one budget, a few seeds each.

A finished run is one JSON file, so a stopped ablation goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bridges.ablation_table import claims_of, markdown
from bridges.bench import OWN_MAP, OWN_TRAFFIC_S, hardware
from dcgen.config import ROLLOUTS, DitConfig, ModelConfig
from dcgen.dataset.files import appearing
from dcgen.errors import DcgenError
from dcgen.types import GridSpec
from scenarios.world.store import World, build_world, load_world

Tell = Callable[[str], None]
Runs = dict[str, list[dict[str, Any]]]
GRID = GridSpec((24, 24, 8), (0.8, 0.8, 0.8), (-9.6, -9.6, -2.0))
FRAMES, DT_S = 8, 0.2


@dataclass(frozen=True)
class Budget:
    """What all runs have alike. steps, of `batch` clips, are an autoencoder's; the rollouts share one that is trained
    longer (ablation_runs.ROLLOUT_VAE_STEPS), and their transformers take ROLLOUT_STEPS times as many."""

    steps: int = 300
    batch: int = 2
    clips: int = 240
    unseen_clips: int = 64


@dataclass(frozen=True)
class Group:
    """One ablation: the variants in its table by what they are called there, and what the table is about."""

    letter: str
    title: str
    rows: dict[str, str]  # label -> variant


def small() -> ModelConfig:
    """nano's autoencoder, 24 x 24 x 8 voxels of 0.8 m, 8 frames at 5 Hz; a small transformer without the local head,
    which reads the planes by itself and would hide what the rollout is worth."""
    dit = DitConfig(width=96, depth=4, heads=3, layout_width=24, local_depth=0)
    return ModelConfig("small", GRID, FRAMES, DT_S, dit=dit)


def variants() -> dict[str, ModelConfig]:
    """By name. What has no X-Y-T volume gets its latent values as channels of the planes."""
    default = small()
    planes = replace(default, vae=replace(default.vae, volume_channels=0))
    channels = round(default.hex_shape.size * planes.vae.channels / planes.hex_shape.size)

    def vae(**changes: Any) -> ModelConfig:
        return replace(planes, vae=replace(planes.vae, channels=channels, **changes))

    still, plain = vae(), vae(static_once=False)
    named = {
        "plain": plain,
        "plain-average": vae(static_once=False, projection="average"),
        "plain-queries": vae(static_once=False, decoder="queries"),
        "plain-average-queries": vae(static_once=False, projection="average", decoder="queries"),
        "ego": replace(plain, anchored=False),
        "still": still,
        "default": default,
    }
    for stride, time_stride in ((1, 1), (2, 1), (1, 2)):
        finer = replace(default.vae, stride=stride, time_stride=time_stride)
        named[f"stride-{stride}-{time_stride}"] = replace(default, vae=finer)
    named |= {f"frames-{frames}": replace(default, frames=frames) for frames in (4, 16, 32)}
    return named | {f"rollout-{name}": replace(still, dit=replace(still.dit, rollout=name)) for name in ROLLOUTS}


GROUPS = (
    Group(
        "a",
        "Projection and decoder (six planes, every frame decoded)",
        {
            "average + point queries": "plain-average-queries",
            "average + Expansion & Squeeze": "plain-average",
            "Projection Module + point queries": "plain-queries",
            "Projection Module + Expansion & Squeeze": "plain",
        },
    ),
    Group("b", "Rollout of the planes", {name: f"rollout-{name}" for name in ROLLOUTS}),
    Group(
        "c",
        "Downsampling (in X, Y, Z / in T)",
        {"1 / 1": "stride-1-1", "1 / 2": "stride-1-2", "2 / 1": "stride-2-1", "2 / 2": "default"},
    ),
    Group("d", "Frames of a chunk", {"ego-centred": "ego", "anchored": "plain"}),
    Group(
        "e", "What stands still", {"decoded in every frame": "plain", "decoded once, and a residual a frame": "still"}
    ),
    Group("f", "X-Y-T volume, at equal latents", {"without": "still", "with": "default"}),
    Group(
        "g",
        "Frames a chunk",
        {"T = 4": "frames-4", "T = 8": "default", "T = 16": "frames-16", "T = 32": "frames-32"},
    ),
)
LETTERS = "".join(group.letter for group in GROUPS)


@dataclass(frozen=True)
class AblationOrder:
    """What is asked of `dcgen bench ablation`. Without folders a world of the library's crossroads is learned from."""

    folders: tuple[Path, ...]
    unseen: Path
    out: Path
    seeds: int = 3
    groups: str = LETTERS
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        if not self.groups or set(self.groups) - set(LETTERS):
            raise DcgenError(f"--groups {self.groups}: no such ablations; choose letters of {LETTERS}")
        if self.unseen.resolve() in {folder.resolve() for folder in self.folders}:
            raise DcgenError(f"--unseen {self.unseen}: is one of the worlds to learn from; remove it there")


def run_ablation(order: AblationOrder, tell: Tell) -> dict[str, Any]:
    """Trains what is not there yet, and returns the figures of everything in order.out that fits the order.

    Raises WorldError, or DcgenError where the folder holds runs of other worlds or another budget.
    """
    from bridges.ablation_runs import Bench

    worlds, unseen = _worlds(order)
    configs = variants()
    marks = {name: _fingerprint(config, worlds, unseen, order.budget) for name, config in configs.items()}
    _make(order.out / "runs")
    bench = Bench(worlds, unseen, order.budget, order.out, marks[f"rollout-{ROLLOUTS[0]}"])
    names = [name for name in configs if any(name in g.rows.values() for g in GROUPS if g.letter in order.groups)]
    wanted = [(name, seed) for seed in range(order.seeds) for name in names]
    for done, (name, seed) in enumerate(wanted, start=1):
        path = order.out / "runs" / f"{name}-{seed}.json"
        if (figures := _read(path, marks[name])) is None:
            figures = bench.run(name, configs[name], seed)
            _write(path, {"variant": name, "seed": seed, "of": marks[name], "figures": figures})
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items() if isinstance(value, float))
        tell(f"{done} of {len(wanted)}  {name}, seed {seed}: {shown}")
    runs = {name: list(_finished(order.out, name, mark)) for name, mark in marks.items()}
    return {
        "budget": asdict(order.budget),
        "unseen": unseen.name,
        "hardware": hardware(),
        "groups": [asdict(group) for group in GROUPS if group.letter in order.groups],
        "runs": runs,
        "claims": claims_of(runs),
    }


def ablation_text(results: dict[str, Any]) -> str:
    """The tables and the claims, for people."""
    groups = [Group(**group) for group in results["groups"]]
    return markdown([(f"{g.letter}. {g.title}", g.rows) for g in groups], results["runs"], results["claims"])


def _worlds(order: AblationOrder) -> tuple[list[World], World]:
    folders = order.folders
    if not folders:
        folders = (order.out / OWN_MAP.stem,)
        if not (folders[0] / "world.npz").exists():
            build_world(OWN_MAP, folders[0], 0, OWN_TRAFFIC_S)
    return [load_world(folder) for folder in folders], load_world(order.unseen)


def _fingerprint(config: ModelConfig, worlds: list[World], unseen: World, budget: Budget) -> str:
    """Of everything that a run's figures follow from, but for its seed."""
    towns = [(world.name, world.seed, world.traffic.pose.shape) for world in (*worlds, unseen)]
    said = json.dumps([config.to_dict(), towns, asdict(budget)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _read(path: Path, of: str) -> dict[str, Any] | None:
    """The figures of a finished run; None where there is none."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        figures: dict[str, Any] = dict(found["figures"])
        same = found["of"] == of
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DcgenError(f"{path}: is no run of an ablation; remove it") from error
    if not same:
        raise DcgenError(f"{path}: was trained on other worlds or under another budget; give another -o DIR")
    return figures


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DcgenError(f"{folder}: cannot be made ({error.strerror or error}); give another -o DIR") from error


def _write(path: Path, run: dict[str, Any]) -> None:
    with appearing(path) as partial:
        partial.write_text(json.dumps(run, indent=1) + "\n")


def _finished(out: Path, name: str, of: str) -> Iterator[dict[str, Any]]:
    """Figures of every seed of a variant that lies in the folder, also of seeds that this order does not ask for."""
    seed = 0
    while (figures := _read(out / "runs" / f"{name}-{seed}.json", of)) is not None:
        yield figures
        seed += 1
