"""A scenario's meaning: commands, chunks, and every application from its file to its conditions."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcgen.errors import DcgenError, GridMismatch, ScenarioError
from dcgen.types import UNKNOWN, AgentTracks, Command, Conditions, Scene, Semantics, nano_grid, pose_matrix
from scenarios.chunk import STANDING_M, command_of, turn_threshold_rad
from scenarios.compile import CompiledScenario, compile_scenario
from scenarios.given import agents_mask, resample_known
from scenarios.layout import SIDEWALK
from scenarios.schema import make_scenario

FRAMES = 11


def compiled(scene: Scene | None = None, folder: Path = Path("."), **fields: Any) -> CompiledScenario:
    if scene is not None:
        fields["scene"] = "old.h5"
    return compile_scenario(make_scenario(fields, folder / "s.yaml"), scene)


def arc(frames: int, dt_s: float, speed: float, yaw_rate: float) -> np.ndarray:
    t = np.arange(frames) * dt_s
    yaw = yaw_rate * t
    step = speed * dt_s
    x = np.concatenate([[0], np.cumsum(step * np.cos(yaw[:-1]))])
    y = np.concatenate([[0], np.cumsum(step * np.sin(yaw[:-1]))])
    return np.stack([x, y, yaw], axis=1)


# --- commands ---


@pytest.mark.parametrize(("frames", "dt_s"), [(8, 0.2), (16, 0.1), (5, 0.5), (2, 0.1)])
def test_a_turn_is_one_above_its_threshold_and_none_below(frames: int, dt_s: float) -> None:
    span = (frames - 1) * dt_s
    limit = turn_threshold_rad(frames, dt_s)
    assert np.radians(3) <= limit <= np.radians(20)
    for sign, turn in ((1, Command.LEFT), (-1, Command.RIGHT)):
        assert command_of(arc(frames, dt_s, 9.0, sign * 1.02 * limit / span), dt_s) == turn
        assert command_of(arc(frames, dt_s, 9.0, sign * 0.98 * limit / span), dt_s) == Command.FORWARD
    assert command_of(arc(frames, dt_s, 9.0, np.radians(0.14) / span), dt_s) == Command.FORWARD


def test_standing_is_a_path_shorter_than_half_a_metre_whatever_the_heading() -> None:
    for scale, command in ((0.98, Command.STATIC), (1.02, Command.FORWARD)):
        assert command_of(arc(8, 0.2, scale * STANDING_M / 1.4, 0.0), 0.2) == command
    assert command_of(arc(8, 0.2, 0.98 * STANDING_M / 1.4, 1.0), 0.2) == Command.STATIC


def test_headings_that_wrap_count_by_what_was_turned() -> None:
    path = arc(8, 0.2, 5.0, 0.4)
    path[:, 2] = (path[:, 2] + np.pi - 0.2 + np.pi) % (2 * np.pi) - np.pi
    assert command_of(path, 0.2) == Command.LEFT


def test_a_left_turn_on_town01_is_left_by_the_maps_own_geometry(shared_data: Path) -> None:
    """Junction lanes of Town01: net heading by cross product of their ends, against the command of driving them."""
    from scenarios.roads import read_map

    path = shared_data / "maps" / "Town01.xodr"
    seen = set()
    for lane in read_map(path).lanes.values():
        if not lane.is_driving or lane.junction_id < 0:
            continue
        (ax, ay), (bx, by) = (lane.centre_m[1] - lane.centre_m[0])[:2], (lane.centre_m[-1] - lane.centre_m[-2])[:2]
        sine = (ax * by - ay * bx) / np.hypot(ax, ay) / np.hypot(bx, by)
        if abs(sine) < 0.9 or len(seen) > 5:
            continue
        poses = [
            {"t_s": 0.25 * k, "x": x, "y": y}
            for k, (x, y, _) in enumerate(lane.centre_m[:: max(1, len(lane.centre_m) // 12)])
        ]
        made = compiled(map=str(path), trajectory={"poses": poses})
        middle = made.chunks[len(made.chunks) // 2]
        assert middle.command == (Command.LEFT if sine > 0 else Command.RIGHT), lane.id
        side = middle.trajectory[-1, 1] - middle.trajectory[4, 1]
        assert side * sine > 0, "left lies on the positive side of the ego"
        seen.add(lane.id)
    assert len(seen) > 5


# --- chunks ---


def chunk_of(made: CompiledScenario, frame: int) -> tuple[Conditions, int]:
    """A chunk that covers a frame of the scene, and the frame's place in it."""
    chunk = next(c for c in made.chunks if 0 <= frame - c.first_frame < c.frames)
    return chunk, frame - chunk.first_frame


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 14, 128])
def test_chunks_are_anchored_from_the_first_frame_to_the_last(frames: int) -> None:
    made = compiled(command="left", frames=frames, target_speed_mps=4)
    chunks = list(made.chunks)
    assert len(made.world_se3_ego) == len(made.speed_mps) == made.agents.valid.shape[1] == frames == made.frames
    anchors = [chunk.first_frame + 4 for chunk in chunks]
    assert anchors[0] == 0 and anchors[-1] == frames - 1, "context before the first frame and after the last"
    assert all(0 < step <= 6 for step in np.diff(anchors)), "two frames or more are shared"
    for chunk, anchor in zip(chunks, anchors, strict=True):
        first, last = max(0, anchor - 4), min(frames, anchor + 4)
        np.testing.assert_array_equal(
            chunk.world_se3_ego[first - anchor + 4 : last - anchor + 4], made.world_se3_ego[first:last]
        )
        np.testing.assert_allclose(chunk.world_se3_anchor, chunk.world_se3_ego[4], atol=1e-12)
        np.testing.assert_allclose(chunk.trajectory[4], 0, atol=1e-6)
        assert (chunk.known == UNKNOWN).all()
    np.testing.assert_array_equal(made.chunks[-1].trajectory, chunks[-1].trajectory)


