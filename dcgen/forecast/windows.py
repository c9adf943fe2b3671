"""Windows of recordings for a forecaster, out of data sets and scenes alike. T frame, P past, S steps ahead, X/Y/Z.

"now" is the ego's frame at the last past frame. Past frames are brought into the grid at now by the poses, a later
frame into the grid at its own ego pose; each voxel takes the label of the nearest one, UNKNOWN where the recording's
grid does not reach. In ego-centred recordings now and later frames are as they were; anchored ones are cut anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dcgen import parallel
from dcgen.dataset.forecast import ForecastWindow, collate
from dcgen.dataset.motion import owners, rigid_flow
from dcgen.dataset.packing import AGENT_FIELDS, unpack_bits
from dcgen.dataset.store import ClipDataset
from dcgen.errors import DatasetError, GridMismatch
from dcgen.forecast.config import ForecastConfig
from dcgen.forecast.warp import warp
from dcgen.types import UNKNOWN, AgentTracks, Doubles, GridSpec, Labels

MOVES = 64  # a bit beside the label, so that both are brought over at once


@dataclass(frozen=True)
class Recording:
    """T frames of one place, of a clip or of a scene."""

    labels: Labels  # [T, X, Y, Z]
    moving: NDArray[np.bool_]  # [T, X, Y, Z] voxels of road users faster than 0.5 m/s
    world_se3_ego: Doubles  # [T, 4, 4]
    world_se3_grid: Doubles  # [T, 4, 4] where the grid of each frame stands
    agents: AgentTracks


class Recordings(Protocol):
    """Recordings of one grid and clock. about: a line for tables. frames: of each recording."""

    name: str
    about: str
    grid: GridSpec
    dt_s: float

    @property
    def frames(self) -> Sequence[int]: ...

    def __getitem__(self, index: int) -> Recording: ...


class ClipRecordings:
    """The clips of a data set."""

    def __init__(self, dataset: ClipDataset) -> None:
        spec = self._spec = dataset.spec
        self.dataset, self.name, self.grid, self.dt_s = dataset, str(dataset.folder), spec.grid, spec.dt_s
        self.frames: Sequence[int] = [spec.frames] * len(dataset)
        maps = [str(each).split()[0] for each in spec.origin.get("maps", ())]
        self.about = f"{len(dataset)} clips" + (f" of {', '.join(maps)}" if maps else "")

    def __getitem__(self, index: int) -> Recording:
        packed = self.dataset.packed(index, ("labels", "moving", "world_se3_ego", "world_se3_anchor", *AGENT_FIELDS))
        poses = packed["world_se3_ego"]
        stands = poses if self._spec.ego_centred else np.broadcast_to(packed["world_se3_anchor"], poses.shape)
        agents = AgentTracks(**{name.removeprefix("agent_"): packed[name] for name in AGENT_FIELDS})
        moving = unpack_bits(packed["moving"], self._spec.clip_shape)
        return Recording(packed["labels"], moving, poses, stands, agents)


class Windows(Dataset[ForecastWindow]):
    """Every window of the config's frames that begins at a multiple of `stride` in a recording.

    Windows of past and ahead are ForecastWindow with the frames config.ahead as future, `moving` and `displacement_m`.
    Raises GridMismatch for recordings of another grid or clock, DatasetError where none is long enough.
    """

    def __init__(self, source: Recordings, config: ForecastConfig, stride: int | None = None) -> None:
        self.source, self.config = source, config
        check_same_grid(source, config)
        step = config.frames if stride is None else stride
        self._places = [
            (n, start) for n, frames in enumerate(source.frames) for start in range(0, frames - config.frames + 1, step)
        ]
        if not self._places:
            raise DatasetError(
                f"{source.name}: past {config.past} and {config.ahead[-1]} ahead need {config.frames} frames, the "
                f"longest has {max(source.frames)}; ask for shorter horizons or make longer ones"
            )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> ForecastWindow:
        return self.window(index, self.config.ahead)

    def window(self, index: int, ahead: Sequence[int]) -> ForecastWindow:
        """The window of `index` with the frames `ahead` as its future."""
        number, start = self._places[index]
        found, past = self.source[number], self.config.past
        now = start + past - 1
        picks = np.array([*range(start, now + 1), *(now + step for step in ahead)])
        stand = np.where((picks <= now)[:, None, None], found.world_se3_ego[now], found.world_se3_ego[picks])
        coded = np.where(found.moving[picks], found.labels[picks] | MOVES, found.labels[picks])
        grid_se3_stand = np.linalg.inv(found.world_se3_grid[picks]) @ stand
        coded = brought(torch.from_numpy(coded), grid_se3_stand, self.config.grid)
        moving = (coded != UNKNOWN) & (coded & MOVES > 0)
        labels = torch.where(moving, coded & (MOVES - 1), coded)
        world_se3_now = found.world_se3_ego[now]
        now_se3_ego = np.linalg.inv(world_se3_now) @ found.world_se3_ego[picks]
        yaw = np.arctan2(now_se3_ego[:, 1, 0], now_se3_ego[:, 0, 0])
        trajectory = np.stack([now_se3_ego[:, 0, 3], now_se3_ego[:, 1, 3], yaw], axis=1)
        arrays: dict[str, Any] = {
            "clip": np.int64(number),
            "start": np.int64(start),
            "past": labels[:past],
            "future": labels[past:],
            "moving": moving,
            "now_se3_ego": now_se3_ego.astype(np.float32),
            "now_se3_grid": (np.linalg.inv(world_se3_now) @ stand).astype(np.float32),
            "trajectory": trajectory.astype(np.float32),
            "displacement_m": self._displacement(found, labels[past - 1 : past].numpy(), now, ahead),
        }
        return ForecastWindow(**{name: torch.as_tensor(value) for name, value in arrays.items()})

    def _displacement(self, found: Recording, last: Labels, now: int, ahead: Sequence[int]) -> NDArray[np.float32]:
        """[S, X, Y, Z, 3] from where content is at now to where it is in the later ego's own grid."""
        grid, poses = self.config.grid, np.ascontiguousarray(found.world_se3_ego)
        owner = owners(last, found.agents.frames(now, now + 1), grid, poses[now : now + 1])
        return np.concatenate([rigid_flow(owner, found.agents, grid, poses, step, first=now) for step in ahead])


