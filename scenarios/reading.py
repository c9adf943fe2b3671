"""A stranger's file into bytes: never a folder, a pipe or a device, and never more than a limit."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcgen.errors import DcgenError, ScenarioError


def read_file(path: Path, max_bytes: int, wanted: str, fault: type[DcgenError] = ScenarioError) -> bytes:
    """All of a file of at most max_bytes. wanted says in messages what to pass instead.

    Raises fault, naming the file, for what is missing, larger, or no file.
    """
    raw = read_head(path, max_bytes + 1, wanted, fault)
    if len(raw) > max_bytes:
        limit = f"{max_bytes // 1000} kB" if max_bytes < 10**7 else f"{max_bytes // 10**6} MB"
        raise fault(f"{path}: larger than {limit}; pass {wanted}")
    return raw


def read_head(path: Path, max_bytes: int, wanted: str, fault: type[DcgenError] = ScenarioError) -> bytes:
    """The first max_bytes of a file, or all of it. A pipe that nobody writes to is refused, not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise fault(f"{path}: is a pipe or a device; pass {wanted}")
            return file.read(max_bytes)
    except IsADirectoryError:
        raise fault(f"{path}: is a folder; pass {wanted}") from None
    except OSError as error:
        reason = "is a folder" if path.is_dir() else f"cannot be read ({error.strerror or error})"
        raise fault(f"{path}: {reason}; pass {wanted}") from None
    except ValueError:  # NUL in the name
        raise fault(f"{str(path)!r}: is no name of a file; pass {wanted}") from None


@contextmanager
def scratch_folder(purpose: str, fault: type[DcgenError]) -> Iterator[Path]:
    """A folder that is gone afterwards. Raises fault, naming the purpose, where nothing can be written there."""
    place = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory(prefix="dcgen-", dir=place) as name:
            yield Path(name)
    except OSError as error:
        reason = error.strerror or error
        raise fault(f"{purpose}: temporary files in {place} fail ({reason}); free the disk or set TMPDIR") from error
