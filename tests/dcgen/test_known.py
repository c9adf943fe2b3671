"""What is known of a chunk: never anything that is not so, and all the shapes that generation meets."""

from collections import Counter

import numpy as np
import pytest

from dcgen.known import agent_columns, random_known, settled, static_of, world_known
from dcgen.types import MOVABLE, UNKNOWN, Semantics
from tests.dcgen.small import FRAMES, GRID, layout_of, street


def random_labels(seed=0, shape=(5, 3, 4, 6)):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 0, 1, 6, 10, 4, 255], np.uint8), size=shape)
    labels[:, 0] = UNKNOWN
    labels[:, 1, 0] = Semantics.VEHICLE
    return labels


def static_by_counting(labels):
    out = np.zeros(labels.shape[1:], np.uint8)
    for voxel in np.ndindex(*labels.shape[1:]):
        seen = [int(k) for k in labels[(slice(None), *voxel)] if k != UNKNOWN]
        votes = Counter(sorted(k for k in seen if k not in MOVABLE))
        out[voxel] = votes.most_common(1)[0][0] if votes else (Semantics.FREE if seen else UNKNOWN)
    return out


def test_the_static_world_is_a_vote_without_movers():
    labels = random_labels()
    assert np.array_equal(static_of(labels), static_by_counting(labels))
    world = static_of(street())
    assert not np.isin(world, MOVABLE).any()
    assert (world[2:9, 18:23, 3:7] == Semantics.BUILDING).all()
    assert (world[10:14, 15:17, 3] == Semantics.FREE).all()


def test_known_labels_outvote_generated_ones():
    labels, known = random_labels(1), np.full((5, 3, 4, 6), UNKNOWN, np.uint8)
    known[0] = random_labels(2)[0]
    made = np.where(known != UNKNOWN, known, labels)
    static = settled(made, known)
    sure = ~np.isin(known[0], (*MOVABLE, UNKNOWN))
    assert np.array_equal(static[sure], known[0][sure])
    assert np.array_equal(static[~sure], static_of(made)[~sure])


def test_agent_columns_are_one_voxel_wider_on_all_sides():
    layout = np.zeros((2, 6, 7, 9), np.float32)
    layout[0, 0, 3, 4] = 0.2
    layout[1, 2, 0, 8] = 1.0
    layout[1, 4, 5, 5] = 1.0  # a heading is no agent
    want = np.zeros((2, 7, 9), bool)
    want[0, 2:5, 3:6] = want[1, :2, 7:] = True
    assert np.array_equal(agent_columns(layout), want)


def test_the_world_is_known_but_for_agents_above_the_road():
    labels = street()
    static, layout = static_of(labels), layout_of(labels)
    static[:3, :3] = UNKNOWN
    known = world_known(static, layout)
    columns = agent_columns(layout)
    for t in range(FRAMES):
        open_ = columns[t][..., None] & (static == Semantics.FREE)
        assert (known[t][open_] == UNKNOWN).all()
        assert np.array_equal(known[t][~open_], static[~open_])
        assert (known[t][..., 2][columns[t]] == static[..., 2][columns[t]]).all()  # the road itself is known
        assert (known[t][labels[t] == Semantics.VEHICLE] == UNKNOWN).all()


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(3)
    labels = street()
    return labels, [random_known(labels, layout_of(labels), GRID, rng) for _ in range(150)]


def test_random_known_reveals_only_what_is_so(draws):
    labels, drawn = draws
    for known in drawn:
        assert known.shape == labels.shape and known.dtype == np.uint8
        given = known != UNKNOWN
        assert np.array_equal(known[given], labels[given])


def kind_of(known):
    """Which of the five shapes a mask of known voxels [T, X, Y, Z] has."""
    given = known != UNKNOWN
    if not given.any():
        return "nothing"
    frames = given.reshape(len(given), -1)
    if all(f.all() or not f.any() for f in frames) and not frames.all():
        return "first frames"
    if not (given == given[:1]).all():
        return "a chunk before"
    columns = given[0].any(-1)
    hole = np.argwhere(~columns)
    if not len(hole) or not (given[0] == columns[..., None]).all():
        return "other"
    low, high = hole.min(axis=0), hole.max(axis=0)
    box = not columns[low[0] : high[0] + 1, low[1] : high[1] + 1].any()
    return "all but a box" if box and (high - low < np.array(columns.shape) / 2).all() else "one side"


def test_random_known_covers_its_five_kinds(draws):
    _, drawn = draws
    kinds = Counter(kind_of(known) for known in drawn)
    for kind in ("nothing", "first frames", "a chunk before", "all but a box", "one side"):
        assert kinds[kind] >= 15, kinds


def test_first_frames_are_the_first(draws):
    for known in draws[1]:
        if kind_of(known) == "first frames":
            full = (known != UNKNOWN).reshape(FRAMES, -1).all(1)
            assert full[0] and not full[-1] and (np.diff(full.astype(int)) <= 0).all()


def test_the_same_rng_draws_the_same():
    labels = street()
    first, again = (
        [random_known(labels, layout_of(labels), GRID, rng) for _ in range(10)]
        for rng in (np.random.default_rng(7), np.random.default_rng(7))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
