"""Train a small occupancy forecaster on dcgen data sets and compare it with copying the last frame.

    dcgen dataset build ... -o out/train      (some maps)
    dcgen dataset build ... -o out/test       (another one)
    python examples/train_forecaster.py --train out/train --test out/test --minutes 10

The network sees P labelled frames. It says where the road users of the last one go, moves their voxels there, and
mends the result; what stands still is kept from the last frame that shows it. Clips have to be anchored.
B batch, P past, F future, C the three movable classes, X/Y/Z voxel axes, N columns with road users.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from forecaster import CLASSES, Forecaster, forecast, occupied
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from bridges.dataset import dcgen_dataset
from dcgen.dataset.forecast import ForecastDataset, ForecastWindow, collate
from dcgen.errors import DcgenError
from dcgen.eval.reconstruction import NEAR_M, Confusion, confusion, moving_iou
from dcgen.eval.tally import Tally
from dcgen.types import PALETTE, UNKNOWN


def columns_that_matter(batch: ForecastWindow, reach: int) -> Tensor:
    """[B, X, Y] columns near road users, further around what moves, and some others by chance."""
    kinds, p = CLASSES.to(batch.past.device), batch.past.shape[1]
    users = torch.isin(torch.cat([batch.past[:, -1:], batch.future], dim=1), kinds).any(dim=-1).any(dim=1)
    moves = batch.moving[:, p - 1 :].any(dim=-1).any(dim=1)
    return grown(users, 2) | grown(moves, reach) | (torch.rand(users.shape, device=users.device) < 0.02)


def grown(mask: Tensor, reach: int) -> Tensor:
    """[B, X, Y] what lies within a square around what is true."""
    return functional.max_pool2d(mask.float(), 2 * reach + 1, 1, reach) > 0


def loss_of(model: Forecaster, batch: ForecastWindow, voxel_m: tuple[float, ...]) -> Tensor:
    """Cross-entropy, one minus soft IoU of the classes and of what moves, and the error of the displacements."""
    scores, way = model(batch.past)
    reach = round(NEAR_M / voxel_m[0])
    n, i, j = columns_that_matter(batch, reach).nonzero().T
    truth = batch.future[n, :, i, j]  # [M, F, Z]
    moving = batch.moving[n, batch.past.shape[1] :, i, j]
    scores = scores[n, :, :, i, j]  # [M, F, C, Z]
    known = (truth != UNKNOWN)[:, :, None]
    real = (truth[:, :, None] == CLASSES.view(-1, 1)) & known
    share = torch.cat([torch.zeros_like(scores[:, :, :1]), scores], dim=2).softmax(dim=2)[:, :, 1:] * known
    right = torch.where(real.any(dim=2), (share * real).sum(dim=2), 1 - share.sum(dim=2))
    entropy = -(right.clamp(min=1e-6).log() * (1 + 2 * moving)).sum() / real.sum().clamp(min=1)
    both, wrong = (share * real).sum(dim=(0, 3)), (share * ~real).sum(dim=(0, 3))
    count = real.sum(dim=(0, 3))
    overlap = 1 - ((both / (count + wrong).clamp(min=1)) * (count > 0)).sum() / (count > 0).sum().clamp(min=1)
    around = grown(batch.moving[:, batch.past.shape[1] :].any(dim=-1).flatten(0, 1), reach)
    around = around.reshape(-1, model.future, *around.shape[1:])[n, :, i, j][..., None]
    hits = ((share * real).sum(dim=2) * moving).sum()
    in_motion = 1 - hits / (moving.sum() + ((share * ~real).sum(dim=2) * around).sum()).clamp(min=1)
    return 0.3 * entropy + overlap + in_motion + 0.3 * way_error(way, batch, voxel_m)


def way_error(way: Tensor, batch: ForecastWindow, voxel_m: tuple[float, ...]) -> Tensor:
    """Mean error in voxels of where columns of road users go, as far as their tracks tell."""
    last = occupied(batch.past[:, -1])
    n, k, i, j = last.amax(dim=-1).nonzero().T
    goal = batch.displacement_m[n, :, i, j][..., :2] / torch.tensor(voxel_m[:2])  # [N, F, Z, 2]
    counted = (last[n, k, i, j][:, None] > 0) & goal.isfinite().all(dim=-1)
    mean = (goal.nan_to_num() * counted[..., None]).sum(dim=2) / counted.sum(dim=2).clamp(min=1)[..., None]
    error = functional.smooth_l1_loss(way[n, :, k, :, i, j], mean, reduction="none").sum(dim=-1)
    weight = counted.any(dim=2) * (0.2 + mean.norm(dim=-1).clamp(max=2))
    return (error * weight).sum() / weight.sum().clamp(min=1)


def turned(batch: ForecastWindow, quarters: int) -> ForecastWindow:
    """The batch in a world turned to the left by quarters of a turn; grids are square."""
    fields = batch.tensors()
    for name in ("past", "future", "moving", "displacement_m"):
        fields[name] = torch.rot90(fields[name], quarters, (2, 3))
    for _ in range(quarters):
        dx, dy, dz = fields["displacement_m"].unbind(-1)
        fields["displacement_m"] = torch.stack([-dy, dx, dz], dim=-1)
    return ForecastWindow(**fields)


@dataclass
class Scores:
    """Of one future step: confusion of all voxels, and IoU of what moves by class name and of "all"."""

    counts: Confusion
    moving: dict[str, Tally]

    def add(self, guess: np.ndarray, truth: np.ndarray, moving: np.ndarray, voxel_m: tuple[float, ...]) -> None:
        self.counts += confusion(guess, truth)
        for name, tally in moving_iou(guess, truth, moving, voxel_m).items():
            self.moving[name] = self.moving.get(name, Tally()) + tally

    def figures(self) -> dict[str, float]:
        moving = {f"moving {name}": tally.share for name, tally in self.moving.items()}
        return {"miou": self.counts.miou, "moving": moving.pop("moving all"), **moving, **self.counts.per_class()}


def evaluate(model: Forecaster, windows: ForecastDataset, batch: int) -> dict[str, list[dict[str, float]]]:
    """Figures of each future step, for the model and for copying the last frame."""
    voxel_m = windows.dataset.spec.grid.voxel_m
    sums = {who: [Scores(Confusion(), {}) for _ in range(windows.future)] for who in ("copy", "model")}
    for each in DataLoader(windows, batch, collate_fn=collate):
        guess, truth = forecast(model, each.past).numpy(), each.future.numpy()
        moving = each.moving[:, windows.past :].numpy()
        for k in range(windows.future):
            sums["copy"][k].add(each.past[:, -1].numpy(), truth[:, k], moving[:, k], voxel_m)
            sums["model"][k].add(guess[:, k], truth[:, k], moving[:, k], voxel_m)
    return {who: [scores.figures() for scores in steps] for who, steps in sums.items()}


def save(path: Path, model: Forecaster, optimiser: torch.optim.Optimizer, progress: dict[str, float]) -> None:
    """Weights, the optimiser's moments and how far it came, in one file that appears whole."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, value in model.named_parameters():
        state = optimiser.state[value]
        tensors |= {f"optimiser.{kind}.{name}": state[kind] for kind in ("step", "exp_avg", "exp_avg_sq")}
    partial = path.with_suffix(".part")
    save_file(tensors, partial, metadata={key: json.dumps(value) for key, value in progress.items()})
    partial.replace(path)


