"""Files that appear whole or not at all, and a folder that one writer holds at a time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dcgen.errors import DatasetError

LOCK = ".lock"
_BLOCK = 1 << 20
MOST_JSON_BYTES = 64_000_000


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; renamed to it, with its bytes on the disk, once the block is through.

    Raises DatasetError for what the operating system refuses. A killed writer leaves `.*.part`; see sweep.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> DatasetError:
    """The one line for what the operating system refused."""
    reason = os.strerror(error.errno).lower() if error.errno else " ".join(str(error).split())[:120]
    return DatasetError(f"{path}: cannot be written ({reason}); free the disk or choose another folder")


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed writers of a data set left, and nothing of anybody else."""
    for place in (".", "parts", "worlds", "worlds/*"):
        for path in folder.glob(f"{place}/.*.part"):
            with suppress(OSError):
                path.unlink()


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the operating system releases when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / LOCK
        if place.exists() and not place.is_file():
            raise DatasetError(f"{place}: is no file; remove it, or choose another folder")
        file = place.open("a")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with file:
        if not _lock(file):
            raise DatasetError(f"{folder}: another process is writing here; wait for it, or choose another folder")
        yield


def _lock(file: IO[str]) -> bool:
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes. Raises OSError, also for a pipe or a device, which might never end."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def canonical(values: Any) -> str:
    """JSON with one spelling for equal values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """A JSON object with a checksum of itself, whole or not at all."""
    text = canonical({**values, "sha256": hashlib.sha256(canonical(values).encode()).hexdigest()})
    with appearing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, kind: str, version: int) -> dict[str, Any]:
    """What write_json wrote, its checksum compared. Raises DatasetError."""
    try:
        if not path.is_file():
            raise DatasetError(f"{path}: no such file; build the data set with `dcgen dataset build`")
        if path.stat().st_size > MOST_JSON_BYTES:
            raise DatasetError(f"{path}: larger than {MOST_JSON_BYTES // 10**6} MB; build the data set again")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read ({_short(error)}); delete it and run the build again") from error
    if not isinstance(values, dict) or values.get("format") != kind or values.get("version") != version:
        raise DatasetError(f"{path}: is no {kind} file of version {version}; build the data set again")
    said = values.pop("sha256", None)
    try:
        fits = said == hashlib.sha256(canonical(values).encode()).hexdigest()
    except (ValueError, RecursionError):  # NaN, or half a character
        fits = False
    if not fits:
        raise DatasetError(f"{path}: its checksum does not fit its content; delete it and run the build again")
    return values


def _short(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
