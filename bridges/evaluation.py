"""A model's figures on a map that it may not have seen: a world is built on it, and clips are cut and made again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dcgen.config import ModelConfig
from dcgen.errors import WorldError
from dcgen.eval.consistency import EgoFrames
from dcgen.eval.report import bars_of, evaluate
from dcgen.types import UNKNOWN, AgentTracks, Clip, Conditions, Labels
from scenarios.compile import OVERLAP
from scenarios.lead import chunk_starts
from scenarios.roads import cache_folder, read_map
from scenarios.world.cut.candidates import find_candidates
from scenarios.world.cut.clips import agents_near, cut_world, ego_poses, sample_clip
from scenarios.world.cut.voxelize import cut_frame
from scenarios.world.store import World, build_world, load_world

if TYPE_CHECKING:
    from dcgen.checkpoint import Model
    from dcgen.config import Sampling
    from dcgen.vae.model import Vae

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]
LONG_FRAMES = 128


def evaluate_on_map(
    model_name: str,
    map_path: Path,
    clips: int,
    seed: int,
    tell: Tell,
    progress: Progress,
    *,
    worlds: int = 1,
    generate_clips: int | None = None,
    long_scenes: int = 4,
    steps: int | None = None,
    guidance: float | None = None,
) -> dict[str, Any]:
    """Every figure of dcgen.eval on clips of a world on the map, or of several. Raises MapError, WorldError,
    CheckpointError.

    worlds: how many, with the seeds from `seed` on. What stands along a map's streets is drawn with the world and no
    condition tells it, so the class shares of one world are a draw; long scenes are those of the first.
    """
    from dcgen.checkpoint import load_model
    from dcgen.device import default_device

    model = load_model(model_name, default_device())
    config = model.config
    shares = [clips * (k + 1) // worlds - clips * k // worlds for k in range(worlds)]
    built = [_told_world(map_path, seed + k, share, tell) for k, share in enumerate(shares)]
    world = built[0]
    sampling = config.sampling.but(steps, guidance)
    return evaluate(
        chain.from_iterable(unseen_clips(w, config, shares[k], seed + k) for k, w in enumerate(built)),
        lambda clip: reconstruct(clip, model.vae),
        lambda conditions, noise: make_again(conditions, noise, model, sampling),
        latent_values=config.hex_shape.size,
        seed=seed,
        generate_clips=generate_clips,
        long_scenes=(long_scene(world, seed + n, model, sampling) for n in range(long_scenes)),
        real_scenes=(real_scene(world, seed + n, config) for n in range(long_scenes)),
        bars=bars_of(config.grid),
        progress=lambda done: progress(done, clips),
    )


def evaluate_autoencoder(
    name: str, map_path: Path, clips: int, seed: int, tell: Tell, progress: Progress
) -> dict[str, Any]:
    """The figures of an autoencoder alone: a run folder, a file, or a shipped one. Raises as evaluate_on_map does."""
    from dcgen.recipes import load_vae

    config, vae = load_vae(name)
    world = _told_world(map_path, seed, clips, tell)
    return evaluate(
        unseen_clips(world, config, clips, seed),
        lambda clip: reconstruct(clip, vae),
        latent_values=config.hex_shape.size,
        seed=seed,
        bars=bars_of(config.grid),
        progress=lambda done: progress(done, clips),
    )


def _told_world(map_path: Path, seed: int, clips: int, tell: Tell) -> World:
    tell(f"building a world on {map_path}")
    world = world_of(map_path, seed)
    tell(f"{clips} clips of {world.name}")
    return world


def unseen_clips(world: World, config: ModelConfig, clips: int, seed: int) -> Iterator[Clip]:
    """The clips that figures are measured on: clip n depends on (seed, n) alone, and gives nothing away."""
    for n in range(clips):
        rng = np.random.default_rng([seed, n])
        yield _unseen(sample_clip(world, rng, config.grid, config.frames, config.dt_s))


def world_of(map_path: Path, seed: int) -> World:
    """The world of a map and a seed, built once and kept in the cache folder."""
    read_map(map_path)  # a file that is no map is refused before it is worked on
    digest = hashlib.sha256(map_path.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / "worlds" / f"{map_path.stem}-{digest}-{seed}"
    if (folder / "world.npz").is_file():
        try:
            return load_world(folder)
        except WorldError:
            pass  # of an older version, or damaged: build it again
    return build_world(map_path, folder, seed)


def _unseen(clip: Clip) -> Clip:
    """The same clip with nothing given away."""
    known = np.full_like(clip.conditions.known, UNKNOWN)
    return replace(clip, conditions=replace(clip.conditions, known=known))


def reconstruct(clip: Clip, vae: Vae) -> Labels:
    """A clip's labels through the latents and back."""
    import torch

    from dcgen.device import autocast

    device = next(vae.parameters()).device
    with torch.inference_mode(), autocast(device):
        back: Labels = vae.reconstruct(torch.from_numpy(clip.labels[None]).to(device))[0].cpu().numpy()
    return back


