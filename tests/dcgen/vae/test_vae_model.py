"""The autoencoder reads what it is given, clip by clip and place by place."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from dcgen.hexplane import PLANES, flatten
from dcgen.types import MOVABLE, NUM_CLASSES, UNKNOWN, Semantics
from dcgen.vae.loss import kl_to_standard_normal
from dcgen.vae.model import Vae, split_static
from tests.dcgen.small import CONFIG, FINE, FRAMES, GRID, PLAIN, QUERIES, randomise, street

CONFIGS = pytest.mark.parametrize("config", [CONFIG, PLAIN, QUERIES], ids=["anchored", "hadamard", "queries"])


def random_labels(batch=2, seed=0, shape=(FRAMES, *GRID.shape)):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, NUM_CLASSES, (batch, *shape), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.6] = 0
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = UNKNOWN
    return labels


def test_static_and_changes_reproduce_every_known_label():
    labels = random_labels()
    static, changed = split_static(labels)
    known = labels != UNKNOWN
    assert not (changed & ~known).any()
    back = torch.where(changed, labels, static[:, None])
    assert torch.equal(back[known], labels[known])


def test_static_is_what_its_definition_says_voxel_by_voxel():
    labels = random_labels(1, shape=(3, 4, 5, 6))
    static, _ = split_static(labels)
    for x, y, z in product(range(4), range(5), range(6)):
        seen = labels[0, :, x, y, z].tolist()
        immovable = [k for k in seen if k != UNKNOWN and k not in MOVABLE]
        if immovable:
            want = immovable[0]
        elif set(seen) == {UNKNOWN}:
            want = UNKNOWN
        else:
            want = seen[0] if len(set(seen)) == 1 else Semantics.FREE
        assert static[0, x, y, z] == want, seen


def test_parked_cars_are_static_and_driving_ones_are_not():
    labels = torch.from_numpy(street())[None]
    static, changed = split_static(labels)
    assert (static[0, 10:14, 15:17, 3] == Semantics.VEHICLE).all()
    assert not changed[0, :, 10:14, 15:17].any()
    for t in range(FRAMES):
        assert changed[0, t, 2 + 2 * t : 5 + 2 * t, 10:12, 3:5].all()
    assert int(changed.sum()) == 4 * 3 * 2 * 2
    assert (static[0, :9, 10:12, 3:5] == Semantics.FREE).all()


@CONFIGS
def test_shapes_and_the_parts_of_the_latent(config):
    vae = randomise(Vae(config))
    posterior = vae.encode(random_labels())
    sizes = {name: tuple(part.shape[1:]) for name, part in posterior.mean.items()}
    want = config.hex_shape.planes | ({"volume": config.hex_shape.volume} if config.vae.volume_channels else {})
    assert sizes == want
    assert flatten(posterior.mean).shape == (2, config.hex_shape.size)
    assert vae.reconstruct(random_labels()).shape == (2, FRAMES, *GRID.shape)


@CONFIGS
@pytest.mark.parametrize("fill", [UNKNOWN, Semantics.FREE, Semantics.ROAD])
def test_uniform_clips_are_read(config, fill):
    vae = randomise(Vae(config)).train()
    posterior = vae.encode(torch.full((2, FRAMES, *GRID.shape), fill, dtype=torch.uint8))
    flat = flatten(posterior.mean)
    assert flat.isfinite().all()
    assert torch.allclose(flat[0], flat[1], atol=1e-5)
    flat.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in vae.parameters())


@CONFIGS
def test_a_clip_does_not_depend_on_the_batch(config):
    vae, labels = randomise(Vae(config)), random_labels(3)
    labels[1] = 0  # a clip without sites between two others
    whole = vae.encode(labels)
    for b in range(3):
        alone = vae.encode(labels[b : b + 1])
        torch.testing.assert_close(flatten(alone.mean)[0], flatten(whole.mean)[b], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(flatten(alone.log_variance)[0], flatten(whole.log_variance)[b], rtol=1e-4, atol=1e-4)


@CONFIGS
def test_encoding_is_the_same_in_eval_and_training(config):
    vae, labels = randomise(Vae(config)), random_labels(1)
    assert torch.equal(flatten(vae.encode(labels).mean), flatten(vae.train().encode(labels).mean))


@CONFIGS
def test_an_edit_in_one_corner_leaves_what_is_far_away(config):
    vae, labels = randomise(Vae(config)), torch.from_numpy(street())[None]
    edited = labels.clone()
    edited[0, 1, 0, 0, 0] = Semantics.POLE
    before, after = vae.encode(labels).mean, vae.encode(edited).mean
    # Sums in another order round differently; an influence is larger than that.
    changed = {name: ((a - getattr(before, name)).abs() > 1e-6).any(1)[0] for name, a in after.items()}
    # One voxel of reach, one cell after the stride, two of the refinement: cells 0..4 along every spatial axis.
    reach = 5
    assert changed["xy"].any() and changed["tx"].any()
    assert not changed["xy"][reach:].any() and not changed["xy"][:, reach:].any()
    assert not changed["xz"][reach:].any() and not changed["yz"][reach:].any()
    assert not changed["tx"][:, reach:].any() and not changed["ty"][:, reach:].any()
    if "volume" in changed:
        assert changed["volume"][1].any()
        assert not changed["volume"][:, 3:].any() and not changed["volume"][:, :, 3:].any()


def test_every_frame_and_every_place_reaches_the_latents():
    vae, labels = randomise(Vae(CONFIG)), torch.zeros(1, FRAMES, *GRID.shape, dtype=torch.uint8)
    empty = vae.encode(labels).mean
    for t, x, y, z in ((0, 3, 20, 6), (3, 15, 1, 0)):
        edited = labels.clone()
        edited[0, t, x, y, z] = Semantics.VEHICLE
        made = vae.encode(edited).mean
        strongest = {n: (getattr(made, n) - getattr(empty, n)).abs().sum(1)[0] for n in (*PLANES, "volume")}
        cell = {"t": t // 2, "x": x // 2, "y": y // 2, "z": z // 2}
        for name in PLANES:
            assert strongest[name][cell[name[0]], cell[name[1]]] > 0, name
        assert strongest["volume"][t, x // 4, y // 4] > 0


def test_unknown_differs_from_free():
    vae = randomise(Vae(CONFIG))
    labels = torch.from_numpy(street())[None]
    hidden = labels.clone()
    hidden[..., 5:] = UNKNOWN
    assert (flatten(vae.encode(labels).mean) - flatten(vae.encode(hidden).mean)).abs().max() > 1e-2


def test_samples_follow_the_posterior_and_the_generator():
    vae = randomise(Vae(CONFIG))
    posterior = vae.encode(random_labels(1))
    one = flatten(posterior.sample(torch.Generator().manual_seed(1)))
    assert torch.equal(one, flatten(posterior.sample(torch.Generator().manual_seed(1))))
    assert not torch.equal(one, flatten(posterior.sample(torch.Generator().manual_seed(2))))
    score = (one - flatten(posterior.mean)) / (0.5 * flatten(posterior.log_variance)).exp()
    assert abs(score.mean()) < 0.1 and abs(score.std() - 1) < 0.1


@CONFIGS
def test_no_size_of_the_grid_is_in_the_weights(config):
    wider = replace(config, frames=8, grid=replace(GRID, shape=(24, 16, 12)))
    first, second = Vae(config).state_dict(), Vae(wider).state_dict()
    assert {n: t.shape for n, t in first.items()} == {n: t.shape for n, t in second.items()}


@pytest.mark.parametrize("config", [CONFIG, PLAIN, QUERIES, FINE], ids=["anchored", "hadamard", "queries", "fine"])
def test_a_step_moves_every_weight(config):
    vae = randomise(Vae(config)).train()
    posterior = vae.encode(random_labels())
    logits = vae.decode(posterior.sample(torch.Generator().manual_seed(1)))
    (logits.square().mean() + kl_to_standard_normal(posterior.mean, posterior.log_variance)).backward()
    # Every cell of the planes holds a site here: nothing asks for the empty token.
    still = {name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()}
    assert still <= {name for name, _ in vae.named_parameters() if name.endswith(".empty")}
