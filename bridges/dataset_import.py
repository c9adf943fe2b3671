"""`dcgen dataset import`: a public set, as its authors lay it out, into a data set of dcgen's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from bridges.dataset_build import commit_of
from bridges.datasets import PublicSet, ReadOptions, open_set
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import DatasetWriter
from dcgen.types import Doubles

PART_CLIPS = 16


@dataclass(frozen=True)
class ImportOrder:
    """What is asked of `dcgen dataset import`; stride and every count frames of the set."""

    format: str
    folder: Path
    out: Path
    frames: int
    stride: int | None = None
    every: int = 1
    anchored: bool = False
    options: ReadOptions = field(default_factory=ReadOptions)


def import_set(order: ImportOrder, tell: Callable[[str], None], progress: Callable[[int, int], None]) -> Path:
    """Read the set part by part; a second run goes on. Raises DatasetError, naming the file that cannot be read."""
    clips = open_set(order.format, order.folder, order.frames, order.stride, order.every, order.anchored, order.options)
    spec = _spec(order, clips)
    with DatasetWriter(order.out, spec, commit_of(), tell) as writer:
        for part in range(spec.parts):
            if part not in writer.finished:
                writer.write_shard(part, (clips[n] for n in spec.part_range(part)))
            progress(part + 1, spec.parts)
    return order.out


def _digest(poses: Doubles) -> str:
    return hashlib.sha256(np.ascontiguousarray(poses).tobytes()).hexdigest()


def _spec(order: ImportOrder, clips: PublicSet) -> DatasetSpec:
    first = clips[0]
    conditions = first.conditions
    origin = {
        "kind": "public", "format": order.format, "options": asdict(order.options), "stride": order.stride,
        "every": order.every, "sequences": [recording.name for recording in clips.recordings],
        "poses_sha256": [_digest(recording.world_se3_ego) for recording in clips.recordings],
    }  # fmt: skip
    return DatasetSpec(
        conditions.grid,
        conditions.frames,
        conditions.dt_s,
        len(clips),
        ego_centred=first.ego_centred,
        observed=first.observed is not None,
        points=first.points is not None,
        part_clips=PART_CLIPS,
        origin=origin,
    )
