"""Sizes that do not fit are refused where they are written down, and a configuration survives JSON."""

import json
from dataclasses import replace

import pytest

from dcgen.config import PRESETS, SAMPLERS, DitConfig, ModelConfig, VaeConfig, base, nano, paper, wide
from dcgen.sampler import SAMPLERS as INTEGRATORS
from dcgen.types import CLASS_NAMES
from tests.dcgen.small import CONFIG, DIT, GRID, PLAIN, VAE


@pytest.mark.parametrize("config", [CONFIG, PLAIN, nano(), base(), wide(), paper()], ids=lambda c: c.name)
def test_a_configuration_survives_json(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_presets_carry_their_names():
    assert {name: make().name for name, make in PRESETS.items()} == {n: n for n in ("nano", "base", "wide", "paper")}


def test_base_and_wide_have_the_papers_scale():
    assert base().grid.shape == (128, 128, 8) and base().frames == 16 and base().compression >= 20
    assert wide().grid.extent_m == pytest.approx((80, 80, 6.4)) and wide().frames == 16
    assert wide().vae == base().vae


def test_samplers_have_the_names_that_a_configuration_may_hold():
    assert tuple(INTEGRATORS) == SAMPLERS


def test_another_class_list_is_named():
    values = nano().to_dict()
    values["classes"][3] = "tram"
    with pytest.raises(ValueError, match=f"classes: number 3 is 'tram', this dcgen has '{CLASS_NAMES[3]}'"):
        ModelConfig.from_dict(values)
    with pytest.raises(ValueError, match=f"classes: 2 of them, this dcgen has {len(CLASS_NAMES)}"):
        ModelConfig.from_dict({**values, "classes": ["free", "road"]})


def test_a_file_from_before_classes_and_sampling_were_written_down_is_read():
    values = nano().to_dict()
    del values["classes"], values["sampling"]
    assert ModelConfig.from_dict(values) == nano()


def test_sizes_follow_from_grid_and_strides():
    shape = CONFIG.hex_shape
    assert shape.planes["tx"] == (5, 2, 8) and shape.planes["yz"] == (5, 12, 4)
    assert shape.volume == (3, 4, 4, 6)
    assert shape.size == 5 * (8 * 12 + 8 * 4 + 12 * 4 + 2 * 8 + 2 * 12 + 2 * 4) + 3 * 4 * 4 * 6
    assert CONFIG.compression == 4 * 16 * 24 * 8 / shape.size
    assert PLAIN.hex_shape.size == shape.size - 3 * 4 * 4 * 6


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: replace(VAE, stride=0), "vae.stride"),
        (lambda: replace(VAE, stride=3), "vae.stride must be a power of two"),
        (lambda: replace(VAE, projection="sum"), "vae.projection must be one of attention, average"),
        (lambda: replace(VAE, decoder="queries"), "vae.decoder queries needs static_once false"),
        (lambda: replace(DIT, rollout="spiral"), "dit.rollout must be one of padded"),
        (lambda: replace(DIT, interval=1), "dit.interval"),
        (lambda: replace(VAE, volume_stride=6), "vae.volume_stride must be a power of two"),
        (lambda: replace(VAE, widths=(8,)), "vae.widths"),
        (lambda: replace(VAE, widths=(8, 13)), "vae.widths"),
        (lambda: replace(VAE, volume_stride=3), "vae.volume_stride"),
        (lambda: VaeConfig(embed=2.5), "vae.embed"),
        (lambda: replace(DIT, depth=0), "dit.depth"),
        (lambda: replace(DIT, width=30), "dit.width"),
        (lambda: DitConfig(volume_patch=(2, 2)), "dit.volume_patch"),
        (lambda: replace(CONFIG, grid=replace(GRID, shape=(16, 22, 8))), "grid"),
        (lambda: replace(CONFIG, frames=6), "frames"),
        (lambda: replace(CONFIG, frames=0), "frames"),
        (lambda: replace(CONFIG, dt_s=float("nan")), "dt_s"),
        (lambda: replace(CONFIG, dit=replace(DIT, volume_patch=(2, 3, 2))), "tokens of the X-Y-T volume"),
        (lambda: replace(CONFIG, vae=replace(VAE, stride=3, volume_stride=3)), "power of two"),
    ],
)
def test_what_does_not_fit_is_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
