"""Pickles: plain data comes through whole, whatever else a pickle wants does not happen."""

from __future__ import annotations

import collections
import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.datasets.restricted import load_restricted
from dcgen.errors import DatasetError

PLAIN: dict[str, Any] = {
    "numbers": [0, -1, 2**70, 1.5, True, None, 2 + 0j],
    "texts": ("ä", "", b"\x00\xff", bytearray(b"ab")),
    "nested": {"a": [{"b": (1, (2, [3]))}], 7: {1, 2}, (1, 2): frozenset({3})},
    "ordered": collections.OrderedDict([("z", 1), ("a", 2)]),
}
ARRAYS: dict[str, np.ndarray] = {
    "matrix": np.arange(12.0).reshape(3, 4),
    "big endian": np.arange(6, dtype=">i2").reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
    "bools": np.array([[True], [False]]),
    "none": np.zeros((0, 3), np.uint8),
    "one": np.array(3, np.int64),
    "names": np.array(["car", "bus é"]),
    "objects": np.array([{"pose": np.eye(4), "size": np.float32(2.5)}, None, "x"], object),
}


def load(data: bytes, **limits: int) -> Any:
    return load_restricted(data, "set/infos.pkl", **limits)


def same(a: Any, b: Any) -> None:
    if isinstance(b, np.ndarray):
        assert isinstance(a, np.ndarray) and a.dtype.kind == b.dtype.kind and a.shape == b.shape
        for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True):
            same(x, y)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            same(a[key], b[key])
    else:
        assert a == b


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_through(protocol: int) -> None:
    plain = dict(PLAIN)
    if protocol < 5:  # before, a bytearray is a call
        plain["texts"] = plain["texts"][:3]
    plain["numbers"] = plain["numbers"][:-1]  # a complex number is a call, too
    assert load(pickle.dumps(plain, protocol)) == plain


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_through(name: str, protocol: int) -> None:
    value = [ARRAYS[name], {"again": ARRAYS[name]}]
    back = load(pickle.dumps(value, protocol))
    same(back[0], ARRAYS[name])
    assert back[1]["again"] is back[0]


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_old_and_new_names_of_numpy_are_known(core: str) -> None:
    value = [np.arange(3.0), np.float64(0.25)]
    data = pickle.dumps(value, 2)
    found = re.search(rb"cnumpy\.\w+\.multiarray\n", data)
    assert found
    renamed = re.sub(rb"cnumpy\.\w+\.multiarray\n", f"c{core}.multiarray\n".encode(), data)
    back = load(renamed)
    same(back[0], value[0])
    assert back[1] == 0.25


class Calls:
    """Whose pickle calls a function of these arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    calls = [
        Calls(os.system, f"touch {trap}"),
        Calls(eval, f"open({str(trap)!r}, 'w')"),
        Calls(open, str(trap), "w"),
        Calls(os.mkdir, str(trap)),
        Calls(np.save, str(trap), np.zeros(1)),
        Calls(np.memmap, str(trap), "u1", "w+", 0, 4),
        Calls(getattr, "a", "upper"),
        Calls(__import__, "os"),
        Path("a"),
        Calls,
    ]
    for call in calls:
        for protocol in range(6):
            for value in (call, [1, {"a": call}]):
                data = pickle.dumps(value, protocol)
                with pytest.raises(DatasetError, match=r"^set/infos\.pkl: refused, .*; copy .*$") as refused:
                    load(data)
                assert "\n" not in str(refused.value)
                assert not trap.exists()
    # The trap is one: the same pickle, read without care, springs it.
    pickle.loads(pickle.dumps(calls[3]))
    assert trap.exists()


def test_what_an_attribute_reaches_is_refused() -> None:
    """Protocol 4 takes names with dots: numpy.dtype.__class__ is none of the names."""
    for module, name in (("numpy", "dtype.__class__"), ("numpy", "load"), ("builtins", "list.__class__")):
        data = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name)) + b"\x93."
        with pytest.raises(DatasetError, match="refused, it asks for"):
            load(data)


def test_a_line_stays_a_line() -> None:
    with pytest.raises(DatasetError, match=r"it asks for numpy\.lo ad;"):
        load(b"\x80\x04\x8c\x05numpy\x8c\x05lo\nad\x93.")


def test_functions_are_not_changed() -> None:
    """BUILD would put a state into a function that many files share."""
    for module, name in (("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct"), ("builtins", "dict")):
        data = f"c{module}\n{name}\n".encode() + b"}(X\x01\x00\x00\x00aK\x01ub."
        with pytest.raises(DatasetError, match="refused, it changes a function"):
            load(data)
        with pytest.raises(DatasetError, match="refused, it holds a function"):
            load(f"c{module}\n{name}\n.".encode())


def array_pickle(kind: str, shape: tuple, raw: Any, version: Any = 1) -> bytes:
    """An array whose parts need not fit each other."""

    class State:
        def __reduce__(self) -> Any:
            return np.zeros(0).__reduce__()[:2] + ((version, shape, np.dtype(kind), False, raw),)

    return pickle.dumps(State(), 2)


def test_arrays_that_are_not_what_they_say_are_refused() -> None:
    load(array_pickle("f8", (2,), b"0" * 16))  # this one is
    for bad in (
        array_pickle("f8", (1 << 39,), b"0" * 16),
        array_pickle("f8", (3,), b"0" * 16),
        array_pickle("f8", (-2,), b"0" * 16),
        array_pickle("f8", ("2",), b"0" * 16),
        array_pickle("O", (2,), b"0" * 16),
        array_pickle("O", (3,), [1, 2]),
        array_pickle("f8", (2,), [1.0, 2.0]),
        array_pickle("V16", (1,), b"0" * 16),
        array_pickle("M8[s]", (2,), b"0" * 16),
    ):
        with pytest.raises(DatasetError, match=r"^set/infos\.pkl: (refused|damaged)"):
            load(bad)


def test_bombs_are_refused() -> None:
    hole = b"\x80\x02]r" + struct.pack("<I", 0x7FFFFFFF) + b"."  # a place in the memo, far out
    with pytest.raises(DatasetError, match="its memo has holes"):
        load(hole)
    with pytest.raises(DatasetError, match="more than 50 opcodes"):
        load(pickle.dumps(list(range(100))), most_opcodes=50)
    with pytest.raises(DatasetError, match="larger than 0 MB"):
        load(pickle.dumps([1]), most_bytes=3)
    with pytest.raises(DatasetError, match="nested too deeply"):
        load(b"(" * 0 + b"]" * 400 + b"a" * 399 + b".")
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(DatasetError, match="nested too deeply"):
        load(pickle.dumps(ring))
    laughs: list[Any] = ["ha"]
    for _ in range(30):
        laughs = [laughs] * 10  # 10^30 of them, or thirty
    back = load(pickle.dumps(laughs))
    assert back[0] is back[9]


def test_damaged_pickles_are_one_line() -> None:
    whole = pickle.dumps([{"scene_name": "a", "pose": np.eye(4)}], 4)
    rng = np.random.default_rng(3)
    for cut in range(len(whole) - 1):
        with pytest.raises(DatasetError):
            load(whole[:cut])
    for _ in range(1500):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        try:
            load(bytes(data))
        except DatasetError as error:
            assert str(error).startswith("set/infos.pkl: ") and "\n" not in str(error)
    with pytest.raises(DatasetError, match="damaged"):
        load(b"")