def make_again(conditions: Conditions, seed: int, model: Model, sampling: Sampling) -> Labels:
    """One chunk from its conditions alone."""
    from dcgen.generate import noise_for, sample_chunks

    noise = noise_for(seed, 0, model.config.hex_shape.size)
    return sample_chunks([conditions], [conditions.known], [noise], model, sampling)[0]


def long_scene(world: World, seed: int, model: Model, sampling: Sampling) -> EgoFrames:
    """A scene of LONG_FRAMES frames, generated chunk after chunk along a drive of the traffic."""
    from dcgen.generate import generate_parts

    nobody = AgentTracks.empty(model.config.frames)  # parts of one scene need the same agents
    same = (replace(chunk, agents=nobody) for chunk in _chunks(world, seed, model.config))
    parts = list(generate_parts(same, model, seed, frames=LONG_FRAMES, sampling=sampling))
    labels = np.concatenate([part.labels for part in parts])
    poses = np.concatenate([part.world_se3_ego for part in parts])
    return EgoFrames(labels, poses, model.config.grid)


def _chunks(world: World, seed: int, config: ModelConfig) -> Iterator[Conditions]:
    row, start, step = _drive(world, seed, config)
    for first in chunk_starts(LONG_FRAMES, config.frames, OVERLAP):
        clip = _unseen(cut_world(world, row, start + first * step, config.grid, config.frames, config.dt_s))
        yield replace(clip.conditions, first_frame=first)


def real_scene(world: World, seed: int, config: ModelConfig) -> EgoFrames:
    """The same drive as long_scene, cut from the world frame by frame: what the figure itself allows."""
    row, start, step = _drive(world, seed, config)
    at = start + np.arange(LONG_FRAMES) * step
    poses = ego_poses(world, row, at)
    frames = []
    for frame, pose in zip(at, poses, strict=True):
        agents = agents_near(world, row, int(frame), 1, step, pose, config.grid)
        frames.append(cut_frame(world.tile, agents, 0, pose, config.grid).labels[0])
    return EgoFrames(np.stack(frames), poses, config.grid)


def _drive(world: World, seed: int, config: ModelConfig) -> tuple[int, int, int]:
    """(row, start, step) of a vehicle that drives for LONG_FRAMES frames; every step-th frame of the log counts."""
    step = round(config.dt_s / world.traffic.dt_s)
    margin = config.frames  # chunks reach over both ends of the scene
    candidates = find_candidates(world.traffic, LONG_FRAMES + 2 * margin, step)
    moving = candidates.driving if len(candidates.driving) else np.arange(len(candidates.row))
    chosen = int(np.random.default_rng([seed, LONG_FRAMES]).choice(moving))
    return int(candidates.row[chosen]), int(candidates.start[chosen]) + margin * step, step
