"""Decoders: frames are decoded independently, sub-cells land where they belong, influence is bounded."""

import pytest
import torch

from dcgen.hexplane import HexPlane, unflatten
from dcgen.types import NUM_CLASSES
from dcgen.vae.decoder import FRAMES_AT_ONCE, HeightCode, spread
from dcgen.vae.model import Vae
from tests.dcgen.small import CONFIG, FINE, FRAMES, GRID, PLAIN, QUERIES, randomise

CONFIGS = pytest.mark.parametrize(
    "config", [CONFIG, PLAIN, QUERIES, FINE], ids=["anchored", "hadamard", "queries", "fine"]
)


def latents(config, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return unflatten(torch.randn(batch, config.hex_shape.size, generator=generator), config.hex_shape)


@CONFIGS
def test_frames_alone_equal_frames_together(config):
    vae, planes = randomise(Vae(config)), latents(config)
    whole = vae.decode(planes)
    assert whole.shape == (2, FRAMES, *GRID.shape, NUM_CLASSES)
    for frames in ([2], [3, 0], [1, 1, 2]):
        torch.testing.assert_close(vae.decode(planes, torch.tensor(frames)), whole[:, frames], rtol=1e-4, atol=1e-4)
    assert (whole[:, 0] != whole[:, -1]).any()


@CONFIGS
@pytest.mark.parametrize("block", [1, 3])
def test_labels_in_blocks_of_frames_are_those_of_the_whole(config, block, monkeypatch):
    monkeypatch.setitem(FRAMES_AT_ONCE, "cpu", block)
    vae, planes = randomise(Vae(config)), latents(config)
    labels = vae.labels(planes)
    assert labels.dtype == torch.uint8 and len(labels.unique()) > 3
    assert torch.equal(labels, vae.decode(planes).argmax(-1).to(torch.uint8))


@CONFIGS
def test_a_chunk_does_not_depend_on_the_batch(config):
    vae, planes = randomise(Vae(config)), latents(config, batch=3)
    whole = vae.decode(planes)
    for b in range(3):
        alone = vae.decode(planes.map(lambda part, b=b: part[b : b + 1]))
        torch.testing.assert_close(alone[0], whole[b], rtol=1e-4, atol=1e-4)


@CONFIGS
def test_every_latent_is_used(config):
    vae, planes = randomise(Vae(config)), latents(config, batch=1)
    parts = {name: part.requires_grad_() for name, part in planes.items()}
    vae.decode(HexPlane(**parts)).square().sum().backward()
    for name, part in parts.items():
        assert (part.grad != 0).all(), name


def test_sub_cells_land_in_their_places():
    cells = torch.randn(2, 3, 4, 5, 8 * NUM_CLASSES)
    out = spread(cells, 2)
    assert out.shape == (2, 6, 8, 10, NUM_CLASSES)
    for u, v, w in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
        start = ((u * 2 + v) * 2 + w) * NUM_CLASSES
        assert torch.equal(out[:, u::2, v::2, w::2], cells[..., start : start + NUM_CLASSES])


@CONFIGS
def test_a_cell_of_the_ground_plane_reaches_a_bounded_way(config):
    vae, planes = randomise(Vae(config)), latents(config, batch=1)
    edited = HexPlane(**{name: part.clone() for name, part in planes.items()})
    edited.xy[0, :, 0, 0] += 5
    gap = (vae.decode(edited) - vae.decode(planes)).abs().amax(dim=(0, 1, 4, 5))
    assert gap[:2, :2].max() > 0
    # Cells of two voxels; convolutions of reach one: 1 + 2 blocks of 2 (+ 2 of the 3D head) and 2 of the residual.
    assert gap[16:].numel() == 0 and gap[:, 18:].max() == 0


def test_a_moment_of_the_volume_changes_its_frame_only():
    vae, planes = randomise(Vae(CONFIG)), latents(CONFIG, batch=1)
    edited = HexPlane(**{name: part.clone() for name, part in planes.items()})
    edited.volume[0, :, 2] += 5
    changed = (vae.decode(edited) != vae.decode(planes)).flatten(2).any(-1)[0]
    assert changed.tolist() == [False, False, True, False]


def test_height_code_tells_layers_apart_at_any_height():
    code = randomise(HeightCode(10))
    for z in (1, 4, 9):
        out = code(z, torch.device("cpu"))
        assert out.shape == (z, 10)
        assert (torch.cdist(out, out) + torch.eye(z)).min() > 1e-3
