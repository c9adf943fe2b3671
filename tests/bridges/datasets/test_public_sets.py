"""Each public set, written from what is known of its files, is the same street in dcgen's frame. X/Y/Z voxel axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bridges.datasets import FORMATS, PublicSet, ReadOptions, count_clips, open_set, read_clips
from bridges.datasets.sequence import voxels_below
from dcgen.canvas import sample_grid, world_points
from dcgen.errors import DatasetError
from dcgen.types import UNKNOWN, Clip, Command, GridSpec, Semantics, carlasc_grid, wide_grid
from tests.bridges.datasets import writers
from tests.bridges.datasets.town import FRAMES, HOUSE, STATIC, Box, ego, label_at, matrix

S = Semantics
KITTI_CAR: Box = (S.VEHICLE, (6.03, 9.97), (-1.97, -0.43), (0.35, 1.77))


@dataclass(frozen=True)
class Case:
    """What a set says, in dcgen's words."""

    format: str
    write: Callable[[Path], Path]
    grid: GridSpec
    dt_s: float
    corner: tuple[slice, slice, slice] | None  # where nothing is seen, in dcgen's axes
    classes: dict[int, int] = field(default_factory=dict)  # what the set cannot tell apart
    frames: int = FRAMES
    road_m: float = 0.0  # height of the street in the set's world
    boxes: Callable[[int], tuple[Box, ...]] = lambda frame: STATIC
    name: str = ""  # of the folder

    def expected(self, clip: Clip, frame: int) -> np.ndarray:
        points = world_points(self.grid, clip.world_se3_grid[frame]) - (0, 0, self.road_m)
        labels = label_at(points, self.boxes(frame))
        for ours, theirs in self.classes.items():
            labels[labels == ours] = theirs
        return labels


