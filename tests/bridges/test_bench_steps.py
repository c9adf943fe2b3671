"""Steps side by side: the figures are those of an evaluation, and a student that is its teacher falls short nowhere."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bridges import bench_steps as module
from bridges.bench_steps import StepsOrder, bench_steps, shortfall, steps_of, steps_text, tolerance
from bridges.evaluation import make_again
from dcgen.checkpoint import Model, save_model
from dcgen.config import Sampling
from dcgen.errors import DcgenError, GridMismatch
from dcgen.eval.report import evaluate
from dcgen.student import student_of
from tests.dcgen.small import clip, model

CLIPS, SEED = 3, 5


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Folders of a teacher whose guidance is 1, of a student that has not moved from it, and of one of other frames."""
    folder = tmp_path_factory.mktemp("models")
    start = model()
    start = replace(start, config=replace(start.config, sampling=Sampling(steps=3, guidance=1.0, shift=2.0)))
    student = student_of(start)
    made = Model(student.config, start.vae, student, start.latent_mean, start.latent_std)
    return {
        "teacher": str(save_model(start, folder / "teacher").parent),
        "student": str(save_model(made, folder / "student").parent),
        "slow": str(save_model(replace(made, config=replace(made.config, dt_s=0.1)), folder / "slow").parent),
    }


@pytest.fixture
def order(names, monkeypatch, tmp_path):
    def with_unknown(n):
        made = clip(n)
        return replace(made, conditions=replace(made.conditions, known=np.full_like(made.conditions.known, 255)))

    monkeypatch.setattr(module, "world_of", lambda path, seed: None)
    monkeypatch.setattr(module, "unseen_clips", lambda world, config, count, seed: map(with_unknown, range(count)))
    return StepsOrder(names["teacher"], tmp_path, CLIPS, names["student"], SEED, 0, (4, 20), (4,))


def test_the_figures_are_those_of_an_evaluation(order, monkeypatch):
    from dcgen.checkpoint import load_model

    result = bench_steps(replace(order, student=None, teacher_steps=(2,)), lambda line: None)
    teacher = load_model(order.model)
    clips = module.unseen_clips(None, teacher.config, CLIPS, SEED)
    sampling = teacher.config.sampling.but(steps=2)
    figures = evaluate(
        clips,
        lambda made: made.labels,
        lambda conditions, noise: make_again(conditions, noise, teacher, sampling),
        latent_values=7,
        seed=SEED,
    )
    (row,) = result["rows"]
    assert row["steps"] == 2 and row["guidance"] == 1.0 and row["seconds_a_chunk"] > 0
    compared = {name: value for name, value in row.items() if name in figures and figures[name] is not None}
    assert {"class_jsd", "pieces_building", "agent_precision", "layout_road_iou"} <= compared.keys()
    assert all(value == pytest.approx(figures[name], abs=1e-5) for name, value in compared.items())


def test_a_student_is_held_against_its_teacher(order):
    told: list[str] = []
    result = bench_steps(order, told.append)
    assert [(row["model"], row["steps"]) for row in result["rows"]] == [("teacher", 4), ("teacher", 20), ("student", 4)]
    # Untrained, without guidance and with the same times, the student's 4 steps are the teacher's 4.
    own = ("model", "seconds_a_chunk")
    four, _, student = ({k: v for k, v in row.items() if k not in own} for row in result["rows"])
    assert four == student
    twenty = result["rows"][1]
    for name, row in result["comparison"].items():
        assert row["teacher"] == twenty[name] and row["student"] == student[name]
        assert row["within"] == (shortfall(name, twenty[name], student[name]) <= tolerance(twenty[name]))
        assert row["other_noise"] == pytest.approx(result["again"][name] - twenty[name], abs=2e-5)
        assert row["interval"][0] <= student[name] - twenty[name] + 0.02 and row["interval"][0] <= row["interval"][1]
    assert result["within"] == all(row["within"] for row in result["comparison"].values())
    assert result["again"]["class_jsd"] != twenty["class_jsd"]
    json.dumps(result)
    text = steps_text(result)
    assert text.count("| teacher |") == 2 and "| teacher, other noise |" in text and "Within 5 % on every" in text


@pytest.mark.parametrize(
    ("name", "teacher", "student", "falls_short"),
    [
        ("agent_recall", 0.9, 0.95, 0.0),
        ("agent_recall", 0.9, 0.8, 0.1),
        ("class_jsd", 0.1, 0.05, 0.0),
        ("class_jsd", 0.1, 0.2, 0.1),
        ("pieces_building", 0.8, 0.9, 0.0),
        ("pieces_building", 0.8, 1.1, 0.0),
        ("pieces_building", 0.8, 1.3, 0.5),
        ("pieces_building", 0.8, 0.7, 0.1),
    ],
)
def test_only_what_is_worse_falls_short(name, teacher, student, falls_short):
    assert shortfall(name, teacher, student) == pytest.approx(falls_short)


def test_near_zero_five_percent_are_of_a_tenth():
    assert tolerance(0.02) == tolerance(0.1) == pytest.approx(0.005) and tolerance(2.0) == pytest.approx(0.1)


def test_what_is_no_student_of_the_model_is_refused(order, names):
    with pytest.raises(DcgenError, match=r"--student tiny: is no few-step student; pass"):
        bench_steps(replace(order, student=names["teacher"]), lambda line: None)
    with pytest.raises(GridMismatch, match=r"--student tiny-student: has another grid than tiny; pass"):
        bench_steps(replace(order, student=names["slow"]), lambda line: None)


@pytest.mark.parametrize("text", ["", "4,", "0", "four", "4;5", "1001", "-1", "9" * 5000])
def test_steps_that_are_no_numbers(text):
    with pytest.raises(DcgenError, match=r"--teacher-steps .*: give numbers of steps"):
        steps_of("--teacher-steps", text)
    assert steps_of("--teacher-steps", "4, 20,4") == (4, 20)
