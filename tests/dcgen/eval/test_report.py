"""The whole dictionary: a perfect model, a poor one, and no generator at all."""

import dataclasses
import json

import numpy as np
import pytest

from dcgen.eval.consistency import EgoFrames
from dcgen.eval.report import BARS, FINE_BARS, bars_of, evaluate, markdown, misses
from dcgen.types import Clip, Semantics, carlasc_grid, nano_grid, pose_matrix, wide_grid
from tests.dcgen.eval.scenes import GRID, SURFACE, conditions, stamp, street

KEYS = {
    *FINE_BARS, "bars", "per_class", "class_jsd_floor", "counts", "seeds", "real", "detail",
}  # fmt: skip


def clip(shift_m=0.0):
    labels = street()
    stamp(labels, Semantics.VEHICLE, 4.0 + shift_m, 0.4, 4.8, 2.4)
    moving = labels == Semantics.VEHICLE
    labels[:, 2:12, 23:28, SURFACE + 1 :] = Semantics.BUILDING
    labels[:, 30:33, 2:5, SURFACE + 1 :] = Semantics.VEGETATION
    return Clip(labels, moving, conditions([(Semantics.VEHICLE, 4.0 + shift_m, 0.4, 0.0, 4.8, 2.4)]))


CLIPS = [clip(), clip(1.6), clip(3.2), clip(-4.8)]


def truth_of(asked, seed):
    return next(c.labels for c in CLIPS if c.conditions is asked)


def long_scene():
    labels = np.repeat(street(1), 20, axis=0)
    return EgoFrames(labels, np.stack([pose_matrix(0.8 * t, 0, 0, 0) for t in range(20)]), GRID)


def run(**kwargs):
    arguments = {"reconstruct": lambda c: c.labels, "generate": truth_of, "latent_values": 2880, "seed": 3}
    scenes = {"long_scenes": [long_scene()], "real_scenes": [long_scene()]}
    return evaluate(CLIPS, **(arguments | scenes | kwargs))


def test_a_perfect_model_meets_every_bar():
    figures = run()
    assert set(figures) == KEYS
    assert misses(figures) == []
    for key in ("vae_miou", "vae_occ_iou", "moving_iou", "layout_road_iou", "agent_recall", "pieces_building"):
        assert figures[key] == 1.0, key
    assert figures["class_jsd"] == 0.0 and figures["static_consistency"] == 1.0
    assert figures["compression"] == pytest.approx(3 * 40 * 30 * 6 / 2880)
    assert figures["counts"]["clips"] == 4 and figures["seeds"] == {"first": 3, "last": 6}
    assert figures["counts"]["conditioned_agents"] == 12
    assert json.loads(json.dumps(figures)) == figures


def test_finer_voxels_have_finer_bars():
    assert bars_of(nano_grid()) is BARS and bars_of(carlasc_grid()) is bars_of(wide_grid()) is FINE_BARS
    figures = run(bars=FINE_BARS, latent_values=1440)
    assert misses(figures) == ["compression"] and figures["agent_recall_half_m"] == 1.0


def test_an_autoencoder_alone_has_its_own_figures_alone():
    figures = run(generate=None, long_scenes=(), real_scenes=())
    table = markdown(figures)
    assert "`vae_miou`" in table and "`moving_iou`" in table and "`agent_recall`" not in table


def test_a_poor_model_is_told_so():
    def crumbs(asked, seed):
        rng = np.random.default_rng(seed)
        return rng.integers(0, 12, (3, *GRID.shape)).astype(np.uint8)

    figures = run(generate=crumbs, reconstruct=lambda c: np.roll(c.labels, 1, axis=2))
    assert set(misses(figures)) == {*BARS} - {"compression", "static_consistency"}
    assert figures["pieces_building"] > 20 and figures["real"]["agent_recall"] == 1.0
    again = run(generate=crumbs, reconstruct=lambda c: np.roll(c.labels, 1, axis=2))
    assert again == figures


def test_each_clip_has_its_seed_and_only_some_are_generated():
    seeds, steps = [], []

    def note(asked, seed):
        seeds.append(seed)
        return truth_of(asked, seed)

    figures = run(generate=note, generate_clips=2, progress=steps.append)
    assert seeds == [3, 4] and steps == [1, 2, 3, 4]
    assert figures["counts"]["generated"] == 2 and figures["counts"]["clips"] == 4


def test_without_a_generator_its_figures_are_absent():
    figures = run(generate=None, long_scenes=())
    assert figures["vae_miou"] == 1.0 and figures["agent_recall"] is None and figures["class_jsd"] is None
    assert {"layout_road_iou", "static_consistency", "pieces_building"} <= set(misses(figures))
    assert "share_generated" not in figures["per_class"]["road"]


def test_copied_labels_are_not_scored():
    known = np.full((3, *GRID.shape), 255, np.uint8)
    known[0, 0, 0, 0] = Semantics.ROAD
    given = dataclasses.replace(CLIPS[0], conditions=dataclasses.replace(CLIPS[0].conditions, known=known))
    with pytest.raises(ValueError, match="known"):
        evaluate([given], lambda c: c.labels, lambda c, s: given.labels, latent_values=10)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        run(generate=lambda asked, seed: street(2))


def test_the_table_shows_every_bar():
    text = markdown(run())
    for key, (_, bar) in BARS.items():
        assert any(f"`{key}`" in line and f"{bar:g}" in line for line in text.splitlines())
    assert "| vehicle | 1.000 | 1.000 |" in text and "Seeds 3 to 6" in text
    assert all(line.count("|") in (0, 5, 6) for line in text.splitlines())
