"""Loops as machine code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, compiled by numba at its first use and kept on disk where that is possible."""
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # no writable place for the cache
        return numba.njit(nogil=True)(kernel)