LEFT_CORNER = (slice(0, 5), slice(128 - 9, 128), slice(3, None))  # low y is right where y is right
KITTI_GRID = GridSpec((256, 256, 32), (0.2, 0.2, 0.2), (0.0, -25.6, -0.27))
TO_OTHER = {int(S.POLE): int(S.OTHER)}
CASES = {
    "carlasc": Case("carlasc", writers.carlasc, carlasc_grid(), 0.1, LEFT_CORNER),
    "nuscenes": Case("occ3d-nuscenes", writers.occ3d_nuscenes, wide_grid(), 0.5, writers.CORNER, TO_OTHER),
    "waymo": Case(
        "occ3d-waymo", writers.occ3d_waymo, wide_grid(), 0.1, writers.CORNER, {int(S.GROUND): int(S.SIDEWALK)}
    ),
    "uniocc": Case(
        "uniocc", writers.uniocc, wide_grid(), 0.5, None, TO_OTHER, boxes=writers.uniocc_boxes, name="NuScenes-2Hz-mini"
    ),
    "uniocc-carla": Case(
        "uniocc", lambda folder: writers.uniocc(folder, y_right=True), wide_grid(), 0.1, None, TO_OTHER,
        boxes=writers.uniocc_boxes, name="Carla-10Hz-mini",
    ),
    "kitti": Case(
        "semantickitti", writers.semantickitti, KITTI_GRID, 0.5, writers.CORNER, frames=3, road_m=-1.73,
        boxes=lambda frame: (*STATIC, KITTI_CAR),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("set") / (case.name or case.format)
    place.mkdir()
    return case.write(place)


@pytest.fixture(scope="module")
def clips(case: Case, folder: Path) -> PublicSet:
    return open_set(case.format, folder, case.frames)


@pytest.fixture(scope="module")
def clip(clips: PublicSet) -> Clip:
    return clips[0]


def test_every_voxel_is_what_stands_there(case: Case, clip: Clip) -> None:
    assert clip.conditions.grid == case.grid and clip.ego_centred
    assert clip.conditions.dt_s == pytest.approx(case.dt_s)
    for frame in range(case.frames):
        want = case.expected(clip, frame)
        if case.corner is not None:
            want[case.corner] = UNKNOWN
        if case.format == "semantickitti":
            want[200, 30, 20] = UNKNOWN  # an outlier
        np.testing.assert_array_equal(clip.labels[frame], want)


def test_a_mask_hides_what_it_does_not_see(case: Case, clip: Clip) -> None:
    if case.corner is None:
        assert clip.observed is None and not (clip.labels == UNKNOWN).any()
    else:
        assert clip.observed is not None
        np.testing.assert_array_equal(clip.observed, clip.labels != UNKNOWN)
        assert not clip.observed[(slice(None), *case.corner)].any()


def test_the_ego_drives_ahead_and_turns_to_the_left(case: Case, clip: Clip) -> None:
    poses = clip.conditions.world_se3_ego
    want = np.stack([matrix(*ego(frame)) for frame in range(case.frames)])
    want[:, 2, 3] += case.road_m
    np.testing.assert_allclose(poses, want, atol=1e-6)
    steps = np.linalg.inv(poses[:-1]) @ poses[1:]
    assert (steps[:, 0, 3] > 1.0).all() and (np.arctan2(steps[:, 1, 0], steps[:, 0, 0]) > 0.1).all()
    assert clip.conditions.command == Command.LEFT


def test_left_is_left(case: Case, clip: Clip) -> None:
    centre = case.grid.centres_m()[clip.labels[0] == Semantics.BUILDING].mean(axis=0)
    assert 9 < centre[0] < 13.2 and 6 < centre[1] < 9
    thin = case.classes.get(int(S.POLE), int(S.POLE))
    pole = case.grid.centres_m()[clip.labels[0] == thin].mean(axis=0)
    assert 5 < pole[0] < 5.7 and -4.8 < pole[1] < -3.9


def test_what_stands_still_stays_where_it_is(case: Case, clip: Clip) -> None:
    """The house, found in each frame, lies in the same box of the world through the poses."""
    for frame in range(case.frames):
        points = world_points(case.grid, clip.world_se3_grid[frame])[clip.labels[frame] == Semantics.BUILDING]
        assert len(points) > 100
        for axis, (low, high) in enumerate(HOUSE[1:]):
            shift = case.road_m if axis == 2 else 0.0
            assert low + shift <= points[:, axis].min() < low + shift + 0.6
            assert high + shift - 0.6 < points[:, axis].max() <= high + shift


def test_anchored_frames_stand_in_one_grid(case: Case, folder: Path, clip: Clip) -> None:
    still = open_set(case.format, folder, case.frames, anchored=True)[0]
    assert not still.ego_centred
    middle = case.frames // 2
    np.testing.assert_array_equal(still.conditions.world_se3_anchor, clip.conditions.world_se3_anchor)
    np.testing.assert_array_equal(still.labels[middle], clip.labels[middle])  # its own ego is upright
    reach = float(np.linalg.norm(case.grid.voxel_m)) / 2
    for frame in range(case.frames):
        points = world_points(case.grid, still.world_se3_grid[frame])[still.labels[frame] == Semantics.BUILDING]
        assert len(points) > 100
        for axis, (low, high) in enumerate(HOUSE[1:]):
            shift = case.road_m if axis == 2 else 0.0
            assert low + shift - reach <= points[:, axis].min() and points[:, axis].max() <= high + shift + reach
        floor = world_points(case.grid, still.world_se3_grid[frame])[:, :, 2]
        local = (floor - clip.world_se3_grid[frame][:3, 3]) @ clip.world_se3_grid[frame][:3, :3]
        low_m = np.array(case.grid.origin_m)
        outside = ((local < low_m) | (local >= low_m + case.grid.extent_m)).any(axis=-1)
        assert (still.labels[frame][:, :, 2][outside] == UNKNOWN).all() and (outside.any() or frame == middle)
        if still.observed is not None:
            np.testing.assert_array_equal(still.observed[frame], still.labels[frame] != UNKNOWN)


def test_places_are_those_of_the_slow_way() -> None:
    """Grids that stand anywhere, tilted too, against points that are moved one by one."""
    rng = np.random.default_rng(5)
    grid = GridSpec((7, 11, 5), (0.5, 0.4, 0.3), (-1.0, -2.0, -0.4))
    labels = rng.integers(0, 12, grid.shape).astype(np.uint8)
    for _ in range(30):
        tilt = np.linalg.qr(rng.normal(size=(3, 3)) * 0.2 + np.eye(3))[0]
        pose, other = matrix(*rng.normal(size=4)), matrix(*rng.normal(size=4))
        pose[:3, :3] = pose[:3, :3] @ (tilt * np.sign(np.linalg.det(tilt)))
        place, inside = voxels_below(grid, np.linalg.inv(pose) @ other)
        fast = np.where(inside, labels.reshape(-1)[place], UNKNOWN)
        np.testing.assert_array_equal(fast, sample_grid(labels, grid, pose, world_points(grid, other)))


def test_windows_are_counted_before_they_are_read(case: Case, folder: Path, clip: Clip) -> None:
    assert count_clips(case.format, folder, 2) == case.frames // 2
    assert count_clips(case.format, folder, 2, stride=1) == case.frames - 1
    assert count_clips(case.format, folder, 2, stride=1, every=2) == case.frames - 2
    assert [count_clips(case.format, folder, frames) for frames in (1, case.frames)] == [case.frames, 1]
    last = list(read_clips(case.format, folder, 2, stride=1, start=case.frames - 2))
    assert len(last) == 1
    np.testing.assert_array_equal(last[0].labels, clip.labels[-2:])
    wide = next(read_clips(case.format, folder, 2, every=2))
    assert wide.conditions.dt_s == pytest.approx(2 * case.dt_s)
    np.testing.assert_array_equal(wide.labels, clip.labels[[0, 2]])
    assert len({open_set(case.format, folder, 1)[n].source for n in range(case.frames)}) == case.frames


def test_the_route_is_the_way_of_the_whole_recording(case: Case, folder: Path, clip: Clip) -> None:
    first = open_set(case.format, folder, 2)[0]
    assert first.conditions.layout_static[5].sum() > 0
    assert first.conditions.layout_static[5].sum() >= 0.9 * clip.conditions.layout_static[5].sum()
    assert not first.conditions.layout_static[:5].any()  # a set has no map


def test_a_set_of_each_format_was_read() -> None:
    assert {case.format for case in CASES.values()} | {"sscbench"} == set(FORMATS)


def test_the_camera_sees_less(tmp_path: Path) -> None:
    for name, write in (("occ3d-nuscenes", writers.occ3d_nuscenes), ("occ3d-waymo", writers.occ3d_waymo)):
        folder = write(tmp_path / name, frames=1)
        clip = open_set(name, folder, 1, options=ReadOptions(mask="camera"))[0]
        assert clip.observed is not None and not clip.observed[:, :100].any() and clip.observed[:, 100:].all()
        assert (clip.labels[:, :100] == UNKNOWN).all() and (clip.labels[:, 100:] != UNKNOWN).all()
    place = tmp_path / "Waymo-10Hz"
    clip = open_set("uniocc", writers.uniocc(place, frames=1), 1, options=ReadOptions(mask="camera"))[0]
    assert clip.observed is not None
    np.testing.assert_array_equal(clip.observed[0], writers.seen((200, 200, 16)) > 0)
    np.testing.assert_array_equal(clip.observed, clip.labels != UNKNOWN)


@pytest.mark.parametrize("poses", ["txt", "pkl"])
def test_poses_of_waymo_come_from_where_they_are(tmp_path: Path, poses: str) -> None:
    folder = writers.occ3d_waymo(tmp_path, frames=2, poses=poses, free=23)
    clip = open_set("occ3d-waymo", folder, 2)[0]
    np.testing.assert_allclose(clip.conditions.world_se3_ego, [matrix(*ego(0)), matrix(*ego(1))], atol=1e-9)
    assert (clip.labels == S.FREE).sum() > clip.labels.size / 2  # 23 is free in older files


def test_sweeps_lie_in_the_ego_frame(tmp_path: Path) -> None:
    folder = writers.carlasc(tmp_path, frames=2)
    clip = open_set("carlasc", folder, 2, options=ReadOptions(points=True))[0]
    assert clip.points is not None
    np.testing.assert_allclose(clip.points[0][0], [7.0, 3.0, 0.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(clip.points[1][1], [1.0, -2.0, 1.8, 0.25], atol=1e-6)
    assert open_set("carlasc", folder, 2)[0].points is None


def test_the_bits_of_a_mask_begin_with_the_most_significant(tmp_path: Path) -> None:
    folder = writers.semantickitti(tmp_path, frames=1)
    path = folder / "sequences" / "04" / "voxels" / "000000.invalid"
    bits = bytearray(256 * 256 * 32 // 8)
    flat = (3 * 256 + 17) * 32 + 9
    bits[flat // 8] = 0b10000000 >> flat % 8
    path.write_bytes(bytes(bits))
    clip = open_set("semantickitti", folder, 1)[0]
    assert clip.observed is not None
    hidden = {tuple(map(int, place)) for place in np.argwhere(~clip.observed[0])}
    assert hidden == {(3, 17, 9), (200, 30, 20)}


def test_what_moves_by_its_label_moves(tmp_path: Path) -> None:
    clip = open_set("semantickitti", writers.semantickitti(tmp_path, frames=1), 1)[0]
    assert clip.moving.sum() > 100
    np.testing.assert_array_equal(clip.moving, clip.labels == S.VEHICLE)


def test_sequences_that_differ_in_time_are_read_apart(tmp_path: Path) -> None:
    folder = tmp_path
    for sequence, numbers in (("04", (0, 1)), ("05", (0, 5))):
        voxels = folder / "sequences" / sequence / "voxels"
        voxels.mkdir(parents=True)
        for number in numbers:
            (voxels / f"{number:06d}.label").touch()  # listing reads none
    assert count_clips("semantickitti", folder, 1, options=ReadOptions(dt_s=0.3)) == 4
    with pytest.raises(DatasetError, match=r"04 has a frame each 0\.1 s, 05 each 0\.5 s; give them one by one"):
        open_set("semantickitti", folder, 1)


def test_scans_of_sscbench_may_follow_each_other(tmp_path: Path) -> None:
    folder = writers.semantickitti(tmp_path, frames=2, step=1)
    clip = open_set("sscbench", folder / "sequences", 2)[0]
    assert clip.conditions.dt_s == pytest.approx(0.1) and clip.source == "sscbench 04: frame 000000"
