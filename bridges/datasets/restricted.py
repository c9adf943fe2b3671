"""Lists, dicts, numbers, texts and numpy arrays out of a pickle that may be hostile. Nothing it names is ever run.

A pickle is a program. Here its calls reach only makers of this module: each takes plain data, checks it and returns
plain data, so that not even numpy sees arguments that a file chose freely.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcgen.errors import DatasetError

MOST_BYTES = 256_000_000
MOST_OPCODES = 20_000_000
MOST_DEPTH = 40
_TYPE = re.compile(r"[biufc?][0-9]{0,2}|[US][0-9]{1,5}|O8?")
_REMEDY = "copy the file again from its publisher"


def shown(text: object, most: int = 80) -> str:
    """What a file says, fit for one line of a message."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:most]


class Refused(Exception):
    """A pickle that asks for something it may not have."""


class _Maker:
    """A function that a pickle may call and can do nothing else with."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise Refused("it changes a function")


class _Type:
    """A numpy dtype under construction."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            raise Refused(f"it holds an array of type {shown(code)!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise Refused("it holds an array of unknown byte order")
        self.order = state[1]
        if self.code[0] == "U" and state[5] not in (-1, 4 * int(self.code[1:])):
            raise Refused("it holds a text of two lengths")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _Array:
    """A numpy array under construction; `value` once its state has come."""

    def __init__(self) -> None:
        self.value: NDArray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, raw = state
        self.value = _array(raw, kind, shape, "F" if fortran else "C")


def _array(raw: Any, kind: Any, shape: Any, order: str) -> NDArray:
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or len(shape) > 8:
        raise Refused("it holds an array without type or shape")
    if not all(isinstance(n, int) and 0 <= n < 1 << 40 for n in shape):
        raise Refused("it holds an array of impossible shape")
    size = int(np.prod([int(n) for n in shape], dtype=object))
    if kind.code[0] == "O":
        if not isinstance(raw, list) or len(raw) != size:
            raise Refused("it holds a list of objects of another length than it says")
        out = np.empty(size, object)
        for place, item in enumerate(raw):
            out[place] = item
    else:
        if not isinstance(raw, (bytes, bytearray)) or len(raw) != size * kind.dtype.itemsize:
            raise Refused("it holds an array of another size than it says")
        out = np.frombuffer(bytes(raw), kind.dtype) if size else np.zeros(0, kind.dtype)
    return out.reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, raw: Any = b"") -> Any:
    return _array(raw, kind, (), "C").item()


def _bytes(text: Any, coding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise Refused("it encodes a text")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    """What protocol 2 says for b""; longer ones come through _bytes."""
    if arguments:
        raise Refused("it makes bytes of something else")
    return b""


def _plain(kind: type) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, dict, set, frozenset)):
            raise Refused(f"it makes a {kind.__name__} of something else")
        return kind(items)

    return make


def _table() -> dict[tuple[str, str], _Maker]:
    makers: dict[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): _plain(dict),
        ("collections", "defaultdict"): lambda *_: {},
        ("_codecs", "encode"): _bytes,
        ("numpy", "dtype"): _Type,
        ("numpy", "ndarray"): _array_class,
    }
    for module in ("builtins", "__builtin__"):  # the second is what protocol 2 says
        makers[module, "bytes"] = _no_bytes
        makers |= {(module, kind.__name__): _plain(kind) for kind in (list, dict, tuple, set, frozenset)}
    for core in ("numpy.core", "numpy._core"):  # renamed with numpy 2
        makers[f"{core}.multiarray", "_reconstruct"] = lambda *_: _Array()
        makers[f"{core}.multiarray", "scalar"] = _scalar
        makers[f"{core}.numeric", "_frombuffer"] = _array
    return {name: _Maker(make) for name, make in makers.items()}


def _array_class(*_: object) -> Any:
    raise Refused("it makes an array out of nothing")


_MAKERS = _table()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        maker = _MAKERS.get((module, name))
        if maker is None:
            raise Refused(f"it asks for {shown(module)}.{shown(name)}")
        return maker

    def persistent_load(self, pid: object) -> Any:
        raise Refused("it points to data outside")


def _count(data: bytes, most_opcodes: int) -> None:
    """Walk over the opcodes and run none: how many, and no place in the memo beyond them."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if number >= most_opcodes:
            raise Refused(f"it has more than {most_opcodes} opcodes")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= number:
            raise Refused("its memo has holes")
        if opcode.name in ("EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"):
            raise Refused(f"it makes an object ({opcode.name})")


def _settle(value: Any, done: dict[int, tuple[Any, Any]], depth: int = 0) -> Any:
    """The same data with arrays in the place of arrays under construction. What is shared is settled once."""
    if depth > MOST_DEPTH:
        raise Refused("it is nested too deeply")
    if id(value) in done:
        return done[id(value)][1]
    out = value.value if isinstance(value, _Array) else value
    if isinstance(value, (_Maker, _Type)) or (isinstance(value, _Array) and out is None):
        raise Refused("it holds a function or an array without data")
    if isinstance(out, dict):
        out = {_settle(key, done, depth + 1): _settle(item, done, depth + 1) for key, item in out.items()}
    elif isinstance(out, (list, tuple, set, frozenset)):
        out = type(out)([_settle(item, done, depth + 1) for item in out])
    elif isinstance(out, np.ndarray) and out.dtype == object:
        flat = np.empty(out.size, object)
        for place, item in enumerate(out.reshape(-1)):
            flat[place] = _settle(item, done, depth + 1)
        out = flat.reshape(out.shape)
    done[id(value)] = (value, out)  # held, so that the id stays its own
    return out


def load_restricted(data: bytes, place: str, most_bytes: int = MOST_BYTES, most_opcodes: int = MOST_OPCODES) -> Any:
    """The data of a pickle, of any protocol. place names the file in messages.

    Raises DatasetError, in one line, for a pickle that is damaged, too large, or names anything but plain containers
    and the ways in which numpy pickles arrays.
    """
    if len(data) > most_bytes:
        raise DatasetError(f"{place}: larger than {most_bytes // 10**6} MB; {_REMEDY}")
    try:
        _count(data, most_opcodes)
        return _settle(_Unpickler(io.BytesIO(data)).load(), {})
    except Refused as error:
        raise DatasetError(f"{place}: refused, {error}; {_REMEDY}") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DatasetError(f"{place}: damaged ({shown(error)}); {_REMEDY}") from None
    except (MemoryError, RecursionError, OverflowError):
        raise DatasetError(f"{place}: damaged (asks for too much memory); {_REMEDY}") from None
