"""A file for HDF5 to write to, on a disk that may be full."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


class Sink(io.RawIOBase):
    """The file below HDF5. It keeps the first fault to itself, since HDF5 crashes when a write or close fails."""

    def __init__(self, path: Path) -> None:
        self._raw = open(path, "x+b", buffering=0)  # noqa: SIM115 - closed by close()
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        while left and self.fault is None:
            try:
                left = left[self._raw.write(left) :]
            except OSError as fault:
                self.fault = fault
        return len(data)

    def readinto(self, buffer: Any) -> int:
        read = self._raw.readinto(buffer)
        buffer[read:] = bytes(len(buffer) - read)
        return len(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as fault:
            self.fault = self.fault or fault
            return size or 0

    def close(self) -> None:
        """Flush to the disk and close."""
        if not self._raw.closed:
            try:
                os.fsync(self._raw.fileno())
            finally:
                self._raw.close()
        super().close()

    def check(self) -> None:
        """Raise the first fault there was."""
        if self.fault is not None:
            raise self.fault
