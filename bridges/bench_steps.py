"""How few steps a model needs: every generation figure and the time of a chunk, by steps, for it and its student."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridges.bench import hardware
from bridges.evaluation import long_scene, make_again, unseen_clips, world_of
from dcgen import __version__
from dcgen.errors import DcgenError, GridMismatch
from dcgen.eval.consistency import static_consistency
from dcgen.eval.report import SceneFigures, generation_figures, score_scene

if TYPE_CHECKING:
    from dcgen.checkpoint import Model
    from dcgen.config import Sampling
    from dcgen.types import Clip
    from scenarios.world.store import World

Tell = Callable[[str], None]
TEACHER, STUDENT = 20, 4  # the steps that are held against each other
TEACHER_STEPS, STUDENT_STEPS = (1, 2, 4, 8, 12, 20, 50), (1, 2, 4, 8)
TOLERANCE = 0.05
NEAR_ZERO = 0.1  # of a figure below it, 5 % are 5 % of this
RESAMPLED = 200
OTHER_NOISE = 1_000_000  # added to the seed


@dataclass(frozen=True)
class StepsOrder:
    """What is asked of `dcgen bench steps`. long: scenes of 128 frames, of the two that are compared."""

    model: str
    map_path: Path
    clips: int
    student: str | None = None
    seed: int = 0
    long: int = 0
    teacher_steps: tuple[int, ...] = TEACHER_STEPS
    student_steps: tuple[int, ...] = STUDENT_STEPS


def steps_of(option: str, text: str) -> tuple[int, ...]:
    """Numbers of steps out of words like 1,2,4. Raises DcgenError."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and len(word) < 10 and 1 <= int(word) <= 1000 for word in words):
        raise DcgenError(f"{option} {text}: give numbers of steps from 1 to 1000, as 4,20")
    return tuple(dict.fromkeys(int(word) for word in words))


@dataclass
class _Row:
    """One model with so many steps, on every clip."""

    who: str
    sampling: Sampling
    seconds: float
    scenes: list[SceneFigures] = field(repr=False)
    static_consistency: float | None = None

    def to_dict(self, real: Sequence[SceneFigures]) -> dict[str, Any]:
        figures = _figures(self.scenes, real)
        if self.static_consistency is not None:
            figures["static_consistency"] = self.static_consistency
        how = {"model": self.who, "steps": self.sampling.steps, "guidance": self.sampling.guidance}
        tidy = {name: None if np.isnan(value) else round(value, 5) for name, value in figures.items()}
        return {**how, "seconds_a_chunk": round(self.seconds, 4), **tidy}


def bench_steps(order: StepsOrder, tell: Tell) -> dict[str, Any]:
    """The table, and the student's 4 steps against the teacher's 20. Raises MapError, WorldError, CheckpointError.

    Clip n is generated with the noise of seed + n by all of them, so that what differs is the way alone; `again` is
    the teacher with other noise: what a seed is worth. A chunk's seconds are measured one chunk at a time.
    """
    from dcgen.checkpoint import load_model
    from dcgen.device import default_device

    model = load_model(order.model, default_device())
    student = load_model(order.student, default_device()) if order.student is not None else None
    if student is not None:
        _check_pair(model, student)
    tell(f"building a world on {order.map_path}")
    world = world_of(order.map_path, order.seed)
    clips = list(unseen_clips(world, model.config, order.clips, order.seed))
    real = [score_scene(clip.labels, clip.conditions) for clip in clips]
    rows = [_run("teacher", model, steps, clips, order.seed, tell) for steps in order.teacher_steps]
    result = {"dcgen": __version__, "hardware": hardware(), "clips": order.clips, "seed": order.seed}
    if student is not None:
        rows += [_run("student", student, steps, clips, order.seed, tell) for steps in order.student_steps]
        one, other = _of(rows, "teacher", TEACHER), _of(rows, "student", STUDENT)
        if one is not None and other is not None:
            one.static_consistency = _consistency(world, model, one.sampling, order)
            other.static_consistency = _consistency(world, student, other.sampling, order)
            again = _run("teacher, other noise", model, TEACHER, clips, order.seed + OTHER_NOISE, tell)
            result |= {"again": again.to_dict(real), **_comparison(one, other, again, real, order.seed)}
    return {**result, "rows": [row.to_dict(real) for row in rows]}


def _check_pair(model: Model, student: Model) -> None:
    if not student.config.dit.interval:
        raise DcgenError(f"--student {student.config.name}: is no few-step student; pass what train student left")
    one, other = ((c.grid, c.frames, c.dt_s) for c in (model.config, student.config))
    if one != other:
        raise GridMismatch(
            f"--student {student.config.name}: has another grid than {model.config.name}; pass its own teacher"
        )


