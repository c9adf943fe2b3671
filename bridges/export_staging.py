"""Exported scenes appear whole: their files are written aside, renamed into place, and a receipt says what is whose.

Below the output folder, `.dcgen-export/FORMAT` holds a receipt a scene. A scene's folders and files may be replaced or
removed only where a receipt says that they are its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dcgen.dataset.files import cannot_write, read_json, write_json
from dcgen.errors import DatasetError

STATE = ".dcgen-export"
KIND, VERSION = "dcgen-export", 1


@dataclass
class Staging:
    """Files of one scene, below a folder of their own until they are put in place."""

    folder: Path
    depth: int
    units: set[str] = field(default_factory=set)
    size_bytes: int = 0
    files: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def put(self, place: str, *data: bytes) -> None:
        """Write a file and hand it to the disk."""
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        self._digest.update(f"{place}\0{sum(map(len, data))}\0".encode("utf-8", "surrogateescape"))
        with open(path, "xb") as file:
            for part in data:
                file.write(part)
                self._digest.update(part)
                self.size_bytes += len(part)
            file.flush()
            os.fsync(file.fileno())
        self.files += 1
        self.units.add("/".join(PurePosixPath(place).parts[: self.depth]))

    @property
    def sha256(self) -> str:
        """Of all files, their places and bytes, in the order in which they were put."""
        return str(self._digest.hexdigest())


@dataclass(frozen=True)
class Receipts:
    """What was exported to a folder in one format."""

    out: Path
    format: str

    @property
    def folder(self) -> Path:
        return self.out / STATE / self.format

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def read(self, name: str) -> dict[str, Any] | None:
        """The receipt of a scene, None where there is none. Raises DatasetError for a damaged one."""
        path = self.path(name)
        if not path.exists():
            return None
        try:
            found = read_json(path, KIND, VERSION)
        except DatasetError as error:
            raise DatasetError(
                f"{path}: damaged; remove it and what was exported of {name}, and export again"
            ) from error
        units = found.get("units")
        if not isinstance(units, list) or not all(isinstance(each, str) and _is_below(each) for each in units):
            raise DatasetError(f"{path}: damaged; remove it and what was exported of {name}, and export again")
        return found

    def whole(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The receipts of all scenes that are whole, by name, and what is wrong with those that cannot be read."""
        found, faults = [], []
        for path in sorted(self.folder.glob("*.json")):
            if path.name.startswith("."):
                continue
            try:
                found.append(self.read(path.name.removesuffix(".json")))
            except DatasetError as error:
                faults.append(str(error))
        return [each for each in found if each is not None and each["whole"]], faults

    def stands(self, name: str, order: dict[str, Any]) -> bool:
        """Whether the scene was exported whole by the same order, and is still there."""
        found = self.read(name)
        if found is None or not found["whole"] or found["order"] != order:
            return False
        return all((self.out / unit).exists() for unit in found["units"])

    @contextmanager
    def staging(self, name: str, depth: int) -> Iterator[Staging]:
        """Where a scene's files are written; whatever is left of it goes when the block ends."""
        folder = self.folder / f".{name}.{secrets.token_hex(4)}.part"
        try:
            folder.mkdir(parents=True)
            yield Staging(folder, depth)
        except OSError as error:
            raise cannot_write(self.out / name, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, name: str, staging: Staging, receipt: dict[str, Any]) -> None:
        """Put a scene's files in place of what an earlier export of it left. Raises DatasetError."""
        before = self.read(name)
        own = set() if before is None else set(before["units"])
        for unit in sorted(staging.units - own):
            if (self.out / unit).exists():
                raise DatasetError(f"{self.out / unit}: stands already and is no export of {name}; choose another -o")
        head = {"format": KIND, "version": VERSION, "name": name, **receipt}
        write_json(self.path(name), {**head, "whole": False, "units": sorted(staging.units | own)})
        aside = staging.folder / ".before"
        for unit in sorted(own | staging.units):
            if (self.out / unit).exists():
                (aside / unit).parent.mkdir(parents=True, exist_ok=True)
                (self.out / unit).replace(aside / unit)
            if unit in staging.units:
                (self.out / unit).parent.mkdir(parents=True, exist_ok=True)
                (staging.folder / unit).replace(self.out / unit)
        write_json(self.path(name), {**head, "whole": True, "units": sorted(staging.units)})

    def sweep(self) -> None:
        """Remove what killed exports left. Only for who holds the folder's lock."""
        for path in self.folder.glob(".*.part"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _is_below(unit: str) -> bool:
    """Whether a place lies below the output folder, and not among the receipts."""
    parts = PurePosixPath(unit).parts
    return bool(parts) and not unit.startswith("/") and ".." not in parts and parts[0] != STATE and bool(unit.strip())


def plain_name(path: Path) -> str:
    """What a scene's folders are called after its file: letters that every system takes."""
    return re.sub(r"[^\w.+-]", "_", path.stem).lstrip(".") or "scene"
