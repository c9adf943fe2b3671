"""spconv's convolutions equal torch's in values, gradients, sites and order.

Three times over: by a stand-in that computes what spconv documents; by the installed spconv on a CPU, in one thread
(a build without CUDA has no gradients there, and is left out); and by the installed spconv on CUDA.
"""

from importlib.util import find_spec

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from dcgen.vae import backbone, spconv_conv, torch_conv
from dcgen.vae.backbone import SparseBackbone, StridedConv, SubmanifoldConv
from dcgen.vae.sparse import SparseVolume
from dcgen.vae.trial import trial_fault
from tests.dcgen.vae import plain_spconv
from tests.reference import dense_strided, dense_submanifold

SHAPES = [(2, 5, 4, 3), (3, 4, 7, 1), (2, 9, 6, 11)]
STRIDES = [(2, 2, 2), (2, 1, 3), (4, 2, 1)]
INSTALLED = find_spec("spconv") is not None


def has_gradients():
    from spconv.cppconstants import CPU_ONLY_BUILD

    return not CPU_ONLY_BUILD


@pytest.fixture(params=["stand-in", "installed on a CPU", "installed on CUDA"])
def device(request, monkeypatch):
    """Where spconv computes in this test, whichever it is."""
    if request.param == "stand-in":
        plain_spconv.install(monkeypatch)
        yield torch.device("cpu")
        return
    on_cuda = request.param == "installed on CUDA"
    if not INSTALLED or not has_gradients() or (on_cuda and not torch.cuda.is_available()):
        pytest.skip("needs spconv with CUDA kernels" + (", and CUDA" if on_cuda else ""))
    threads, tf32 = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    yield torch.device("cuda" if on_cuda else "cpu")
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32


def drawn(shape, device, channels=8, share=0.4):
    rng = torch.Generator().manual_seed(0)
    active = (torch.rand(shape, generator=rng) < share).to(device)
    values = torch.randn(shape[0], channels, *shape[1:], generator=rng).to(device).requires_grad_()
    return values, active


def results(out, *inputs):
    """The values, and the gradients of a random product with them."""
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out.device)
    return out.detach(), *torch.autograd.grad((out.float() * probe).sum(), inputs)


def assert_equal(got, want):
    """To 1e-4 of the largest value of each tensor."""
    for g, w in zip(got, want, strict=True):
        g, w = g.detach(), w.detach()
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4 * max(1.0, float(w.abs().max())))


def randomise(module, device):
    rng = torch.Generator().manual_seed(4)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng)
    return module.to(device)


def by(kernels, monkeypatch):
    monkeypatch.setattr(backbone, "kernels_for", lambda features: kernels)


@pytest.mark.parametrize("shape", SHAPES)
def test_submanifold_equals_torch_and_dense(shape, device):
    values, active = drawn(shape, device)
    conv = randomise(SubmanifoldConv(8, 16), device)
    inputs = (values, conv.weight, conv.bias)
    got = []
    for kernels in (spconv_conv, torch_conv):
        volume = SparseVolume.from_dense(values, active)
        features = conv(volume.features, kernels.find_neighbours(volume))
        got.append(results(SparseVolume(volume.indices, features, volume.shape).dense(), *inputs))
    got, twin = got
    assert_equal(got, twin)
    assert_equal(got, results(dense_submanifold(values, active, conv.weight, conv.bias), *inputs))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("shape", SHAPES)
def test_strided_equals_torch_and_dense_in_our_order(shape, stride, device, monkeypatch):
    values, active = drawn(shape, device)
    conv = randomise(StridedConv(8, 16, stride), device)
    inputs = (values, conv.weight, conv.bias)
    want, coarse = dense_strided(values, active, conv.weight, conv.bias)
    got = []
    for kernels in (spconv_conv, torch_conv):
        by(kernels, monkeypatch)
        out = conv(SparseVolume.from_dense(values, active))
        assert torch.equal(out.indices, coarse.nonzero()) and out.shape == tuple(coarse.shape)
        got.append(results(out.dense(), *inputs))
    got, twin = got
    assert_equal(got, twin)
    assert_equal(got, results(want, *inputs))


@pytest.mark.parametrize("again", [False, True], ids=["once", "checkpointed"])
@pytest.mark.parametrize("strides", [((2, 2, 2), (2, 1, 3)), ((1, 1, 1), (4, 2, 1))])
def test_a_whole_backbone_equals_torch(strides, again, device, monkeypatch):
    values, active = drawn((2, 9, 6, 11), device)
    net = randomise(SparseBackbone(8, (16, 24, 32), strides, blocks=2), device)
    inputs = (values, *net.parameters())
    outs = []
    for kernels in (spconv_conv, torch_conv):
        by(kernels, monkeypatch)
        volume = SparseVolume.from_dense(values, active)
        outs.append(checkpoint(net, volume, use_reentrant=False) if again else net(volume))
        outs[-1] = outs[-1].indices, results(outs[-1].features, *inputs)
    assert torch.equal(outs[0][0], outs[1][0])
    assert_equal(outs[0][1], outs[1][1])


