"""Bytes of files that are the same whenever they are made: no times, no order by chance. T frame."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy

from dcgen.types import Doubles

PICKLE_PROTOCOL = 4
COMPRESSION = 4  # of deflate: a third of the time of 9 for a tenth more bytes
_MADE = (1980, 1, 1, 0, 0, 0)  # the first moment an archive can name


def npy_bytes(array: np.ndarray) -> bytes:
    """An .npy file. An array of objects is pickled, as numpy does, by one protocol whatever numpy's version."""
    out = io.BytesIO()
    if array.dtype.hasobject:
        head = {"descr": "|O", "fortran_order": False, "shape": array.shape}
        npy.write_array_header_1_0(out, head)
        out.write(pickle_bytes(array))
    else:
        npy.write_array(out, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    return out.getvalue()


def npz_bytes(members: dict[str, np.ndarray]) -> bytes:
    """An .npz file of its members in their order, compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as archive:
        for name, array in members.items():
            info = zipfile.ZipInfo(f"{name}.npy", _MADE)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, npy_bytes(array), compresslevel=COMPRESSION)
    return out.getvalue()


def pickle_bytes(value: Any) -> bytes:
    """A pickle, for layouts that ask for one. It is written and never read."""
    return pickle.dumps(value, PICKLE_PROTOCOL)


def objects(items: Iterable[Any]) -> np.ndarray:
    """[N] of objects, one an item, also where the items are arrays of one shape."""
    listed = list(items)
    out = np.empty(len(listed), object)
    for place, item in enumerate(listed):
        out[place] = item
    return out


def pose_rows(poses: Doubles | Sequence[Doubles]) -> bytes:
    """Poses [T, 4, 4] as text: the twelve numbers of the upper three rows a line, to the last bit."""
    lines = (" ".join(repr(float(v)) for v in np.asarray(pose)[:3].reshape(-1)) for pose in poses)
    return "".join(f"{line}\n" for line in lines).encode()


def number_rows(values: Iterable[float]) -> bytes:
    """One number a line, to the last bit."""
    return "".join(f"{float(value)!r}\n" for value in values).encode()


def token(*words: object) -> str:
    """32 hex digits that stand for a scene or a frame, the same for the same words."""
    return hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()[:32]
