"""Worlds to clips to a model: what a training run needs of the scenario layer, and how it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcgen.clip_store import write_shard
from dcgen.config import PRESETS, ModelConfig
from dcgen.errors import DcgenError
from scenarios.world.clips import iterate_clips

if TYPE_CHECKING:
    from dcgen.train import TrainConfig

Tell = Callable[[str], None]
SHARD_CLIPS = 256
DEFAULTS: dict[str, dict[str, Any]] = {
    "vae": {"steps": 20_000, "batch": 4, "learning_rate": 2e-3},
    "dit": {"steps": 60_000, "batch": 8, "learning_rate": 1e-3},
}


def preset(name: str) -> ModelConfig:
    """Sizes by name. Raises DcgenError."""
    if name not in PRESETS:
        raise DcgenError(f"--preset {name}: no such sizes; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def cut_clips(
    worlds: Sequence[Path], out: Path, count: int, seed: int, config: ModelConfig, progress: Callable[[int, int], None]
) -> int:
    """Cut `count` clips from worlds into a folder of shards. Shards that are there already are left as they are."""
    done = 0
    while done < count:
        size = min(SHARD_CLIPS, count - done)
        shard = out / f"shard-{done // SHARD_CLIPS:05d}"
        if not shard.exists():
            clips = iterate_clips(worlds, seed, config.grid, config.frames, config.dt_s, start=done)
            write_shard(islice(clips, size), shard)
        done += size
        progress(done, count)
    return done


def run_training(
    stage: str,
    clips: Path,
    out: Path,
    tell: Tell,
    asked: dict[str, float | None],
    *,
    sizes: str = "nano",
    vae: Path | None = None,
    minutes: float | None = None,
    seed: int = 0,
    accumulate: int = 1,
) -> Path:
    """Train one stage and return what it leaves: weights of the autoencoder, or a finished model folder.

    asked holds steps, batch and learning_rate; None stands for what has worked.
    """
    from dcgen.recipes import train_dit, train_vae

    how = _config(stage, seed, accumulate, {name: value for name, value in asked.items() if value is not None})
    report = _reporter(tell)
    if stage == "vae":
        return train_vae(preset(sizes), clips, out, how, report, minutes)
    if vae is None:
        raise DcgenError("--vae is missing; give the run folder of dcgen train vae")
    return train_dit(vae, clips, out, how, report, minutes)


def _config(stage: str, seed: int, accumulate: int, asked: dict[str, float]) -> TrainConfig:
    from dcgen.train import TrainConfig

    return TrainConfig(**{**DEFAULTS[stage], **asked}, seed=seed, accumulate=accumulate)


def _reporter(tell: Tell) -> Callable[[int, int, dict[str, float]], None]:
    def report(step: int, steps: int, terms: dict[str, float]) -> None:
        tell(f"step {step} of {steps}  " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(terms.items())))

    return report
