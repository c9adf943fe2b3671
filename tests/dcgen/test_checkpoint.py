"""A model on disk is the model that was saved, or an error that names the field."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dcgen.checkpoint import WEIGHTS, check_preset, load_model, model_path, save_model
from dcgen.errors import CheckpointError
from dcgen.generate import Sampling, generate
from dcgen.tensor_file import read_tensors, write_tensors
from tests.dcgen.small import CONFIG, DIT, chunk, model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_model(model(), tmp_path_factory.mktemp("model"))


@pytest.fixture
def edit(saved, tmp_path):
    """Writes the saved model again with changed tensors or metadata; returns the new file."""

    def write(change=lambda tensors: None, **metadata):
        tensors, kept = read_tensors(saved)
        change(tensors)
        path = tmp_path / WEIGHTS
        save_file(tensors, path, {**kept, **metadata})
        return path

    return write


def test_save_and_load_are_equal(saved):
    first, again = model(), load_model(str(saved))
    assert again.config == first.config and len(again.sha256) == 64
    for one, two in ((first.vae, again.vae), (first.dit, again.dit)):
        assert not two.training
        for name, tensor in one.state_dict().items():
            assert torch.equal(two.state_dict()[name], tensor), name
    assert torch.equal(again.latent_mean, first.latent_mean) and torch.equal(again.latent_std, first.latent_std)
    quick = Sampling(steps=1)
    one, two = (generate(chunk(), m, 3, sampling=quick) for m in (first, again))
    assert np.array_equal(one.labels, two.labels)


def test_a_large_model_lies_in_parts_that_can_be_carried(tmp_path):
    first = model()
    index = save_model(first, tmp_path, most_bytes=20_000)
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert index.name == "model.json" and len(parts) > 2
    assert all(part.stat().st_size < 40_000 for part in parts)  # numbers and a header
    again = load_model(str(tmp_path))
    assert again.config == first.config and len(again.sha256) == 64
    for one, two in ((first.vae, again.vae), (first.dit, again.dit)):
        assert all(torch.equal(two.state_dict()[name], tensor) for name, tensor in one.state_dict().items())
    parts[1].unlink()
    with pytest.raises(CheckpointError, match=f"{parts[1].name}: this part of model.json is missing"):
        load_model(str(tmp_path))
    assert save_model(first, tmp_path).name == WEIGHTS and load_model(str(tmp_path)).config == first.config


def test_bfloat16_halves_the_transformer_and_loads_as_float32(saved, tmp_path):
    half = save_model(model(), tmp_path, torch.bfloat16)
    assert half.stat().st_size < saved.stat().st_size
    first, again = model(), load_model(str(tmp_path))
    for name, tensor in first.dit.state_dict().items():
        got = again.dit.state_dict()[name]
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, tensor, rtol=1e-2, atol=1e-6)
    for name, tensor in first.vae.state_dict().items():
        assert torch.equal(again.vae.state_dict()[name], tensor), name


def test_eight_bits_quarter_the_transformer(saved, tmp_path):
    """Rows as short as the small model's lose more to their scales than real ones do."""
    packed = save_model(model(), tmp_path, torch.int8)
    stored, whole = (
        sum(t.nbytes for name, t in read_tensors(path)[0].items() if name[:4] == "dit.") for path in (packed, saved)
    )
    assert stored < 0.36 * whole
    first, again = model(), load_model(str(tmp_path))
    for name, tensor in first.dit.state_dict().items():
        got = again.dit.state_dict()[name]
        assert got.dtype == torch.float32 and (got - tensor).abs().max() <= tensor.abs().max() / 253, name
    for name, tensor in first.vae.state_dict().items():
        assert torch.equal(again.vae.state_dict()[name], tensor), name


def test_the_hash_follows_the_weights(saved, edit):
    assert load_model(str(saved)).sha256 == load_model(str(saved.parent)).sha256
    moved = edit(lambda tensors: tensors["latent.mean"].add_(1))
    assert load_model(str(moved)).sha256 != load_model(str(saved)).sha256


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(saved, tmp_path, share):
    data = saved.read_bytes()
    path = tmp_path / WEIGHTS
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole safetensors file"):
        load_model(str(path))


def test_any_bit_of_the_header_may_flip(saved, tmp_path):
    data = saved.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    assert json.loads(data[8:header])["__metadata__"]
    path, rng, refused = tmp_path / WEIGHTS, np.random.default_rng(0), 0
    places = [*range(8), *rng.integers(8, header, size=50).tolist(), *range(8, 400, 12)]
    for place in places:
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            load_model(str(path))
        except CheckpointError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > 0.8 * len(places)


