"""Windows of clips as tensors, past and future, for forecasting. P past, F future, W = P + F frames, X/Y/Z voxel axes.

"now" is the ego's frame at the last past frame: x forward, y left, z up, metres.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

from dcgen.dataset.motion import instances_of, owners, rigid_flow
from dcgen.dataset.packing import AGENT_FIELDS, LAYOUT_SCALE, Packed, unpack_bits
from dcgen.dataset.store import ClipDataset
from dcgen.errors import DatasetError, DcgenError
from dcgen.types import UNKNOWN, AgentTracks, Doubles

# What may be asked for -> what has to be read for it beside labels and poses.
FIELDS: dict[str, tuple[str, ...]] = {
    "moving": ("moving",),
    "observed": ("observed",),
    "unknown": (),
    "instances": tuple(AGENT_FIELDS),
    "flow": tuple(AGENT_FIELDS),
    "displacement": tuple(AGENT_FIELDS),
    "points": ("point_count", "points"),
    "layout": ("layout_static", "layout_agents"),
}
_ALWAYS = ("labels", "world_se3_ego", "world_se3_anchor")


@dataclass(frozen=True)
class ForecastWindow:
    """One window, or after collate() a batch of B with an axis B in front. None: not asked for.

    Grids stand where now_se3_grid says: in one place, or in ego-centred data sets at each frame's ego pose.
    """

    clip: Tensor  # int64 [] of the data set's index
    start: Tensor  # int64 [] first frame in the clip
    past: Tensor  # uint8 [P, X, Y, Z] labels
    future: Tensor  # uint8 [F, X, Y, Z] labels
    now_se3_ego: Tensor  # float32 [W, 4, 4]
    now_se3_grid: Tensor  # float32 [W, 4, 4]
    trajectory: Tensor  # float32 [W, 3] ego x, y, yaw in the frame of now
    moving: Tensor | None = None  # bool [W, X, Y, Z] voxels of road users faster than 0.5 m/s
    observed: Tensor | None = None  # bool [W, X, Y, Z] voxels that the LiDAR sees
    unknown: Tensor | None = None  # bool [W, X, Y, Z] voxels whose label nobody knows
    instances: Tensor | None = None  # int32 [W, X, Y, Z] see motion.Motion
    forward_m: Tensor | None = None  # float32 [W, X, Y, Z, 3] see motion.Motion; NaN where it is not known
    backward_m: Tensor | None = None  # float32 [W, X, Y, Z, 3]
    # float32 [F, X, Y, Z, 3] from where content is in the last past frame to where it is in each future one
    displacement_m: Tensor | None = None
    points: Tensor | None = None  # float32 [P, N, 4] x, y, z, intensity in each frame's own ego frame; 0 behind count
    point_count: Tensor | None = None  # int64 [P]
    layout_static: Tensor | None = None  # float32 [STATIC_CHANNELS, X, Y] in the anchor's grid
    layout_agents: Tensor | None = None  # float32 [W, AGENT_CHANNELS, X, Y]; of the future too: no fair input

    def tensors(self) -> dict[str, Tensor]:
        """What is there, by name."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}

    def to(self, *arguments: Any, **options: Any) -> ForecastWindow:
        """Every tensor moved, as Tensor.to does; do not change the dtype."""
        return replace(self, **{name: value.to(*arguments, **options) for name, value in self.tensors().items()})

    def pin_memory(self) -> ForecastWindow:
        """What DataLoader(pin_memory=True) calls."""
        return replace(self, **{name: value.pin_memory() for name, value in self.tensors().items()})


def collate(windows: Sequence[ForecastWindow]) -> ForecastWindow:
    """A batch of windows; sweeps are padded with zeros to the longest. Raises ValueError without any."""
    if not windows:
        raise ValueError("collate needs at least one window")
    parts = [window.tensors() for window in windows]
    if "points" in parts[0]:
        longest = max(part["points"].shape[1] for part in parts)
        for part in parts:
            part["points"] = torch.nn.functional.pad(part["points"], (0, 0, 0, longest - part["points"].shape[1]))
    return ForecastWindow(**default_collate(parts))  # in a worker straight into memory shared with the loader


