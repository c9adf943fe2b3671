"""Memory that was freed is taken again without asking the kernel for every page of it."""

import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys
from dcgen.heap import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
size = 48 << 20
for _ in range(2):
    bytearray(size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block = bytearray(size)
    block[::4096] = b"1" * len(block[::4096])
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library alone can be told")
def test_pages_are_asked_for_once():
    faults = {}
    for word in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", ROUNDS, word], capture_output=True, check=True, text=True)
        faults[word] = int(done.stdout)
    assert faults["keep"] < faults["leave"] / 4
