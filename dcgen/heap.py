"""What is freed stays with the process: a training step asks for the same gigabytes again a second later."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
MOST = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Tells glibc to neither map large blocks one by one nor hand them back; whether it could. Elsewhere, nothing.

    Otherwise each large tensor is mapped and zeroed by the kernel anew: a quarter of the time of encoding and training.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all([mallopt(TRIM_THRESHOLD, MOST), mallopt(TOP_PAD, 1 << 26), mallopt(MMAP_THRESHOLD, MOST)])
