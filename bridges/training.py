"""Worlds to clips to a model: what a training run needs of the scenario layer, and how it reports."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridges.dataset import dcgen_dataset
from dcgen.config import PRESETS, ModelConfig
from dcgen.dataset.source import ClipRows, ClipSource
from dcgen.errors import DcgenError
from dcgen.types import Clip
from scenarios.world.cut.clips import candidates_of, make_clip
from scenarios.world.cut.recipe import ClipRecipe, Pick
from scenarios.world.store import World, load_world

if TYPE_CHECKING:
    from dcgen.checkpoint import Model
    from dcgen.train import TrainConfig

Tell = Callable[[str], None]
CUTS = ("cpu", "device")
TOLD_S = 10.0  # between two lines of what precedes training
DEFAULTS: dict[str, dict[str, Any]] = {
    "vae": {"steps": 2_000, "batch": 4, "learning_rate": 1.5e-3, "ema": 0.998, "cooldown": 0.5},
    "decoder": {"steps": 600, "batch": 4, "learning_rate": 5e-4, "ema": 0.995, "warmup": 30, "cooldown": 0.6},
    "dit": {"steps": 10_000, "batch": 8, "learning_rate": 8e-4, "ema": 0.998, "warmup": 150},
    "student": {"steps": 800, "batch": 8, "learning_rate": 4e-4, "ema": 0.99, "warmup": 20, "cooldown": 0.7},
}


def preset(name: str) -> ModelConfig:
    """Sizes by name. Raises DcgenError."""
    if name not in PRESETS:
        raise DcgenError(f"--preset {name}: no such sizes; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


@dataclass
class LiveClips:
    """Clips cut from worlds when they are asked for. Clip n depends on (seed, n) alone."""

    worlds: Sequence[World]
    count: int
    seed: int
    config: ModelConfig

    def __len__(self) -> int:
        return self.count

    @property
    def clip_shape(self) -> tuple[int, ...]:
        return (self.config.frames, *self.config.grid.shape)

    @property
    def content_sha256(self) -> str:
        """Of the worlds by their names, towns and traffic, of the seed, and of the clips' shape."""
        config = self.config
        shape = (config.grid, config.frames, config.dt_s, config.anchored)
        digest = hashlib.sha256(repr((self.seed, *shape)).encode())
        for world in self.worlds:
            digest.update(repr((world.name, world.seed, world.made_from)).encode())
            for part in (world.traffic.pose, world.tile.surface_class, world.tile.span_class):
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def rows(self, index: NDArray[np.int64], fields: Iterable[str]) -> dict[str, NDArray]:
        """The named arrays of some clips, as ClipRows.rows gives them."""
        clips = [self.clip(int(n)) for n in index]
        read: dict[str, Callable[[Clip], Any]] = {
            "labels": lambda clip: clip.labels,
            "moving": lambda clip: clip.moving,
            "trajectory": lambda clip: clip.conditions.trajectory,
            "command": lambda clip: np.int8(clip.conditions.command),
            "layout_static": lambda clip: clip.conditions.layout_static,
            "layout_agents": lambda clip: clip.conditions.layout_agents,
        }
        return {name: np.stack([read[name](clip) for clip in clips]) for name in fields}

    def clip(self, n: int) -> Clip:
        """Anchored or ego-centred, as the model wants it: of the same moment either way."""
        world, pick = self.pick(n)
        return make_clip(self.worlds[world], pick, self.recipe)

    @property
    def recipe(self) -> ClipRecipe:
        config = self.config
        return ClipRecipe(config.grid, config.frames, config.dt_s, ego_centred=not config.anchored)

    def pick(self, n: int) -> tuple[int, Pick]:
        """Which world clip n is cut from, and where in it."""
        rng, recipe = np.random.default_rng([self.seed, n]), self.recipe
        world = int(rng.integers(len(self.worlds)))
        row, start = candidates_of(self.worlds[world], recipe.frames, recipe.dt_s).draw(recipe.mix, rng)
        return world, Pick(row, start, 0)


def open_source(
    folders: Sequence[Path], count: int, seed: int, config: ModelConfig, cut: str | None = None
) -> ClipSource:
    """The clips of one data set, or worlds to cut them from on the fly: on the "cpu" or on the "device".

    cut None takes the device where it is CUDA. Raises DcgenError.
    """
    from dcgen.recipes import check_fits

    if cut not in (None, *CUTS):
        raise DcgenError(f"--cut {cut}: clips are cut on one of {', '.join(CUTS)}; choose one")
    if len(folders) == 1 and not (folders[0] / "world.npz").exists():
        source = ClipRows(dcgen_dataset(folders[0]))
        check_fits(folders[0], source, config)
        return source
    from bridges.device_clips import DeviceClips, training_device

    if cut == "device" and not config.anchored:
        raise DcgenError(f"--cut device: model {config.name} is centred on the ego; its clips are cut on the cpu")
    live = LiveClips([load_world(folder) for folder in folders], count, seed, config)
    device = training_device()
    if cut == "device" or (cut is None and config.anchored and device.type == "cuda"):
        return DeviceClips(live, device)
    return live


