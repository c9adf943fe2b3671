"""The formats by name: what writes a scene, what is written over all of them, and where a scene's own files end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridges.formats import (
    arrays,
    cam4docc,
    carlasc,
    glb,
    occ3d,
    openoccupancy,
    ply,
    semantickitti,
    uniocc,
    waymo_flow,
)
from bridges.formats.writing import Entry, Named, Put
from dcgen.types import Scene

Write = Callable[[Scene, Named, Put], Entry | None]
Index = Callable[[Sequence[Entry], Put], None]
VERSION = 1  # of what the writers write: a scene exported by another one is exported again


@dataclass(frozen=True)
class Format:
    """depth: how many leading parts of a file's place name what is one scene's alone: a folder, or a file.

    motion: the writer needs instances and tracks. numbered: scenes are counted. index: what is written over all
    scenes of a folder. compact: the same format with fewer rows.
    """

    name: str
    write: Write
    depth: int = 1
    motion: bool = False
    numbered: bool = False
    index: Index | None = None
    compact: Write | None = None


FORMATS = {
    each.name: each
    for each in (
        Format("carlasc", carlasc.write),
        Format("occ3d-nuscenes", occ3d.write_nuscenes, depth=2, index=occ3d.index_nuscenes),
        Format("occ3d-waymo", occ3d.write_waymo, depth=2, numbered=True),
        Format("uniocc", uniocc.write, motion=True, index=uniocc.index),
        Format("semantickitti", semantickitti.write, depth=2, motion=True, numbered=True),
        Format("openoccupancy", openoccupancy.write, compact=openoccupancy.write_compact),
        Format("cam4docc", cam4docc.write, depth=2, motion=True),
        Format("waymo-flow", waymo_flow.write, motion=True),
        Format("npz", arrays.write, motion=True),
        Format("ply", ply.write, motion=True),
        Format("glb", glb.write),
    )
}
ALSO_CALLED = {"unioc": "uniocc", "numpy": "npz", "sscbench": "semantickitti"}
