"""A model, a street and chunks so small that a test is quick. All sizes differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dcgen.checkpoint import Model
from dcgen.config import DitConfig, ModelConfig, VaeConfig
from dcgen.dataset.source import ClipRows
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import DatasetWriter, open_dataset
from dcgen.dit.conditioning import ConditionBatch
from dcgen.dit.model import Dit
from dcgen.types import (
    AGENT_CHANNELS,
    STATIC_CHANNELS,
    UNKNOWN,
    AgentTracks,
    Clip,
    Command,
    Conditions,
    GridSpec,
    Semantics,
    pose_matrix,
)
from dcgen.vae.model import Vae

GRID = GridSpec((16, 24, 8), (0.8, 0.8, 0.8), (-6.4, -9.6, -2.0))
FRAMES = 4
VAE = VaeConfig(
    embed=6, widths=(8, 12), heads=2, channels=5, volume_channels=3, decoder_width=14, residual_width=10,
    squeeze_width=9,
)  # fmt: skip
DIT = DitConfig(width=32, depth=2, heads=2, mlp_ratio=2, volume_patch=(2, 2, 2), layout_width=6)
CONFIG = ModelConfig("tiny", GRID, FRAMES, 0.2, vae=VAE, dit=DIT)
PLAIN = replace(CONFIG, vae=replace(VAE, volume_channels=0, static_once=False))  # the paper's form
# What the paper measures itself against, and planes as fine as the grid.
QUERIES = replace(PLAIN, vae=replace(PLAIN.vae, projection="average", decoder="queries"))
FINE = replace(CONFIG, vae=replace(VAE, stride=1, time_stride=1))
FOLDED = replace(CONFIG, dit=replace(DIT, layout_fold=2))


def randomise(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter drawn anew, also those that begin at zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan = max(parameter[0].numel(), 4) if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) * fan**-0.5
    return module.eval()


def model(config: ModelConfig = CONFIG, seed: int = 0) -> Model:
    """Random weights: what it makes is noise, which no law forgives."""
    size = config.hex_shape.size
    generator = torch.Generator().manual_seed(seed + 1)
    mean, std = torch.randn(size, generator=generator), torch.rand(size, generator=generator) + 0.5
    return Model(config, randomise(Vae(config), seed), randomise(Dit(config), seed + 2), mean, std, "ab" * 32)


def street(frames: int = FRAMES, grid: GridSpec = GRID) -> np.ndarray:
    """[T, X, Y, Z] a road along x, a house, a pole, a parked car, and a car that drives along x."""
    labels = np.zeros((frames, *grid.shape), np.uint8)
    labels[..., 2] = Semantics.GROUND
    labels[:, :, 8:15, 2] = Semantics.ROAD
    labels[:, 2:9, 18:23, 3:7] = Semantics.BUILDING
    labels[:, 12, 4, 3:6] = Semantics.POLE
    labels[:, 10:14, 15:17, 3] = Semantics.VEHICLE
    for t in range(frames):
        labels[t, 2 + 2 * t : 5 + 2 * t, 10:12, 3:5] = Semantics.VEHICLE
    return labels


def layout_of(labels: np.ndarray) -> np.ndarray:
    """[T, C, X, Y] the agents' layout that belongs to labels."""
    layout = np.zeros((len(labels), len(AGENT_CHANNELS), *labels.shape[1:3]), np.float32)
    layout[:, 0] = (labels == Semantics.VEHICLE).any(axis=-1)
    layout[:, 3] = layout[:, 0]
    return layout


def path(frame: float) -> np.ndarray:
    """[4, 4] the ego drives a bend: 1.1 m and 3 degrees a frame."""
    return pose_matrix(3.3 + 1.1 * frame, -2.7 + 0.2 * frame, 0.05 * frame, 0.4 + 0.05 * frame)


def standing(_frame: float) -> np.ndarray:
    return path(0.0)


def chunk(first_frame: int = 0, known: np.ndarray | None = None, drive=path, seed: int = 0, world=None) -> Conditions:
    """Conditions of frames [first_frame, first_frame + 4) along a drive; layouts are drawn from the seed."""
    rng = np.random.default_rng((seed, first_frame + 100))
    poses = np.stack([drive(first_frame + t) for t in range(FRAMES)])
    local = np.linalg.inv(poses[FRAMES // 2]) @ poses
    yaw = np.arctan2(local[:, 1, 0], local[:, 0, 0])
    layout_agents = rng.random((FRAMES, len(AGENT_CHANNELS), *GRID.shape[:2])).astype(np.float32)
    layout_agents[:, :3] *= layout_agents[:, :3] > 0.99
    if known is not None:
        layout_agents = layout_of(known)
    poses = poses if world is None else world @ poses
    return Conditions(
        grid=GRID,
        dt_s=0.2,
        world_se3_anchor=poses[FRAMES // 2],
        world_se3_ego=poses,
        trajectory=np.stack([local[:, 0, 3], local[:, 1, 3], yaw], axis=1).astype(np.float32),
        command=Command(int(rng.integers(4))),
        layout_static=rng.random((len(STATIC_CHANNELS), *GRID.shape[:2])).astype(np.float32),
        layout_agents=layout_agents,
        known=np.full((FRAMES, *GRID.shape), UNKNOWN, np.uint8) if known is None else known,
        agents=AgentTracks.empty(FRAMES),
        first_frame=first_frame,
    )


def clip(seed: int = 0) -> Clip:
    """A street shifted sideways by the seed, with the layout that belongs to it."""
    labels = np.roll(street(), seed, axis=2)
    moving = np.zeros(labels.shape, bool)
    for t in range(FRAMES):
        moving[t] = (labels[t] == Semantics.VEHICLE) & (labels[(t + 1) % FRAMES] != Semantics.VEHICLE)
    conditions = replace(chunk(seed, seed=seed), layout_agents=layout_of(labels), first_frame=0)
    return Clip(labels, moving, conditions)


def dataset_of(clips: list[Clip], folder: Path, part_clips: int = 3) -> ClipRows:
    """The rows of a data set of some clips."""
    first = clips[0].conditions
    spec = DatasetSpec(first.grid, first.frames, first.dt_s, len(clips), part_clips=part_clips)
    with DatasetWriter(folder, spec) as writer:
        for part in range(spec.parts):
            writer.write_shard(part, [clips[n] for n in spec.part_range(part)])
    return ClipRows(open_dataset(folder))


def condition_batch(batch: int = 3, config: ModelConfig = CONFIG, seed: int = 0) -> ConditionBatch:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator)

    x, y, _ = config.grid.shape
    return ConditionBatch(
        trajectory=draw(config.frames, 3),
        command=torch.arange(seed, seed + batch) % 4,
        layout_static=draw(config.static_channels, x, y),
        layout_agents=draw(config.frames, config.agent_channels, x, y),
        known=draw(config.hex_shape.size),
        present=torch.ones(batch, dtype=torch.bool),
    )
