"""What a latent counts in the loss: more where somebody small is, in the cell and at the time it is there."""

import numpy as np
import pytest
import torch

from dcgen.dit.model import Dit
from dcgen.hexplane import unflatten
from dcgen.stages import PART_WEIGHTS, SMALL_AGENT_WEIGHT, DitStage, VaeBatch, VaeStage, latent_weights
from dcgen.types import AGENT_CHANNELS
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG, PLAIN, clip, condition_batch, randomise

X, Y, _ = CONFIG.grid.shape
# chunk, frame, channel, x, y, how much of the voxel: a corner, a border between cells, two times in one cell
SMALL = [
    (0, 0, 1, 0, 0, 1.0),
    (0, 3, 2, 7, 8, 0.02),
    (2, 1, 2, 15, 23, 0.5),
    (2, 2, 1, 12, 5, 1.0),
    (2, 3, 1, 12, 5, 1.0),
]
CONFIGS = pytest.mark.parametrize("config", [CONFIG, PLAIN], ids=["volume", "planes"])


def layout(config, entries):
    """[B, T, A, X, Y] with a car, its heading and its speed all over, and some voxels of small agents."""
    made = torch.zeros(3, config.frames, len(AGENT_CHANNELS), X, Y)
    made[:, :, 0] = 1.0
    made[:, :, 3:] = -0.7
    for b, t, channel, x, y, share in entries:
        made[b, t, channel, x, y] = share
    return made


def touched(name, sizes, b, cell, config):
    """Whether a small agent touches a cell of a part, looked up one by one."""
    spans = {"t": config.frames, "x": X, "y": Y}
    axes = {"volume": "txy"}.get(name, name)
    if "z" in axes:
        return False
    blocks = [spans[axis] // size for axis, size in zip(axes, sizes, strict=True)]
    for chunk, t, _, x, y, _ in SMALL:
        at = {"t": t, "x": x, "y": y}
        if chunk == b and all(at[a] // block == c for a, block, c in zip(axes, blocks, cell, strict=True)):
            return True
    return False


@CONFIGS
def test_small_agents_weigh_more_where_and_when_they_are_there(config):
    weights = latent_weights(layout(config, SMALL), config.hex_shape)
    assert weights.shape == (3, config.hex_shape.size) and SMALL_AGENT_WEIGHT > 1
    seen = set()
    for name, part in unflatten(weights, config.hex_shape).items():
        batch, _, *sizes = part.shape
        assert (part == part[:, :1]).all()
        for b, *cell in torch.cartesian_prod(torch.arange(batch), *map(torch.arange, sizes)).tolist():
            here = touched(name, sizes, b, cell, config)
            want = PART_WEIGHTS[name] * (SMALL_AGENT_WEIGHT if here else 1.0)
            assert part[(b, 0, *cell)] == want, (name, b, cell)
            seen |= {name} if here else set()
    assert seen == {"xy", "tx", "ty"} | ({"volume"} if config is CONFIG else set())


@CONFIGS
def test_without_small_agents_every_cell_of_a_part_counts_the_same(config):
    weights = unflatten(latent_weights(layout(config, []), config.hex_shape), config.hex_shape)
    assert all((part == PART_WEIGHTS[name]).all() for name, part in weights.items())


def gradients(stage, batch):
    """Loss, gradients, and how many numbers the forward pass kept for the backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        loss, _ = stage.loss(batch, torch.Generator().manual_seed(5))
    loss.backward()
    made = {name: parameter.grad for name, parameter in stage.network.named_parameters()}
    stage.network.zero_grad(set_to_none=True)
    return loss.item(), made, sum(kept)


@CONFIGS
@pytest.mark.parametrize("kind", ["vae", "dit"])
def test_checkpointing_changes_no_gradient_and_keeps_less(config, kind):
    if kind == "vae":
        stage = VaeStage(randomise(Vae(config)).train(), torch.ones(12))
        part, labels = stage, torch.from_numpy(np.stack([clip(0).labels, clip(3).labels]))
        batch = VaeBatch(labels, labels, labels == 4)
    else:
        stage = DitStage(randomise(Dit(config)).train())
        part = stage.dit
        batch = (torch.randn(3, config.hex_shape.size), condition_batch(3, config))
    made = []
    for part.checkpointing in (False, True):
        made.append(gradients(stage, batch))
    (loss, plain, kept), (again, same, fewer) = made
    assert loss == again and plain.keys() == same.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
    assert fewer < 0.97 * kept, (fewer, kept)
