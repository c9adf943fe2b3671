"""Ids and flow of a scene: agents keep theirs, what was invented is found, what stands does not flow."""

from dataclasses import replace

import numpy as np
import pytest

from dcgen.errors import SceneError
from dcgen.instances import backward_mps, scene_motion, with_motion
from dcgen.instances.scene_motion import InstanceFinder, carried_on, flow_mps
from dcgen.types import LAYOUT_CHANNELS, AgentTracks, Scene, Semantics, pose_matrix
from tests.dcgen.dataset.driven import CAR, DT, GRID, WALKER, stamped, tracks

FRAMES = 7
POSES = np.stack([pose_matrix(0.5 * t, 0.1 * t, 0, 0.03 * t) for t in range(FRAMES)])
ALL = tracks((*CAR, 3, 4, 0.5, 4.0, 0.2), (*CAR, 0, -5, 2.0, 0, 0), (*WALKER, 4, 0, 1.0, 1.5, 0), frames=FRAMES)


def scene_of(agents: AgentTracks, given: int) -> Scene:
    """A scene in which all agents are drawn, and the first `given` of them were asked for."""
    x, y, _ = GRID.shape
    labels = stamped(agents, GRID, POSES)
    return Scene(
        labels, GRID, DT * np.arange(FRAMES), POSES, agents.select(np.arange(len(agents.id)) < given),
        np.zeros((FRAMES, 3), np.float32), np.ones(FRAMES, np.int8),
        np.zeros((FRAMES, len(LAYOUT_CHANNELS), x, y), np.float16), np.zeros(labels.shape, bool),
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> Scene:
    return with_motion(scene_of(ALL, given=2))


def test_agents_keep_their_rows_and_ids_and_the_rest_is_found_behind_them(scene: Scene) -> None:
    assert scene.instances is not None and scene.objects is not None and scene.instances.dtype == np.uint16
    assert np.array_equal(scene.objects.id[:2], ALL.id[:2]) and len(np.unique(scene.objects.id)) == 3
    assert np.array_equal(scene.objects.pose[:2], ALL.pose[:2]) and scene.objects.class_id[2] == Semantics.PEDESTRIAN
    assert np.array_equal(scene.instances > 0, np.isin(scene.labels, (Semantics.VEHICLE, Semantics.PEDESTRIAN)))
    assert np.array_equal(scene.instances == 3, scene.labels == Semantics.PEDESTRIAN)
    assert with_motion(scene) is scene


def test_flow_is_over_ground_along_the_ego_s_axes(scene: Scene) -> None:
    flow = scene.flow_mps
    assert flow is not None and flow.dtype == np.float16 and np.isfinite(flow).all()
    assert not flow[scene.instances == 0].any() and not flow[scene.instances == 2].any()  # though the ego drives
    for t in range(FRAMES):
        ahead = ALL.pose[0, min(t + 1, FRAMES - 1)] - ALL.pose[0, min(t, FRAMES - 2)]
        want = np.array([*ahead[:2] / DT, 0]) @ POSES[t][:3, :3]
        middle = flow[t][scene.instances[t] == 1].astype(float).mean(axis=0)  # of a body that turns
        assert np.linalg.norm(middle - want) < 0.25, t
    walker = flow[scene.instances == 3].astype(float)
    assert np.median(np.abs(np.linalg.norm(walker, axis=-1) - 1.5)) < 0.4


def test_in_the_last_frame_things_go_on_as_they_moved(scene: Scene) -> None:
    longer = tracks((*CAR, 3, 4, 0.5, 4.0, 0.2), frames=FRAMES)
    cut = flow_mps(scene.instances[-1:], ALL, GRID, scene.time_s, POSES, first=FRAMES - 1)
    assert np.array_equal(cut[0], scene.flow_mps[-1]) or (scene.instances[-1] == 3).any()
    way = np.hypot(*(longer.pose[0, -1] - longer.pose[0, -2])[:2]) / DT
    middle = scene.flow_mps[-1][scene.instances[-1] == 1].astype(float).mean(axis=0)
    assert abs(np.linalg.norm(middle) - way) < 0.2


def test_backward_flow_points_to_where_things_were(scene: Scene) -> None:
    backward = backward_mps(scene)
    assert backward.dtype == np.float16 and not backward[scene.instances == 2].any()
    centres = GRID.centres_m()
    for t in range(1, FRAMES):
        car = scene.instances[t] == 1
        world = centres[car] @ POSES[t][:3, :3].T + POSES[t][:3, 3]
        turn = ALL.pose[0, t - 1, 2] - ALL.pose[0, t, 2]
        cos, sin = np.cos(turn), np.sin(turn)
        local = (world[:, :2] - ALL.pose[0, t, :2]) @ np.array([[cos, -sin], [sin, cos]]).T
        was = (local + ALL.pose[0, t - 1, :2] - world[:, :2]) @ POSES[t][:2, :2] / DT
        assert np.allclose(backward[t][car][:, :2], was, atol=0.02)
    first = backward[0][scene.instances[0] == 1].astype(float).mean(axis=0)
    assert np.linalg.norm(first + scene.flow_mps[0][scene.instances[0] == 1].astype(float).mean(axis=0)) < 0.5


def test_blocks_of_frames_make_the_same_as_all_at_once(scene: Scene) -> None:
    finder = InstanceFinder(scene.agents, GRID, scene.time_s, POSES)
    parts = [finder.instances(scene.labels[a:b]) for a, b in ((0, 1), (1, 5), (5, FRAMES))]
    objects = finder.objects()
    assert np.array_equal(np.concatenate(parts), scene.instances)
    assert np.array_equal(objects.pose, scene.objects.pose)
    part = flow_mps(scene.instances[2:4], objects, GRID, scene.time_s, POSES, first=2)
    assert np.array_equal(part, scene.flow_mps[2:4])


def test_an_agent_that_is_drawn_too_large_keeps_its_rim() -> None:
    made = scene_of(tracks((*CAR, 3, 4, 0, 0, 0), frames=FRAMES), given=1)
    labels = made.labels.copy()
    car = np.argwhere(labels[3] == Semantics.VEHICLE)
    end = car[car[:, 0].argmax()]
    labels[3, end[0] : end[0] + 4, end[1], end[2]] = Semantics.VEHICLE
    labels[3, 2:4, 5, 3] = Semantics.VEHICLE  # far off: somebody else
    made = with_motion(replace(made, labels=labels))
    assert (made.instances[3, end[0] : end[0] + 4, end[1], end[2]] == 1).all()
    assert (made.instances[3, 2:4, 5, 3] == 2).all() and len(made.objects.id) == 2


def test_tracks_go_on_as_they_came_for_a_frame() -> None:
    valid = np.ones((1, 5), bool)
    valid[0, 2] = False
    one = replace(tracks((*CAR, 0, 0, 0.3, 2.0, 0.5)), valid=valid)
    gaps = np.array([0.2, 0.2, 0.2, 0.2, 0.4, 0.4])
    ahead, back = (carried_on(one, gaps, step) for step in (1, -1))
    assert ahead.valid[0].tolist() == [False, True, True, True, True, True, True]
    assert back.valid[0].tolist() == [True, True, True, True, True, True, False]
    steps = np.linalg.norm(np.diff(ahead.pose[0, 1:, :2], axis=0), axis=1)
    assert steps[1] == pytest.approx(steps[0]) and steps[-1] == pytest.approx(steps[-2])  # 0.4 s each at the end
    assert np.diff(ahead.pose[0, 1:4, 2]) == pytest.approx([0.1, 0.1])
    alone = replace(one, valid=np.arange(5)[None] == 3)
    for step in (1, -1):
        on = carried_on(alone, gaps, step).pose[0, 4 + step] - alone.pose[0, 3]
        assert on[:2] == pytest.approx(step * 2.0 * gaps[4 if step > 0 else 3] * np.array([np.cos(0.4), np.sin(0.4)]))


def test_one_frame_flows_by_the_speeds_of_its_agents() -> None:
    one = scene_of(ALL, given=3)
    names = ("labels", "time_s", "world_se3_ego", "trajectory", "command", "layout", "known")
    one = replace(one, **{name: getattr(one, name)[3:4] for name in names}, agents=one.agents.frames(3, 4))
    one = with_motion(one)
    speed = np.linalg.norm(one.flow_mps[one.instances == 1].astype(float), axis=-1)
    assert speed == pytest.approx(4.0, abs=0.01) and not one.flow_mps[one.instances == 2].any()


def test_more_objects_than_numbers_is_an_error_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_motion, "MOST_OBJECTS", 2)
    with pytest.raises(SceneError, match="more than 2 objects; make it in shorter pieces"):
        with_motion(scene_of(ALL, given=0))
