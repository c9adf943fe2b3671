"""Batches that are cut on a device are those that are cut on the CPU."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bridges.device_clips import DeviceClips, training_device
from bridges.training import LiveClips
from dcgen.dataset.source import FIELDS
from dcgen.recipes import BatchSource
from dcgen.stages import vae_batches
from dcgen.types import UNKNOWN, GridSpec
from scenarios.layout import rasterise
from scenarios.world.store import assemble_world, save_world
from tests.dcgen.small import CONFIG
from tests.scenarios.world.conftest import street_map, street_traffic

GRID = GridSpec((32, 40, 8), (0.8, 0.8, 0.8), (-12.8, -16.0, -2.0))
MODEL = replace(CONFIG, grid=GRID)
DEVICES = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def live() -> LiveClips:
    road_map = street_map()
    raster = rasterise(road_map)
    return LiveClips([assemble_world(road_map, raster, street_traffic(), seed) for seed in (5, 6, 7)], 50, 11, MODEL)


@pytest.mark.parametrize("device", DEVICES)
def test_labels_and_moving_are_those_of_the_kernels(live: LiveClips, device: str) -> None:
    index = np.array([31, 4, 0, 4, 17])
    cut, moments = DeviceClips(live, torch.device(device)).cut(index)
    rows = live.rows(index, FIELDS)
    assert cut.labels.device == cut.moving.device == torch.device(device) and len(moments) == 5
    assert np.array_equal(cut.labels.cpu(), rows["labels"]) and cut.labels.dtype == torch.uint8
    assert np.array_equal(cut.moving.cpu(), rows["moving"]) and cut.moving.any()
    assert len({live.pick(int(n))[0] for n in index}) > 1  # several worlds, in turns


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_those_of_the_cpu(live: LiveClips, device: str) -> None:
    clips = DeviceClips(live, torch.device(device))
    assert isinstance(clips, BatchSource) and not isinstance(live, BatchSource)
    mine, theirs, hidden = clips.vae_batches(4, 3), vae_batches(live, MODEL, 4, 3), 0
    for i in (6, 0, 1, 2):
        one, other = mine(i), theirs(i)
        for name in ("inputs", "labels", "moving"):
            assert torch.equal(getattr(one, name).cpu(), getattr(other, name)), (i, name)
        hidden += int((one.inputs == UNKNOWN).flatten(1).any(1).sum())
    assert 0 < hidden < 12


def test_everything_else_is_the_live_clips(live: LiveClips) -> None:
    clips = DeviceClips(live, torch.device("cpu"))
    assert len(clips) == 50 and clips.clip_shape == live.clip_shape and clips.content_sha256 == live.content_sha256
    index = np.array([9, 2])
    assert all(np.array_equal(clips.rows(index, [name])[name], live.rows(index, [name])[name]) for name in FIELDS)


def test_ego_centred_clips_are_not_cut_here(live: LiveClips) -> None:
    with pytest.raises(ValueError, match="centred on the ego"):
        DeviceClips(replace(live, config=replace(MODEL, anchored=False)), training_device())


def test_a_machine_that_trains_needs_no_reader_of_maps_and_scenarios(live: LiveClips, tmp_path: Path) -> None:
    """What GPU images lack. Worlds are read, and clips cut from them."""
    save_world(live.worlds[0], tmp_path / "world")
    code = f"""
import sys
for name in ("pydantic", "defusedxml", "shapely", "yaml", "carla", "PIL", "sumolib", "libsumo"):
    sys.modules[name] = None
from dataclasses import replace
from pathlib import Path
from bridges.training import open_source
from tests.bridges.test_device_clips import MODEL
clips = open_source([Path({str(tmp_path / "world")!r})], 9, 4, MODEL, "device")
batch = clips.vae_batches(2, 0)(0)
print(tuple(batch.labels.shape), *clips.rows([3], ["layout_static", "layout_agents"]))
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert made.stdout.split("\n")[0] == f"{(2, MODEL.frames, *GRID.shape)} layout_static layout_agents", made.stderr
