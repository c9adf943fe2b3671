"""What a forecaster learns from: labels of later frames, what moves, tracks, and the ego's way. B, S, C, K, X/Y/Z."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcgen.device import autocast
from dcgen.eval.reconstruction import NEAR_M
from dcgen.forecast.model import CLASSES, Forecaster, flat_pose, occupied
from dcgen.forecast.windows import ForecastBatch
from dcgen.types import NUM_CLASSES, UNKNOWN, Semantics

# Of voxels in the cross-entropy: nine in ten are free, one in a hundred is a road user's.
FREE_WEIGHT, MOVABLE_WEIGHT, MOVING_WEIGHT = 0.5, 2.0, 4.0
WAY, EGO = 0.3, 0.1  # weights of the displacements and of the ego's poses


@dataclass
class ForecastStage:
    """The ego's later poses are the true ones while the network learns; self.ego learns them beside."""

    forecaster: Forecaster
    name: str = "forecast"

    @property
    def network(self) -> nn.Module:
        return self.forecaster

    def loss(self, batch: ForecastBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        device = next(self.forecaster.parameters()).device
        batch = batch.to(device)
        windows, ahead = batch.windows, batch.ahead
        p, grid = windows.past.shape[1], self.forecaster.config.grid
        now_se3_ego = windows.now_se3_ego[:, p:]
        with autocast(device):
            found = self.forecaster(windows.past, ahead, now_se3_ego)
        assert windows.moving is not None and windows.displacement_m is not None
        terms = occupancy_terms(
            found.scores.float().flatten(0, 1), windows.future.flatten(0, 1), windows.moving[:, p:].flatten(0, 1),
            round(NEAR_M / grid.voxel_m[0]),
        )  # fmt: skip
        terms["way"] = way_error(found.places.float(), windows.past[:, -1], windows.displacement_m, grid.voxel_m)
        foretold = self.forecaster.ego(windows.now_se3_ego[:, :p], ahead)
        gap = (flat_pose(foretold) - flat_pose(now_se3_ego)).abs()
        terms["ego"] = gap[..., :2].sum(dim=-1).mean() + 4 * gap[..., 2].mean()
        weights = {"way": WAY, "ego": EGO}
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return total, {name: term.item() for name, term in terms.items()}


def occupancy_terms(scores: Tensor, truth: Tensor, moving: Tensor, reach: int) -> dict[str, Tensor]:
    """Cross-entropy, one minus soft mIoU, and one minus soft IoU of what moves. scores [N, K, X, Y, Z]."""
    known = truth != UNKNOWN
    label = torch.where(known, truth, 0).long()
    weight = torch.where(label == Semantics.FREE, FREE_WEIGHT, 1.0)
    users = torch.isin(label, CLASSES.to(label.device))
    weight = (weight + (MOVABLE_WEIGHT - 1) * users + (MOVING_WEIGHT - MOVABLE_WEIGHT) * moving) * known
    logs = scores.log_softmax(dim=1)
    right = logs.gather(1, label[:, None])[:, 0]
    entropy = -(right * weight).sum() / ((label != Semantics.FREE) & known).sum().clamp(min=1)
    share = logs.exp() * known[:, None]
    hits = share.new_zeros(NUM_CLASSES).index_add(0, label.flatten(), (right.exp() * known).flatten())
    count = torch.bincount(label[known], minlength=NUM_CLASSES)
    overlap = hits / (share.sum(dim=(0, 2, 3, 4)) + count - hits).clamp(min=1)
    there = (count > 0) & (torch.arange(NUM_CLASSES, device=count.device) != Semantics.FREE)
    movable = share[:, CLASSES.to(label.device)]
    wrong = (movable.sum(dim=1) - torch.where(users, right.exp(), 0)) * known
    around = functional.max_pool2d(moving.any(dim=-1).float(), 2 * reach + 1, 1, reach)[..., None]
    in_motion = (right.exp() * moving).sum() / (moving.sum() + (wrong * around).sum()).clamp(min=1)
    return {
        "entropy": 0.3 * entropy,
        "overlap": 1 - overlap[there].sum() / there.sum().clamp(min=1),
        "motion": (1 - in_motion) * moving.any(),
    }


def way_error(places: Tensor, last: Tensor, displacement_m: Tensor, voxel_m: tuple[float, ...]) -> Tensor:
    """Mean error in voxels of where columns of road users go, as far as their tracks tell; what goes far counts more.

    places [B, S, C, 2, X, Y] voxels; last [B, X, Y, Z] labels of now; displacement_m [B, S, X, Y, Z, 3].
    """
    users = occupied(last)
    n, k, i, j = users.amax(dim=-1).nonzero().T
    step = displacement_m[n, :, i, j][..., :2] / displacement_m.new_tensor(voxel_m[:2])  # [N, S, Z, 2]
    counted = (users[n, k, i, j][:, None] > 0) & step.isfinite().all(dim=-1)
    mean = (step.nan_to_num() * counted[..., None]).sum(dim=2) / counted.sum(dim=2).clamp(min=1)[..., None]
    goal = torch.stack([i, j], dim=-1)[:, None] + mean
    error = functional.smooth_l1_loss(places[n, :, k, :, i, j], goal, reduction="none").sum(dim=-1)
    weight = counted.any(dim=2).float()
    return (error * weight).sum() / weight.sum().clamp(min=1)
