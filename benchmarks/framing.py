"""Anchored chunks against the paper's ego-centred frames, under equal budgets: clips, latents, loss, steps, batch.

    python benchmarks/framing.py TRAIN_WORLD... --unseen WORLD --steps 400

Prints one row a variant: mIoU and moving-object IoU on the unseen world, parameters, seconds a step.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dcgen.config import ModelConfig, VaeConfig, nano
from dcgen.device import autocast
from dcgen.eval.reconstruction import Confusion, confusion, moving_iou
from dcgen.eval.tally import Tally
from dcgen.stages import VaeBatch, VaeStage
from dcgen.train import TrainConfig, train
from dcgen.types import NUM_CLASSES
from dcgen.vae.loss import class_weights
from dcgen.vae.model import Vae
from scenarios.world.cut.clips import sample_clip
from scenarios.world.cut.voxelize import cut_frame
from scenarios.world.store import World, load_world


@dataclass(frozen=True)
class Clips:
    """The same moments, cut in one world-fixed grid and in the ego's own frames. [N, T, X, Y, Z] each."""

    labels: NDArray[np.uint8]
    moving: NDArray[np.bool_]


def variants() -> dict[str, ModelConfig]:
    """Latents of equal size: without the volume, the planes get its channels."""
    base = nano()
    planes = replace(base.vae, channels=20, volume_channels=0)
    plain: VaeConfig = replace(planes, static_once=False, squeeze_width=48)
    return {
        "ego-centred, plain ESS": replace(base, anchored=False, vae=plain),
        "anchored, plain ESS": replace(base, vae=plain),
        "anchored, static once + residual": replace(base, vae=planes),
        "anchored, static once + residual + X-Y-T volume": base,
    }


def cut(worlds: list[World], count: int, seed: int) -> dict[bool, Clips]:
    """Clips by whether they are anchored."""
    config = nano()
    anchored, centred = ([], []), ([], [])
    for n in range(count):
        world = worlds[n % len(worlds)]
        clip = sample_clip(world, np.random.default_rng([seed, n]), config.grid, config.frames, config.dt_s)
        anchored[0].append(clip.labels)
        anchored[1].append(clip.moving)
        frames = [ego_frame(clip.conditions.agents, t, world, pose) for t, pose in
                  enumerate(clip.conditions.world_se3_ego)]  # fmt: skip
        centred[0].append(np.stack([frame[0] for frame in frames]))
        centred[1].append(np.stack([frame[1] for frame in frames]))
    return {kind: Clips(np.stack(c[0]), np.stack(c[1])) for kind, c in ((True, anchored), (False, centred))}


def ego_frame(agents, t, world, pose):  # type: ignore[no-untyped-def]
    """Labels and moving voxels of one moment, centred on the ego."""
    made = cut_frame(world.tile, agents, t, pose, nano().grid)
    return made.labels[0], made.moving[0]


def run(config: ModelConfig, clips: Clips, unseen: Clips, steps: int, batch: int, out: Path) -> list[str]:
    """One row of the table."""
    torch.manual_seed(0)
    counts = np.bincount(clips.labels[:100].ravel(), minlength=256)[:NUM_CLASSES]
    stage = VaeStage(Vae(config), class_weights(torch.from_numpy(counts)))

    def batch_at(i: int) -> VaeBatch:
        index = np.random.default_rng([1, i]).integers(len(clips.labels), size=batch)
        labels = torch.from_numpy(clips.labels[index])
        return VaeBatch(labels, labels, torch.from_numpy(clips.moving[index]))

    began = time.monotonic()
    how = TrainConfig(steps=steps, batch=batch, learning_rate=1.5e-3, ema=0.99, save_s=1e9)
    weights = train(stage, batch_at, how, out)
    seconds = (time.monotonic() - began) / steps
    stage.vae.load_state_dict(weights)
    total, moving = Confusion(np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)), Tally(0, 0)
    for i in range(0, len(unseen.labels), 4):
        truth, moves = unseen.labels[i : i + 4], unseen.moving[i : i + 4]
        with autocast(torch.device("cpu")):
            made = stage.vae.eval().reconstruct(torch.from_numpy(truth)).numpy()
        total = total + confusion(made, truth)
        for k in range(len(truth)):
            moving = moving + moving_iou(made[k], truth[k], moves[k], config.grid.voxel_m)["all"]
    parameters = sum(p.numel() for p in stage.vae.parameters())
    return [f"{total.miou:.3f}", f"{moving.share:.3f}", f"{config.hex_shape.size}", f"{parameters / 1e3:.0f} k",
            f"{seconds:.2f}"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="+", type=Path)
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("out/framing"))
    args = parser.parse_args()
    clips = cut([load_world(folder) for folder in args.worlds], args.clips, 0)
    unseen = cut([load_world(args.unseen)], 60, 1)
    print("| variant | mIoU | moving IoU | latent values | parameters | s/step |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n, (name, config) in enumerate(variants().items()):
        row = run(config, clips[config.anchored], unseen[config.anchored], args.steps, args.batch, args.out / str(n))
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
