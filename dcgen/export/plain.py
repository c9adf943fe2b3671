"""Text out of a stranger's file, made fit for one line of a screen or a picture."""

from __future__ import annotations


def plain(text: str, most: int) -> str:
    """One line of at most `most` characters, without what a terminal or a font would take for more than text."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 4]} ..."