class ForecastDataset(Dataset[ForecastWindow]):
    """Every window of `past + future` frames that begins at a multiple of `stride` in a clip, clip after clip.

    fields: further tensors by the names of FIELDS; what is not asked for is not read. Works in the workers of a
    torch DataLoader, forked or spawned: DataLoader(windows, batch_size, collate_fn=collate, num_workers=2).
    Raises ValueError for numbers that make no window, DatasetError for what the data set does not hold.
    """

    def __init__(
        self, dataset: ClipDataset, past: int, future: int, fields: Iterable[str] = (), stride: int | None = None
    ) -> None:
        self.dataset, self.past, self.future = dataset, past, future
        self.fields = tuple(dict.fromkeys([fields] if isinstance(fields, str) else fields))
        self.stride = past + future if stride is None else stride
        for name, value, least in (("past", past, 1), ("future", future, 0), ("stride", self.stride, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        spec = dataset.spec
        if past + future > spec.frames:
            raise DatasetError(
                f"{dataset.folder}: past {past} and future {future} need {past + future} frames, its clips have "
                f"{spec.frames}; make them shorter or build longer clips"
            )
        for name in self.fields:
            if name not in FIELDS:
                raise ValueError(f"no field {name!r}; choose from {', '.join(FIELDS)}")
            if name in ("observed", "points") and not getattr(spec, name):
                raise DatasetError(f"{dataset.folder}: holds no {name}; build it with a LiDAR, or leave the field out")
        wanted = (*_ALWAYS, *(read for name in self.fields for read in FIELDS[name]))
        self._read = tuple(dict.fromkeys(wanted))
        self._starts = range(0, spec.frames - past - future + 1, self.stride)

    def __len__(self) -> int:
        return len(self.dataset) * len(self._starts)

    def __getitem__(self, index: int) -> ForecastWindow:
        clip, window = divmod(range(len(self))[index], len(self._starts))
        start = self._starts[window]
        packed = self.dataset.packed(clip, self._read)
        frames = slice(start, start + self.past + self.future)
        labels = packed["labels"][frames]
        now = np.linalg.inv(packed["world_se3_ego"][start + self.past - 1])
        now_se3_ego = now @ packed["world_se3_ego"][frames]
        yaw = np.arctan2(now_se3_ego[:, 1, 0], now_se3_ego[:, 0, 0])
        arrays: dict[str, Any] = {
            "clip": np.int64(clip),
            "start": np.int64(start),
            "past": labels[: self.past],
            "future": labels[self.past :],
            "now_se3_ego": now_se3_ego.astype(np.float32),
            "now_se3_grid": (now @ self._world_se3_grid(packed)[frames]).astype(np.float32),
            "trajectory": np.stack([now_se3_ego[:, 0, 3], now_se3_ego[:, 1, 3], yaw], axis=1).astype(np.float32),
        }
        for name in ("moving", "observed"):
            if name in self.fields:
                arrays[name] = unpack_bits(packed[name], self.dataset.spec.clip_shape)[frames]
        if "unknown" in self.fields:
            arrays["unknown"] = labels == UNKNOWN
        if "layout" in self.fields:
            arrays["layout_static"] = packed["layout_static"] / np.float32(LAYOUT_SCALE)
            arrays["layout_agents"] = packed["layout_agents"][frames] / np.float32(LAYOUT_SCALE)
        arrays |= self._motion(packed, frames) | self._points(packed, start)
        return ForecastWindow(**{name: torch.as_tensor(value) for name, value in arrays.items()})

    def _world_se3_grid(self, packed: Packed) -> Doubles:
        """[T, 4, 4] of the whole clip."""
        poses = packed["world_se3_ego"]
        return poses if self.dataset.spec.ego_centred else np.broadcast_to(packed["world_se3_anchor"], poses.shape)

    def _motion(self, packed: Packed, frames: slice) -> dict[str, Any]:
        wanted = {"instances", "flow", "displacement"} & set(self.fields)
        if not wanted:
            return {}
        agents = AgentTracks(**{name.removeprefix("agent_"): packed[name] for name in AGENT_FIELDS})
        grid, poses = self.dataset.spec.grid, self._world_se3_grid(packed)
        owner = owners(packed["labels"][frames], agents.frames(frames.start, frames.stop), grid, poses[frames])
        out: dict[str, Any] = {}
        if "flow" in wanted:
            for name, step in (("forward_m", 1), ("backward_m", -1)):
                out[name] = rigid_flow(owner, agents, grid, poses, step, first=frames.start)
        if "displacement" in wanted:
            now = frames.start + self.past - 1
            steps = range(1, self.future + 1)
            last = owner[self.past - 1 : self.past]
            flows = [rigid_flow(last, agents, grid, poses, step, first=now) for step in steps]
            out["displacement_m"] = np.concatenate(flows or [np.zeros((0, *grid.shape, 3), np.float32)])
        if "instances" in wanted:
            out["instances"] = instances_of(owner)
        return out

    def _points(self, packed: Packed, start: int) -> dict[str, Any]:
        if "points" not in self.fields:
            return {}
        count = packed["point_count"].astype(np.int64)
        begin = np.concatenate([[0], np.cumsum(count)])
        past = range(start, start + self.past)
        points = np.zeros((self.past, int(count[past].max()), 4), np.float32)
        for row, frame in enumerate(past):
            points[row, : count[frame]] = packed["points"][begin[frame] : begin[frame + 1]]
        return {"points": points, "point_count": count[past]}


@dataclass(frozen=True)
class Loading:
    """How fast a data set feeds a training loop."""

    frames_per_s: float
    windows_per_s: float
    seconds: float
    workers: int
    first_batch_s: float  # until the workers have begun

    def __str__(self) -> str:
        return f"{self.frames_per_s:.0f} frames/s with {self.workers} workers ({self.seconds:.1f} s measured)"


def measure_loading(
    dataset: ClipDataset, workers: int = 2, seconds: float = 10.0, fields: Iterable[str] = ("moving",), batch: int = 4
) -> Loading:
    """Load whole clips in shuffled order for some seconds, as a training loop would, and count from the second batch.

    The clips are gone through again as often as it takes. Raises DatasetError.
    """
    from time import perf_counter

    frames = dataset.spec.frames
    windows = ForecastDataset(dataset, frames, 0, fields)
    sampler = RandomSampler(windows, replacement=True, num_samples=2**40, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(
        windows, batch, sampler=sampler, num_workers=workers, collate_fn=collate, prefetch_factor=4 if workers else None
    )
    begin = perf_counter()
    try:
        batches = iter(loader)
        next(batches)
        first, count = perf_counter(), 0
        while (now := perf_counter()) < first + seconds:
            count += len(next(batches).clip)
    except DcgenError as error:  # torch puts a worker's traceback before what it says
        raise DatasetError(str(error).strip().splitlines()[-1].partition("Error: ")[2] or str(error)) from None
    return Loading(count * frames / (now - first), count / (now - first), now - first, workers, first - begin)