@dataclass(frozen=True)
class TrainingOrder:
    """What is asked of `dcgen train`. folders: one data set, or worlds, of which `count` clips are cut.

    vae is the run of an autoencoder, start the name or folder of a model whose transformer goes on, that lends a new
    autoencoder (or, beside vae, a new transformer) its weights, or that a student learns from. asked holds
    steps, batch, learning_rate and accumulate, for which None stands for what has worked, checkpointing and fsdp.
    """

    stage: str
    folders: tuple[Path, ...]
    out: Path
    vae: Path | None = None
    start: str | None = None
    sizes: str | None = None  # a preset's name; that of an autoencoder begun anew is nano where none is given
    asked: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    count: int = 10_000
    seed: int = 0
    trajectories: int = 320  # of the teacher, that a student learns from
    cut: str | None = None  # where clips are cut from worlds, one of CUTS


def run_training(order: TrainingOrder, tell: Tell) -> Path | None:
    """Train one stage and return what it leaves: weights, or a finished model folder; None but in the first process."""
    from dcgen import parallel
    from dcgen.device import default_device, describe

    fsdp = bool(order.asked.get("fsdp")) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    order = replace(order, asked={**order.asked, "fsdp": fsdp})
    with parallel.processes(fsdp):
        first = parallel.first()
        say = tell if first else (lambda _: None)
        say(f"{describe(default_device())}, {parallel.size()} process{'es' * (parallel.size() > 1)}")
        made = _train_stage(order, say)
        return made if first else None


def _train_stage(order: TrainingOrder, tell: Tell) -> Path:
    """What run_training does, in each process."""
    from dcgen.checkpoint import load_model
    from dcgen.device import default_device
    from dcgen.recipes import load_vae, train_decoder, train_dit, train_vae
    from dcgen.train import TrainConfig

    _check_words(order)
    asked = {name: value for name, value in order.asked.items() if value is not None}
    how = TrainConfig(**{**DEFAULTS[order.stage], **asked}, seed=order.seed)
    rest = (order.out, how, _reporter(tell), order.minutes)

    def clips(config: ModelConfig) -> ClipSource:
        return open_source(order.folders, order.count, order.seed, config, order.cut)

    if order.stage == "student":
        return _student(order, how, clips, tell)

    def lender() -> Model | None:
        return load_model(order.start) if order.start is not None else None

    if order.stage == "vae":
        config = preset(order.sizes or "nano")
        return train_vae(config, clips(config), *rest, start=lender())
    if order.vae is None and order.start is not None:
        model = load_model(order.start, default_device())
        _check_asked(order, order.start, model.config)
        source = clips(model.config)
        return train_dit(model, source, *rest, _encoding(tell, len(source)))
    if order.vae is None:
        raise DcgenError(f"--vae is missing; dcgen train {order.stage} needs the run folder of the stage before")
    config = load_vae(order.vae)[0]
    _check_asked(order, order.vae, config)
    source = clips(config)
    if order.stage == "decoder":
        return train_decoder(order.vae, source, *rest)
    return train_dit(order.vae, source, *rest, _encoding(tell, len(source)), lender())


def _check_words(order: TrainingOrder) -> None:
    """Raises DcgenError where options do not go together, or where nothing could be written at the end."""
    if order.start is not None and order.stage == "decoder":
        raise DcgenError("--start is for dcgen train vae, dit and student; leave it out")
    if order.vae is not None and order.stage not in ("decoder", "dit"):
        raise DcgenError("--vae is for dcgen train decoder and dit; leave it out")
    there = next(folder for folder in (order.out, *order.out.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "may not be written to" if there.is_dir() else "is no folder"
        raise DcgenError(f"--output {order.out}: {there} {why}; give another folder")


def _check_asked(order: TrainingOrder, name: object, config: ModelConfig) -> None:
    """Raises CheckpointError where a stage goes on from another preset than is asked for."""
    from dcgen.checkpoint import check_preset

    if order.sizes is not None:
        check_preset(name, config, preset(order.sizes))


def _student(order: TrainingOrder, how: TrainConfig, clips: Callable[[ModelConfig], ClipSource], tell: Tell) -> Path:
    """A few-step student of the model that order.start names."""
    from dcgen.checkpoint import load_model
    from dcgen.device import default_device
    from dcgen.student import train_student
    from dcgen.trajectories import Plan

    if order.start is None:
        raise DcgenError("--start is missing; dcgen train student needs the model that it learns from, as --start nano")
    teacher = load_model(order.start, default_device())
    _check_asked(order, order.start, teacher.config)
    plan = Plan(order.trajectories, guidance=teacher.config.sampling.guidance, seed=order.seed)

    def progress(done: int) -> None:
        tell(f"trajectory {done} of {order.trajectories}")

    rows = clips(teacher.config)
    return train_student(teacher, rows, order.out, how, plan, _reporter(tell), order.minutes, progress)


def _encoding(tell: Tell, total: int) -> Callable[[int], None]:
    """Tells now and then how many clips are encoded, which comes before the first step."""
    done, told = 0, time.monotonic()

    def progress(clips: int) -> None:
        nonlocal done, told
        done += clips
        if time.monotonic() - told > TOLD_S:
            told = time.monotonic()
            tell(f"latents of {done} of {total} clips")

    return progress


def _reporter(tell: Tell) -> Callable[[int, int, dict[str, float]], None]:
    def report(step: int, steps: int, terms: dict[str, float]) -> None:
        tell(f"step {step} of {steps}  " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(terms.items())))

    return report
