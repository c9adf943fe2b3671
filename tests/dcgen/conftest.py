"""What all tests of the model side share."""

from __future__ import annotations

import jaxtyping
import pytest
import torch


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch):
    """Checkpoints are flushed to the disk, which may take seconds; tests that kill a process do so in that process."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def the_same_numbers():
    """A test draws the same numbers alone and among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def exact():
    """float32 also where the CPU multiplies bfloat16: laws about equality are of the code, not of rounding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcgen.device._cpu_multiplies_bfloat16", lambda: False)
        yield


@pytest.fixture
def unchecked(monkeypatch):
    """Shapes are not checked from outside: for tests of what a module itself refuses."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
