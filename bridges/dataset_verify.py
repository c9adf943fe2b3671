"""`dcgen dataset verify`: every byte of a data set against its checksums, and every clip against its digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridges.dataset import dcgen_dataset
from bridges.dataset_worlds import check_world_files
from dcgen.dataset.packing import clip_sha256
from dcgen.dataset.parts import check_shard, index_path, read_part
from dcgen.dataset.shard import all_fields
from dcgen.dataset.spec import DatasetSpec
from dcgen.dataset.store import WORLDS, ClipDataset, read_index
from dcgen.errors import DatasetError, WorldError


@dataclass(frozen=True)
class Verdict:
    """What verify found: clips whose content was compared, and a line for each fault."""

    clips: int
    complete: bool
    content_sha256: str
    faults: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        return {
            "clips": self.clips, "complete": self.complete, "content_sha256": self.content_sha256,
            "faults": list(self.faults), "ok": not self.faults,
        }  # fmt: skip


def verify_dataset(folder: Path, quick: bool, progress: Callable[[int, int], None]) -> Verdict:
    """Compare checksums of the files and, unless quick, make or read every clip again and compare its digest.

    Raises DatasetError where there is no data set to look at; what is wrong with one is listed in the verdict.
    """
    spec, _, _ = read_index(folder)
    faults = [*_gaps(folder, spec), *_bad_files(folder, spec)]
    dataset = dcgen_dataset(folder)
    if not quick and not faults:
        faults += _bad_clips(dataset, progress)
    return Verdict(len(dataset), dataset.complete, dataset.content_sha256, tuple(faults))


def _gaps(folder: Path, spec: DatasetSpec) -> list[str]:
    missing = [part for part in range(spec.parts) if not index_path(folder, part).exists()]
    if not missing:
        return []
    return [
        f"{folder}: {len(missing)} of {spec.parts} parts are missing, the first is {missing[0]}; run the build again"
    ]


def _bad_files(folder: Path, spec: DatasetSpec) -> list[str]:
    faults, worlds = [], set()
    for number in range(spec.parts):
        if not index_path(folder, number).exists():
            continue
        try:
            part = read_part(folder, spec, number)
            if spec.cut:
                worlds |= {str(row.cut.get("world", "")) for row in part.rows}
            else:
                check_shard(folder, part)
        except DatasetError as error:
            faults.append(str(error))
    for name in sorted(worlds - {""}):
        try:
            check_world_files(folder / WORLDS / Path(name).name)
        except DatasetError as error:
            faults.append(str(error))
    return faults


def _bad_clips(dataset: ClipDataset, progress: Callable[[int, int], None]) -> list[str]:
    faults = []
    fields = all_fields(dataset.spec)
    order = sorted(range(len(dataset)), key=lambda n: (str(dataset.rows[n].cut.get("world", "")), n))
    for done, index in enumerate(order):
        try:
            if clip_sha256(dataset.packed(index, fields)) != dataset.rows[index].sha256:
                faults.append(f"{dataset.folder}: clip {index} is not what its digest says; run the build again")
        except (DatasetError, WorldError) as error:
            faults.append(str(error))
        progress(done + 1, len(order))
    return faults