def test_the_moments_before_the_scene_go_on_as_it_begins() -> None:
    made = compiled(command="forward", frames=9, target_speed_mps=5)
    first = made.chunks[0]
    steps = np.diff(first.trajectory[:5], axis=0)
    np.testing.assert_allclose(steps[:, 0], made.speed_mps[0] * made.dt_s, rtol=0.02)
    np.testing.assert_allclose(steps[:, 1:], 0, atol=0.02)
    assert first.agents.valid.shape[1] == 8


def test_a_long_scene_takes_no_more_memory_than_a_short_one() -> None:
    made = compiled(command="forward", frames=500, target_speed_mps=1)
    one = next(iter(made.chunks))
    size = sum(sys.getsizeof(value) for value in vars(made.chunks).values() if isinstance(value, np.ndarray))
    assert size < 200_000, "poses alone are kept"
    assert one.layout_static.shape == (7, 64, 64)


def test_the_same_file_makes_the_same_conditions() -> None:
    fields = {"map": "crossroads", "traffic": {"vehicles": 4, "pedestrians": 3, "parked": 2}, "seed": 8}
    a, b = compiled(**fields), compiled(**fields)
    for one, two in zip(a.chunks, b.chunks, strict=True):
        np.testing.assert_array_equal(one.layout, two.layout)
    assert not np.array_equal(a.world_se3_ego, compiled(**{**fields, "seed": 9}).world_se3_ego)


# --- applications ---


@pytest.mark.parametrize("command", ["left", "right", "forward", "static"])
@pytest.mark.parametrize("where", [{}, {"map": "crossroads"}, {"map": "ring"}])
def test_command_driven(command: str, where: dict[str, str]) -> None:
    made = compiled(command=command, frames=32, seed=4, **where)
    told = {chunk.command for chunk in made.chunks}
    assert Command[command.upper()] in told
    assert not told & ({Command.LEFT, Command.RIGHT} - {Command[command.upper()]})
    for chunk in made.chunks:
        i, j = (int(v) for v in (chunk.trajectory[4, :2] + 25.6) / 0.8)
        assert chunk.layout_static[0, i, j] == 1.0, "the ego drives on road"