def check_same_grid(source: Recordings, config: ForecastConfig) -> None:
    """Raises GridMismatch where recordings are not what a forecaster speaks."""
    if source.grid != config.grid:
        got, want = (f"{g.shape} voxels of {g.voxel_m} m from {g.origin_m}" for g in (source.grid, config.grid))
        raise GridMismatch(f"{source.name}: grid: {got} are not the {want} of the forecaster; give others of its grid")
    if abs(source.dt_s - config.dt_s) > 1e-6:
        raise GridMismatch(
            f"{source.name}: dt_s: frames {source.dt_s:g} s apart are not the {config.dt_s:g} s of the forecaster; "
            "give others of its clock"
        )


def brought(labels: Tensor, grid_se3_stand: Doubles, grid: GridSpec) -> Tensor:
    """Labels [N, X, Y, Z] as grids at grid_se3_stand [N, 4, 4] show them; those that stand there already stay."""
    out = labels.clone()
    away = np.abs(grid_se3_stand - np.eye(4)).max(axis=(1, 2)) > 1e-9
    if away.any():
        rows = torch.from_numpy(np.flatnonzero(away))
        out[rows] = warp(labels[rows], torch.from_numpy(grid_se3_stand[away]), grid)
    return out


@dataclass(frozen=True)
class ForecastBatch:
    """windows with an axis B in front; ahead int64 [B, S], which frames their futures are."""

    windows: ForecastWindow
    ahead: Tensor

    def to(self, device: torch.device) -> ForecastBatch:
        return ForecastBatch(self.windows.to(device), self.ahead.to(device))


def batches(sources: Sequence[Windows], size: int, seed: int) -> Callable[[int], ForecastBatch]:
    """Of the i-th batch, this process's rows: of every source as many, each with one of the steps ahead, by chance."""
    ahead = sources[0].config.ahead

    def batch_at(i: int) -> ForecastBatch:
        rng = np.random.default_rng((seed, i))
        first = int(rng.integers(len(sources)))  # who has one row more, where sources do not divide a batch
        rows = [
            (sources[(first + k) % len(sources)], float(rng.random()), ahead[rng.integers(len(ahead))])
            for k in range(size)
        ]
        mine = rows[parallel.part(size)]
        windows = [source.window(int(at * len(source)), (step,)) for source, at, step in mine]
        return ForecastBatch(collate(windows), torch.tensor([[step] for _, _, step in mine]))

    return batch_at


def every(windows: Windows, size: int) -> Sequence[range]:
    """Indices of all windows in order, in batches."""
    return [range(start, min(start + size, len(windows))) for start in range(0, len(windows), size)]
