"""`dcgen export`: scenes in the layouts of benchmarks, and as numpy, PLY and glTF."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bridges.commands.options import AsJson, progress, tell
from dcgen.errors import DatasetError


class FormatName(str, Enum):
    """The formats; bridges/formats/choices.py holds their writers."""

    carlasc = "carlasc"
    occ3d_nuscenes = "occ3d-nuscenes"
    occ3d_waymo = "occ3d-waymo"
    uniocc = "uniocc"
    unioc = "unioc"
    semantickitti = "semantickitti"
    sscbench = "sscbench"
    openoccupancy = "openoccupancy"
    cam4docc = "cam4docc"
    waymo_flow = "waymo-flow"
    npz = "npz"
    numpy = "numpy"
    ply = "ply"
    glb = "glb"


def export(
    scenes: Annotated[list[Path], typer.Argument(metavar="SCENE...", help="Scenes, *.h5, or folders of them.")],
    format: Annotated[FormatName, typer.Option(help="A benchmark's layout, or npz, ply, glb.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder; a stopped export goes on.")],
    frames: Annotated[str | None, typer.Option(metavar="A:B", help="Frames A to B - 1 of each scene.")] = None,
    compact: Annotated[bool, typer.Option("--compact", help="openoccupancy: no rows for what is unknown.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes of this machine.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write scenes in the layout of a benchmark, or as numpy arrays, PLY point clouds or glTF meshes."""
    from bridges.export_scenes import ExportOrder, export_scenes

    order = ExportOrder(tuple(scenes), format.value, output, frame_range(frames), compact, workers)
    with progress("exporting") as bar:
        report = export_scenes(order, tell, bar)
    made = report.exported + report.stood
    if made:
        stood = f", {report.stood} of them stood already" if report.stood else ""
        print(
            json.dumps(report.to_dict()) if as_json else f"{report.out}: {made} scenes{stood}, {report.frames} frames"
        )
    if len(report.faults) == 1 and not made:
        raise DatasetError(report.faults[0])
    if report.faults:
        total = made + len(report.faults)
        raise DatasetError(
            f"{len(report.faults)} of {total} scenes were not exported, as told above; mend them or leave them out, "
            "and export again"
        )


def frame_range(text: str | None) -> tuple[int, int] | None:
    """[first, end) out of A:B. Raises DatasetError."""
    if text is None:
        return None
    first, colon, end = text.partition(":")
    if not colon or not first.isdecimal() or not end.isdecimal() or int(end) <= int(first) or int(end) >= 2**31:
        raise DatasetError(f"--frames {text}: is no range; give the first frame and the one behind the last, as 0:8")
    return int(first), int(end)