def test_a_command_that_the_start_does_not_allow_names_the_field() -> None:
    with pytest.raises(ScenarioError, match=r"s\.yaml: start: no left turn within 300 m"):
        compiled(map="avenue", start={"x": -150, "y": -6.6, "yaw_deg": 0}, command="left")


def test_trajectory_guided(tmp_path: Path) -> None:
    path = arc(21, 0.25, 6.0, 0.3)
    rows = "\n".join(f"{0.25 * k},{x},{y},{yaw}" for k, (x, y, yaw) in enumerate(path))
    (tmp_path / "log.csv").write_text("t,x,y,yaw\n" + rows)
    made = compiled(folder=tmp_path, trajectory={"file": "log.csv"})
    assert made.frames == 26 and made.dt_s == 0.2
    np.testing.assert_allclose(made.world_se3_ego[5, :2, 3], path[4, :2], atol=1e-9)
    turned = compiled(folder=tmp_path, trajectory={"file": "log.csv", "frame": "carla"})
    assert {chunk.command for chunk in made.chunks[:3]} == {Command.LEFT}
    assert {chunk.command for chunk in turned.chunks[:3]} == {Command.RIGHT}
    assert made.chunks[0].layout_static[0].any() and made.chunks[0].layout_static[3].any(), "a street of its own"
    bare = compiled(folder=tmp_path, trajectory={"file": "log.csv"}, without_map="nothing")
    assert not bare.chunks[0].layout_static[[0, 1, 2, 3, 4, 6]].any() and bare.chunks[0].layout_static[5].any()
    with pytest.raises(ScenarioError, match=r"frames: the trajectory covers 26 frames"):
        compiled(folder=tmp_path, trajectory={"file": "log.csv"}, frames=27)
    with pytest.raises(ScenarioError, match=r"trajectory .*from the nearest driving lane"):
        compiled(folder=tmp_path, trajectory={"poses": [{"t_s": 0, "x": 900, "y": 0}, {"t_s": 5, "x": 930, "y": 0}]},
                 map="avenue")  # fmt: skip


def test_a_given_command_overrides_what_a_given_path_would_say() -> None:
    made = compiled(trajectory={"poses": [{"t_s": 0, "x": 0, "y": 0}, {"t_s": 5, "x": 30, "y": 0}]}, command="right")
    assert {chunk.command for chunk in made.chunks} == {Command.RIGHT}


def test_layout_conditioned() -> None:
    walk = [{"t_s": 0, "x": 9, "y": 5}, {"t_s": 3, "x": 9, "y": 8}]
    made = compiled(
        map="crossroads", start={"x": -50, "y": -1.8, "yaw_deg": 0}, goal={"x": 60, "y": -1.8}, frames=14,
        agents=[
            {"class": "car", "id": 40, "follow": {"ahead_m": 12, "speed_mps": 6}},
            {"class": "pedestrian", "frame": "ego", "keyframes": walk},
            {"class": "bicycle", "frame": "carla", "keyframes": [{"t_s": 0, "x": -40, "y": 3.0, "yaw_deg": 0}]},
        ],
    )  # fmt: skip
    assert made.agents.id.tolist()[0] == 40 and len(made.agents.id) == 3
    first = made.chunks[0]
    for channel, n in ((0, 0), (1, 2), (2, 1)):
        x, y, _ = made.agents.pose[n, 3]
        local = np.linalg.inv(first.world_se3_anchor) @ [x, y, 0, 1]
        i, j = (int(np.floor((v + 25.6) / 0.8)) for v in local[:2])
        assert first.layout_agents[7, channel, i, j] > 0.1, "frame 3 of a scene whose first chunk begins at -4"
        assert first.layout_agents[7, channel].sum() * 0.64 == pytest.approx(
            np.prod(made.agents.size_m[n, :2]), rel=0.4
        )
    assert made.agents.pose[2, 0, 1] == -3.0, "CARLA's y is turned over"
    assert first.layout_static[3].any() and first.layout_static[1].any()
    assert (made.raster is not None) and (made.raster.flags & SIDEWALK).any()