def load(path: Path, model: Forecaster, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """The inverse of save: the progress. Raises RuntimeError for a model of other sizes."""
    from safetensors import safe_open

    tensors = load_file(path)
    model.load_state_dict({n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")})
    for name, value in model.named_parameters():
        kinds = ("step", "exp_avg", "exp_avg_sq")
        optimiser.state[value] = {kind: tensors[f"optimiser.{kind}.{name}"] for kind in kinds}
    with safe_open(path, "pt") as file:
        return {key: json.loads(value) for key, value in file.metadata().items()}


def train(model: Forecaster, windows: ForecastDataset, args: argparse.Namespace, path: Path) -> dict[str, float]:
    """Learn until args.minutes are over, those of earlier runs included; saves now and then."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01)
    progress: dict[str, float] = {"step": 0, "seconds": 0.0, "seed": args.seed}
    if path.exists():
        progress = load(path, model, optimiser)
        print(f"{path}: going on from step {progress['step']:.0f}")
    voxel_m, total = windows.dataset.spec.grid.voxel_m, args.minutes * 60
    mean, saved = float("nan"), time.monotonic()
    while progress["seconds"] < total:
        order = torch.Generator().manual_seed(args.seed + int(progress["step"]))
        loader = DataLoader(
            windows, args.batch, shuffle=True, drop_last=True, collate_fn=collate, num_workers=args.workers,
            generator=order,
        )  # fmt: skip
        begin = time.monotonic()
        for batch in loader:
            part = min(progress["seconds"] / total, 1.0)
            for group in optimiser.param_groups:
                warm = min(1.0, (progress["step"] + 1) / 50)
                group["lr"] = args.rate * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * part)))
            model.train()
            optimiser.zero_grad()
            loss = loss_of(model, turned(batch, int(torch.randint(4, (), generator=order))), voxel_m)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            now = time.monotonic()
            progress["step"] += 1
            progress["seconds"] += now - begin
            begin = now
            mean = loss.item() if np.isnan(mean) else 0.98 * mean + 0.02 * loss.item()
            if progress["step"] % 100 == 0:
                print(f"step {progress['step']:.0f}  {progress['seconds']:.0f} s  loss {mean:.3f}", flush=True)
            if now - saved > 30:
                save(path, model, optimiser, progress)
                saved = now
            if progress["seconds"] >= total:
                break
    save(path, model, optimiser, progress)
    return progress


def table(figures: dict[str, list[dict[str, float]]], dt_s: float) -> str:
    """Markdown: a row a step, then the mean over the steps."""
    head = "| s ahead | mIoU copy | mIoU model | moving IoU copy | moving IoU model |"
    lines = [head, "| --- | --- | --- | --- | --- |"]
    rows = [(f"{(k + 1) * dt_s:.1f}", *pair) for k, pair in enumerate(zip(*figures.values(), strict=True))]
    means = [{key: float(np.mean([s[key] for s in steps])) for key in ("miou", "moving")} for steps in figures.values()]
    for name, copy, model in (*rows, ("mean", *means)):
        cells = [each[key] for key in ("miou", "moving") for each in (copy, model)]
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in cells) + " |")
    return "\n".join(lines)


def from_above(labels: np.ndarray, scale: int = 4) -> np.ndarray:
    """[X, Y, Z] labels -> an image, x up and y to the left: the colour of the highest voxel of each column."""
    known = np.where(labels == UNKNOWN, 0, labels)
    top = known.shape[2] - 1 - (known[..., ::-1] > 0).argmax(axis=2)
    image = PALETTE[np.take_along_axis(known, top[..., None], axis=2)[..., 0]]
    return np.kron(image[::-1, ::-1], np.ones((scale, scale, 1), np.uint8))


def picture(model: Forecaster, windows: ForecastDataset, path: Path, clips: int = 2) -> None:
    """The windows with the most motion. Each: past, then truth, forecast and copy of the future, a row each."""
    busiest = sorted(range(len(windows)), key=lambda n: -int(windows[n].moving[windows.past - 1 :].sum()))[:clips]
    rows = []
    for item in (windows[n] for n in busiest):
        guess = forecast(model, item.past[None])[0]
        copy = item.past[-1:].expand(windows.future, -1, -1, -1)
        for frames in (item.past, item.future, guess, copy):
            images = [np.pad(from_above(frame.numpy()), ((3, 3), (3, 3), (0, 0))) for frame in frames]
            images += [np.zeros_like(images[0])] * (max(windows.past, windows.future) - len(images))
            rows.append(np.concatenate(images, axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder of the data set to learn from")
    parser.add_argument("--test", type=Path, required=True, help="folder of the data set to compare on")
    parser.add_argument("--out", type=Path, default=Path("out/forecaster"))
    parser.add_argument("--past", type=int, default=4)
    parser.add_argument("--future", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training; a later run goes on to more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--workers", type=int, default=1, help="processes that load clips")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    fields = ("moving", "displacement")
    train_set, test_set = dcgen_dataset(args.train), dcgen_dataset(args.test)
    grid = train_set.spec.grid
    if (test_set.spec.grid, test_set.spec.dt_s) != (grid, train_set.spec.dt_s) or train_set.spec.ego_centred:
        parser.error("--train and --test need the same grid and dt_s, and anchored clips")
    if grid.shape[0] != grid.shape[1] or grid.shape[0] % 8:
        parser.error(f"the network needs a square grid of a multiple of 8 voxels, got {grid.shape}")
    windows = ForecastDataset(train_set, args.past, args.future, fields, stride=1)
    held_out = ForecastDataset(test_set, args.past, args.future, ("moving",))
    args.out.mkdir(parents=True, exist_ok=True)
    model = Forecaster(args.past, args.future, grid.shape[2])
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(windows)} windows to learn from")
    progress = train(model, windows, args, args.out / "forecaster.safetensors")
    figures = evaluate(model, held_out, args.batch)
    print(table(figures, train_set.spec.dt_s))
    said = {
        "train": train_set.content_sha256, "test": test_set.content_sha256, "windows": len(held_out),
        "past": args.past, "future": args.future, "dt_s": train_set.spec.dt_s, **progress, "steps_ahead": figures,
    }  # fmt: skip
    (args.out / "figures.json").write_text(json.dumps(said, indent=1) + "\n")
    picture(model, held_out, args.out / "forecast.png")


if __name__ == "__main__":
    try:
        main()
    except DcgenError as error:
        raise SystemExit(f"error: {error}") from None
