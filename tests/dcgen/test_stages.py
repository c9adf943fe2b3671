"""What a latent counts in the loss: more where somebody small is, in the cell and at the time it is there."""

import pytest
import torch

from dcgen.hexplane import unflatten
from dcgen.stages import PART_WEIGHTS, SMALL_AGENT_WEIGHT, latent_weights
from dcgen.types import AGENT_CHANNELS
from tests.dcgen.small import CONFIG, PLAIN

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
