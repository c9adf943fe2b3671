"""The local head: convolutions, so shifts commute and nothing reaches further than their kernels do."""

from dataclasses import replace

import pytest
import torch

from dcgen.dit.local import LocalHead, TimeReader, convolved
from dcgen.hexplane import HexPlane, flatten, unflatten
from tests.dcgen.small import CONFIG, DIT, FINE, FOLDED, PLAIN, condition_batch, randomise

DEPTH = 1
WIDE = replace(
    CONFIG, grid=replace(CONFIG.grid, shape=(48, 64, 4)), frames=20,
    dit=replace(DIT, local_width=10, local_depth=DEPTH, local_levels=1, volume_patch=(2, 1, 1)),
)  # fmt: skip
REACH = DEPTH + 2  # cells: on the way in or in the layout's reader, in each block, on the way out
LEVEL_REACH = REACH + 2 * DEPTH + 3  # and down to cells twice as large, in each block there, up again
FRAMES, PLANE, VOLUME = WIDE.vae.time_stride, WIDE.vae.stride, WIDE.vae.volume_stride  # frames or voxels a cell
CONFIGS = pytest.mark.parametrize("config", [CONFIG, PLAIN, FINE, FOLDED], ids=["volume", "planes", "fine", "folded"])
FOLDS = pytest.mark.parametrize("fold", [1, PLANE])


def local_head(config=WIDE):
    """In float64, where equal means equal."""
    return randomise(LocalHead(config)).double()


def folded(fold):
    return replace(WIDE, dit=replace(WIDE.dit, layout_fold=fold))


def inputs(config=WIDE, batch=2, seed=0):
    """Latents, known latents, vector and conditions."""
    generator = torch.Generator().manual_seed(seed)
    size, width = config.hex_shape.size, config.dit.width
    latents, known = (torch.randn(batch, size, generator=generator).double() for _ in range(2))
    vector = torch.randn(batch, width, generator=generator).double()
    conditions = condition_batch(batch, config, seed)
    layouts = {name: getattr(conditions, name).double() for name in ("layout_static", "layout_agents")}
    return latents, known, vector, replace(conditions, **layouts)


def field(head, latents, known, vector, conditions):
    return head(latents, known, vector, head.prepare(conditions))


def differing(one, other, axes):
    """Which cells along some axes differ at all."""
    others = [axis for axis in range(one.ndim) if axis not in axes]
    return (one - other).abs().amax(dim=others) > 1e-9


@CONFIGS
def test_it_begins_as_exactly_zero(config):
    head = LocalHead(config).double()
    out = field(head, *inputs(config))
    assert out.shape == (2, config.hex_shape.size) and out.abs().max() == 0


@CONFIGS
def test_every_parameter_learns_from_there(config):
    """What begins at zero opens layer by layer: none of it stays shut."""
    torch.manual_seed(0)
    head, given = LocalHead(config).double(), inputs(config)
    start = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(3 + config.dit.local_levels):
        optimiser.zero_grad()
        (field(head, *given) - given[0]).square().mean().backward()
        optimiser.step()
    assert not [name for name, parameter in head.named_parameters() if torch.equal(parameter, start[name])]


@CONFIGS
def test_gradient_reaches_every_parameter(config):
    head = local_head(config)
    field(head, *inputs(config)).square().mean().backward()
    assert not [n for n, parameter in head.named_parameters() if parameter.grad is None or not parameter.grad.any()]


@CONFIGS
def test_planes_that_lie_upright_are_left_alone(config):
    parts = dict(unflatten(field(local_head(config), *inputs(config)), config.hex_shape).items())
    assert {name for name, part in parts.items() if not part.any()} == {"xz", "yz"}


def test_without_a_volume_there_are_planes_alone():
    head = local_head(PLAIN)
    assert not any("volume" in name for name, _ in head.named_parameters())
    latents, known, vector, one = inputs(PLAIN)
    other = replace(one, layout_agents=one.layout_agents + 1)
    assert differing(field(head, latents, known, vector, one), field(head, latents, known, vector, other), (0,)).all()