def _run(who: str, model: Model, steps: int, clips: Sequence[Clip], seed: int, tell: Tell) -> _Row:
    sampling = model.config.sampling.but(steps)
    make_again(clips[0].conditions, seed, model, sampling.but(1))  # what happens once is not measured
    scenes, seconds = [], 0.0
    for n, clip in enumerate(clips):
        begun = time.perf_counter()
        labels = make_again(clip.conditions, seed + n, model, sampling)
        seconds += time.perf_counter() - begun
        scenes.append(score_scene(labels, clip.conditions))
    tell(f"{who}: {steps} steps, {seconds / len(clips):.2f} s a chunk")
    return _Row(who, sampling, seconds / len(clips), scenes)


def _of(rows: Sequence[_Row], who: str, steps: int) -> _Row | None:
    return next((row for row in rows if row.who == who and row.sampling.steps == steps), None)


def _consistency(world: World, model: Model, sampling: Sampling, order: StepsOrder) -> float | None:
    scenes = [long_scene(world, order.seed + n, model, sampling) for n in range(order.long)]
    agreed = [static_consistency(scene).tolerant for scene in scenes]
    return sum((tally.hits for tally in agreed), 0.0) / sum(tally.total for tally in agreed) if agreed else None


def _figures(scenes: Sequence[SceneFigures], real: Sequence[SceneFigures]) -> dict[str, float]:
    made, true = (sum(part, SceneFigures()) for part in (scenes, real))
    return generation_figures(made, true)


def _comparison(teacher: _Row, student: _Row, again: _Row, real: Sequence[SceneFigures], seed: int) -> dict[str, Any]:
    """Figure by figure, with the interval that the clips' choice leaves to the difference, and what noise is worth."""
    one, other, noisy = (row.to_dict(real) for row in (teacher, student, again))
    spread = _differences(teacher.scenes, student.scenes, real, seed)
    compared = {}
    for name in [*_figures(teacher.scenes, real), "static_consistency"]:
        if one.get(name) is None or other.get(name) is None:
            continue
        low, high = np.nanpercentile(spread[name], [2.5, 97.5]) if name in spread else (np.nan, np.nan)
        compared[name] = {
            "teacher": one[name],
            "student": other[name],
            "ratio": round(other[name] / one[name], 4) if one[name] else None,
            "interval": None if np.isnan(low) else [round(float(low), 5), round(float(high), 5)],
            "other_noise": round(noisy[name] - one[name], 5) if noisy.get(name) is not None else None,
            "tolerance": round(tolerance(one[name]), 5),
            "within": shortfall(name, one[name], other[name]) <= tolerance(one[name]),
        }
    return {"comparison": compared, "within": all(row["within"] for row in compared.values())}


def tolerance(teacher: float) -> float:
    """How much a student may fall short of a figure."""
    return TOLERANCE * max(abs(teacher), NEAR_ZERO)


def shortfall(name: str, teacher: float, student: float) -> float:
    """How much worse the student's figure is; 0 where it is higher, for class_jsd lower, for pieces nearer to 1."""
    if name.startswith("pieces"):
        better = abs(student - 1) <= abs(teacher - 1)
    else:
        better = student <= teacher if name == "class_jsd" else student >= teacher
    return 0.0 if better else abs(student - teacher)


def _differences(
    teacher: Sequence[SceneFigures], student: Sequence[SceneFigures], real: Sequence[SceneFigures], seed: int
) -> dict[str, list[float]]:
    """The student's figures less the teacher's, on clips drawn again and again out of the same clips."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(RESAMPLED):
        drawn = rng.integers(len(real), size=len(real))
        true = [real[n] for n in drawn]
        one, other = (_figures([part[n] for n in drawn], true) for part in (teacher, student))
        for name, value in one.items():
            found.setdefault(name, []).append(other[name] - value)
    return found


def steps_text(result: dict[str, Any]) -> str:
    """The result as two markdown tables."""
    names = [name for name in result["rows"][0] if name not in ("model", "steps", "guidance", "static_consistency")]
    heads = ["model", "steps", "guidance", *names]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    rows = [*result["rows"], *([result["again"]] if "again" in result else [])]
    lines += ["| " + " | ".join(_cell(row[name]) for name in heads) + " |" for row in rows]
    if "comparison" in result:
        heads = ["figure", f"teacher@{TEACHER}", f"student@{STUDENT}", "ratio", "difference, 95 %", "other noise"]
        heads += ["allowed", "within"]
        lines += ["", "| " + " | ".join(heads) + " |"]
        lines += ["| --- " * len(heads) + "|"]
        for name, row in result["comparison"].items():
            interval = "" if row["interval"] is None else "{:+.3f} to {:+.3f}".format(*row["interval"])
            cells = [name, *(_cell(row[key]) for key in ("teacher", "student", "ratio"))]
            cells += [interval, _cell(row["other_noise"]), _cell(row["tolerance"]), _yes(row["within"])]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", f"Within 5 % on every figure: {_yes(result['within'])}."]
    lines += ["", f"{result['clips']} clips, seed {result['seed']}; {result['hardware']}; dcgen {result['dcgen']}."]
    return "\n".join(lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
