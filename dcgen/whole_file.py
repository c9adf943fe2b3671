"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dcgen.errors import DcgenError


def write_whole(path: Path, *parts: bytes | memoryview, fault: type[DcgenError], remedy: str) -> None:
    """Bytes written beside a file's place, flushed to the disk, then renamed to it.

    Raises `fault` with one line that ends in `remedy` where that cannot be done; what lay at `path` is as it was.
    """
    partial = path.with_name(path.name + ".partial")  # one name: what a killed process left is written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fault(f"{path}: cannot be written ({reason}); {remedy}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