def moved(latents, shift):
    """Latents moved by frames and voxels along t, x and y, round the borders."""
    planes = unflatten(latents, WIDE.hex_shape)
    steps = {"t": shift["t"] // FRAMES, "x": shift["x"] // PLANE, "y": shift["y"] // PLANE, "z": 0}
    parts = {name: part.roll([steps[axis] for axis in name], (2, 3)) for name, part in planes.items() if len(name) < 3}
    volume = planes.volume.roll((shift["t"], shift["x"] // VOLUME, shift["y"] // VOLUME), (2, 3, 4))
    return flatten(HexPlane(**parts, volume=volume))


@FOLDS
@pytest.mark.parametrize("shift", [(0, VOLUME, 0), (0, 0, -2 * VOLUME), (FRAMES, 0, 0), (-FRAMES, VOLUME, 2 * VOLUME)])
def test_shifting_everything_shifts_the_field(shift, fold):
    """Compared where no border is seen and none was crossed."""
    head, (latents, known, vector, conditions) = local_head(folded(fold)), inputs()
    shift = dict(zip("txy", shift, strict=True))
    after = replace(
        conditions,
        layout_static=conditions.layout_static.roll((shift["x"], shift["y"]), (2, 3)),
        layout_agents=conditions.layout_agents.roll(tuple(shift.values()), (1, 3, 4)),
    )
    want = unflatten(moved(field(head, latents, known, vector, conditions), shift), WIDE.hex_shape)
    got = unflatten(field(head, moved(latents, shift), moved(known, shift), vector, after), WIDE.hex_shape)
    margins = {"xy": (LEVEL_REACH + 2, LEVEL_REACH + 4), "volume": (DEPTH + 2, REACH + 2, REACH + 2)}
    # A plane with time sees all of the axis that it drops, borders too: it follows shifts along its own axes.
    margins |= {f"t{axis}": (REACH + 1, REACH + 4) for axis, other in ("xy", "yx") if not shift[other]}
    for name, margin in margins.items():
        cut = (slice(None), slice(None), *(slice(cells, -cells) for cells in margin))
        one, other = getattr(got, name)[cut], getattr(want, name)[cut]
        assert one.numel() and one.std() > 0.01, name
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9, msg=name)


@FOLDS
@pytest.mark.parametrize(("frame", "x", "y"), [(9, 24, 31), (0, 29, 37), (19, 3, 62)])
def test_a_layout_s_cell_is_felt_within_reach(frame, x, y, fold):
    head, (latents, known, vector, conditions) = local_head(folded(fold)), inputs()
    agents = conditions.layout_agents.clone()
    agents[1, frame, 2, x, y] += 5.0
    before, after = (
        unflatten(field(head, latents, known, vector, replace(conditions, layout_agents=layout)), WIDE.hex_shape)
        for layout in (conditions.layout_agents, agents)
    )
    at = {"t": frame // FRAMES, "x": x // PLANE, "y": y // PLANE}
    places = {name: {axis: (at[axis], REACH) for axis in name if axis in at} for name in ("tx", "ty", "tz")}
    places["xy"] = {axis: (at[axis], LEVEL_REACH) for axis in "xy"}
    places["volume"] = {"t": (frame, DEPTH), "x": (x // VOLUME, REACH), "y": (y // VOLUME, REACH)}
    for name, axes in places.items():
        one, other = getattr(before, name), getattr(after, name)
        assert differing(one, other, (0,)).tolist() == [False, True], name
        for dim, (place, reach) in enumerate(axes.values(), start=2):
            felt = differing(one, other, (dim,)).nonzero()[:, 0]
            assert place in felt and place - reach <= felt.min() and felt.max() <= place + reach, name
    assert torch.equal(before.xz, after.xz) and torch.equal(before.yz, after.yz)


def test_a_latent_is_felt_within_reach_of_its_own_part():
    head, (latents, known, vector, conditions) = local_head(), inputs()
    before = unflatten(field(head, latents, known, vector, conditions), WIDE.hex_shape)
    for which in (0, 1):  # latents, known
        planes = unflatten((latents, known)[which], WIDE.hex_shape)
        volume = planes.volume.clone()
        volume[1, 0, 5, 6, 8] += 5.0
        given = [latents, known]
        given[which] = flatten(replace(planes, volume=volume))
        after = unflatten(field(head, *given, vector, conditions), WIDE.hex_shape)
        assert all(torch.equal(getattr(after, name), part) for name, part in before.items() if name != "volume")
        assert differing(before.volume, after.volume, (0,)).tolist() == [False, True]
        felt = differing(before.volume, after.volume, (2, 3, 4)).nonzero()
        assert felt.amin(0).tolist() == [5 - DEPTH, 6 - REACH, 8 - REACH]
        assert felt.amax(0).tolist() == [5 + DEPTH, 6 + REACH, 8 + REACH]


@CONFIGS
def test_where_conditions_are_dropped_no_layout_counts(config):
    head, (latents, known, vector, one), (*_, other) = local_head(config), inputs(config, 3), inputs(config, 3, seed=1)
    present = torch.tensor([True, False, True])
    first, second = (field(head, latents, known, vector, replace(c, present=present)) for c in (one, other))
    assert torch.equal(first[1], second[1])
    assert differing(first, second, (0,)).tolist() == [True, False, True]
    assert not torch.allclose(first[1], field(head, latents, known, vector, one)[1])


def test_planes_with_time_read_mean_and_maximum_of_each_frame():
    """Against the plain way: every frame of a cell beside the others, then both over the axes that a plane drops."""
    reader, agents = randomise(TimeReader(WIDE.agent_channels, WIDE)).double(), inputs()[3].layout_agents
    seen = torch.nn.functional.silu(reader.read(agents.flatten(0, 1)))
    seen = seen.unflatten(0, (len(agents), -1, FRAMES)).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    for name, axes in {"tx": 4, "ty": 3, "tz": (3, 4)}.items():
        both = torch.cat([seen.mean(axes), seen.amax(axes)], dim=1)
        want = reader.leave[name](both[..., None] if name == "tz" else both)
        got = reader(agents)[name]
        assert got.std() > 0.01
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=name)


def test_convolutions_in_time_equal_torch_s_in_values_and_gradients():
    layer, x = torch.nn.Conv3d(2, 3, 3, padding=1).double(), torch.randn(1, 2, 4, 5, 6).double()
    results = []
    for convolve in (layer, lambda given: convolved(layer, given)):
        given = x.clone().requires_grad_()
        layer.zero_grad()
        out = convolve(given)
        out.square().sum().backward()
        results.append((out, given.grad, layer.weight.grad.clone(), layer.bias.grad.clone()))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)