@pytest.fixture(scope="module")
def recorded() -> Scene:
    """A finished scene on `crossroads`: labels that tell every voxel's place, two agents."""
    grid = nano_grid()
    poses = np.stack([pose_matrix(-50 + 1.3 * t, -1.8, 0.0, 0.0) for t in range(FRAMES)])
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 12, (1, *grid.shape)).astype(np.uint8), FRAMES, axis=0)
    pose = np.zeros((2, FRAMES, 3))
    pose[0, :, 0], pose[0, :, 1] = -38 + 1.3 * np.arange(FRAMES), -1.8
    pose[1, :, 0], pose[1, :, 1], pose[1, :, 2] = -44, 1.8, np.pi
    agents = AgentTracks(
        np.array([5, 9]), np.array([10, 10], np.uint8), np.array([[4.5, 1.9, 1.6], [4.0, 1.8, 1.5]], np.float32), pose,
        np.zeros((2, FRAMES), np.float32), np.array([[6.5], [0.0]], np.float32).repeat(FRAMES, 1),
        np.ones((2, FRAMES), bool),
    )  # fmt: skip
    layout = rng.random((FRAMES, 13, *grid.shape[:2])).astype(np.float16)
    return Scene(
        labels, grid, 0.2 * np.arange(FRAMES), poses, agents, np.zeros((FRAMES, 3), np.float32),
        np.ones(FRAMES, np.int8), layout, np.zeros(labels.shape, bool),
    )  # fmt: skip


def test_known_voxels_keep_their_place_in_the_world(recorded: Scene) -> None:
    anchor = recorded.world_se3_ego[4]
    known = resample_known(recorded, anchor, [4, -1, 7], recorded.grid)
    np.testing.assert_array_equal(known[0], recorded.labels[4])
    assert (known[1] == UNKNOWN).all()
    shift = 3 * 1.3 / 0.8
    assert (known[2, : int(shift) - 1] == UNKNOWN).all(), "behind frame 7 nothing is known"
    np.testing.assert_array_equal(known[2, 10], recorded.labels[7, round(10 - shift)])
    turned = replace(recorded, world_se3_ego=pose_matrix(3, 4, 1, 1.1) @ recorded.world_se3_ego)
    again = resample_known(turned, pose_matrix(3, 4, 1, 1.1) @ anchor, [4, -1, 7], recorded.grid)
    np.testing.assert_array_equal(known, again)
    with pytest.raises(GridMismatch):
        other = replace(recorded.grid, voxel_m=(0.4, 0.4, 0.4))
        resample_known(recorded, anchor, [0], other)


def test_inpainting_opens_the_box_and_nothing_else(recorded: Scene, tmp_path: Path) -> None:
    box = {"centre": [10, 8, 1], "size": [8, 6, 4], "frame": "ego", "frames": [2, 5]}
    made = compiled(recorded, map="crossroads", inpaint={"boxes": [box]})
    assert made.frames == FRAMES and made.dt_s == pytest.approx(0.2)
    for t in (0, 1, 2, 4, 5, 6):
        first, at = chunk_of(made, t)
        whole = resample_known(recorded, first.world_se3_anchor, [t], recorded.grid)[0]
        opened = (first.known[at] == UNKNOWN) & (whole != UNKNOWN)
        assert opened.any() == (2 <= t <= 5)
        if opened.any():
            i, j, k = np.nonzero(opened)
            x = recorded.grid.centres_m()[i, j, k] + first.world_se3_anchor[:3, 3] - [-50, -1.8, 0]
            assert x.min(axis=0) == pytest.approx([6, 5, -1], abs=0.9) and x.max(axis=0) == pytest.approx(
                [14, 11, 3], abs=0.9
            )
        kept = first.known[at] != UNKNOWN
        np.testing.assert_array_equal(first.known[at][kept], whole[kept])
    outside = compiled(recorded, map="crossroads", inpaint={"boxes": [box], "regenerate": "outside"}).chunks[0]
    assert 0 < (outside.known[7] != UNKNOWN).mean() < 0.05 and (outside.known[4] == UNKNOWN).all()
    mask = np.zeros(recorded.labels.shape, bool)
    mask[4, 20:30] = True
    np.save(tmp_path / "m.npy", mask)
    whole = compiled(recorded, map="crossroads", inpaint={"boxes": [{**box, "frames": [0, 0]}]})
    masked = compiled(recorded, tmp_path, inpaint={"mask": "m.npy"})
    chunk, at = chunk_of(masked, 4)
    before = chunk_of(whole, 4)[0].known[at]
    opened = (chunk.known[at] == UNKNOWN) & (before != UNKNOWN)
    assert opened.sum() == pytest.approx(mask[4].sum(), rel=0.1)
    np.save(tmp_path / "m.npy", mask[:, :3])
    for bad, why in (("m.npy", "needs a bool array of shape"), ("gone.npy", "cannot be read")):
        with pytest.raises(ScenarioError, match=why):
            compiled(recorded, tmp_path, inpaint={"mask": bad})
    (tmp_path / "junk.npy").write_bytes(b"junk")
    with pytest.raises(ScenarioError, match="is no"):
        compiled(recorded, tmp_path, inpaint={"mask": "junk.npy"})


