"""A rollout loses nothing: its tokens hold every cell of the planes once, and know where they come from."""

from dataclasses import replace

import pytest
import torch

from dcgen.config import ROLLOUTS, HexShape
from dcgen.dit.embed import Tokens
from dcgen.dit.model import Dit
from dcgen.flow import flow_loss
from dcgen.hexplane import PLANES, HexPlane, flatten, patchify, plane_tokens, roll, unflatten
from dcgen.rollout import rollout_of
from tests.dcgen.small import CONFIG, DIT, PLAIN, condition_batch, randomise

SHAPE = HexShape(t=4, x=6, y=10, z=2, channels=3)
ODD = HexShape(t=3, x=9, y=12, z=6, channels=2)
SIZES = pytest.mark.parametrize(("shape", "patch"), [(SHAPE, 2), (SHAPE, 1), (ODD, 3)])


def planes(shape, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return HexPlane(**{n: torch.randn(batch, *size, generator=generator) for n, size in shape.planes.items()})


@SIZES
@pytest.mark.parametrize("name", ROLLOUTS)
def test_join_inverts_split_and_nothing_is_added(name, shape, patch):
    rollout, p = rollout_of(name, shape, patch), planes(shape)
    tokens = rollout.split(p)
    assert tokens.shape == (2, len(rollout.places.plane), shape.channels * patch**2)
    assert rollout.places.position.shape == (tokens.shape[1], 4)
    assert tokens[0].numel() == shape.size
    assert torch.equal(flatten(rollout.join(tokens)), flatten(p))
    other = torch.randn(tokens.shape)
    assert torch.equal(rollout.split(rollout.join(other)), other)


def test_the_padded_rollout_is_the_image_in_patches():
    rollout, p = rollout_of("padded", SHAPE, 2), planes(SHAPE)
    tokens = plane_tokens(SHAPE, 2)
    assert torch.equal(rollout.split(p), patchify(roll(p), 2)[:, tokens.keep])
    assert torch.equal(rollout.places.position, tokens.position)


def test_unfolding_is_one_row_after_the_other():
    p = planes(SHAPE, batch=1)
    row = [part[0, :, i, j] for _, part in p.items() for i in range(part.shape[2]) for j in range(part.shape[3])]
    rollout = rollout_of("unfolded", SHAPE, 2)
    want = torch.stack(row).view(-1, 4 * SHAPE.channels)
    assert torch.equal(rollout.split(p)[0], want)
    assert torch.equal(rollout.places.position, (2.0 * torch.arange(len(want)) + 1)[:, None].expand(-1, 4))


def test_vertical_is_the_patches_of_a_stack():
    p = planes(SHAPE, batch=1)
    wide = max(part.shape[3] for _, part in p.items())
    ones = p.map(torch.ones_like)
    image, filled = (
        torch.cat([torch.nn.functional.pad(part, (0, wide - part.shape[3])) for _, part in q.items()], dim=2)
        for q in (p, ones)
    )
    keep = patchify(filled, 2)[0].all(dim=1)
    rollout = rollout_of("vertical", SHAPE, 2)
    assert torch.equal(rollout.split(p)[0], patchify(image, 2)[0, keep])
    row, column = torch.meshgrid(torch.arange(image.shape[2] // 2), torch.arange(wide // 2), indexing="ij")
    centre = 2 * torch.stack([row, row, column, column], dim=-1).flatten(0, 1)[keep] + 1
    assert torch.equal(rollout.places.position, centre.float())


@SIZES
@pytest.mark.parametrize("name", ROLLOUTS)
def test_tokens_name_their_plane(name, shape, patch):
    rollout = rollout_of(name, shape, patch)
    marked = HexPlane(**{n: torch.full((1, *s), float(i)) for i, (n, s) in enumerate(shape.planes.items())})
    assert torch.equal(rollout.split(marked)[0].amin(1).long(), rollout.places.plane)
    assert torch.equal(rollout.split(marked)[0].amax(1).long(), rollout.places.plane)
    assert len(PLANES) == int(rollout.places.plane.max()) + 1


@pytest.mark.parametrize("config", [CONFIG, PLAIN], ids=["volume", "planes"])
@pytest.mark.parametrize("name", ROLLOUTS[1:])
def test_a_transformer_over_it_learns_everywhere_and_chunk_by_chunk(config, name):
    config = replace(config, dit=replace(DIT, rollout=name, local_depth=0))
    tokens, latents = Tokens(config, inputs=1), torch.randn(3, config.hex_shape.size)
    assert torch.equal(tokens.join(tokens.split(latents)), latents)
    dit = randomise(Dit(config))
    conditions = replace(condition_batch(3, config), present=torch.tensor([True, False, True]))
    time = torch.tensor([0.2, 0.5, 0.8])
    whole = dit(latents, time, conditions)
    alone = dit(latents[1:2], time[1:2], conditions.index(slice(1, 2)))
    torch.testing.assert_close(alone[0], whole[1], rtol=1e-4, atol=1e-4)
    loss = flow_loss(lambda x, t: dit(x, t, conditions), latents, torch.randn_like(latents), time)
    loss.mean().backward()
    still = [name for name, p in dit.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    assert all(part.any() for _, part in unflatten(whole, config.hex_shape).items())


def test_no_rollout_leaves_anything_in_the_weights():
    names = {name: Dit(replace(PLAIN, dit=replace(DIT, rollout=name))).state_dict() for name in ROLLOUTS}
    shapes = [{n: tuple(t.shape) for n, t in state.items()} for state in names.values()]
    assert shapes[0] == shapes[1] == shapes[2]
