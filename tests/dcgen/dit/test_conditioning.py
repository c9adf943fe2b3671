"""Conditions reach the tokens of the place and time they speak of, and the joint null drops them all."""

from dataclasses import replace

import pytest
import torch

from dcgen.config import ROLLOUTS
from dcgen.dit.conditioning import LayoutCondition, VectorCondition, sinusoid
from dcgen.dit.embed import Tokens
from dcgen.hexplane import PLANES, HexPlane
from dcgen.rollout import rollout_of
from dcgen.types import wrap_angle
from tests.dcgen.small import CONFIG, DIT, FOLDED, FRAMES, GRID, PLAIN, condition_batch, randomise

AXES = {"xy": "xy", "xz": "x", "yz": "y", "tx": "tx", "ty": "ty", "tz": "t", "volume": "txy"}
UNEVEN = replace(CONFIG, dit=replace(DIT, volume_patch=(4, 1, 3)))


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_plane_features_come_in_the_order_of_the_tokens(rollout):
    config = replace(CONFIG, dit=replace(DIT, rollout=rollout))
    layout, patch, shape = LayoutCondition(config), DIT.patch, CONFIG.hex_shape
    tokens = Tokens(config, inputs=1)
    size = {axis: getattr(shape, axis) // patch for axis in "txyz"}
    planes = {}
    for index, name in enumerate(PLANES):
        grid = torch.zeros(1, size[name[0]], size[name[1]], 5)
        grid[..., 0] = index
        for place, axis in enumerate(name):
            centre = (torch.arange(size[axis]) + 0.5) * patch
            grid[..., 1 + "txyz".index(axis)] = centre[:, None] if place == 0 else centre
        planes[name] = grid
    rolled = layout._rolled(planes)[0]
    count = tokens.plane_count
    assert torch.equal(rolled[:, 0].long(), tokens.plane[:count])
    # The same coordinates as latents, cell by cell: a token reads the mean of the patches that its cells lie in.
    fine = {n: p.repeat_interleave(patch, 1).repeat_interleave(patch, 2).movedim(-1, 1) for n, p in planes.items()}
    cells = rollout_of(rollout, shape, patch).split(HexPlane(**fine))
    torch.testing.assert_close(rolled, cells.unflatten(-1, (patch**2, 5)).mean(dim=2)[0])
    if rollout == "padded":
        torch.testing.assert_close(rolled[:, 1:], tokens.position[:count])


@pytest.mark.parametrize("config", [CONFIG, UNEVEN, PLAIN, FOLDED], ids=["volume", "uneven", "planes", "folded"])
@pytest.mark.parametrize(("t", "x", "y"), [(0, 2, 3), (3, 13, 20), (1, 14, 2)])
def test_an_agent_is_read_where_it_stands(config, t, x, y):
    layout, tokens = randomise(LayoutCondition(config)), Tokens(config, inputs=2)
    conditions = condition_batch(1, config)
    moved = replace(conditions, layout_agents=conditions.layout_agents.clone())
    moved.layout_agents[0, t, 0, x, y] += 3
    gap = (layout(moved) - layout(conditions)).abs().amax(-1)[0]
    assert len(gap) == len(tokens.position)
    # Convolutions reach six cells of the planes; a volume whose tokens lie otherwise is pooled once more.
    centre = {"t": t / config.vae.time_stride, "x": x / config.vae.stride, "y": y / config.vae.stride}
    for index, name in enumerate((*PLANES, "volume")):
        here = torch.nonzero(tokens.plane == index)[:, 0]
        apart = {a: (tokens.position[here, "txyz".index(a)] - centre[a]).abs() for a in AXES[name] if len(here)}
        near = torch.ones(len(here), dtype=torch.bool)
        far = ~near
        for axis, distance in apart.items():
            near &= distance <= distance.min()
            far |= distance > (distance.min() if axis == "t" else 9 if config is UNEVEN else 6)
        assert (gap[here[near]] > 0).all(), name
        assert (gap[here[far]] < 1e-6).all(), name


def test_the_null_drops_everything_at_once():
    layout, vector = randomise(LayoutCondition(CONFIG)), randomise(VectorCondition(DIT.width))
    conditions = condition_batch(3)
    mixed = replace(conditions, present=torch.tensor([True, False, True]))
    tokens, given = layout(mixed), vector.given(mixed)
    assert (tokens[1] == 0).all() and torch.equal(given[1], vector.null)
    torch.testing.assert_close(tokens[[0, 2]], layout(conditions)[[0, 2]])
    torch.testing.assert_close(given[[0, 2]], vector.given(conditions)[[0, 2]])
    assert not conditions.null().present.any() and conditions.present.all()


def test_headings_do_not_wrap():
    vector, conditions = randomise(VectorCondition(DIT.width)), condition_batch(2)
    turned = conditions.trajectory.clone()
    turned[..., 2] = torch.from_numpy(wrap_angle(turned[..., 2].double().numpy() + 4 * torch.pi)).float()
    torch.testing.assert_close(
        vector.given(replace(conditions, trajectory=turned)), vector.given(conditions), rtol=1e-4, atol=1e-4
    )


def test_the_order_of_frames_matters():
    vector, conditions = randomise(VectorCondition(DIT.width)), condition_batch(2)
    reverse = replace(conditions, trajectory=conditions.trajectory.flip(1))
    assert (vector.given(reverse) - vector.given(conditions)).abs().max() > 1e-3


def test_index_takes_rows_of_every_field():
    conditions = condition_batch(4)
    part = conditions.index(torch.tensor([2, 0]))
    for name in conditions.__dataclass_fields__:
        assert torch.equal(getattr(part, name), getattr(conditions, name)[[2, 0]]), name


def test_times_are_told_apart():
    code = sinusoid(torch.linspace(0, 1, 101), 64)
    assert (torch.cdist(code, code) + 9 * torch.eye(101)).min() > 0.1


def test_layout_shapes():
    assert condition_batch().layout_agents.shape == (3, FRAMES, CONFIG.agent_channels, *GRID.shape[:2])
    tokens = LayoutCondition(CONFIG)(condition_batch())
    assert tokens.shape == (3, len(Tokens(CONFIG, 2).position), DIT.width)