def test_both_twins_share_one_state_and_one_training_step(device, monkeypatch):
    values, active = drawn((2, 5, 4, 3), device)
    states = []
    for kernels in (spconv_conv, torch_conv):
        by(kernels, monkeypatch)
        net = randomise(SparseBackbone(8, (16, 24)), device)
        torch.nn.init.constant_(net.layers[0].blocks[0].norm.weight, 1.0)
        loss = net(SparseVolume.from_dense(values, active)).features.square().mean()
        loss.backward()
        torch.optim.SGD(net.parameters(), lr=0.01).step()
        states.append(net.state_dict())
    assert states[0].keys() == states[1].keys()
    assert_equal(states[0].values(), states[1].values())


def test_sites_in_any_order_and_indices_that_are_views(device, monkeypatch):
    by(spconv_conv, monkeypatch)
    values, active = drawn((2, 5, 4, 3), device)
    volume = SparseVolume.from_dense(values, active)
    order = torch.randperm(len(volume.indices), generator=torch.Generator().manual_seed(3)).to(device)
    view = volume.indices[order].T.contiguous().T
    assert not view.is_contiguous()
    net = randomise(SparseBackbone(8, (16, 24)), device)
    shuffled = net(SparseVolume(view, volume.features[order].T.contiguous().T, volume.shape))
    plain = net(volume)
    assert torch.equal(shuffled.indices, plain.indices)
    assert_equal([shuffled.features], [plain.features])


def test_autocast_changes_the_type_alone(device, monkeypatch):
    """The products stay in float32; what goes in and comes out has the type that the twin's has."""
    values, active = drawn((2, 9, 6, 11), device)
    conv, down = randomise(SubmanifoldConv(8, 16), device), randomise(StridedConv(16, 24), device)
    got = {}
    for kernels in (spconv_conv, torch_conv):
        by(kernels, monkeypatch)
        volume = SparseVolume.from_dense(values, active)
        with torch.autocast(device.type, torch.bfloat16):
            features = conv(volume.features.bfloat16(), kernels.find_neighbours(volume))
            got[kernels] = features, down(SparseVolume(volume.indices, features, volume.shape)).features
        gradients = torch.autograd.grad(got[kernels][1].float().square().sum(), (conv.weight, down.weight, values))
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        got[kernels] += gradients
    for ours, twin in zip(got[spconv_conv], got[torch_conv], strict=True):
        assert ours.dtype == twin.dtype
        assert (ours.float() - twin.float()).norm() < 0.02 * twin.float().norm()


def test_the_trial_finds_no_fault_and_leaves_the_caller_alone(device):
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        assert trial_fault(device) is None
        assert torch.is_inference_mode_enabled() and torch.is_autocast_enabled(device.type)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("wrong", "said"), [(lambda out: out * 1.5, "is off by"), (lambda out: out[1:], "fails on")])
def test_the_trial_finds_what_is_wrong(wrong, said, monkeypatch):
    plain_spconv.install(monkeypatch)
    right = plain_spconv.indice_subm_conv
    monkeypatch.setattr("spconv.pytorch.functional.indice_subm_conv", lambda *given: wrong(right(*given)))
    assert said in trial_fault(torch.device("cpu"))


def test_our_weight_permuted_is_a_dense_kernel_and_spconvs():
    """[x, y, z, in, out] is conv3d's [out, in, x, y, z] and spconv's [out, x, y, z, in]: one tap tells every axis."""
    weight = torch.zeros(3, 3, 3, 2, 5)
    weight[0, 1, 2, 1, 3] = 1.0
    kernel = weight.permute(4, 0, 1, 2, 3)
    assert kernel.shape == (5, 3, 3, 3, 2) and kernel[3, 0, 1, 2, 1] == 1
    assert torch.equal(kernel.movedim(-1, 1), weight.permute(4, 3, 0, 1, 2))
    values = torch.zeros(1, 2, 4, 5, 6)
    values[0, 1, 1, 2, 4] = 7.0  # the neighbour at (-1, 0, 1) of site 2, 2, 3
    active = torch.ones(1, 4, 5, 6, dtype=torch.bool)
    volume = SparseVolume.from_dense(values, active)
    ours = torch_conv.find_neighbours(volume).convolve(volume.features, weight)
    dense = torch.nn.functional.conv3d(values, kernel.movedim(-1, 1), padding=1)
    assert dense[0, 3, 2, 2, 3] == 7 and dense.sum() == 7
    assert torch.equal(SparseVolume(volume.indices, ours, volume.shape).dense(), dense)
