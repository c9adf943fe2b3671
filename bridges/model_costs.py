"""CPU-seconds, memory and products of a model's parts, one by one. B batch, D latent.

CPU figures are of one thread; memory is the peak of a process that does nothing else.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dcgen.checkpoint import Model
    from dcgen.config import ModelConfig
    from dcgen.types import Clip, Conditions

GPU_BATCH = 8
GB = 1e9


def shipped(name: str) -> bool:
    from dcgen.checkpoint import model_path

    return model_path(name).is_file()


def model_of(config: ModelConfig, device: str = "cpu") -> Model:
    """The shipped model of a preset; where there is none one of the same sizes that has learned nothing."""
    import torch

    from dcgen.checkpoint import Model, load_model
    from dcgen.dit.model import Dit
    from dcgen.vae.model import Vae

    if shipped(config.name):
        return load_model(config.name, device)
    size = config.hex_shape.size
    return Model(config, Vae(config).eval(), Dit(config).eval(), torch.zeros(size), torch.ones(size)).to(device)


def cpu_figures(
    config: ModelConfig, size: ModelConfig, clips: Sequence[Clip], repeats: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """What every machine can say. size: whose transformer is measured beside the preset's own; a clip of each."""
    import torch

    model, clip, threads = model_of(config), clips[0], torch.get_num_threads()
    tell("one chunk from conditions to labels, on all cores")
    scene = [_wall_s(partial(_scene, model, clip.conditions, n), "cpu") for n in range(repeats + 1)]
    torch.set_num_threads(1)
    try:
        tell("encoding, decoding, a training step, a forward: on one thread")
        figures = {**_rates(), **_vae_figures(model, clip, repeats)}
        figures |= _dit_figures(model_of(size), clips[1], repeats, "")
        figures |= _dit_figures(model, clip, repeats, "_preset")
    finally:
        torch.set_num_threads(threads)
    tell("peaks of memory, each in a process of its own")
    figures |= {"scene_wall_s": statistics.median(scene[1:]), "scene_threads": threads}
    for name, job in (("vae_step", _one_step), ("scene", _one_scene)):
        peak, above = alone(job, config, clip)
        figures |= {f"{name}_peak_gb": peak / GB, f"{name}_above_import_gb": above / GB}
    parts = {"vae": model.vae, "dit": model.dit}
    figures |= {f"{name}_parameters": sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    figures |= {"compression": config.compression, "sampling_steps": config.sampling.steps}
    return figures


def _rates() -> dict[str, float]:
    """GFLOP and GB a CPU-second: what floors are made of. (dcgen.measure.matrix_rate is of a second by the clock.)

    gflops is of float32, as the release's was; used_gflops of the arithmetic in which this CPU runs models.
    """
    import torch

    from dcgen.device import arithmetic
    from dcgen.measure import SIDE

    square, source = torch.randn(SIDE["cpu"], SIDE["cpu"]), torch.ones(1 << 26)  # 256 MB
    copy = torch.empty_like(source)

    def rate(dtype: torch.dtype) -> float:
        one = square.to(dtype)
        out = torch.empty_like(one)
        return 2 * SIDE["cpu"] ** 3 / cpu_s(lambda: torch.mm(one, one, out=out), 5) / 1e9

    return {
        "gflops": rate(torch.float32),
        "used_gflops": rate(arithmetic(torch.device("cpu"))),
        "copy_gb_s": 2 * source.nbytes / cpu_s(lambda: copy.copy_(source), 5) / GB,
    }


def _vae_figures(model: Model, clip: Clip, repeats: int) -> dict[str, float]:
    import torch

    from dcgen.device import autocast
    from dcgen.specks import without_specks
    from dcgen.types import UNKNOWN

    labels = torch.from_numpy(clip.labels)[None]
    with torch.inference_mode(), autocast(model.device):
        planes = model.vae.encode(labels).mean
        figures = {
            "encode_cpu_s": cpu_s(lambda: model.vae.encode(labels), repeats),
            "decode_cpu_s": cpu_s(lambda: model.vae.labels(planes), repeats),
            "decode_gflop": gflop(lambda: model.vae.labels(planes)),
        }
    unknown = np.full_like(clip.labels, UNKNOWN)
    figures["specks_cpu_s"] = cpu_s(lambda: without_specks(clip.labels, unknown, model.config.grid), repeats)
    return {**figures, "vae_step_cpu_s": cpu_s(training_step(model.config, clip), repeats)}


def training_step(config: ModelConfig, clip: Clip) -> Callable[[], None]:
    """A step of the autoencoder at batch 1: loss as in training, backward pass, AdamW."""
    import torch

    from dcgen.stages import VaeBatch, VaeStage
    from dcgen.types import NUM_CLASSES
    from dcgen.vae.model import Vae

    stage = VaeStage(Vae(config), torch.ones(NUM_CLASSES))
    optimiser = torch.optim.AdamW(stage.vae.parameters())
    labels, moving = (torch.from_numpy(part)[None] for part in (clip.labels, clip.moving))
    batch = VaeBatch(labels, labels, moving)

    def step() -> None:
        loss, _ = stage.loss(batch, torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _dit_figures(model: Model, clip: Clip, repeats: int, suffix: str) -> dict[str, float]:
    """One velocity at batch 1, what is prepared once for all of them, and how many products a velocity has."""
    import torch

    from dcgen.device import autocast
    from dcgen.generate import batch_conditions

    conditions = batch_conditions([clip.conditions], [clip.conditions.known], model)
    latents, at = torch.randn(1, model.config.hex_shape.size), torch.full((1,), 0.5)
    with torch.inference_mode(), autocast(model.device):
        prepared = model.dit.prepare(conditions)
        stop = at if model.config.dit.interval else None
        forward = partial(model.dit.velocity, latents, at, prepared, stop)
        return {
            f"dit_forward{suffix}_cpu_s": cpu_s(forward, repeats),
            f"dit_prepare{suffix}_cpu_s": cpu_s(partial(model.dit.prepare, conditions), repeats),
            f"dit_forward{suffix}_gflop": gflop(forward),
        }


def _scene(model: Model, conditions: Conditions, seed: int, steps: int | None = None) -> None:
    from dcgen.generate import generate

    generate(conditions, model, seed, sampling=model.config.sampling.but(steps))


def cpu_s(job: Callable[[], Any], repeats: int) -> float:
    """Median CPU-seconds of this process, after one run that does not count."""
    job()
    spent = []
    for _ in range(repeats):
        begun = time.process_time()
        job()
        spent.append(time.process_time() - begun)
    return statistics.median(spent)


def _wall_s(job: Callable[[], Any], device: str) -> float:
    import torch

    from dcgen.measure import synchronise

    synchronise(torch.device(device))
    begun = time.perf_counter()
    job()
    synchronise(torch.device(device))
    return time.perf_counter() - begun


def gflop(job: Callable[[], Any]) -> float:
    """Operations of the products that a job makes."""
    from dcgen.measure import ModelFlops

    with ModelFlops() as flops:
        job()
    return flops.total / 1e9


def alone(job: Callable[[ModelConfig, Clip], None], config: ModelConfig, clip: Clip) -> tuple[int, int]:
    """Bytes: the peak of a process that does one job, and how much of it came after the imports."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_of, job, config, clip).result()


def _peak_of(job: Callable[[ModelConfig, Clip], None], config: ModelConfig, clip: Clip) -> tuple[int, int]:
    import dcgen.generate
    import dcgen.stages  # noqa: F401 - what is imported is not the job's
    from dcgen.measure import resident_bytes

    before = resident_bytes("VmRSS")
    job(config, clip)
    peak = resident_bytes("VmHWM")
    return peak, peak - before


def _one_step(config: ModelConfig, clip: Clip) -> None:
    training_step(config, clip)()


def _one_scene(config: ModelConfig, clip: Clip) -> None:
    """One step of a sampler holds as much as many."""
    _scene(model_of(config), clip.conditions, 0, steps=1)


def gpu_figures(config: ModelConfig, clip: Clip, repeats: int) -> dict[str, Any] | None:
    """Scenes and a training step on the GPU; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    from dcgen.device import sparse_kernels
    from dcgen.generate import noise_for, sample_chunks

    device = torch.device("cuda")
    model, conditions = model_of(config, "cuda"), clip.conditions

    def sample(count: int) -> None:
        noise = [noise_for(0, n, config.hex_shape.size) for n in range(count)]
        sample_chunks([conditions] * count, [conditions.known] * count, noise, model, config.sampling)

    def median_s(job: Callable[[], Any]) -> float:
        job()
        return statistics.median(_wall_s(job, "cuda") for _ in range(repeats))

    torch.cuda.reset_peak_memory_stats()
    one = median_s(partial(_scene, model, conditions, 0))
    peak = torch.cuda.max_memory_allocated()
    many = median_s(partial(sample, GPU_BATCH))
    return {
        "device": torch.cuda.get_device_name(device),
        "scene_s": one,
        "peak_gb": peak / GB,
        "frames_s": GPU_BATCH * config.frames / many,
        "dit_step_mfu": mfu(model, conditions, median_s),
        "spconv": sparse_kernels(device) == "spconv",
    }


def mfu(model: Model, conditions: Conditions, median_s: Callable[[Callable[[], Any]], float]) -> float:
    """The share of the device's matrix rate that a training step of the transformer reaches."""
    import torch

    from dcgen.device import arithmetic
    from dcgen.generate import batch_conditions
    from dcgen.measure import matrix_rate
    from dcgen.stages import DitStage

    batch = batch_conditions([conditions] * GPU_BATCH, [conditions.known] * GPU_BATCH, model)
    data, stage = torch.randn(GPU_BATCH, model.config.hex_shape.size), DitStage(model.dit.train())
    optimiser = torch.optim.AdamW(model.dit.parameters())

    def step() -> None:
        loss, _ = stage.loss((data, batch.to(torch.device("cpu"))), torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    taken = median_s(step)
    return gflop(step) * 1e9 / taken / matrix_rate(model.device, arithmetic(model.device))
