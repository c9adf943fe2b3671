"""Clips whose voxels are labelled on the device that trains. B clip, T frame, X/Y/Z voxel axes.

Which clip, its boxes and its anchor are the CPU's, and light; the columns of the worlds lie on the device, where each
clip is cut from them. The labels are those of the CPU kernels, bit for bit (dcgen.columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bridges.training import LiveClips
from dcgen import parallel
from dcgen.column_boxes import StampedCut
from dcgen.columns import Columns
from dcgen.known import random_known
from dcgen.stages import VaeBatch
from dcgen.types import UNKNOWN
from scenarios.layout import draw_agents
from scenarios.world.cut.clips import Moment, moment_of
from scenarios.world.cut.voxelize import boxes_of

HIDDEN_SHARE = 0.25  # of the clips, as in dcgen.stages.vae_batches


def training_device() -> torch.device:
    """The device that this process trains on, by its number: another thread would take the first."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


@dataclass
class DeviceClips:
    """LiveClips that make the autoencoder's batches on a device. Everything else is as LiveClips gives it.

    Clips must be anchored: an ego-centred one is T grids. The columns of a world are laid on the device when the first
    clip is cut from it, and stay: 22 bytes a cell of 0.2 m, 0.55 GB a square kilometre.
    """

    live: LiveClips
    device: torch.device
    _columns: dict[int, Columns] = field(default_factory=dict)
    _stream: torch.cuda.Stream | None = None

    def __post_init__(self) -> None:
        if not self.live.config.anchored:
            raise ValueError("clips that are centred on the ego are not cut on a device")
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)

    def __len__(self) -> int:
        return len(self.live)

    @property
    def clip_shape(self) -> tuple[int, ...]:
        return self.live.clip_shape

    @property
    def content_sha256(self) -> str:
        return self.live.content_sha256

    def rows(self, index: NDArray[np.int64], fields: Iterable[str]) -> dict[str, NDArray]:
        """As LiveClips.rows."""
        return self.live.rows(index, fields)

    def cut(self, index: NDArray[np.int64]) -> tuple[StampedCut, list[Moment]]:
        """Labels and moving voxels [B, T, X, Y, Z] of some clips on the device, and the moments they are of."""
        grid, frames = self.live.config.grid, self.live.config.frames
        picks = [self.live.pick(int(n)) for n in index]
        moments = [moment_of(self.live.worlds[world], pick, self.live.recipe) for world, pick in picks]
        labels = torch.empty((len(index), frames, *grid.shape), dtype=torch.uint8, device=self.device)
        moving = torch.empty_like(labels, dtype=torch.bool)
        for world in sorted({world for world, _ in picks}):
            of = [b for b, (where, _) in enumerate(picks) if where == world]
            anchors = np.stack([moments[b].world_se3_anchor for b in of])
            boxes = [boxes_of(moments[b].agents, moments[b].world_se3_anchor, grid) for b in of]
            cut = self._world(world).cut(anchors, grid).stamp(boxes, frames)
            rows = torch.tensor(of, device=self.device)
            labels[rows], moving[rows] = cut.labels, cut.moving
        return StampedCut(labels, moving), moments

    def vae_batches(self, size: int, seed: int) -> Callable[[int], VaeBatch]:
        """The batches of dcgen.stages.vae_batches on LiveClips, on the device."""

        def batch_at(i: int) -> VaeBatch:
            with self._beside_training():
                mine = np.arange(size)[parallel.part(size)]
                cut, moments = self.cut(np.random.default_rng((seed, i)).integers(len(self), size=size)[mine])
                inputs = cut.labels.clone()
                for b, clip in enumerate(mine):
                    known = self._known(cut.labels[b], moments[b], np.random.default_rng((seed, i, clip)))
                    if known is not None:
                        inputs[b] = known
            return self._handed_over(VaeBatch(inputs, cut.labels, cut.moving))

        return batch_at

    def _world(self, world: int) -> Columns:
        if world not in self._columns:
            self._columns[world] = Columns.from_tile(self.live.worlds[world].tile).to(self.device)
        return self._columns[world]

    def _known(self, labels: Tensor, moment: Moment, rng: np.random.Generator) -> Tensor | None:
        """What is shown of a clip [T, X, Y, Z] where something is hidden. By the CPU, as it is of a quarter alone."""
        if rng.random() >= HIDDEN_SHARE:
            return None
        grid = self.live.config.grid
        layout = draw_agents(moment.agents, moment.world_se3_anchor, grid)
        known = random_known(labels.cpu().numpy(), layout, grid, rng)
        return torch.from_numpy(known).to(self.device) if (known != UNKNOWN).any() else None

    @contextmanager
    def _beside_training(self) -> Iterator[None]:
        """On a stream of its own: what waits for a result in here does not wait for the step that is under way."""
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def _handed_over(self, batch: VaeBatch) -> VaeBatch:
        """Its memory is not used anew before the step that reads it is through, though that is on another stream."""
        if self._stream is not None:
            for tensor in (batch.inputs, batch.labels, batch.moving):
                tensor.record_stream(torch.cuda.default_stream(self.device))
        return batch
