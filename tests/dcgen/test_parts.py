"""Parts and their index: small files, the same numbers, and never a mixture of two sets."""

import json

import pytest
import torch

from dcgen import parts
from dcgen.errors import CheckpointError
from dcgen.parts import read_parts, write_parts

HAND_MADE = '{"format": "dcgen-parts 1", "about": {}, "split": {}, "files": [[1, 2]]}'


def numbers(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(7, 5, generator=draw),
        "b": torch.randn(40, 11, generator=draw),  # larger than a part of 1000 bytes
        "empty": torch.zeros(0, 3),
        "c": torch.randn(3, generator=draw).to(torch.bfloat16),
        "count": torch.tensor(12),
    }


def same(one, two):
    return one.keys() == two.keys() and all(
        torch.equal(tensor, two[name]) and tensor.dtype == two[name].dtype for name, tensor in one.items()
    )


@pytest.mark.parametrize("part_bytes", [64, 1000, 10_000])
def test_what_is_read_is_what_was_written(tmp_path, part_bytes):
    index = tmp_path / "state.json"
    write_parts(index, numbers().items(), {"step": 3}, "0003", part_bytes)
    tensors, about = read_parts(index)
    assert same(tensors, numbers()) and about == {"step": 3}
    files = sorted(tmp_path.glob("state-0003-*.safetensors"))
    total = sum(t.numel() * t.element_size() for t in numbers().values())
    assert len(files) >= total / part_bytes and len(list(tmp_path.iterdir())) == len(files) + 1
    header = 1500
    assert all(file.stat().st_size < part_bytes + header for file in files)


def test_a_part_with_its_header_is_below_48_mib():
    assert parts.PART_BYTES + (1 << 19) < 48 << 20


def test_new_parts_take_the_place_of_old_ones_and_of_nobody_elses(tmp_path):
    index = tmp_path / "state.json"
    (tmp_path / "statistics.safetensors").write_bytes(b"of somebody else")
    write_parts(index, numbers(1).items(), {}, "0001", 500)
    write_parts(index, numbers(2).items(), {}, "0002")
    assert same(read_parts(index)[0], numbers(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "state-0002-00.safetensors", "state.json", "statistics.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("at", range(4))
def test_an_interrupt_at_any_file_leaves_the_set_of_before(tmp_path, monkeypatch, at):
    index = tmp_path / "state.json"
    write_parts(index, numbers(1).items(), {"step": 1}, "0001", 1000)
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    calls = iter(range(100))

    def fsync(handle):
        if next(calls) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        write_parts(index, numbers(2).items(), {"step": 2}, "0002", 1000)
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before
    assert same(read_parts(index)[0], numbers(1))


def test_parts_that_are_not_the_indexs_own_are_named(tmp_path):
    index = tmp_path / "state.json"
    write_parts(index, numbers(1).items(), {}, "0001", 1000)
    second = tmp_path / "state-0001-01.safetensors"
    whole = second.read_bytes()
    write_parts(tmp_path / "other" / "state.json", numbers(2).items(), {}, "0001", 1000)
    second.write_bytes((tmp_path / "other" / second.name).read_bytes())
    with pytest.raises(CheckpointError, match=r"state-0001-01\.safetensors: is not the part .*; copy them again"):
        read_parts(index)
    second.unlink()
    with pytest.raises(CheckpointError, match=r"state-0001-01\.safetensors: this part of state\.json is missing; copy"):
        read_parts(index)
    second.write_bytes(whole)
    assert same(read_parts(index)[0], numbers(1))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}', HAND_MADE])
def test_an_index_that_is_none_is_named(tmp_path, text):
    index = tmp_path / "state.json"
    with pytest.raises(CheckpointError, match=r"state\.json: no such index"):
        read_parts(index)
    index.write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json: does not describe parts"):
        read_parts(index)


def undigested(index):
    """What an index says, as one that was made by hand would say it."""
    return {name: value for name, value in json.loads(index.read_text()).items() if name != parts.DIGEST}


@pytest.mark.parametrize("change", [{"about": {"step": 4}}, {"split": {}}, {"more": 1}])
def test_an_index_that_was_changed_is_named(tmp_path, change):
    index = tmp_path / "state.json"
    write_parts(index, numbers().items(), {"step": 3}, "0003", 1000)
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, **change}))
    with pytest.raises(CheckpointError, match=r"state\.json: one of its fields is not as it was written; copy or"):
        read_parts(index)
    index.write_text(json.dumps(undigested(index)))
    assert read_parts(index)[1] == change.get("about", {"step": 3})  # indices of before have no digest


@pytest.mark.parametrize("shape", [[10**9, 10**9], [40, 12], [-3], "abc", None, 440.0])
@pytest.mark.parametrize("name", ["b", "a", "nowhere"])
def test_pieces_that_do_not_make_a_tensor_are_named(tmp_path, name, shape):
    index = tmp_path / "state.json"
    write_parts(index, numbers().items(), {}, "0001", 1000)
    index.write_text(json.dumps({**undigested(index), "split": {name: shape}}))
    with pytest.raises(CheckpointError, match=rf"state\.json: field split: the \d pieces of {name} do not make "):
        read_parts(index)


def test_an_index_of_another_format_or_with_paths_is_refused(tmp_path):
    index = tmp_path / "run" / "state.json"
    write_parts(index, numbers().items(), {}, "0001")
    content = undigested(index)
    index.write_text(json.dumps({**content, "format": "dcgen-parts 9"}))
    with pytest.raises(CheckpointError, match=r"format is 'dcgen-parts 9'"):
        read_parts(index)
    (name, digest), = content["files"].items()  # fmt: skip
    (tmp_path / name).write_bytes((index.parent / name).read_bytes())
    (index.parent / name).unlink()
    index.write_text(json.dumps({**content, "files": {f"../{name}": digest}}))
    with pytest.raises(CheckpointError, match="is missing"):  # nothing outside of the folder is read
        read_parts(index)
