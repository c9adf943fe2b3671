"""One HTML file that plays scenes: styles, scripts, three.js and the scenes' data within it, and nothing outside."""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import dcgen
from dcgen.errors import SceneError
from dcgen.export.plain import plain
from dcgen.report.data import as_json, pack_scene, packed
from dcgen.report.scores import Scores
from dcgen.report.three import LICENCE, VERSION, three_script
from dcgen.scene_file import check_destination
from dcgen.types import CLASS_NAMES, MOVABLE, PALETTE, SURFACES, Semantics
from dcgen.whole_file import write_whole

SCRIPTS = ("cameras.js", "stage.js", "scene.js", "panels.js", "player.js", "start.js")
MOST_BYTES = 100 << 20  # of a page: what a phone still opens
MOST_SCENES = 200
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_TALL = (Semantics.BUILDING, Semantics.VEGETATION)

Bar = Callable[[int, int], None]


def write_report(
    source: Path | str,
    output: Path | str,
    scores: Path | str | None = None,
    frames: int | None = None,
    bar: Bar = lambda done, total: None,
) -> Path:
    """One page of a scene file, or of all in a folder, in the order of their names; `frames` are taken of each.

    Scores come from a JSON file, or from one beside the scenes (see Scores). Raises SceneError where a scene cannot be
    read, the page cannot be written or would pass MOST_BYTES, DcgenError where three.js is missing.
    """
    source, output = Path(source), Path(output)
    check_page(output)
    script = three_script()
    paths = scene_paths(source)
    table = Scores.of(source, None if scores is None else Path(scores))
    parts: list[str] = []
    heads: list[dict[str, Any]] = []
    bar(0, len(paths))
    for path in paths:
        packed_scene = pack_scene(path, frames)
        packed_scene["scores"] = [*table.of_scene(path.stem, alone=len(paths) == 1).items()]
        heads.append({
            "title": packed_scene.pop("title"), "about": packed_scene["about"], "frames": len(packed_scene["time_s"]),
            "picture": packed_scene.pop("picture"),
        })  # fmt: skip
        parts.append(as_json(packed_scene))
        if sum(map(len, parts)) > MOST_BYTES:
            raise SceneError(
                f"{output}: the page would pass {MOST_BYTES >> 20} MB at {path.name}; "
                "take fewer scenes, or fewer frames of each with --frames"
            )
        bar(len(parts), len(paths))
    _tell_apart(heads, paths)
    write_whole(output, _page(heads, parts, script), fault=SceneError, remedy="choose another output")
    return output


def _tell_apart(heads: list[dict[str, Any]], paths: list[Path]) -> None:
    """Scenes of one title get their files' names beside it."""
    times = Counter(head["title"] for head in heads)
    for head, path in zip(heads, paths, strict=True):
        if times[head["title"]] > 1:
            head["title"] += f" ({plain(path.name, 60)})"


def check_page(output: Path) -> None:
    """Raise SceneError unless `output` names a page that could be written."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise SceneError(f"{output}: a page's name ends in .html; choose one")
    check_destination(output)


def scene_paths(source: Path) -> list[Path]:
    """The scene file, or those of a folder. Raises SceneError."""
    if not source.is_dir():
        return [source]
    found = sorted(path for path in source.iterdir() if path.suffix in (".h5", ".hdf5") and path.is_file())
    if not found:
        raise SceneError(f"{source}: holds no scene, *.h5; make one with: dcgen scenario ROUTE -o {source}/NAME.h5")
    if len(found) > MOST_SCENES:
        raise SceneError(f"{source}: holds {len(found)} scenes, a page at most {MOST_SCENES}; put fewer in a folder")
    return found


def _page(heads: list[dict[str, Any]], scenes: list[str], three: str) -> bytes:
    """The page's text. Its scripts carry a nonce that hangs on all of it, so that nothing inside can know it."""
    page = {
        "scenes": heads,
        "class_names": CLASS_NAMES,
        "palette": PALETTE.tolist(),
        **{
            name: [int(kind in kinds) for kind in Semantics]
            for name, kinds in (("surfaces", SURFACES), ("movable", MOVABLE), ("tall", _TALL))
        },
    }
    slots = {
        "title": html.escape(heads[0]["title"] if len(heads) == 1 else f"{len(heads)} scenes"),
        "version": html.escape(dcgen.__version__),
        "three_version": VERSION,
        "style": _asset("page.css"),
        "scenes": "\n".join(
            f'<script type="application/json" id="scene-{n}">{scene}</script>' for n, scene in enumerate(scenes)
        ),
        "page": as_json(page),
        "three": packed(three.encode()),
        "licence": html.escape(LICENCE.read_text(encoding="utf-8")),
        "mesher": _asset("mesher.js"),
        "player": "\n".join(_asset(name) for name in SCRIPTS),
    }
    slots["nonce"] = hashlib.sha256("".join(slots.values()).encode()).hexdigest()[:32]
    return _SLOT.sub(lambda slot: slots[slot[1]], _asset("page.html")).encode()


def _asset(name: str) -> str:
    return (files("dcgen.report") / name).read_text(encoding="utf-8")
