"""What a model costs is measured part by part, and held against bars scaled to the machine."""

import json

import pytest

from bridges import bench_model as module
from bridges.bench_model import BARS, ModelOrder, bars, bench_model, model_text
from bridges.model_costs import alone, gflop
from dcgen.device import describe
from tests.dcgen.small import CONFIG, PLAIN, clip

FIGURES = dict.fromkeys(BARS, 1.0)


def big(config, given):
    held = bytearray(200_000_000)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])


def small(config, given):
    bytearray(1_000)


@pytest.fixture
def figures(monkeypatch, tmp_path):
    monkeypatch.setattr("bridges.training.preset", lambda name: CONFIG)
    monkeypatch.setattr("dcgen.config.paper", lambda: PLAIN)
    monkeypatch.setattr(module, "clip_of", lambda folder, config, seed: clip(seed))
    return bench_model(ModelOrder("tiny", tmp_path, repeats=1, seed=3), lambda line: None)


def test_every_figure_is_there_and_the_table_shows_it(figures):
    for name in (
        "encode_cpu_s", "decode_cpu_s", "vae_step_cpu_s", "vae_step_peak_gb", "vae_step_above_import_gb",
        "dit_forward_cpu_s", "dit_forward_preset_cpu_s", "scene_wall_s", "scene_peak_gb", "compression",
        "vae_parameters", "dit_parameters", "gflops", "used_gflops", "copy_gb_s", "dit_forward_gflop",
    ):  # fmt: skip
        assert figures[name] > 0, name
    assert figures["weights"] == "random" and figures["preset"] == "tiny"
    assert figures["arithmetic"] == describe("cpu")
    assert figures["vae_step_peak_gb"] > figures["vae_step_above_import_gb"]
    assert [row["figure"] for row in figures["bars"]] == list(BARS)
    assert json.loads(json.dumps(figures)) == figures
    text = model_text(figures)
    assert all(f"| {name} | " in text for name in (*BARS, "dit_forward_preset", "compression"))


def test_bars_of_time_follow_the_rate_and_those_of_memory_do_not():
    slow, quick = ({row["figure"]: row for row in bars({**FIGURES, "gflops": rate})} for rate in (65.0, 130.0))
    for name, bar in BARS.items():
        assert slow[name]["bar"] == bar
        assert quick[name]["bar"] == (bar if name.endswith("_gb") else bar / 2)
    above = {row["figure"]: row for row in bars({**FIGURES, "gflops": 130.0, "dit_forward_cpu_s": 1.2})}
    assert quick["dit_forward_cpu_s"]["holds"] and not above["dit_forward_cpu_s"]["holds"]


def test_a_peak_is_that_of_the_job_alone():
    here = bytearray(400_000_000)
    here[:: 1 << 12] = b"x" * len(here[:: 1 << 12])
    (_, less), (peak, more) = alone(small, CONFIG, clip()), alone(big, CONFIG, clip())
    assert less < 50_000_000 and 180_000_000 < more < 260_000_000 and peak > more


def test_products_are_counted():
    import torch

    left, right = torch.ones(3, 4), torch.ones(4, 5)
    assert gflop(lambda: left @ right) == 2 * 3 * 4 * 5 / 1e9
