"""The padded rollout loses nothing, pads with zeros, and its tokens know where they come from."""

import pytest
import torch

from dcgen.config import HexShape
from dcgen.hexplane import (
    PLANES,
    HexPlane,
    flatten,
    patchify,
    plane_tokens,
    roll,
    unflatten,
    unpatchify,
    unroll,
    volume_tokens,
)
from tests.reference import rollout_places

SHAPE = HexShape(t=2, x=6, y=5, z=3, channels=4, volume_t=7, volume_x=8, volume_y=9, volume_channels=2)
EVEN = HexShape(t=4, x=6, y=10, z=2, channels=3, volume_t=8, volume_x=9, volume_y=5, volume_channels=1)


def planes(shape=SHAPE, batch=2, volume=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    parts = {n: torch.randn(batch, *size, generator=generator).requires_grad_() for n, size in shape.planes.items()}
    if volume:
        parts["volume"] = torch.randn(batch, *shape.volume, generator=generator)
    return HexPlane(**parts)


def test_unroll_inverts_roll():
    p = planes()
    back = unroll(roll(p), SHAPE)
    for name in PLANES:
        assert torch.equal(getattr(back, name), getattr(p, name)), name


def test_roll_equals_loops_in_values_and_gradients_and_pads_with_zeros():
    p = planes()
    places = rollout_places(SHAPE.t, SHAPE.x, SHAPE.y, SHAPE.z)
    image = roll(p)
    want = torch.zeros_like(image)
    for (row, column), (name, i, j) in places.items():
        want[:, :, row, column] = getattr(p, name)[:, :, i, j]
    assert torch.equal(image, want)
    probe = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    inputs = [getattr(p, name) for name in PLANES]
    for got, slow in zip(torch.autograd.grad((image * probe).sum(), inputs, retain_graph=True),
                         torch.autograd.grad((want * probe).sum(), inputs), strict=True):  # fmt: skip
        assert torch.equal(got, slow)


def test_every_padding_cell_is_zero_and_no_other():
    ones = HexPlane(**{name: torch.ones(1, *size) for name, size in SHAPE.planes.items()})
    image = roll(ones)[0, 0]
    assert image.shape == (SHAPE.x + SHAPE.t + SHAPE.z, SHAPE.y + SHAPE.z + SHAPE.t)
    assert {tuple(cell) for cell in image.nonzero().tolist()} == set(rollout_places(2, 6, 5, 3))


@pytest.mark.parametrize("volume", [True, False])
def test_unflatten_inverts_flatten(volume):
    shape = SHAPE if volume else HexShape(2, 6, 5, 3, 4)
    p = planes(shape, volume=volume)
    flat = flatten(p)
    assert flat.shape == (2, shape.size)
    back = dict(unflatten(flat, shape).items())
    assert back.keys() == dict(p.items()).keys()
    for name, part in p.items():
        assert torch.equal(back[name], part), name


def test_latents_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="the model's shape needs"):
        unflatten(torch.zeros(1, SHAPE.size + 4), SHAPE)


def test_unpatchify_inverts_patchify():
    image = torch.randn(2, 3, 6, 8)
    tokens = patchify(image, 2)
    assert tokens.shape == (2, 12, 12)
    assert torch.equal(unpatchify(tokens, 6, 2), image)
    assert torch.equal(tokens[0, 5].view(2, 2, 3), image[0, :, 2:4, 2:4].permute(1, 2, 0))


def test_plane_tokens_agree_with_a_walk_over_the_image():
    patch = 2
    places = rollout_places(EVEN.t, EVEN.x, EVEN.y, EVEN.z)
    rows, columns = EVEN.x + EVEN.t + EVEN.z, EVEN.y + EVEN.z + EVEN.t
    keep, plane, position = [], [], []
    for index in range(rows * columns // patch**2):
        top, left = index // (columns // patch) * patch, index % (columns // patch) * patch
        cells = [places.get((top + i, left + j)) for i in range(patch) for j in range(patch)]
        if cells[0] is None:
            assert cells == [None] * patch**2
            continue
        (name,) = {cell[0] for cell in cells}
        centre = dict.fromkeys("txyz", 0.0)
        for axis, place in ((name[0], 1), (name[1], 2)):
            centre[axis] = sum(cell[place] + 0.5 for cell in cells) / patch**2
        keep.append(index)
        plane.append(PLANES.index(name))
        position.append(list(centre.values()))
    tokens = plane_tokens(EVEN, patch)
    assert tokens.keep.tolist() == keep
    assert tokens.plane.tolist() == plane
    torch.testing.assert_close(tokens.position, torch.tensor(position))


def test_volume_tokens_share_the_scale_of_the_planes():
    patch = (4, 3, 5)
    tokens = volume_tokens(EVEN, patch)
    want = [
        [(i + 0.5) * 4 * EVEN.t / 8, (j + 0.5) * 3 * EVEN.x / 9, (k + 0.5) * 5 * EVEN.y / 5, 0.0]
        for i in range(2)
        for j in range(3)
        for k in range(1)
    ]
    torch.testing.assert_close(tokens.position, torch.tensor(want))
    assert tokens.plane.tolist() == [len(PLANES)] * 6


def test_map_changes_every_part():
    doubled = planes().map(lambda part: part * 2)
    for (name, part), (_, before) in zip(doubled.items(), planes().items(), strict=True):
        assert torch.equal(part, before * 2), name
