"""Variants differ in what their table is about alone; runs are kept and told; claims are judged by the numbers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bridges.ablation import GROUPS, LETTERS, AblationOrder, Budget, run_ablation, variants
from bridges.ablation_runs import Bench, HeldClips
from bridges.ablation_table import CLAIMS, FAILS, HOLDS, SIGN, claims_of, markdown, mean_and_spread
from bridges.step_memory import step_bytes
from dcgen.errors import DcgenError
from dcgen.stages import VaeBatch
from scenarios.layout import rasterise
from scenarios.world.store import assemble_world, save_world
from tests.conftest import Run, refused
from tests.scenarios.world.conftest import street_map, street_traffic

QUICK = ["--seeds", 1, "--steps", 1, "--clips", 3, "--unseen-clips", 2]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    road_map, folders = street_map(), []
    for seed in (5, 6):
        folders.append(tmp_path_factory.mktemp(f"world{seed}"))
        save_world(assemble_world(road_map, rasterise(road_map), street_traffic(), seed), folders[-1])
    return folders


def differing(one: dict, other: dict, place: str = "") -> set[str]:
    """The names of the fields in which two configurations differ."""
    found: set[str] = set()
    for key, value in one.items():
        if isinstance(value, dict):
            found |= differing(value, other[key], f"{key}.")
        elif value != other[key]:
            found.add(place + key)
    return found


def test_rows_of_a_table_differ_in_what_it_is_about() -> None:
    about = {
        "a": {"vae.projection", "vae.decoder"},
        "b": {"dit.rollout"},
        "c": {"vae.stride", "vae.time_stride"},
        "d": {"anchored"},
        "e": {"vae.static_once"},
        "f": {"vae.volume_channels", "vae.channels"},
        "g": {"frames"},
    }
    configs = {name: asdict(config) for name, config in variants().items()}
    assert set(LETTERS) == about.keys()
    assert {name for group in GROUPS for name in group.rows.values()} == configs.keys()
    for group in GROUPS:
        rows = [configs[name] for name in group.rows.values()]
        seen = set().union(*(differing(one, other) for one in rows for other in rows))
        assert seen == about[group.letter], group.title


def test_latents_are_equal_where_they_are_not_the_question() -> None:
    sizes = {name: config.hex_shape.size for name, config in variants().items()}
    free = {name for group in GROUPS if group.letter in "cg" for name in group.rows.values()} - {"default"}
    assert len({sizes[name] for name in sizes.keys() - free - {"default"}}) == 1
    assert abs(sizes["still"] / sizes["default"] - 1) < 0.03


def test_an_ablation_is_told_kept_and_gone_on_with(
    worlds: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = ["bench", "ablation", worlds[0], "--unseen", worlds[1], *QUICK, "-o", tmp_path / "out"]
    first = run(*order, "--groups", "d", "--json")
    assert first.code == 0, first
    figures = json.loads(first.out)
    assert [line.split("  ")[0] for line in first.err.splitlines()] == ["1 of 2", "2 of 2"]
    for name in ("ego", "plain"):
        (seed,) = figures["runs"][name]
        assert seed == json.loads((tmp_path / "out" / "runs" / f"{name}-0.json").read_text())["figures"]
        assert 0 <= seed["miou"] < 1 and seed["step_s"] > 0 and 10 < seed["step_mib"] < 2000
    assert not figures["claims"] and not list((tmp_path / "out").glob(".run-*"))
    with monkeypatch.context() as patched:
        patched.setattr(Bench, "run", lambda *_: pytest.fail("a finished run was made again"))
        again = run(*order, "--groups", "d")
    assert again.code == 0 and "| anchored | " in again.out and "| seeds |" in again.out
    fault = refused(run, tmp_path, *order, "--groups", "d", "--batch", 3)
    assert "ego-0.json: was trained on other worlds" in fault or "plain-0.json: was trained on other worlds" in fault
    (tmp_path / "out" / "runs" / "plain-0.json").write_text("[]")
    assert "plain-0.json: is no run of an ablation" in refused(run, tmp_path, *order, "--groups", "d")


def test_rollouts_share_an_autoencoder(worlds: list[Path], tmp_path: Path) -> None:
    lines: list[str] = []
    order = AblationOrder((worlds[0],), worlds[1], tmp_path, 1, "b", Budget(1, 1, 3, 2))
    results = run_ablation(order, lines.append)
    seen = [results["runs"][name][0] for name in ("rollout-padded", "rollout-unfolded", "rollout-vertical")]
    for figures in seen:
        assert figures["flow_loss"] > 0 and figures["tokens"] == seen[0]["tokens"] > 80
        assert 0 <= figures["class_jsd"] <= 1
    alone = [{key: value for key, value in figures.items() if key.startswith("vae_")} for figures in seen]
    assert alone[0] and alone[0] == alone[1] == alone[2]
    assert len({figures["flow_loss"] for figures in seen}) == 3 and len(lines) == 3
    kept = (tmp_path / "rollout-vae.safetensors").read_bytes()
    (tmp_path / "runs" / "rollout-vertical-0.json").unlink()
    after = run_ablation(order, lines.append)["runs"]["rollout-vertical"][0]
    assert (tmp_path / "rollout-vae.safetensors").read_bytes() == kept
    assert after | {"step_s": 0} == seen[2] | {"step_s": 0}, "the same seed gives the same figures"


@pytest.mark.slow
def test_a_larger_batch_takes_more_memory() -> None:
    config = variants()["still"]
    labels = np.random.default_rng(0).integers(0, 90, (4, config.frames, *config.grid.shape), np.uint8)
    labels[labels > 11] = 0

    def batch(size: int) -> VaeBatch:
        import torch

        part = torch.from_numpy(labels[:size])
        return VaeBatch(part, part, part == 10)

    small, large = step_bytes(config, batch(1)), step_bytes(config, batch(4))
    assert 2.5 < large / small < 4.5


def test_an_order_that_cannot_be_is_refused(worlds: list[Path], run: Run, tmp_path: Path) -> None:
    order = ["bench", "ablation", worlds[0], *QUICK, "-o", tmp_path / "out"]
    assert "--groups ax" in refused(run, tmp_path, *order, "--unseen", worlds[1], "--groups", "ax")
    assert "is one of the worlds" in refused(run, tmp_path, *order, "--unseen", worlds[0])
    assert "holds no finished world" in refused(run, tmp_path, *order, "--unseen", tmp_path / "none")
    with pytest.raises(DcgenError, match="--groups"):
        AblationOrder((), worlds[0], tmp_path, 1, "")


def test_held_clips_give_rows() -> None:
    arrays = {"labels": np.arange(24, dtype=np.uint8).reshape(4, 1, 1, 2, 3), "command": np.arange(4)}
    held = HeldClips(arrays)
    assert len(held) == 4 and held.clip_shape == (1, 1, 2, 3)
    rows = held.rows(np.array([2, 2, 0]), ["command"])
    assert rows.keys() == {"command"} and rows["command"].tolist() == [2, 2, 0]


def made_up(miou: float, step_s: float = 0.1, step_mib: float = 100.0) -> dict:
    return {"miou": miou, "step_s": step_s, "step_mib": step_mib}


def test_claims_are_judged_by_mean_spread_and_the_papers_figure() -> None:
    runs = {
        "plain": [made_up(0.70), made_up(0.74), made_up(0.72)],
        "plain-average": [made_up(0.71), made_up(0.70), made_up(0.75)],
        "plain-queries": [made_up(0.60, 0.15, 400), made_up(0.66, 0.17, 400), made_up(0.63, 0.16, 400)],
    }
    projection, squeeze, faster, memory = claims_of(runs)
    assert [claim["claim"] for claim in (projection, squeeze, faster, memory)] == [claim.text for claim in CLAIMS]
    gains = [100 * (a["miou"] - b["miou"]) for a, b in zip(runs["plain"], runs["plain-average"], strict=True)]
    assert len(projection["measured"]) == 1  # the other pair was not trained
    assert projection["measured"][0]["mean"] == pytest.approx(np.mean(gains))
    assert projection["measured"][0]["spread"] == pytest.approx(np.std(gains, ddof=1))
    assert projection["verdict"] == FAILS  # 0 +- 3 points
    assert squeeze["verdict"] == HOLDS and squeeze["measured"][0]["mean"] == pytest.approx(9)
    assert faster["verdict"] == SIGN and faster["measured"][0]["mean"] == pytest.approx(1.6)
    assert memory["verdict"] == HOLDS and memory["measured"][0]["mean"] == pytest.approx(75)
    assert claims_of({"plain": runs["plain"], "plain-average": []}) == []
    assert "| holds |" in markdown([], runs, [squeeze])
    once = claims_of({name: seeds[:1] for name, seeds in runs.items()})
    assert "| holds, one seed |" in markdown([], runs, once[1:2])


def test_a_table_shows_mean_and_spread_of_the_seeds_there_are() -> None:
    runs = {"plain": [made_up(0.5), made_up(0.7)], "ego": [made_up(0.25)]}
    text = markdown([("d. Frames", {"ego-centred": "ego", "anchored": "plain", "late": "none"})], runs, [])
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "0.600 ± 0.141" in rows["anchored"] and rows["anchored"].endswith("| 2 |")
    assert "| 0.250 |" in rows["ego-centred"] and "±" not in rows["ego-centred"]
    assert rows["late"].endswith("| 0 |")
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert mean_and_spread([None, 2.0]) == (2.0, None) and mean_and_spread([]) == (None, None)