def test_agents_are_added_moved_and_removed(recorded: Scene) -> None:
    new = {
        "class": "pedestrian",
        "frame": "ego",
        "keyframes": [{"t_s": 0, "x": 8, "y": -6}, {"t_s": 2, "x": 8, "y": -3}],
    }
    made = compiled(recorded, map="crossroads", edit={"move": [{"id": 5, "by": [0, 3.5]}], "remove": [9], "add": [new]})
    by_id = {int(i): n for n, i in enumerate(made.agents.id)}
    assert set(by_id) == {5, 10} or set(by_id) == {1, 5}
    np.testing.assert_allclose(made.agents.pose[by_id[5], :, 1], 1.7)
    assert made.given is not None
    labels = made.given.scene.labels
    old = agents_mask(recorded, recorded.agents, 0.0)
    assert (labels[old] == UNKNOWN).all(), "where they were is made anew"
    now = agents_mask(recorded, made.agents, 0.0)
    assert (labels[now] == UNKNOWN).all(), "where they are is made anew"
    assert (labels == UNKNOWN).mean() < 0.06
    np.testing.assert_array_equal(labels[labels != UNKNOWN], recorded.labels[labels != UNKNOWN])
    keyed = {"id": 9, "frame": "world", "keyframes": [{"t_s": 0, "x": -40, "y": 1.8, "yaw_deg": 180}]}
    moved = compiled(recorded, map="crossroads", edit={"move": [keyed]}).agents
    n = int(np.flatnonzero(moved.id == 9)[0])
    np.testing.assert_allclose(moved.pose[n, :, 0], -40)
    np.testing.assert_array_equal(moved.size_m[n], recorded.agents.size_m[1])
    with pytest.raises(ScenarioError, match=r"edit.remove: the scene has no agent 77; it has 5, 9"):
        compiled(recorded, map="crossroads", edit={"remove": [77]})
    with pytest.raises(ScenarioError, match=r"nothing of it is changed"):
        compiled(recorded, map="crossroads", edit={})


def test_what_belongs_to_a_touched_agent_goes_with_it_beyond_its_box(recorded: Scene) -> None:
    scene = replace(recorded, instances=np.zeros(recorded.labels.shape, np.uint16))
    far, other = (slice(None), 60, 3, 5), (slice(None), 2, 58, 4)
    assert scene.instances is not None
    scene.instances[far], scene.instances[other] = 1, 2
    for edit in ({"move": [{"id": 5, "by": [0, 3.5]}]}, {"remove": [5]}):
        for given, gone in ((scene, True), (recorded, False)):
            made = compiled(given, map="crossroads", edit=edit).given
            assert made is not None
            assert (made.scene.labels[far] == UNKNOWN).all() == gone
            np.testing.assert_array_equal(made.scene.labels[other], recorded.labels[other])


def test_outpainting_moves_the_view_along_the_way(recorded: Scene) -> None:
    made = compiled(recorded, map="crossroads", outpaint={"along_m": 16.0})
    np.testing.assert_allclose(made.world_se3_ego[0, :2, 3], [-34, -1.8], atol=0.05)
    first = made.chunks[0]
    share = (first.known[4] != UNKNOWN).mean()
    assert share == pytest.approx(1 - 16 / 51.2, abs=0.04)
    assert (first.known[4, -19:] == UNKNOWN).all(), "ahead is new"
    back = compiled(recorded, map="crossroads", outpaint={"along_m": -8.0}).chunks[0]
    assert (back.known[4, :9] == UNKNOWN).all() and (back.known[4, 12:] != UNKNOWN).all()


