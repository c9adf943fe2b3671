"""The figures of an ablation as tables, and what they say of the paper's claims. A run's figures are one dictionary."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]
Runs = dict[str, list[Figures]]  # the seeds of each variant
Column = tuple[str, str, Callable[[float], str]]

HOLDS, SIGN, FAILS = "holds", "holds in sign", "does not hold"
AUTOENCODER: tuple[Column, ...] = (
    ("mIoU", "miou", "{:.3f}".format),
    ("moving IoU", "moving_iou", "{:.3f}".format),
    ("latent values", "latent_values", "{:.0f}".format),
    ("voxels a value", "compression", "{:.1f}".format),
    ("parameters", "parameters", lambda n: f"{n / 1e3:.0f} k"),
    ("s/step", "step_s", "{:.3f}".format),
    ("MiB a step", "step_mib", "{:.0f}".format),
)
ROLLOUT: tuple[Column, ...] = (
    ("flow loss", "flow_loss", "{:.4f}".format),
    ("class JSD", "class_jsd", "{:.3f}".format),
    ("pieces, made / real", "pieces", "{:.2f}".format),
    ("agent recall", "agent_recall", "{:.3f}".format),
    ("tokens", "tokens", "{:.0f}".format),
    ("s/step", "step_s", "{:.3f}".format),
)
ALONE = "vae_"  # before the figures of the autoencoder that the rollouts share


@dataclass(frozen=True)
class Claim:
    """One variant is better than another by so much, in one or several settings: the paper says "up to"."""

    text: str
    paper: float
    unit: str
    neutral: float
    gain: Callable[[Figures, Figures], float]  # of the better and the worse
    pairs: dict[str, tuple[str, str]]  # where -> better, worse


def _points(better: Figures, worse: Figures) -> float:
    return 100 * (better["miou"] - worse["miou"])


PROJECTION = {
    "with Expansion & Squeeze": ("plain", "plain-average"),
    "with point queries": ("plain-queries", "plain-average-queries"),
}
SQUEEZE = {
    "with the Projection Module": ("plain", "plain-queries"),
    "with averages": ("plain-average", "plain-average-queries"),
}
CLAIMS = (
    Claim("The Projection Module beats averages", 12.56, "points of mIoU", 0.0, _points, PROJECTION),
    Claim("Expansion & Squeeze beats point queries", 7.05, "points of mIoU", 0.0, _points, SQUEEZE),
    Claim(
        "Expansion & Squeeze trains faster than point queries",
        2.06,
        "times",
        1.0,
        lambda better, worse: worse["step_s"] / better["step_s"],
        SQUEEZE,
    ),
    Claim(
        "Expansion & Squeeze takes less memory than point queries",
        70.84,
        "% less",
        0.0,
        lambda better, worse: 100 * (1 - better["step_mib"] / worse["step_mib"]),
        SQUEEZE,
    ),
)


def claims_of(runs: Runs) -> list[dict[str, Any]]:
    """What came of each claim whose variants were trained: the gain where it was measured, and a verdict on the best.

    A claim holds where the mean reaches the paper's figure; in sign, where it is beyond "no gain" by its spread. Where
    that is so of some pairs of variants alone, the verdict names them.
    """
    found = []
    for claim in CLAIMS:
        pairs = [
            _gain(claim, where, runs[b], runs[w]) for where, (b, w) in claim.pairs.items() if b in runs and w in runs
        ]
        if pairs := [pair for pair in pairs if pair["seeds"]]:
            best = max(pairs, key=lambda pair: pair["mean"])
            sure = best["mean"] - (best["spread"] or 0.0) > claim.neutral
            verdict = HOLDS if sure and best["mean"] >= claim.paper else SIGN if sure else FAILS
            gained = [pair["where"] for pair in pairs if pair["mean"] - (pair["spread"] or 0.0) > claim.neutral]
            if 0 < len(gained) < len(pairs):
                verdict += f", {' and '.join(gained)} only"
            found.append(
                {"claim": claim.text, "paper": claim.paper, "unit": claim.unit, "measured": pairs, "verdict": verdict}
            )
    return found


def _gain(claim: Claim, where: str, better: list[Figures], worse: list[Figures]) -> dict[str, Any]:
    """Seed by seed, over the seeds that both have."""
    gains = [claim.gain(one, other) for one, other in zip(better, worse, strict=False)]
    mean, spread = mean_and_spread(gains)
    return {"where": where, "mean": mean, "spread": spread, "seeds": len(gains)}


def mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds; no spread of one, no mean of none. None is left out."""
    some = [value for value in values if value is not None]
    if not some:
        return None, None
    return statistics.fmean(some), statistics.stdev(some) if len(some) > 1 else None


def markdown(groups: list[tuple[str, dict[str, str]]], runs: Runs, claims: list[dict[str, Any]]) -> str:
    """A table a group (title, variants by their labels), and one of the claims."""
    parts = [f"**{title}**\n\n{_table(rows, runs)}" for title, rows in groups]
    if claims:
        parts.append(f"**The paper's claims**\n\n{_claims(claims)}")
    return "\n\n".join(parts)


def _table(rows: dict[str, str], runs: Runs) -> str:
    rollouts = any(name.startswith("rollout-") for name in rows.values())
    columns = ROLLOUT if rollouts else AUTOENCODER
    lines = [_row(["variant", *(title for title, _, _ in columns), "seeds"])]
    lines.append(_row(["---"] * (len(columns) + 2)))
    for label, name in rows.items():
        lines.append(_figures_row(label, columns, runs.get(name, [])))
    if rollouts and (shared := [run for name in rows.values() for run in runs.get(name, [])][:1]):
        alone = [
            {key.removeprefix(ALONE): value for key, value in run.items() if key.startswith(ALONE)} for run in shared
        ]
        lines.append(_figures_row("(the autoencoder alone)", columns, alone))
    return "\n".join(lines)


def _figures_row(label: str, columns: tuple[Column, ...], runs: list[Figures]) -> str:
    cells = [label]
    for _, key, shown in columns:
        mean, spread = mean_and_spread(run.get(key) for run in runs)
        text = "" if mean is None else shown(mean)
        # What follows from the sizes has no spread to speak of.
        cells.append(f"{text} ± {shown(spread)}" if spread else text)
    return _row([*cells, str(len(runs))])


def _claims(claims: list[dict[str, Any]]) -> str:
    lines = [_row(["claim", "paper", "here, mean ± spread over seeds", "verdict"]), _row(["---"] * 4)]
    for claim in claims:
        here = "; ".join(
            f"{pair['where']} {pair['mean']:.2f}" + ("" if pair["spread"] is None else f" ± {pair['spread']:.2f}")
            for pair in claim["measured"]
        )
        alone = ", one seed" if all(pair["seeds"] < 2 for pair in claim["measured"]) else ""
        paper = f"up to {claim['paper']:g} {claim['unit']}"
        lines.append(_row([claim["claim"], paper, here, claim["verdict"] + alone]))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
