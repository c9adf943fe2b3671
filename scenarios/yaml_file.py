"""A stranger's YAML into plain values: small, shallow, without aliases, tags, repeated keys or NaN."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from dcgen.errors import ScenarioError
from scenarios.reading import read_file

MAX_BYTES = 1_000_000
MAX_DEPTH = 24
MAX_NODES = 200_000


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file of at most max_bytes. Raises ScenarioError for what is missing, huge, empty or not text."""
    raw = read_file(path, max_bytes, "a scenario file, which is a page of text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: byte {error.start}: not UTF-8 text; save it as UTF-8") from None
    if not text.strip():
        raise ScenarioError(f"{path}: is empty; see docs/scenario.md for what a scenario holds")
    return text


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """The mapping that the text holds, of str, int, float, bool, None, list and dict alone."""
    try:
        data = _Loader(text).get_single_data()
    except _Refused as error:
        raise ScenarioError(f"{path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else "text"
        problem = " ".join(str(error.problem or error.context or "not YAML").split())
        raise ScenarioError(f"{path}: {where}: {problem}; mend the YAML there") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        problem = " ".join(str(error).split()).split("; use sys")[0][:200]
        raise ScenarioError(f"{path}: text: {problem}; pass a YAML file that can be read") from None
    if not isinstance(data, dict):
        raise ScenarioError(f"{path}: text: holds no mapping; write `key: value` lines")
    _check_plain(data, "", path)
    return data


def _check_plain(value: Any, place: str, path: Path) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise ScenarioError(f"{path}: {place or 'text'}: key {key!r} is no text; put it in quotes")
            name = " ".join(key.split())  # which may hold line breaks
            _check_plain(each, f"{place}.{name}" if place else name, path)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _check_plain(each, f"{place}[{index}]", path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ScenarioError(f"{path}: {place}: {value} is not a finite number; give one")
    elif isinstance(value, int) and abs(value) > 2**63:
        raise ScenarioError(f"{path}: {place}: the number is too large; give one below 2^63")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise ScenarioError(f"{path}: {place}: {type(value).__name__} is not allowed here; put it in quotes")


class _Refused(Exception):
    """YAML that is well formed but not welcome."""


_Base: Any = yaml.SafeLoader
if yaml.__with_libyaml__:  # ten times as fast, which a megabyte of numbers needs
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class _Base(Composer, CParser, SafeConstructor, Resolver):  # type: ignore[no-redef]
        """What yaml.CSafeLoader is, composing in Python so that a guest can look at every node."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            for part in (Composer, SafeConstructor, Resolver):
                part.__init__(self)


class _Loader(_Base):
    """PyYAML's safe loader, without aliases and repeated keys, and with limits on depth and size."""

    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(f"line {line}: anchors and aliases (&, *) are not allowed; write the value out")
        self.depth += 1
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _Refused(f"line {line}: more than {MAX_NODES} values; put long tracks into a file of their own")
        if self.depth > MAX_DEPTH:
            raise _Refused(f"line {line}: nested deeper than {MAX_DEPTH} levels; keep to six")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(f"line {key.start_mark.line + 1}: a key must be plain text; write it so")
            if key.value in seen:
                raise _Refused(f"line {key.start_mark.line + 1}: key {key.value!r} is given twice; keep one")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_FLOAT = re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
# YAML 1.1 takes 1e3 for text; everyone who writes it means a number.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
