"""Scores of scenes out of JSON files that a rollout or a scoring left: names and numbers, flat, by planner.

One file holds the figures of one scene, or a list of tables that each name their "scene", as such or at any one place
within. Beside a scene NAME.h5, NAME.scores.json and then NAME.json are looked for, in its folder scores.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcgen.errors import SceneError
from dcgen.export.plain import plain

MOST_BYTES = 8 << 20
MOST_ROWS = 80  # of a planner
MOST_PLANNERS = 24  # of a scene
Figures = dict[str, float | str]
Groups = dict[str, Figures]  # by planner; "" for what names none


@dataclass(frozen=True)
class Scores:
    """What is known of scenes by name; `alone` holds what names no scene."""

    named: dict[str, Groups]
    alone: Groups

    @staticmethod
    def of(source: Path, given: Path | None) -> Scores:
        """From the given file, or from what lies beside the scenes; nothing where nothing does. Raises SceneError."""
        if given is not None:
            return _read(given)
        folder = source if source.is_dir() else source.parent
        stems = [path.stem for path in folder.glob("*.h5")] if source.is_dir() else [source.stem]
        shared = folder / "scores.json"
        named = _read(shared).named if shared.is_file() else {}
        for stem in stems:
            beside = [folder / f"{stem}{tail}" for tail in (".scores.json", ".json")]
            for path in [path for path in beside if path.is_file()][:1]:
                named = {**named, stem: _read(path).of_scene(stem, alone=True)}
        return Scores(named, {})

    def of_scene(self, stem: str, alone: bool) -> Groups:
        """The figures of scene `stem`; those that name no scene where it is the only one of a page."""
        return self.named.get(stem) or (self.alone if alone else {})


def _read(path: Path) -> Scores:
    try:
        if path.exists() and not path.is_file():
            raise SceneError(f"{path}: is no file of scores; pass what a rollout or a scoring left")
        if path.stat().st_size > MOST_BYTES:
            raise SceneError(f"{path}: scores of more than {MOST_BYTES >> 20} MB; pass those of one rollout")
        return _scores(path, json.loads(path.read_text(encoding="utf-8")))
    except OSError as fault:
        raise SceneError(
            f"{path}: cannot be read ({(fault.strerror or str(fault)).lower()}); check the path"
        ) from fault
    except (ValueError, RecursionError) as fault:
        raise SceneError(f"{path}: is not JSON, or nested too deep; pass what a rollout left") from fault


def _scores(path: Path, found: Any) -> Scores:
    """The scores within what a file holds. Raises SceneError, RecursionError."""
    if not isinstance(found, (dict, list)):
        raise SceneError(f"{path}: holds neither a table nor a list of scores; pass what a rollout left")
    named: dict[str, Groups] = {}
    for table in _tables(found):
        groups = named.setdefault(Path(table["scene"]).stem, {})
        for planner, figures in _group(table).items():
            if planner in groups or len(groups) < MOST_PLANNERS:
                groups[planner] = dict([*(groups.get(planner, {}) | figures).items()][:MOST_ROWS])
    return Scores(named, {} if named or isinstance(found, list) else _group(found))


def _group(table: dict[str, Any]) -> Groups:
    """The figures of a table, under its planner."""
    told = table.get("planner")
    planner = told if isinstance(told, str) else ""
    rows = _flat({name: value for name, value in table.items() if name not in ("scene", "planner" if planner else "")})
    return {plain(planner, 120): dict(rows[:MOST_ROWS])} if rows else {}


def _tables(value: Any) -> list[dict[str, Any]]:
    """The tables within that name a scene."""
    if isinstance(value, dict):
        if isinstance(value.get("scene"), str):
            return [value]
        value = list(value.values())
    return [table for item in value for table in _tables(item)] if isinstance(value, list) else []


def _flat(table: dict[str, Any], before: str = "") -> list[tuple[str, float | str]]:
    """Numbers, truths and short texts of nested tables, by joined names; what else there is stays away."""
    rows: list[tuple[str, float | str]] = []
    for key, value in table.items():
        name = plain(f"{before}{key}", 60)
        if isinstance(value, dict):
            rows += _flat(value, f"{name}: ")
        elif isinstance(value, bool):
            rows.append((name, "yes" if value else "no"))
        elif isinstance(value, (int, float)):
            rows.append((name, value if abs(value) < 1e15 else plain(str(value), 30)))
        elif isinstance(value, str) and value:
            rows.append((name, plain(value, 120)))
    return rows