class Harm:
    """What a pickle would do when it is loaded."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("name", ["model.pt", "last.ckpt", WEIGHTS])
def test_a_pickle_is_named_and_never_loaded(tmp_path, name, archive):
    harmed = tmp_path / "harmed"
    content = {"weight": torch.zeros(3), "more": Harm(harmed)}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=archive)
    with pytest.raises(CheckpointError, match=rf"{name}: is a pickle, which may run anything and is never loaded"):
        load_model(str(tmp_path / name))
    assert not harmed.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"grid": replace(CONFIG.grid, shape=(32, 24, 8))}, r"grid\.shape is \(16, 24, 8\), preset tiny has \(32,"),
        ({"frames": 8}, "frames is 4, preset tiny has 8"),
        ({"anchored": False}, "anchored is True"),
        ({"vae": replace(CONFIG.vae, embed=7)}, r"vae\.embed is 6, preset tiny has 7"),
        ({"dit": replace(DIT, depth=3)}, r"dit\.depth is 2, preset tiny has 3"),
    ],
)
def test_a_model_of_another_preset_is_named_by_its_first_field(changes, field):
    check_preset("here", replace(CONFIG, name="another", sampling=Sampling(steps=3)), CONFIG)
    with pytest.raises(CheckpointError, match=f"here: field {field}.*; give a checkpoint of that preset"):
        check_preset("here", CONFIG, replace(CONFIG, **changes))


@pytest.mark.parametrize(("old", "new"), [(b'frames\\": 4', b'frames\\": 8'), (b'"dcgen-model 1"', b'"dcgen-model 2"')])
def test_what_a_file_says_is_tampered_with(saved, tmp_path, old, new):
    data = saved.read_bytes()
    assert data.count(old) == 1
    (tmp_path / WEIGHTS).write_bytes(data.replace(old, new))
    with pytest.raises(CheckpointError, match="one of the fields config, format is not as it was written"):
        load_model(str(tmp_path))


def test_equal_models_are_equal_files(saved, tmp_path):
    assert save_model(model(), tmp_path).read_bytes() == saved.read_bytes()


def rename(tensors):
    tensors["dit.final.2.weight"] = tensors.pop("dit.final.1.weight")


def reshape(tensors):
    tensors["vae.encoder.embed.weight"] = torch.zeros(13, 7)


def poison(tensors):
    tensors["vae.decoder.static.height.net.0.bias"][3] = float("nan")


def overflow(tensors):
    tensors["latent.mean"][0] = float("inf")


def retype(tensors):
    tensors["dit.blocks.0.qkv.weight"] = tensors["dit.blocks.0.qkv.weight"].int()


def flatten_std(tensors):
    tensors["latent.std"][4] = 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (rename, r"dit\.final\.1\.weight is missing"),
        (lambda tensors: tensors.update({"vae.more": torch.zeros(1)}), r"vae\.more is unknown"),
        (reshape, r"vae\.encoder\.embed\.weight has shape \(13, 7\)"),
        (poison, r"vae\.decoder\.static\.height\.net\.0\.bias holds numbers that are not finite"),
        (overflow, r"latent\.mean"),
        (retype, r"dit\.blocks\.0\.qkv\.weight"),
        (flatten_std, r"latent\.std"),
        (lambda tensors: tensors.pop("latent.std"), r"latent\.std"),
        (lambda tensors: tensors.update({"latent.mean": torch.zeros(3)}), r"latent\.mean"),
    ],
    ids=["renamed", "extra", "shape", "nan", "inf", "type", "zero std", "no std", "short mean"],
)
def test_tampered_tensors_are_named(edit, change, field):
    with pytest.raises(CheckpointError, match=f"field {field}"):
        load_model(str(edit(change)))


def broken_config(**changes):
    values = CONFIG.to_dict()
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            values[part][field] = value
        elif value is None:
            values.pop(part)
        else:
            values[part] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        broken_config(grid=None),
        broken_config(grid=3),
        broken_config(frames="four"),
        broken_config(frames=-4),
        broken_config(vae__stride=0),
        broken_config(vae__widths=7),
        broken_config(dit__new=1),
        broken_config(dit__heads=5),
        broken_config(grid__shape=[16.0, 24.0, 8.0]),
        broken_config(agent_channels=-1),
        broken_config(classes=["free"]),
    ],
)
def test_a_configuration_that_is_none_is_named(edit, text):
    with pytest.raises(CheckpointError, match="field config"):
        load_model(str(edit(config=text)))


def test_weights_of_another_configuration_are_named(edit):
    wider = replace(CONFIG, dit=replace(DIT, depth=3))
    with pytest.raises(CheckpointError, match=r"field dit\.blocks\.2\..* is missing"):
        load_model(str(edit(config=json.dumps(wider.to_dict()))))
    with pytest.raises(CheckpointError, match="format is 'dcgen-model 9'"):
        load_model(str(edit(format="dcgen-model 9")))


def test_no_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.* no such checkpoint"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_model(str(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(100)))
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(str(path))
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="format is None"):
        load_model(str(path))


def test_models_are_found_by_name_folder_and_file(tmp_path, monkeypatch):
    monkeypatch.setattr("dcgen.checkpoint.resources.files", lambda package: tmp_path / "package")
    shipped = save_model(model(), tmp_path / "package" / "weights" / "small")
    own = save_model(model(), tmp_path / "own")
    assert model_path("small") == shipped
    assert model_path(str(own.parent)) == own and model_path(str(own)) == own
    assert str(model_path("other")) == "other"


def test_writing_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.safetensors"
    write_tensors(path, {"x": torch.arange(3.0)}, {"step": "1"})

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("dcgen.whole_file.os.replace", fail)
    with pytest.raises(CheckpointError, match="disk full"):
        write_tensors(path, {"x": torch.zeros(3)}, {"step": "2"})
    assert [one.name for one in path.parent.iterdir()] == ["a.safetensors"]
    assert load_file(path)["x"].tolist() == [0, 1, 2] and read_tensors(path)[1] == {"step": "1"}