def test_continuation_starts_with_the_last_frames_and_goes_on(recorded: Scene) -> None:
    made = compiled(recorded, map="crossroads", continue_from={"given_frames": 3}, frames=20)
    np.testing.assert_allclose(made.world_se3_ego[:3], recorded.world_se3_ego[-3:])
    step = np.linalg.norm(np.diff(made.world_se3_ego[:, :2, 3], axis=0), axis=1)
    assert np.abs(np.diff(step)).max() < 0.15 and step[2] == pytest.approx(1.3, abs=0.1), "no jump where it goes on"
    first = made.chunks[0]
    whole = resample_known(recorded, first.world_se3_anchor, [FRAMES - 3, FRAMES - 1], recorded.grid)
    np.testing.assert_array_equal(first.known[[4, 6]], whole)
    later = first.known[7]
    fixed = ~np.isin(whole[1], (UNKNOWN, 0, 4, 10, 11))
    np.testing.assert_array_equal(later[fixed], whole[1][fixed])
    assert not np.isin(later, (Semantics.VEHICLE, Semantics.PEDESTRIAN, Semantics.BICYCLE)).any(), "movers move on"
    taken = first.layout_agents[7, 0] > 0.5
    assert not (later[taken] == Semantics.FREE).any(), "where a car will be is not known to be free"
    free = compiled(recorded, continue_from={}, frames=20, command="left")
    assert Command.LEFT in {chunk.command for chunk in free.chunks}
    with pytest.raises(ScenarioError, match=r"frames: must be more than"):
        compiled(recorded, continue_from={"given_frames": 4}, frames=4)


def test_without_a_map_a_scene_brings_its_own_layout(recorded: Scene) -> None:
    made = compiled(recorded, inpaint={"boxes": [{"centre": [10, 8, 1], "size": [8, 6, 4]}]})
    np.testing.assert_allclose(made.chunks[0].layout_static, recorded.layout[0, :7], atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inpaint": {"mask": "m.npy"}}, "inpaint: needs a finished scene; add `scene: FILE.h5` or pass --edit"),
        ({"map": "nowhere"}, "map: no file .*nowhere and no library map of that name .*crossroads"),
        ({"start": {"x": 0, "y": 0}, "goal": {"x": 9, "y": 0}}, "goal: the way to it needs a map"),
        ({"route": {"keypoints": [[0, 0], [90, 0]], "frame": "world"}}, "--map"),
        ({"route": {"keypoints": [[0, 0], [0, 0]], "frame": "world"}}, "0.00 m long"),
        ({"route": {"keypoints": [[0, 0], [5, 0]], "frame": "world"}, "start_s_m": 7}, "start_s_m: 7 m lies beyond"),
        ({"route": {"file": "gone.xml"}}, "gone.xml"),
        ({"map": "avenue", "start": {"x": 4000, "y": 0}}, "start .*from the nearest driving lane"),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_says_why_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DcgenError, match=message) as caught:
        compiled(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("routes", "route_id", "town"), [("lb1_devtest.xml", "0", "Town01"), ("routes_town10.xml", None, "Town10HD")]
)
def test_real_routes_on_their_towns(shared_data: Path, routes: str, route_id: str | None, town: str) -> None:
    from scenarios.inputs import read_scenarios

    scenario = read_scenarios(
        shared_data / "routes" / routes, map=str(shared_data / "maps" / f"{town}.xodr"), route_id=route_id,
        overrides={"frames": 40},
    )[0]  # fmt: skip
    made = compile_scenario(scenario)
    assert len(made.chunks) == 8 and made.speed_mps.max() > 2
    for chunk in made.chunks:
        on_route = chunk.layout_static[5] > 0.5
        assert (chunk.layout_static[0][on_route] > 0.5).mean() > 0.95, "the route lies on road"
