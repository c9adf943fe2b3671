"""Which sparse convolutions a device gets, and the line that says so."""

import sys
from types import ModuleType

import pytest
import torch

from dcgen import device
from dcgen.vae import backbone, spconv_conv, torch_conv

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def fault(monkeypatch):
    """Answers the question whether spconv serves, and counts how often it is asked."""
    asked = []

    def answer(what):
        monkeypatch.setattr(device, "spconv_fault", lambda: asked.append(what) or what)
        device._spconv_serves.cache_clear()
        return asked

    yield answer
    device._spconv_serves.cache_clear()


class OnCuda(torch.Tensor):
    """Says that it lies there."""

    device = CUDA


def features(rows=3, dtype=torch.float32):
    return torch.empty(rows, 5, dtype=dtype).as_subclass(OnCuda)


def test_cuda_gets_spconv_where_it_serves(fault, capsys):
    asked = fault(None)
    assert device.sparse_kernels(CUDA) == "spconv"
    assert backbone.kernels_for(features()) is spconv_conv
    assert backbone.kernels_for(features(dtype=torch.bfloat16)) is spconv_conv
    assert len(asked) == 1 and not capsys.readouterr().err


def test_spconv_gets_no_float64_and_no_empty_volume(fault):
    fault(None)
    assert backbone.kernels_for(features(dtype=torch.float64)) is torch_conv
    assert backbone.kernels_for(features(rows=0)) is torch_conv


def test_a_cpu_gets_torch_and_spconv_is_not_even_asked(fault, capsys):
    asked = fault(None)
    assert device.sparse_kernels(CPU) == "torch"
    assert backbone.kernels_for(torch.empty(3, 5)) is torch_conv
    assert "torch" in device.describe("cpu")
    assert not asked and not capsys.readouterr().err


def test_cuda_without_spconv_gets_torch_and_says_so_once(fault, capsys):
    asked = fault("is not installed (pip install it)")
    for _ in range(3):
        assert device.sparse_kernels(CUDA) == "torch"
        assert backbone.kernels_for(features()) is torch_conv
    said = capsys.readouterr()
    assert said.err == "spconv is not installed (pip install it); sparse convolutions run in plain torch\n"
    assert not said.out and len(asked) == 1


def test_the_line_names_device_arithmetic_and_kernels(fault, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    fault(None)
    assert device.describe(CUDA) == "cuda:0 NVIDIA H100, bfloat16, spconv in float32"
    fault("is not installed")
    assert device.describe("cuda:0") == "cuda:0 NVIDIA H100, bfloat16, torch"


@pytest.mark.parametrize(
    ("able", "name"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, "bfloat16"),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bfloat16"),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, "float32"),
        ({"avx512_bf16": False, "cpu_name": "AMD EPYC"}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ],
)
def test_the_line_names_the_arithmetic_that_autocast_takes(able, name, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert device.describe(CPU) == f"cpu, {name}, torch"
    with device.autocast(CPU):
        assert (torch.ones(2, 3) @ torch.ones(3, 4)).dtype == getattr(torch, name) == device.arithmetic(CPU)


def test_a_missing_spconv_is_a_fault(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    assert device.spconv_fault() == "is not installed (pip install 'dcgen[spconv]')"


def test_an_spconv_that_does_not_load_is_a_fault(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "spconv", None)
    assert device.spconv_fault().startswith("does not load (")


def load(monkeypatch, cpu_only):
    monkeypatch.setattr(device, "find_spec", lambda name: object())
    for name in ("spconv", "spconv.pytorch", "spconv.cppconstants"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["spconv.cppconstants"].CPU_ONLY_BUILD = cpu_only


def test_an_spconv_without_cuda_is_a_fault(monkeypatch):
    load(monkeypatch, cpu_only=True)
    assert device.spconv_fault().startswith("has no CUDA kernels (pip uninstall spconv cumm")


@pytest.mark.parametrize("found", [None, "is off by 40% on cuda:1"])
def test_an_spconv_that_loads_is_tried_on_the_current_gpu(found, monkeypatch):
    load(monkeypatch, cpu_only=False)
    tried = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr("dcgen.vae.trial.trial_fault", lambda where: tried.append(where) or found)
    assert device.spconv_fault() == found
    assert tried == [torch.device("cuda", 1)]
