"""The index of a data set: a row a clip, kept part by part. A part's index is written last and makes it count."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dcgen.dataset.files import cannot_write, file_sha256, read_json, write_json
from dcgen.dataset.packing import Packed, clip_sha256, pack_clip
from dcgen.dataset.shard import write_shard
from dcgen.dataset.spec import DatasetSpec
from dcgen.errors import DatasetError
from dcgen.types import MOVING_MPS, NUM_CLASSES, UNKNOWN, Clip, wrap_angle

FORMAT, VERSION = "dcgen-part", 1
FOLDER = "parts"
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Row:
    """One clip: where it comes from, what it holds, and the digest of its content.

    cut: where it is cut from again: {"world": folder, "ego": row of the traffic log, "start": frame of the log,
    "seed": of what is random in it}; empty for clips of a shard.
    """

    source: str
    sha256: str
    label_counts: tuple[int, ...]  # voxels of each class, then the unknown ones
    moving_voxels: int
    agents: int
    moving_agents: int
    speed_mps: float  # the ego's mean
    turn_rad: float  # the ego's net change of heading, left positive
    observed_voxels: int | None
    cut: dict[str, Any]

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.sha256) or len(self.label_counts) != NUM_CLASSES + 1:
            raise ValueError("a row needs a sha256 and a count for every class")
        whole = (*self.label_counts, self.moving_voxels, self.agents, self.moving_agents, self.observed_voxels or 0)
        if not all(isinstance(n, int) and 0 <= n < 2**53 for n in whole) or not isinstance(self.cut, dict):
            raise ValueError("a row needs whole numbers of voxels and agents, and a place to cut from")
        if not isinstance(self.source, str) or not all(map(math.isfinite, (self.speed_mps, self.turn_rad))):
            raise ValueError("a row needs a source, a speed and a turn")

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Row:
        return Row(**{**values, "label_counts": tuple(values["label_counts"])})


def describe(clip: Clip, packed: Packed, cut: dict[str, Any] | None = None) -> Row:
    """The row of a clip."""
    c = clip.conditions
    counts = np.bincount(clip.labels.ravel(), minlength=UNKNOWN + 1)
    way = c.world_se3_ego[:, :2, 3]
    length = float(np.hypot(*np.diff(way, axis=0).T).sum())
    turn = float(np.sum(wrap_angle(np.diff(c.trajectory[:, 2].astype(np.float64)))))
    moving = (c.agents.speed_mps > MOVING_MPS) & c.agents.valid
    return Row(
        source=clip.source,
        sha256=clip_sha256(packed),
        label_counts=(*(int(n) for n in counts[:NUM_CLASSES]), int(counts[UNKNOWN])),
        moving_voxels=int(np.count_nonzero(clip.moving)),
        agents=len(c.agents.id),
        moving_agents=int(moving.any(axis=1).sum()),
        speed_mps=round(length / max((c.frames - 1) * c.dt_s, c.dt_s), 4),
        turn_rad=round(turn, 5),
        observed_voxels=None if clip.observed is None else int(np.count_nonzero(clip.observed)),
        cut=cut or {},
    )


@dataclass(frozen=True)
class Part:
    """A finished part: its rows in order, and size and checksum of its shard (None where clips are cut)."""

    number: int
    rows: tuple[Row, ...]
    shard_bytes: int | None
    shard_sha256: str | None


def index_path(folder: Path, part: int) -> Path:
    return folder / FOLDER / f"part-{part:06d}.json"


def shard_path(folder: Path, part: int) -> Path:
    return folder / FOLDER / f"part-{part:06d}.h5"


CutRow = dict[str, Any]


def write_part(
    folder: Path, spec: DatasetSpec, part: int, clips: Iterable[Clip], cuts: Sequence[CutRow] | None = None
) -> None:
    """Write a part's shard (unless spec.cut), then its index. Clips are taken one at a time, and none is held.

    Safe to do twice, also at the same time: the bytes are the same. Raises DatasetError where the clips are not those
    of the part, or nothing can be written.
    """
    count, rows = len(spec.part_range(part)), []

    def packed() -> Iterator[tuple[Packed, str]]:
        for n, clip in enumerate(islice(clips, count)):
            arrays = pack_clip(clip, spec)
            rows.append(describe(clip, arrays, cuts[n] if cuts else None))
            yield arrays, clip.source
        if len(rows) != count:
            raise DatasetError(f"{folder}: part {part} needs {count} clips, got {len(rows)}; add the rest")

    shard: dict[str, Any] | None = None
    try:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        if spec.cut:
            for _ in packed():
                pass
        else:
            path = shard_path(folder, part)
            write_shard(path, packed(), count, spec)
            shard = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise cannot_write(folder / FOLDER, error) from error
    values = {
        "format": FORMAT,
        "version": VERSION,
        "spec": spec.sha256,
        "part": part,
        "shard": shard,
        "clips": [asdict(row) for row in rows],
    }
    write_json(index_path(folder, part), values)


def read_part(folder: Path, spec: DatasetSpec, part: int) -> Part:
    """A part's index, without a look at its shard. Raises DatasetError."""
    path = index_path(folder, part)
    values = read_json(path, FORMAT, VERSION)
    try:
        rows = tuple(Row.from_dict(each) for each in values["clips"])
        shard = values["shard"]
        size, digest = (int(shard["bytes"]), str(shard["sha256"])) if shard is not None else (None, None)
        if (
            values["part"] != part
            or values["spec"] != spec.sha256
            or len(rows) != len(spec.part_range(part))
            or spec.cut != (shard is None)
        ):
            raise ValueError("is the index of another data set")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: {error}; delete it and run the build again") from error
    return Part(part, rows, size, digest)


def check_shard(folder: Path, part: Part) -> Path:
    """The path of a part's shard, its size and checksum compared. Raises DatasetError."""
    path = shard_path(folder, part.number)
    try:
        fits = path.is_file() and path.stat().st_size == part.shard_bytes and file_sha256(path) == part.shard_sha256
        reason = "its checksum does not fit the index" if path.is_file() else "no such file"
    except OSError as error:
        fits, reason = False, f"cannot be read ({(error.strerror or str(error)).lower()})"
    if not fits:
        raise DatasetError(f"{path}: unreadable shard: {reason}; run the build again to make this part anew")
    return path


def finished_parts(folder: Path, spec: DatasetSpec, tell: Callable[[str], None] = lambda line: None) -> frozenset[int]:
    """Numbers of the parts that stand whole; tells of those that do not and have to be made anew."""
    whole = set()
    for part in range(spec.parts):
        if not index_path(folder, part).exists():
            continue
        try:
            found = read_part(folder, spec, part)
            if not spec.cut:
                check_shard(folder, found)
            whole.add(part)
        except DatasetError as error:
            tell(f"{error}".partition(";")[0] + "; making the part anew")
    return frozenset(whole)
