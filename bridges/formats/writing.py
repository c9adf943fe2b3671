"""What a writer of a format gets and gives. It puts files by their places below the output folder; T frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Named:
    """What a scene is called: by its file, and by its number in formats that count their scenes."""

    name: str
    number: int = 0


class Put(Protocol):
    def __call__(self, place: str, *data: bytes) -> None:
        """Keep a file of these bytes at a place such as `scene/000000.label`."""
        ...


Entry = dict[str, Any]  # plain data: what an index over all scenes says of one
