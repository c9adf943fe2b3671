"""A saved run goes on only where it is the same run, and says in what it differs."""

from dataclasses import replace

import pytest
import torch

from dcgen.config import nano
from dcgen.errors import CheckpointError
from dcgen.parts import read_parts, write_parts
from dcgen.stages import DitStage, VaeStage
from dcgen.train import TrainConfig, train
from dcgen.train_state import check_same, what_runs
from dcgen.types import GridSpec
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG
from tests.dcgen.test_train import Toy, batch_at, whole_run

HOW = TrainConfig(steps=2, learning_rate=0.02, warmup=3, save_s=1e9, log_every=4)


@pytest.fixture
def state(tmp_path):
    whole_run(tmp_path, HOW)
    return tmp_path / "state.json"


def test_a_truncated_checkpoint_is_named(state):
    (part,) = state.parent.glob("state-*.safetensors")
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"state-0000002-00\.safetensors: is not the part"):
        whole_run(state.parent)


@pytest.mark.parametrize(
    ("stage", "field"),
    [(Toy(6), "network.0.weight has shape"), (Toy(layers=2), "network"), (Toy(layers=0), "network")],
    ids=["wider", "deeper", "shallower"],
)
def test_a_checkpoint_of_another_model_is_named(state, stage, field):
    with pytest.raises(CheckpointError, match=rf"field {field}.*train into another folder"):
        train(stage, batch_at, HOW, state.parent)


@pytest.mark.parametrize("field", ["ema.0.bias", "adam.exp_avg_sq.4.weight", "network.1.running_mean", "step"])
def test_a_checkpoint_that_lacks_something_is_named(state, field):
    tensors, about = read_parts(state)
    (about if field == "step" else tensors).pop(field)
    write_parts(state, tensors.items(), about, "other")
    with pytest.raises(CheckpointError, match=f"field {field}"):
        whole_run(state.parent)


def test_half_a_checkpoint_beside_the_whole_one_does_no_harm(state):
    (state.parent / "state.json.partial").write_bytes(b"half")
    (state.parent / "state-0000009-00.safetensors").write_bytes(b"of a killed writer")
    whole_run(state.parent, replace(HOW, steps=3))
    assert sorted(path.name for path in state.parent.glob("state*")) == ["state-0000003-00.safetensors", "state.json"]


def test_a_run_of_an_earlier_dcgen_is_not_begun_anew_in_its_folder(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"old")
    with pytest.raises(CheckpointError, match=r"state\.safetensors: is of an earlier dcgen .*another folder"):
        whole_run(tmp_path)


BASE = replace(CONFIG, name="base")
OTHERS = [
    (replace(nano(), grid=GridSpec((128, 128, 8), (0.4, 0.4, 0.4), (-25.6, -25.6, -2.0))),
     r"grid: the run has \(64, 64, 8\), asked is \(128, 128, 8\); train into another folder"),
    (replace(nano(), frames=16), r"frames: the run has 8, asked is 16"),
    (replace(nano(), vae=replace(nano().vae, channels=9)), r"vae\.channels: the run has 10, asked is 9"),
    (replace(nano(), dit=replace(nano().dit, depth=3)), r"dit\.depth: the run has 8, asked is 3"),
    (replace(nano(), dt_s=0.1), r"dt_s: the run has 0\.2, asked is 0\.1"),
    (replace(nano(), name="other"), r"name: the run has nano, asked is other"),
]  # fmt: skip


@pytest.mark.parametrize(("other", "line"), OTHERS)
def test_the_field_that_differs_is_named(tmp_path, other, line):
    saved, asked = ({"stage": "vae", **config.to_dict()} for config in (nano(), other))
    check_same(tmp_path, saved, saved)
    with pytest.raises(CheckpointError, match=line):
        check_same(tmp_path, saved, asked)


def test_stages_and_classes_differ_too(tmp_path):
    saved = {"stage": "vae", **nano().to_dict()}
    with pytest.raises(CheckpointError, match=r"stage: the run has vae, asked is decoder"):
        check_same(tmp_path, saved, {**saved, "stage": "decoder", "frames": 3})
    classes = [*saved["classes"]]
    classes[3] = "tram"
    with pytest.raises(CheckpointError, match=rf"classes\[3\]: the run has {saved['classes'][3]}, asked is tram"):
        check_same(tmp_path, saved, {**saved, "classes": classes})
    check_same(tmp_path, saved, {**saved, "sampling": {"steps": 99}})  # how it is sampled is not how it is trained


def test_a_run_folder_knows_its_stage_and_sizes(tmp_path):
    stage = VaeStage(Vae(CONFIG), torch.ones(12))
    assert what_runs(stage)["stage"] == "vae" and what_runs(stage)["frames"] == CONFIG.frames
    assert DitStage.name == "dit" and what_runs(Toy()) == {"stage": "Toy"}
