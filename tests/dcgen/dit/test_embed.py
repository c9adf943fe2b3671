"""Tokens hold every latent once, know their place, and turn by it."""

from dataclasses import replace

import pytest
import torch

from dcgen.dit.embed import Tokens, rotary_table, rotate
from dcgen.hexplane import PLANES, unflatten
from tests.dcgen.small import CONFIG, DIT, PLAIN, randomise
from tests.reference import rotary_by_complex_numbers

UNEVEN = replace(CONFIG, dit=replace(DIT, volume_patch=(4, 1, 3)))
CONFIGS = pytest.mark.parametrize("config", [CONFIG, UNEVEN, PLAIN], ids=["volume", "uneven", "planes"])


@CONFIGS
def test_join_inverts_split(config):
    tokens = Tokens(config, inputs=2)
    latents = torch.randn(3, config.hex_shape.size)
    parts = tokens.split(latents)
    assert torch.equal(tokens.join(parts), latents)
    assert sum(part[0].numel() for part in parts) == config.hex_shape.size  # no padding is carried along
    assert sum(part.shape[1] for part in parts) == len(tokens.position) == len(tokens.plane)


@CONFIGS
def test_a_latent_lies_in_the_token_that_says_so(config):
    tokens = Tokens(config, inputs=1)
    for name, part in unflatten(torch.zeros(1, config.hex_shape.size), config.hex_shape).items():
        for row, column in ((0, 0), (part.shape[-2] - 1, 0), (part.shape[-2] // 2, part.shape[-1] - 1)):
            latents = torch.zeros(1, config.hex_shape.size)
            place = dict(unflatten(latents, config.hex_shape).items())[name]  # views of latents
            place[0, 1, ..., row, column] = 1.0
            touched = torch.cat([(p[0] != 0).any(-1) for p in tokens.split(latents)])
            planes = tokens.plane[touched]
            assert (planes == (PLANES.index(name) if name in PLANES else len(PLANES))).all()
            scale = config.hex_shape.x / config.hex_shape.volume_x if name == "volume" else 1
            half = config.dit.patch / 2 if name in PLANES else max(config.dit.volume_patch)
            axes = {"volume": "xy"}.get(name, name)
            for axis, cell in zip(axes, (row, column), strict=True):
                centre = tokens.position[touched, "txyz".index(axis)]
                assert ((centre - (cell + 0.5) * scale).abs() <= half).all(), (name, axis)
            for axis in set("txyz") - set("txy" if name == "volume" else name):
                assert (tokens.position[touched, "txyz".index(axis)] == 0).all()


def test_the_field_is_zero_until_it_is_trained():
    tokens = Tokens(CONFIG, inputs=2)
    assert tokens.leave(torch.randn(2, len(tokens.plane), DIT.width)).abs().max() == 0


def test_embedding_tells_noise_from_known_and_plane_from_plane():
    tokens = randomise(Tokens(CONFIG, inputs=2))
    a, b = torch.randn(2, 2, CONFIG.hex_shape.size)
    assert not torch.allclose(tokens.embed(a, b), tokens.embed(b, a))
    nothing = tokens.embed(torch.zeros_like(a), torch.zeros_like(a))[0]
    assert len({tuple(row) for row in nothing.tolist()}) == len(PLANES) + 1


def test_rotation_equals_complex_numbers():
    position = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)).double() * 30
    x = torch.randn(5, 24, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    cos, sin = rotary_table(position, 24)
    want = rotary_by_complex_numbers(x, position)
    torch.testing.assert_close(rotate(x[None, None], cos, sin)[0, 0], want, rtol=1e-5, atol=1e-5)


def test_products_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, 1, 1, 6, 16, generator=generator, dtype=torch.double)
    position = torch.rand(6, 4, generator=generator).double() * 20

    def products(shift):
        table = rotary_table(position + torch.tensor(shift).double(), 16)
        return rotate(q, *table) @ rotate(k, *table).transpose(-1, -2)

    torch.testing.assert_close(products([0, 0, 0, 0]), products([3, 7.5, -2, 11]))
    alone = rotate(q, *rotary_table(position, 16))
    torch.testing.assert_close(alone.norm(dim=-1), q.norm(dim=-1))


def test_an_absent_axis_does_not_turn():
    position = torch.tensor([[0.0, 3.0, 0.0, 0.0]])
    cos, sin = rotary_table(position, 24)  # twelve pairs, three an axis
    assert cos[0, :3].tolist() == [1, 1, 1] and sin[0, 6:].tolist() == [0] * 6
    assert (sin[0, 3:6] != 0).all()
