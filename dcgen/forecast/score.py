"""Marks of forecasts at each step ahead, beside copies of the last frame. B batch, S steps ahead, X/Y/Z voxel axes.

Everything is scored in the grid at the ego's true pose of each later frame. IoU is of occupied against free, mIoU the
mean over the occupied classes that the truth holds, moving IoU that of dcgen.eval.reconstruction.moving_iou; all are
ratios of sums over every window. Voxels whose true label nobody knows count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcgen.dataset.forecast import ForecastWindow, collate
from dcgen.eval.reconstruction import Confusion, confusion, moving_iou
from dcgen.eval.tally import Tally
from dcgen.forecast.model import Forecaster, steady
from dcgen.forecast.warp import warp
from dcgen.forecast.windows import Windows
from dcgen.types import UNKNOWN, Labels, Semantics

GIVEN, PREDICTED = "given", "predicted"
COPY, CARRIED = "copy of the last frame", "copy, moved with the ego"
Forecasting = Callable[[ForecastWindow, Tensor], tuple[Tensor, Tensor]]


@dataclass
class StepScores:
    """Of one step ahead: all voxels, what moves by class name and as "all", and the ego's error."""

    counts: Confusion = field(default_factory=Confusion)
    moving: dict[str, Tally] = field(default_factory=dict)
    ego_m: Tally = field(default_factory=Tally)

    def add(self, guess: Labels, truth: Labels, moving: np.ndarray, voxel_m: Sequence[float]) -> None:
        """Arrays [B, X, Y, Z] of one step."""
        self.counts += confusion(guess, truth)
        for name, tally in moving_iou(guess, truth, moving, voxel_m).items():
            self.moving[name] = self.moving.get(name, Tally()) + tally

    def figures(self) -> dict[str, float]:
        """Plain numbers by name; NaN where nothing was counted."""
        moving = {f"moving {name}": tally.share for name, tally in self.moving.items()}
        return {
            "iou": self.counts.occupancy.share, "miou": self.counts.miou, "moving": moving.pop("moving all", np.nan),
            "ego_m": self.ego_m.share, **moving, **self.counts.per_class(),
        }  # fmt: skip


def evaluate(
    windows: Windows,
    forecasters: Mapping[str, Forecasting],
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[dict[str, float]]]:
    """Figures by forecaster and step ahead, over every window in order."""
    config, total = windows.config, len(windows)
    sums = {name: [StepScores() for _ in config.ahead] for name in forecasters}
    for start in range(0, total, batch):
        found = collate([windows[n] for n in range(start, min(start + batch, total))])
        assert found.moving is not None
        ahead = torch.tensor(config.ahead).expand(len(found.past), -1)
        truth, moving = found.future.numpy(), found.moving[:, config.past :].numpy()
        true_m = found.now_se3_ego[:, config.past :, :3, 3]
        for name, run in forecasters.items():
            guess, poses = run(found, ahead)
            gap_m = (poses.cpu()[..., :3, 3] - true_m).norm(dim=-1)
            for k, scores in enumerate(sums[name]):
                scores.add(guess[:, k].cpu().numpy(), truth[:, k], moving[:, k], config.grid.voxel_m)
                scores.ego_m += Tally(float(gap_m[:, k].sum()), len(gap_m))
        if progress:
            progress(min(start + batch, total), total)
    return {name: [scores.figures() for scores in steps] for name, steps in sums.items()}


def copy_last(found: ForecastWindow, ahead: Tensor) -> tuple[Tensor, Tensor]:
    """The last frame as it is, in every later grid; as if the ego stood still."""
    poses = torch.eye(4).expand(*ahead.shape, 4, 4)
    return certain(found.past[:, -1:]).expand(-1, ahead.shape[1], -1, -1, -1), poses


def carry_last(windows: Windows, ego_future: str) -> Forecasting:
    """The last frame as the later grids show it: true ones, or those of an ego that goes on as it went."""
    past, grid = windows.config.past, windows.config.grid

    def run(found: ForecastWindow, ahead: Tensor) -> tuple[Tensor, Tensor]:
        before = found.now_se3_ego[:, :past]
        poses = found.now_se3_ego[:, past:] if ego_future == GIVEN else steady(before, ahead)
        steps = ahead.shape[1]
        last = found.past[:, -1].repeat_interleave(steps, dim=0)
        return certain(warp(last, poses.flatten(0, 1), grid)).unflatten(0, (-1, steps)), poses

    return run


def forecasting(model: Forecaster, ego_future: str) -> Forecasting:
    """A trained network's forecasts. It never sees a later label; later poses only where they are given."""
    past = model.config.past

    @torch.inference_mode()
    def run(found: ForecastWindow, ahead: Tensor) -> tuple[Tensor, Tensor]:
        device = next(model.parameters()).device
        before = found.now_se3_ego[:, :past].to(device)
        ahead = ahead.to(device)
        poses = found.now_se3_ego[:, past:].to(device) if ego_future == GIVEN else model.ego(before, ahead)
        return model(found.past.to(device), ahead, poses).labels, poses

    return run


def certain(labels: Tensor) -> Tensor:
    """What nobody knows, taken for free: a forecast has to say something everywhere."""
    return torch.where(labels == UNKNOWN, int(Semantics.FREE), labels)


def spread(runs: Sequence[list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Of several runs' figures by step: {name: (mean, standard deviation, NaN of one run)}."""
    out = []
    for steps in zip(*runs, strict=True):
        values = {name: np.array([step[name] for step in steps]) for name in steps[0]}
        out.append(
            {n: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else float("nan")) for n, v in values.items()}
        )
    return out
