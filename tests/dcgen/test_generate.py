"""Generation keeps what is known, what was seen, and its promises on seeds, order and length."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import dcgen
from dcgen.errors import GridMismatch
from dcgen.frames import Chunk, join_scenes
from dcgen.generate import Rollout, Sampling, anchor_frame, generate, generate_parts, noise_for, sample_chunks
from dcgen.types import MOVABLE, UNKNOWN, AgentTracks, Command, Semantics, pose_matrix
from tests.dcgen.small import CONFIG, FRAMES, GRID, chunk, model, path, standing, street

QUICK = Sampling(steps=2, guidance=1.5)
STRIDE = 2


@pytest.fixture(scope="module")
def tiny():
    return model()


def drive(chunks=3, world=None, **kwargs):
    return [chunk(STRIDE * k, world=world, **kwargs) for k in range(chunks)]


def make(chunks, tiny, seed=7, **kwargs):
    return generate(chunks, tiny, seed, sampling=kwargs.pop("sampling", QUICK), **kwargs)


def test_what_is_wholly_known_passes_through_unchanged(tiny):
    known = street()
    scene = make(chunk(known=known), tiny)
    anchor = FRAMES // 2
    assert np.array_equal(scene.labels[anchor], known[anchor])
    assert scene.known[anchor].all()
    still = make(chunk(known=known, drive=standing), tiny)
    assert np.array_equal(still.labels, known) and still.known.all()


def test_partly_known_voxels_pass_through_and_the_rest_is_made(tiny):
    known = street()
    known[:, :, 9:] = UNKNOWN
    c = chunk(known=known, drive=standing)
    scene = make(c, tiny)
    given = known != UNKNOWN
    assert np.array_equal(scene.labels[given], known[given])
    assert np.array_equal(scene.known, given)
    assert not (scene.labels == UNKNOWN).any()
    noise = noise_for(7, 0, CONFIG.hex_shape.size)
    (alone,) = sample_chunks([c], [known], [noise], tiny, QUICK)
    assert np.array_equal(alone[given], known[given]) and (alone < 12).all()


def test_the_static_world_of_a_known_first_frame_stays(tiny):
    known = np.full((FRAMES, *GRID.shape), UNKNOWN, np.uint8)
    known[0] = street()[0]
    scene = make(replace(chunk(drive=standing), known=known), tiny)
    assert np.array_equal(scene.labels[0], known[0])
    still = ~np.isin(known[0], MOVABLE)
    for later in scene.labels[1:]:
        same = still & ~np.isin(later, MOVABLE)
        assert np.array_equal(later[same], known[0][same])


def test_same_seed_same_bytes_other_seed_other_bytes(tiny):
    one, again, other = (make(drive(2), tiny, seed) for seed in (7, 7, 8))
    assert one.labels.tobytes() == again.labels.tobytes()
    assert (one.labels != other.labels).mean() > 0.01
    assert one.seed == 7 and one.model == "tiny" and one.model_sha256 == "ab" * 32


def test_noise_is_a_chunk_s_own():
    a, b, c = noise_for(1, 0, 50), noise_for(1, 1, 50), noise_for(2, 0, 50)
    assert torch.equal(a, noise_for(1, 0, 50))
    assert len({tuple(v.tolist()) for v in (a, b, c)}) == 3
    assert noise_for(-5, 0, 3).isfinite().all() and noise_for(2**62, 3, 3).isfinite().all()


def test_a_chunk_does_not_depend_on_the_batch_or_its_order(tiny, exact):
    chunks = [chunk(seed=s) for s in range(3)]
    known = [c.known for c in chunks]
    known[1] = street()
    known[1][:, 6:] = UNKNOWN
    noise = [noise_for(3, k, CONFIG.hex_shape.size) for k in range(3)]
    together = sample_chunks(chunks, known, noise, tiny, QUICK)
    for order in ([2, 0, 1], [1], [0, 2]):
        made = sample_chunks([chunks[i] for i in order], [known[i] for i in order], [noise[i] for i in order], tiny,
                             QUICK)  # fmt: skip
        for labels, i in zip(made, order, strict=True):
            assert (labels != together[i]).mean() < 1e-3  # a tie may round the other way


@pytest.mark.parametrize("yaw", [0.7, np.pi / 2, -2.4])
def test_turning_the_world_gives_the_same_ego_frames(tiny, exact, yaw):
    world = pose_matrix(37.0, -12.0, 1.0, yaw)
    here, turned = make(drive(1), tiny), make(drive(1, world=world), tiny)
    anchor = FRAMES // 2
    assert np.array_equal(turned.labels[anchor], here.labels[anchor])
    assert np.allclose(turned.trajectory, here.trajectory, atol=1e-5)
    assert np.allclose(turned.layout.astype(float), here.layout, atol=2e-3)
    assert (turned.labels == here.labels).mean() > 0.6  # cells of half a voxel lie otherwise under other frames
    still, spun = (make(drive(1, drive=standing, world=w), tiny) for w in (None, world))
    assert np.array_equal(still.labels, spun.labels)


def test_guidance_and_sampler_are_used(tiny):
    plain = make(chunk(), tiny, sampling=Sampling(2, 1.0))
    strong = make(chunk(), tiny, sampling=Sampling(2, 6.0))
    heun = make(chunk(), tiny, sampling=Sampling(2, 1.0, "heun"))
    assert (plain.labels != strong.labels).any() and (plain.labels != heun.labels).any()
    again = make(chunk(), tiny, sampling=Sampling(2, 1.0))
    assert np.array_equal(plain.labels, again.labels)


def test_what_was_seen_never_changes_in_later_chunks(tiny):
    rollout = Rollout(tiny, 5, QUICK)
    probes = [rollout.cutter.static]
    seen, agreed = [], 0
    for index, conditions in enumerate(drive(3)):
        known = rollout.known(conditions)
        made = rollout.advance(conditions, index)
        assert np.array_equal(made.labels[known != UNKNOWN], known[known != UNKNOWN])
        if index:
            assert 0.3 < (known[0] != UNKNOWN).mean() < 1
        for pose, before in seen:
            now = probes[0](pose)
            assert np.array_equal(now[before != UNKNOWN], before[before != UNKNOWN])
            agreed += int((before != UNKNOWN).sum())
        seen.append((conditions.world_se3_anchor, rollout.cutter.static(conditions.world_se3_anchor)))
        assert (seen[-1][1] != UNKNOWN).all()
    assert agreed > 3 * 3000


def test_every_frame_of_a_long_scene_shows_one_static_world(tiny):
    parts, rollout = [], None
    scene = make(drive(3), tiny, frames=8)
    # The same rollout, for its canvas.
    rollout = Rollout(tiny, 7, QUICK)
    for index, conditions in enumerate(drive(3)):
        rollout.advance(conditions, index)
    for labels, pose in zip(scene.labels, scene.world_se3_ego, strict=True):
        still = ~np.isin(labels, (*MOVABLE, UNKNOWN))
        assert np.array_equal(labels[still], rollout.cutter.static(pose)[still])
        parts.append(still.mean())
    assert len(parts) == 8 and min(parts) > 0.5


def test_movers_of_shared_frames_are_handed_on(tiny):
    first = chunk(known=street(), drive=standing)
    rollout = Rollout(tiny, 1, QUICK)
    rollout.advance(first, 0)
    known = rollout.known(chunk(STRIDE, drive=standing))
    for t in range(FRAMES - STRIDE):
        car = street()[STRIDE + t] == Semantics.VEHICLE
        assert (known[t][car] == Semantics.VEHICLE).all()
        assert np.array_equal(known[t][~car], street()[STRIDE + t][~car])
    assert not (known[FRAMES - STRIDE :] == Semantics.VEHICLE).any()


def test_own_known_voxels_come_before_the_canvas(tiny):
    rollout = Rollout(tiny, 1, QUICK)
    rollout.advance(chunk(known=street(), drive=standing), 0)
    mine = np.full((FRAMES, *GRID.shape), UNKNOWN, np.uint8)
    mine[:, 4:6] = Semantics.BARRIER
    known = rollout.known(replace(chunk(STRIDE, drive=standing), known=mine))
    assert (known[:, 4:6] == Semantics.BARRIER).all() and not (known[:, 6:] == Semantics.BARRIER).any()


def test_parts_joined_equal_the_whole(tiny):
    parts = list(generate_parts(iter(drive(3)), tiny, 7, frames=8, sampling=QUICK))
    whole = make(drive(3), tiny, frames=8)
    joined = join_scenes(parts)
    assert len(parts) > 1
    for name in ("labels", "time_s", "world_se3_ego", "trajectory", "command", "layout", "known"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name)), name
    assert whole.time_s.tolist() == pytest.approx([0.2 * f for f in range(8)])
    poses = np.stack([path(f) for f in range(8)])
    assert np.allclose(whole.world_se3_ego, poses)
    assert np.allclose(whole.trajectory[0], 0, atol=1e-6)
    local = np.linalg.inv(poses[0]) @ poses
    assert np.allclose(whole.trajectory[:, :2], local[:, :2, 3], atol=1e-5)


def test_parts_come_while_later_chunks_wait(tiny):
    asked = []

    def chunks():
        for k, conditions in enumerate(drive(4)):
            asked.append(k)
            yield conditions

    parts = generate_parts(chunks(), tiny, 7, frames=10, sampling=QUICK)
    first = next(parts)
    assert asked == [0, 1] and 0 < len(first.labels) <= FRAMES
    rest = sum(len(part.labels) for part in parts)
    assert asked == [0, 1, 2, 3] and len(first.labels) + rest == 10


def test_context_gives_no_frames_but_is_seen(tiny):
    chunks = [chunk(-4), chunk(-2), chunk(0), chunk(2)]
    scene = make(chunks, tiny, frames=3)
    assert len(scene.labels) == 3 and np.allclose(scene.world_se3_ego, np.stack([path(f) for f in range(3)]))
    assert scene.time_s.tolist() == pytest.approx([0.0, 0.2, 0.4])
    without = make(chunks[2:], tiny, frames=3)
    assert (scene.labels != without.labels).any()
    rollout = Rollout(tiny, 7, QUICK)
    rollout.advance(chunks[0], 0)
    assert (rollout.known(chunks[1]) != UNKNOWN).any()


def test_frames_that_no_chunk_covers_are_an_error(tiny):
    with pytest.raises(ValueError, match="cover 4 of 6"):
        make(chunk(0), tiny, frames=6)
    with pytest.raises(ValueError, match="frame 0 lies in no chunk"):
        make([chunk(2)], tiny, frames=6)
    with pytest.raises(ValueError, match="frame 4 lies in no chunk"):
        make([chunk(0), chunk(6)], tiny, frames=10)
    with pytest.raises(ValueError, match="at least one chunk"):
        make([], tiny)


def test_each_frame_comes_from_the_chunk_whose_anchor_is_nearest(tiny):
    chunks = [replace(c, command=Command(k)) for k, c in enumerate(drive(3))]
    scene = make(chunks, tiny, frames=8)
    anchors = np.array([anchor_frame(c) for c in chunks])
    for frame, owner in enumerate(scene.command):
        distance = np.abs(anchors - frame)
        assert distance[owner] == distance.min()


def test_given_frames_pass_through_in_the_ego_frame(tiny):
    recorded = np.full((8, *GRID.shape), UNKNOWN, np.uint8)
    recorded[:3] = np.random.default_rng(0).integers(0, 12, size=(3, *GRID.shape))
    recorded[1, :5] = UNKNOWN
    scene = make(drive(3), tiny, frames=8, given=lambda f: recorded[f] if f < 3 else None)
    for f in range(3):
        mask = recorded[f] != UNKNOWN
        assert np.array_equal(scene.labels[f][mask], recorded[f][mask])
        assert np.array_equal(scene.known[f], mask)
    assert not scene.known[3:].any()


def test_agents_travel_with_their_frames(tiny):
    frames = 8
    rng = np.random.default_rng(0)
    agents = AgentTracks(
        np.array([4, 9]), np.array([10, 4], np.uint8), np.ones((2, 3), np.float32), rng.normal(size=(2, frames, 3)),
        np.zeros((2, frames), np.float32), np.ones((2, frames), np.float32), rng.random((2, frames)) < 0.5,
    )  # fmt: skip
    chunks = [replace(c, agents=agents.frames(c.first_frame, c.first_frame + FRAMES)) for c in drive(3)]
    scene = make(chunks, tiny, frames=frames)
    assert np.array_equal(scene.agents.pose, agents.pose) and np.array_equal(scene.agents.valid, agents.valid)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"grid": replace(GRID, voxel_m=(0.4, 0.4, 0.4))}, "grid"),
        ({"dt_s": 0.1}, "dt_s"),
    ],
)
def test_a_chunk_that_does_not_fit_the_model_is_named(tiny, change, field):
    with pytest.raises(GridMismatch, match=f"^{field}: .* model tiny needs"):
        make(replace(chunk(), **change), tiny)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"sampler": "rk4"}, {"guidance": -1.0}, {"guidance": float("nan")}, {"shift": 0.0}]
)
def test_sampling_refuses_nonsense(wrong):
    with pytest.raises(ValueError, match="sampling needs"):
        Sampling(**wrong)


def test_progress_counts_every_step(tiny):
    steps = []
    make(drive(2), tiny, frames=6, progress=steps.append)
    assert sum(steps) == 2 * QUICK.steps
    steps.clear()
    make(chunk(known=street()), tiny, progress=steps.append)
    assert not steps  # nothing to generate


def test_the_package_s_own_name_is_the_function(tiny):
    assert callable(dcgen.generate)
    scene = dcgen.generate(chunk(), tiny, 7, sampling=QUICK, scenario="street.yaml")
    assert scene.scenario == "street.yaml"
    assert np.array_equal(scene.labels, make(chunk(), tiny).labels)
    assert isinstance(Chunk(chunk(), street()), Chunk)
