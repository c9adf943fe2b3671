"""A voxel's class from the planes at its centre: bilinear, one voxel at a time, in chunks of any size."""

from itertools import product

import pytest
import torch

from dcgen.hexplane import unflatten
from dcgen.types import NUM_CLASSES
from dcgen.vae import queries
from dcgen.vae.model import Vae
from tests.dcgen.small import FRAMES, GRID, QUERIES, randomise


def latents(batch=2):
    generator = torch.Generator().manual_seed(4)
    return unflatten(torch.randn(batch, QUERIES.hex_shape.size, generator=generator), QUERIES.hex_shape)


def bilinear(plane, place):
    """[C] of a plane [C, R, S] at a place in cells, by hand: 0.5 is the centre of the first cell."""
    out = torch.zeros(len(plane))
    corners = [(at - 0.5, size - 1) for at, size in zip(place, plane.shape[1:], strict=True)]
    for steps in product((0, 1), repeat=2):
        weight, index = 1.0, []
        for step, (at, last) in zip(steps, corners, strict=True):
            low = int(at // 1)
            weight *= (at - low) if step else (1 - (at - low))
            index.append(min(max(low + step, 0), last))
        out += weight * plane[:, index[0], index[1]]
    return out


@pytest.mark.parametrize("voxel", [(0, 0, 0, 0), (3, 15, 23, 7), (1, 6, 11, 2), (2, 15, 0, 5)])
def test_a_voxel_reads_the_product_of_one_and_six_planes_at_its_centre(voxel):
    vae, planes = randomise(Vae(QUERIES)), latents()
    strides = (QUERIES.vae.time_stride, *[QUERIES.vae.stride] * 3)
    place = {axis: (n + 0.5) / stride for axis, n, stride in zip("txyz", voxel, strides, strict=True)}
    product_ = torch.ones(QUERIES.vae.channels)
    for name, plane in planes.items():
        product_ = product_ * (1 + bilinear(plane[1], (place[name[0]], place[name[1]])))
    t, x, y, z = voxel
    torch.testing.assert_close(vae.decode(planes)[1, t, x, y, z], vae.decoder.mlp(product_), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 999, 1 << 20])
def test_chunks_of_any_size_equal_the_whole(monkeypatch, chunk):
    vae, planes = randomise(Vae(QUERIES)), latents()
    whole = vae.decode(planes)
    assert whole.requires_grad and whole.shape == (2, FRAMES, *GRID.shape, NUM_CLASSES)
    monkeypatch.setattr(queries, "CHUNK", chunk)
    with torch.no_grad():
        torch.testing.assert_close(vae.decode(planes), whole, rtol=1e-5, atol=1e-5)
        some = torch.tensor([3, 1])
        torch.testing.assert_close(vae.decode(planes, some), whole[:, some], rtol=1e-5, atol=1e-5)
