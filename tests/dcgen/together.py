"""What two processes run in the tests of dcgen.parallel; one process runs the same, to compare with."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dcgen import device, parallel
from dcgen.dit.model import Dit
from dcgen.errors import DcgenError
from dcgen.stages import DitStage, VaeBatch, VaeStage
from dcgen.tensor_file import write_tensors
from dcgen.train import TrainConfig, train
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG, clip, condition_batch, randomise

HOW = TrainConfig(steps=3, batch=4, accumulate=2, learning_rate=1e-3, warmup=2, save_s=1e9, log_every=1, ema=0.8)
VAE_HOW = replace(HOW, batch=2, accumulate=1)


def dit_stage() -> DitStage:
    return DitStage(randomise(Dit(CONFIG)), drop=0.3)


def dit_batch(i: int):
    mine = parallel.part(HOW.batch)
    data = torch.randn(HOW.batch, CONFIG.hex_shape.size, generator=torch.Generator().manual_seed(i))
    return data[mine], condition_batch(HOW.batch, seed=i).index(mine)


def vae_stage() -> VaeStage:
    torch.manual_seed(0)
    return VaeStage(Vae(CONFIG), torch.ones(12))


def vae_batch(i: int) -> VaeBatch:
    clips = [clip(i), clip(i + 3)][parallel.part(2)]
    labels, moving = (torch.from_numpy(np.stack([getattr(c, n) for c in clips])) for n in ("labels", "moving"))
    return VaeBatch(labels, labels, moving)


def runs(folder: Path) -> None:
    """One run of each kind."""
    train(dit_stage(), dit_batch, HOW, folder / "dit")
    train(vae_stage(), vae_batch, VAE_HOW, folder / "vae")


def many(folder: Path) -> None:
    """What takes more than one process beside those."""
    runs(folder)
    for _ in range(HOW.steps):  # cut after each step
        train(dit_stage(), dit_batch, HOW, folder / "cut", minutes=0.0)
    train(dit_stage(), dit_batch, replace(HOW, fsdp=True, steps=2), folder / "fsdp")
    ema = train(dit_stage(), dit_batch, replace(HOW, fsdp=True, checkpointing=True), folder / "fsdp")
    with parallel.first_alone():
        if parallel.first():
            write_tensors(folder / "ema.safetensors", ema, {})
        assert (folder / "ema.safetensors").exists()


def nan(_: Path) -> None:
    """A loss that is not finite on the last process alone."""

    def poisoned(i: int):
        data, conditions = dit_batch(i)
        return data * float("nan") if parallel.rank() == parallel.size() - 1 and i == 3 else data, conditions

    train(dit_stage(), poisoned, HOW, _ / "nan")


def broken(_: Path) -> None:
    """Clips that the last process alone cannot read."""

    def lost(i: int):
        if parallel.rank() == parallel.size() - 1 and i == 3:
            raise DcgenError("clips: gone; build them again")
        return dit_batch(i)

    train(dit_stage(), lost, HOW, _ / "broken")


def main() -> None:
    torch.set_num_threads(1)
    device._cpu_multiplies_bfloat16 = lambda: False  # as the fixture `exact` does where one process runs the same
    try:
        with parallel.processes():
            {"many": many, "nan": nan, "broken": broken}[sys.argv[1]](Path(sys.argv[2]))
    except DcgenError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
